#include "cobs.h"

bool cobs_decode(struct cobs *decoder, uint8_t byte, uint8_t *out) {
    if (decoder->left > 0) {
        decoder->left--;
        *out = byte;
        return true;
    }
    bool zero = decoder->zero_next;
    decoder->left = (uint8_t)(byte - 1u);
    decoder->zero_next = byte != 0xff;
    decoder->begun = true;
    *out = 0;
    return zero;
}

bool cobs_complete(const struct cobs *decoder) {
    return decoder->begun && decoder->left == 0;
}

void cobs_encode(const uint8_t *data, size_t length, void (*put)(uint8_t)) {
    size_t at = 0;
    bool more = true;
    while (more) {
        uint8_t block = 0;
        while (block < 254 && at + block < length && data[at + block] != 0) {
            block++;
        }
        put((uint8_t)(block + 1u));
        for (uint8_t i = 0; i < block; i++) {
            put(data[at + i]);
        }
        at += block;
        /* A full block stands for no zero; a shorter one for that which it ended at. */
        more = at < length;
        if (more && block < 254) {
            at++;
        }
    }
}
