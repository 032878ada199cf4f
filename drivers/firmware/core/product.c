#include "product.h"

#include <string.h>

#include "config.h"
#include "frame.h"
#include "hal.h"

size_t vector_bytes(uint32_t count, uint8_t bits) { return ((size_t)count * bits + 7u) / 8u; }

bool product_possible(void) {
    const struct hal_chip *chip = hal_chip();
    const struct hal_products *products = &chip->products;
    return products->input_bits > 0 && products->input_bits <= 16 && products->sum_bits <= 32 &&
           chip->rows <= RR_MAX_ROWS && chip->columns <= RR_MAX_COLUMNS &&
           vector_bytes(chip->rows, products->input_bits) + PRODUCT_HEAD <= FRAME_MAX_PAYLOAD &&
           vector_bytes(chip->columns, products->sum_bits) <= FRAME_MAX_PAYLOAD;
}

void codes_unpack(uint16_t *codes, uint32_t count, uint8_t bits, const uint8_t *from) {
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        unsigned code = 0;
        for (uint8_t bit = 0; bit < bits; bit++, at++) {
            code |= ((unsigned)from[at / 8u] >> (at % 8u) & 1u) << bit;
        }
        codes[i] = (uint16_t)code;
    }
}

void codes_pack(const uint32_t *codes, uint32_t count, uint8_t bits, uint8_t *to) {
    size_t at = 0;
    memset(to, 0, vector_bytes(count, bits));
    for (uint32_t i = 0; i < count; i++) {
        for (uint8_t bit = 0; bit < bits; bit++, at++) {
            unsigned one = (unsigned)(codes[i] >> bit & 1u);
            to[at / 8u] = (uint8_t)(to[at / 8u] | one << (at % 8u));
        }
    }
}
