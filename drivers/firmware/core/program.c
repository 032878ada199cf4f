#include "program.h"

#include "board.h"
#include "bytes.h"
#include "hal.h"

#define PROGRAM_HEAD 5u
#define TASK_BYTES 8u

bool program_unpack(
    struct program *program, const uint8_t *payload, size_t length, struct refusal *why
) {
    *why = refuse(WHY_LAYOUT, SAY_LAYOUT, PROGRAM);
    if (length < PROGRAM_HEAD) {
        return false;
    }
    uint8_t count = payload[4];
    program->session = get32(payload);
    program->cells.count = count;
    if (count < 1 || count > RR_MAX_CELLS || length != PROGRAM_HEAD + TASK_BYTES * (size_t)count) {
        return false;
    }
    for (uint8_t i = 0; i < count; i++) {
        const uint8_t *at = payload + PROGRAM_HEAD + TASK_BYTES * (size_t)i;
        program->cells.at[i] = get32(at);
        program->low[i] = get16(at + 4);
        program->high[i] = get16(at + 6);
    }
    return true;
}

static bool same_window(const struct program *program, uint8_t i, uint8_t j) {
    return program->low[i] == program->low[j] && program->high[i] == program->high[j];
}

static uint16_t count_windows(const struct program *program) {
    uint16_t windows = 0;
    for (uint8_t i = 0; i < program->cells.count; i++) {
        uint8_t j = 0;
        while (j < i && !same_window(program, i, j)) {
            j++;
        }
        windows = (uint16_t)(windows + (j == i ? 1u : 0u));
    }
    return windows;
}

static bool check_windows(const struct program *program, struct refusal *why) {
    for (uint8_t i = 0; i < program->cells.count; i++) {
        if (program->low[i] > program->high[i]) {
            *why = refuse(WHY_REFUSED, SAY_WINDOW, 0);
            why->cell = program->cells.at[i];
            return false;
        }
    }
    *why = refuse(WHY_REFUSED, SAY_LEVELS, 0);
    return count_windows(program) <= hal_chip()->programs.levels;
}

bool program_check(const struct program *program, struct refusal *why) {
    return cells_check(&program->cells, why) && check_windows(program, why);
}

/* --------------------------------------------------------------------------- write-verify */

static int16_t stair(const struct hal_staircase *stairs, uint16_t pulses) {
    int32_t volts = stairs->first + (int32_t)stairs->more * (int32_t)pulses;
    return volts < stairs->most ? (int16_t)volts : stairs->most;
}

/* One pulse towards the window. */
static enum status correct(struct board *board, uint32_t cell, bool up, uint16_t pulses) {
    const struct hal_programs *programs = &hal_chip()->programs;
    const struct hal_staircase *stairs = up ? &programs->set : &programs->reset;
    const uint8_t kind = up ? KIND_SET : KIND_RESET;
    const struct hal_setting setting = {
        cell,         kind,          hal_chip()->pulses[kind].terminals,
        stair(stairs, pulses), stairs->gate, stairs->limit,
    };
    return board_pulse(board, &setting, stairs->width_ns);
}

static bool arrived(const struct program *program, uint8_t i, uint16_t code) {
    return code != HAL_NO_ANSWER && program->low[i] <= code && code <= program->high[i];
}

static void read_cell(struct programmed *result, uint32_t cell) {
    result->code = hal_read_code(cell);
    result->reads++;
}

/* False where the board broke off. A cell that gives no answer is given up. */
static bool program_cell(struct board *board, uint8_t i) {
    const struct program *program = &board->program;
    struct programmed *result = &board->program.results[i];
    uint32_t cell = program->cells.at[i];
    if (board->stop) {
        board->fault.trouble = "the host sent ABORT";
        return false;
    }
    read_cell(result, cell);
    while (!arrived(program, i, result->code)) {
        bool up = result->code < program->low[i];
        uint16_t *pulses = up ? &result->sets : &result->resets;
        if (result->code == HAL_NO_ANSWER ||
            result->sets + result->resets >= hal_chip()->programs.attempts) {
            result->verdict = VERDICT_GAVE_UP;
            return true;
        }
        enum status status = correct(board, cell, up, *pulses);
        if (status == STATUS_UNTOUCHED && result->sets + result->resets == 0) {
            return false;
        }
        if (status != STATUS_PULSED) {
            result->verdict = VERDICT_UNKNOWN;
            return false;
        }
        ++*pulses;
        read_cell(result, cell);
    }
    result->verdict = VERDICT_ARRIVED;
    return true;
}

uint8_t program_execute(struct board *board) {
    struct program *program = &board->program;
    const struct programmed untouched = {VERDICT_UNTOUCHED, HAL_NO_ANSWER, 0, 0, 0};
    for (uint8_t i = 0; i < program->cells.count; i++) {
        program->results[i] = untouched;
    }
    for (uint8_t i = 0; i < program->cells.count; i++) {
        if (!program_cell(board, i)) {
            return i;
        }
        board->task.cells = (uint8_t)(i + 1u);
    }
    return program->cells.count;
}

size_t program_pack(const struct program *program, uint8_t count, uint8_t *to) {
    for (uint8_t i = 0; i < count; i++, to += 9) {
        const struct programmed *result = &program->results[i];
        to[0] = result->verdict;
        put16(to + 1, result->code);
        put16(to + 3, result->sets);
        put16(to + 5, result->resets);
        put16(to + 7, result->reads);
    }
    return 9u * (size_t)count;
}
