/* Little-endian integers in a payload, whatever the processor is and however it aligns. */
#ifndef RR_BYTES_H
#define RR_BYTES_H

#include <stdint.h>

static inline uint16_t get16(const uint8_t *at) {
    return (uint16_t)(at[0] | (unsigned)at[1] << 8);
}

static inline uint32_t get32(const uint8_t *at) {
    return (uint32_t)get16(at) | ((uint32_t)get16(at + 2) << 16);
}

/* Two's complement without a conversion that C99 leaves to the compiler. */
static inline int16_t get16s(const uint8_t *at) {
    int32_t wide = (int32_t)get16(at);
    return (int16_t)(wide >= 0x8000 ? wide - 0x10000 : wide);
}

static inline void put16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)(value & 0xffu);
    at[1] = (uint8_t)(value >> 8);
}

static inline void put32(uint8_t *at, uint32_t value) {
    put16(at, (uint16_t)(value & 0xffffu));
    put16(at + 2, (uint16_t)(value >> 16));
}

static inline void put64s(uint8_t *at, int64_t value) {
    uint64_t bits = (uint64_t)value;
    put32(at, (uint32_t)(bits & 0xffffffffu));
    put32(at + 4, (uint32_t)(bits >> 32));
}

#endif
