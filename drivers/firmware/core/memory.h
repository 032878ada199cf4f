/* The memory of results: a request that changes cells is executed once for each number.

   A window over the last RR_REMEMBERED numbers, as that of IPsec against replay (RFC 4303,
   3.4.3). Main loop only. */
#ifndef RR_MEMORY_H
#define RR_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "refusal.h"

enum state { RESULT_EMPTY, RESULT_DONE, RESULT_REFUSED, RESULT_FAULT };

struct result {
    uint32_t crc; /* of the request */
    uint8_t state;
    uint8_t count; /* cells */
    struct refusal refusal;
};

enum known { KNOWN_NEW, KNOWN_SAME, KNOWN_OTHER, KNOWN_TOO_OLD };

struct memory {
    uint16_t newest;
    struct result results[RR_REMEMBERED];
};

/* Forget all; `seq` is the newest number now. */
void memory_clear(struct memory *memory, uint16_t seq);

/* Note `seq`; a number newer than any before frees the places of those that it passes. */
void memory_advance(struct memory *memory, uint16_t seq);

/* What is known of number `seq`, given to the request of checksum `crc`. */
enum known memory_find(const struct memory *memory, uint16_t seq, uint32_t crc);

/* The place of `seq`. */
struct result *memory_at(struct memory *memory, uint16_t seq);

#endif
