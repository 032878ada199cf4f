/* Requests that are executed once: APPLY, PROGRAM, KNOB. */
#include <string.h>

#include "bytes.h"
#include "crc32.h"
#include "hal.h"
#include "requests.h"
#include "text.h"

#define KNOB_HEAD 5u

/* What the session was halted by. */
static size_t say_fault(const struct fault *fault, uint8_t *to) {
    struct text text = {to, 0, RR_MAX_SENTENCE};
    text_words(&text, "cell ");
    text_number(&text, fault->cell);
    text_words(&text, ": ");
    text_words(&text, fault->trouble);
    return text.length;
}

static size_t pack_apply(const struct board *board, const struct result *result, uint8_t *to) {
    if (result->state == RESULT_DONE) {
        return 2;
    }
    memcpy(to + 2, board->fault.statuses, result->count);
    return 2u + result->count + say_fault(&board->fault, to + 2 + result->count);
}

static size_t pack_program(const struct board *board, const struct result *result, uint8_t *to) {
    size_t length = 2u + program_pack(&board->program, result->count, to + 2);
    return result->state == RESULT_DONE ? length : length + say_fault(&board->fault, to + length);
}

/* The answer that is kept: the first time, and again. */
static struct outcome kept(
    struct board *board, const struct frame *frame, const struct result *result,
    struct refusal *why
) {
    uint8_t *to = answer(board);
    if (result->state == RESULT_REFUSED) {
        *why = result->refusal;
        return refused();
    }
    to[0] = result->count;
    to[1] = result->state == RESULT_FAULT ? 1 : 0;
    switch (frame_type(frame)) {
    case APPLY:
        return done(pack_apply(board, result, to));
    case PROGRAM:
        if (board->program.kept_seq != frame_seq(frame)) {
            *why = refuse(WHY_STALE, SAY_FORGOTTEN, frame_seq(frame));
            return refused();
        }
        return done(pack_program(board, result, to));
    default:
        return done(0);
    }
}

/* --------------------------------------------------------------------------- knobs */

static bool unpack_knob(struct board *board, const struct frame *frame, struct refusal *why) {
    size_t length = frame_payload_length(frame);
    *why = refuse(WHY_LAYOUT, SAY_LAYOUT, KNOB);
    if (length <= KNOB_HEAD || (length - KNOB_HEAD) % 2u != 0) {
        return false;
    }
    size_t count = (length - KNOB_HEAD) / 2u;
    for (size_t i = 0; i < count; i++) {
        board->values[i] = get16s(frame_payload(frame) + KNOB_HEAD + 2u * i);
    }
    return true;
}

static bool check_values(
    const struct board *board, uint8_t number, uint16_t count, struct refusal *why
) {
    const struct hal_knob *knob = &hal_chip()->knobs[number];
    *why = refuse(WHY_REFUSED, SAY_VALUES, count);
    why->kind = number;
    if (count != knob->values) {
        return false;
    }
    for (uint16_t i = 0; i < count; i++) {
        int64_t value = (int64_t)board->values[i] * knob->range.step;
        if (value < knob->range.low || value > knob->range.high) {
            *why = refuse(WHY_REFUSED, SAY_SETTING, board->values[i]);
            why->kind = number;
            return false;
        }
    }
    return true;
}

static void turn(struct board *board, const struct frame *frame, struct result *result) {
    uint8_t number = frame_payload(frame)[4];
    uint16_t count = (uint16_t)((frame_payload_length(frame) - KNOB_HEAD) / 2u);
    result->state = RESULT_REFUSED;
    if (number >= hal_chip()->knob_count) {
        result->refusal = refuse(WHY_REFUSED, SAY_NO_KNOB, number);
    } else if (check_values(board, number, count, &result->refusal)) {
        result->refusal = refuse(WHY_FAULT, SAY_FAILED, 0);
        result->state = hal_turn(number, board->values, count) ? RESULT_DONE : RESULT_REFUSED;
    }
}

/* --------------------------------------------------------------------------- pulses */

static void halt(struct board *board, uint32_t cell) {
    board->fault.cell = cell;
    hal_hold_interrupts(true);
    board->halted = true;
    hal_hold_interrupts(false);
}

static void apply(struct board *board, struct result *result) {
    enum status next = STATUS_PULSED;
    uint8_t pulsed = apply_execute(board, &next);
    result->count = board->apply.cells.count;
    if (pulsed == result->count) {
        result->state = RESULT_DONE;
        return;
    }
    result->state = RESULT_FAULT;
    memset(board->fault.statuses, STATUS_UNTOUCHED, sizeof board->fault.statuses);
    memset(board->fault.statuses, STATUS_PULSED, pulsed);
    board->fault.statuses[pulsed] = (uint8_t)next;
    halt(board, board->apply.cells.at[pulsed]);
}

static void program(struct board *board, const struct frame *frame, struct result *result) {
    uint8_t finished = program_execute(board);
    result->count = board->program.cells.count;
    board->program.kept_seq = frame_seq(frame);
    result->state = RESULT_DONE;
    if (finished < result->count) {
        result->state = RESULT_FAULT;
        halt(board, board->program.cells.at[finished]);
    }
}

/* --------------------------------------------------------------------------- once */

static bool unpack(struct board *board, const struct frame *frame, struct refusal *why) {
    const uint8_t *payload = frame_payload(frame);
    size_t length = frame_payload_length(frame);
    switch (frame_type(frame)) {
    case APPLY:
        return apply_unpack(&board->apply, payload, length, why);
    case PROGRAM:
        return program_unpack(&board->program, payload, length, why);
    default:
        return unpack_knob(board, frame, why);
    }
}

static void execute(struct board *board, const struct frame *frame, struct result *result) {
    uint8_t type = frame_type(frame);
    result->count = 0;
    result->state = RESULT_REFUSED;
    if (type == KNOB) {
        turn(board, frame, result);
    } else if (!board->lease.armed) {
        /* Kept like an answer: a late copy of this frame must not pulse when the board is
           armed again and the host has sent its cells under a new number. */
        result->refusal = refuse(WHY_UNARMED, SAY_UNARMED, 0);
    } else if (type == APPLY && apply_check(&board->apply, &result->refusal)) {
        apply(board, result);
    } else if (type == PROGRAM && program_check(&board->program, &result->refusal)) {
        program(board, frame, result);
    }
}

/* A payload that is executed once begins with the session's number. */
struct outcome once(struct board *board, const struct frame *frame, struct refusal *why) {
    uint16_t seq = frame_seq(frame);
    struct result *result = memory_at(&board->memory, seq);
    uint32_t crc = crc32(frame_payload(frame), frame_payload_length(frame));
    crc = crc32_byte(crc, frame_type(frame));
    if (!unpack(board, frame, why)) {
        return refused();
    }
    if (get32(frame_payload(frame)) != board->session) {
        return no(why, WHY_SESSION, SAY_OTHER_SESSION);
    }
    switch (memory_find(&board->memory, seq, crc)) {
    case KNOWN_TOO_OLD:
        *why = refuse(WHY_STALE, SAY_TOO_OLD, seq);
        return refused();
    case KNOWN_OTHER:
        *why = refuse(WHY_STALE, SAY_REUSED, seq);
        return refused();
    case KNOWN_NEW:
        if (board->halted) {
            return no(why, WHY_HALTED, SAY_HALTED);
        }
        result->crc = crc;
        execute(board, frame, result);
        break;
    default:
        break;
    }
    return kept(board, frame, result, why);
}
