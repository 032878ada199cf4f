/* Frames: version u8 | type u8 | seq u16 | payload | crc u32, before COBS. */
#ifndef RR_FRAME_H
#define RR_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "cobs.h"
#include "config.h"

#define FRAME_HEAD 4u
#define FRAME_LEAST 8u
#define FRAME_MAX_PAYLOAD (RR_MAX_FRAME - FRAME_LEAST)
#define FRAME_REPLY 0x80u

enum type {
    HELLO = 1,
    READ,
    APPLY,
    COUNT,
    PRODUCT,
    PROGRAM,
    KNOB,
    ARM,
    ABORT,
    STATUS,
    NAK = 0x7f
};

enum why {
    WHY_VERSION = 1,
    WHY_TYPE,
    WHY_LAYOUT,
    WHY_REFUSED,
    WHY_SESSION,
    WHY_STALE,
    WHY_HALTED,
    WHY_FAULT,
    WHY_UNARMED,
    WHY_BUSY
};

struct frame {
    uint16_t length;         /* of all of it, checksum included */
    volatile bool cancelled; /* an ABORT came while it waited */
    uint8_t bytes[RR_MAX_FRAME];
};

static inline uint8_t frame_version(const struct frame *frame) { return frame->bytes[0]; }
static inline uint8_t frame_type(const struct frame *frame) { return frame->bytes[1]; }
static inline uint16_t frame_seq(const struct frame *frame) { return get16(frame->bytes + 2); }
static inline const uint8_t *frame_payload(const struct frame *frame) {
    return frame->bytes + FRAME_HEAD;
}
static inline size_t frame_payload_length(const struct frame *frame) {
    return (size_t)frame->length - FRAME_LEAST;
}

/* Frames out of bytes. The interrupt writes slots[head]; the main loop reads slots[tail]. */
struct receiver {
    struct frame slots[RR_QUEUE + 1u];
    volatile uint8_t head;
    volatile uint8_t tail;
    struct cobs decoder;
    uint32_t crc;
    bool overlong;
    uint32_t dropped; /* pieces that were no frame, and frames beyond the queue */
};

/* Take in one byte, in the interrupt. The frame that it completes, or NULL; it is queued by
   `receiver_keep`, or is gone with the next byte. A frame with one wrong bit never comes out. */
const struct frame *receiver_byte(struct receiver *receiver, uint8_t byte);

/* Queue the frame that just came out; false where the queue is full, and it is dropped. */
bool receiver_keep(struct receiver *receiver);

/* The oldest frame in the queue, or NULL; it stays valid until `receiver_done`. */
const struct frame *receiver_next(struct receiver *receiver);
void receiver_done(struct receiver *receiver);

/* An ABORT came: all that wait are cancelled. In the interrupt. */
void receiver_cancel(struct receiver *receiver);

/* Send a frame whose payload of `length` bytes stands FRAME_HEAD bytes into `bytes`, with room
   for the checksum behind it. */
void frame_send(uint8_t *bytes, uint8_t type, uint16_t seq, size_t length);

#endif
