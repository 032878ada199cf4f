/* PRODUCT: codes packed bit by bit, least significant first, each vector in bytes of its own. */
#ifndef RR_PRODUCT_H
#define RR_PRODUCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRODUCT_HEAD 5u /* tile u32 | vectors u8 */

/* Bytes of a vector of `count` codes of `bits` bits. */
size_t vector_bytes(uint32_t count, uint8_t bits);

/* Can this board compute products of which a frame holds at least one? */
bool product_possible(void);

void codes_unpack(uint16_t *codes, uint32_t count, uint8_t bits, const uint8_t *from);
void codes_pack(const uint32_t *codes, uint32_t count, uint8_t bits, uint8_t *to);

#endif
