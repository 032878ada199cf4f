/* PROGRAM: the board's own write-verify. */
#ifndef RR_PROGRAM_H
#define RR_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cells.h"
#include "refusal.h"

struct board;

enum verdict { VERDICT_ARRIVED = 0, VERDICT_UNTOUCHED = 1, VERDICT_UNKNOWN = 2, VERDICT_GAVE_UP = 3 };

struct programmed {
    uint8_t verdict;
    uint16_t code, sets, resets, reads;
};

/* The request, and what came of the newest. */
struct program {
    uint32_t session;
    struct cells cells;
    uint16_t low[RR_MAX_CELLS], high[RR_MAX_CELLS];
    uint16_t kept_seq;
    struct programmed results[RR_MAX_CELLS];
};

/* False and a refusal where the payload is no PROGRAM. */
bool program_unpack(
    struct program *program, const uint8_t *payload, size_t length, struct refusal *why
);

/* Everything is within what this board announces. */
bool program_check(const struct program *program, struct refusal *why);

/* Bring each cell into its window. How many are finished; fewer than all: the board broke off
   at the next one. */
uint8_t program_execute(struct board *board);

/* The records of the answer; their length. */
size_t program_pack(const struct program *program, uint8_t count, uint8_t *to);

#endif
