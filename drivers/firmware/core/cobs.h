/* Consistent overhead byte stuffing (Cheshire and Baker, IEEE/ACM Trans. Netw. 7(2), 1999). */
#ifndef RR_COBS_H
#define RR_COBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A decoder that is given one byte at a time, never a zero. All zeroes: the start. */
struct cobs {
    uint8_t left;    /* bytes of this block still to come */
    bool zero_next;  /* the block ends in a zero, unless the frame ends with it */
    bool begun;
};

/* Take in `byte`. True: a byte of the message came out, in `*out`. */
bool cobs_decode(struct cobs *decoder, uint8_t byte, uint8_t *out);

/* May a frame end here? */
bool cobs_complete(const struct cobs *decoder);

/* Encode `data` and give each byte to `put`; no zero is among them. */
void cobs_encode(const uint8_t *data, size_t length, void (*put)(uint8_t));

#endif
