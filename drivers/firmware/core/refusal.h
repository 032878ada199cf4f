/* Why nothing of a request was done. Twelve bytes; the sentence is written when it is sent. */
#ifndef RR_REFUSAL_H
#define RR_REFUSAL_H

#include <stddef.h>
#include <stdint.h>

enum sentence {
    SAY_VERSION,    /* value: theirs */
    SAY_TYPE,       /* value: the type */
    SAY_LAYOUT,     /* value: the type */
    SAY_NO_SESSION,
    SAY_OTHER_SESSION,
    SAY_TOO_OLD,    /* value: the number */
    SAY_REUSED,     /* value: the number */
    SAY_HALTED,
    SAY_UNARMED,
    SAY_BUSY,
    SAY_FORGOTTEN,  /* value: the number */
    SAY_NO_CELL,    /* cell */
    SAY_TWICE,      /* cell */
    SAY_NO_KIND,    /* value: the kind */
    SAY_CANNOT,     /* kind */
    SAY_VOLTS,      /* kind, cell, value: steps */
    SAY_GATE,
    SAY_LIMIT,
    SAY_WIDTH,      /* kind, cell: nanoseconds */
    SAY_NEEDS_GATE, /* kind */
    SAY_HAS_NO_GATE,
    SAY_HAS_NO_LIMIT,
    SAY_LEASE,      /* value: milliseconds */
    SAY_NO_TILE,    /* cell: the tile */
    SAY_WINDOW,     /* cell */
    SAY_LEVELS,
    SAY_NO_KNOB,    /* value: the knob */
    SAY_VALUES,     /* kind: the knob, value: how many */
    SAY_SETTING,    /* kind: the knob, value: steps */
    SAY_FAILED,
    SAY_TOO_LONG
};

struct refusal {
    uint32_t cell;
    int32_t value;
    uint8_t why, sentence, kind;
};

static inline struct refusal refuse(uint8_t why, enum sentence sentence, int32_t value) {
    struct refusal made = {0, value, why, (uint8_t)sentence, 0};
    return made;
}

/* The payload of the NAK; its length, at most 1 + RR_MAX_SENTENCE. */
size_t refusal_pack(const struct refusal *refusal, uint8_t *payload);

/* SET, RESET or FORM. */
const char *kind_name(uint8_t kind);

#endif
