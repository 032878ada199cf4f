#include "memory.h"

#include <string.h>

static uint16_t distance(uint16_t from, uint16_t to) { return (uint16_t)(to - from); }

void memory_clear(struct memory *memory, uint16_t seq) {
    memset(memory, 0, sizeof *memory);
    memory->newest = seq;
}

void memory_advance(struct memory *memory, uint16_t seq) {
    uint16_t ahead = distance(memory->newest, seq);
    if (ahead == 0 || ahead >= 0x8000u) {
        return;
    }
    uint16_t passed = ahead < RR_REMEMBERED ? ahead : (uint16_t)RR_REMEMBERED;
    for (uint16_t i = 0; i < passed; i++) {
        memory_at(memory, (uint16_t)(seq - i))->state = RESULT_EMPTY;
    }
    memory->newest = seq;
}

enum known memory_find(const struct memory *memory, uint16_t seq, uint32_t crc) {
    const struct result *result = &memory->results[seq % RR_REMEMBERED];
    if (distance(seq, memory->newest) >= RR_REMEMBERED) {
        return KNOWN_TOO_OLD;
    }
    if (result->state == RESULT_EMPTY) {
        return KNOWN_NEW;
    }
    return result->crc == crc ? KNOWN_SAME : KNOWN_OTHER;
}

struct result *memory_at(struct memory *memory, uint16_t seq) {
    return &memory->results[seq % RR_REMEMBERED];
}
