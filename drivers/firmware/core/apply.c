#include "apply.h"

#include "board.h"
#include "bytes.h"
#include "frame.h"
#include "hal.h"

#define APPLY_HEAD 11u
#define FEMTOSECONDS 1000000

static size_t record_length(uint8_t terminals) {
    return 6u + ((terminals & HAL_HAS_GATE) != 0 ? 2u : 0u) +
           ((terminals & HAL_HAS_LIMIT) != 0 ? 2u : 0u);
}

static void unpack_record(struct apply *apply, uint8_t i, const uint8_t *at) {
    apply->cells.at[i] = get32(at);
    apply->volts[i] = get16s(at + 4);
    at += 6;
    apply->gate[i] = 0;
    apply->limit[i] = 0;
    if ((apply->terminals & HAL_HAS_GATE) != 0) {
        apply->gate[i] = get16s(at);
        at += 2;
    }
    if ((apply->terminals & HAL_HAS_LIMIT) != 0) {
        apply->limit[i] = get16s(at);
    }
}

bool apply_unpack(
    struct apply *apply, const uint8_t *payload, size_t length, struct refusal *why
) {
    *why = refuse(WHY_LAYOUT, SAY_LAYOUT, APPLY);
    if (length < APPLY_HEAD) {
        return false;
    }
    apply->session = get32(payload);
    apply->kind = payload[4];
    apply->terminals = payload[5];
    apply->width_ns = get32(payload + 6);
    apply->cells.count = payload[10];
    size_t record = record_length(apply->terminals);
    if ((apply->terminals & ~(HAL_HAS_GATE | HAL_HAS_LIMIT)) != 0 || apply->cells.count < 1 ||
        apply->cells.count > RR_MAX_CELLS ||
        length != APPLY_HEAD + record * (size_t)apply->cells.count) {
        return false;
    }
    for (uint8_t i = 0; i < apply->cells.count; i++) {
        unpack_record(apply, i, payload + APPLY_HEAD + record * (size_t)i);
    }
    return true;
}

static bool within(const struct hal_range *range, int64_t steps) {
    int64_t value = steps * range->step;
    return range->low <= value && value <= range->high;
}

static bool no(struct refusal *why, const struct apply *apply, enum sentence sentence) {
    *why = refuse(WHY_REFUSED, sentence, 0);
    why->kind = apply->kind;
    return false;
}

static bool no_value(
    struct refusal *why, const struct apply *apply, enum sentence sentence, uint8_t i,
    int16_t value
) {
    (void)no(why, apply, sentence);
    why->cell = apply->cells.at[i];
    why->value = value;
    return false;
}

static bool check_kind(const struct apply *apply, struct refusal *why) {
    if (apply->kind >= KINDS) {
        *why = refuse(WHY_REFUSED, SAY_NO_KIND, apply->kind);
        return false;
    }
    const struct hal_pulses *limits = &hal_chip()->pulses[apply->kind];
    if (limits->cells_at_once == 0) {
        return no(why, apply, SAY_CANNOT);
    }
    unsigned unknown = apply->terminals & ~(unsigned)limits->terminals;
    if ((unknown & HAL_HAS_GATE) != 0) {
        return no(why, apply, SAY_HAS_NO_GATE);
    }
    if ((unknown & HAL_HAS_LIMIT) != 0) {
        return no(why, apply, SAY_HAS_NO_LIMIT);
    }
    if ((limits->terminals & ~(unsigned)apply->terminals & HAL_HAS_GATE) != 0) {
        return no(why, apply, SAY_NEEDS_GATE);
    }
    return true;
}

static bool check_width(const struct apply *apply, struct refusal *why) {
    const struct hal_range *range = &hal_chip()->pulses[apply->kind].seconds;
    int64_t width = (int64_t)apply->width_ns * FEMTOSECONDS;
    if (width < range->low || width > range->high || width % range->step != 0) {
        (void)no(why, apply, SAY_WIDTH);
        why->cell = apply->width_ns;
        return false;
    }
    return true;
}

static bool check_cell(const struct apply *apply, uint8_t i, struct refusal *why) {
    const struct hal_pulses *limits = &hal_chip()->pulses[apply->kind];
    if (!within(&limits->volts, apply->volts[i])) {
        return no_value(why, apply, SAY_VOLTS, i, apply->volts[i]);
    }
    if ((apply->terminals & HAL_HAS_GATE) != 0 && !within(&limits->gate, apply->gate[i])) {
        return no_value(why, apply, SAY_GATE, i, apply->gate[i]);
    }
    if ((apply->terminals & HAL_HAS_LIMIT) != 0 && !within(&limits->limit, apply->limit[i])) {
        return no_value(why, apply, SAY_LIMIT, i, apply->limit[i]);
    }
    return true;
}

bool apply_check(const struct apply *apply, struct refusal *why) {
    if (!check_kind(apply, why) || !cells_check(&apply->cells, why) ||
        !check_width(apply, why)) {
        return false;
    }
    for (uint8_t i = 0; i < apply->cells.count; i++) {
        if (!check_cell(apply, i, why)) {
            return false;
        }
    }
    return true;
}

uint8_t apply_execute(struct board *board, enum status *next) {
    const struct apply *apply = &board->apply;
    for (uint8_t i = 0; i < apply->cells.count; i++) {
        const struct hal_setting setting = {
            apply->cells.at[i], apply->kind,    apply->terminals,
            apply->volts[i],    apply->gate[i], apply->limit[i],
        };
        *next = board_pulse(board, &setting, apply->width_ns);
        if (*next != STATUS_PULSED) {
            return i;
        }
        board->task.cells = (uint8_t)(i + 1u);
    }
    return apply->cells.count;
}
