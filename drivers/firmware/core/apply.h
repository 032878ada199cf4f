/* APPLY: one pulse on each of at most RR_MAX_CELLS cells, all checked before the first. */
#ifndef RR_APPLY_H
#define RR_APPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cells.h"
#include "refusal.h"

enum status { STATUS_PULSED = 0, STATUS_UNTOUCHED = 1, STATUS_UNKNOWN = 2 };

struct board;

struct apply {
    uint32_t session;
    uint32_t width_ns;
    uint8_t kind;
    uint8_t terminals;
    struct cells cells;
    int16_t volts[RR_MAX_CELLS], gate[RR_MAX_CELLS], limit[RR_MAX_CELLS];
};

/* False and a refusal where the payload is no APPLY. */
bool apply_unpack(
    struct apply *apply, const uint8_t *payload, size_t length, struct refusal *why
);

/* Everything is within this board's own limits, whatever the host believes. */
bool apply_check(const struct apply *apply, struct refusal *why);

/* Pulse each cell once, in order, and count each pulse. Stops where the hardware fails, or
   the outputs were put off. How many cells were pulsed; fewer than all: `next` says what
   became of the next one, and those behind it are untouched. */
uint8_t apply_execute(struct board *board, enum status *next);

#endif
