#include "frame.h"

#include "crc32.h"
#include "hal.h"

static void start_over(struct receiver *receiver) {
    receiver->decoder = (struct cobs){0};
    receiver->crc = CRC32_START;
    receiver->overlong = false;
    receiver->slots[receiver->head].length = 0;
}

static const struct frame *end_of_frame(struct receiver *receiver) {
    const struct frame *slot = &receiver->slots[receiver->head];
    bool empty = !receiver->decoder.begun && !receiver->overlong;
    bool right = !receiver->overlong && cobs_complete(&receiver->decoder) &&
                 slot->length >= FRAME_LEAST && receiver->crc == CRC32_RESIDUE;
    uint16_t length = slot->length;
    start_over(receiver);
    if (!right) {
        receiver->dropped += empty ? 0u : 1u;
        return NULL;
    }
    receiver->slots[receiver->head].length = length;
    return slot;
}

const struct frame *receiver_byte(struct receiver *receiver, uint8_t byte) {
    struct frame *slot = &receiver->slots[receiver->head];
    uint8_t decoded;
    if (byte == 0) {
        return end_of_frame(receiver);
    }
    if (!receiver->decoder.begun && !receiver->overlong) {
        start_over(receiver); /* the frame before may still stand here */
    }
    if (receiver->overlong || !cobs_decode(&receiver->decoder, byte, &decoded)) {
        return NULL;
    }
    if (slot->length == RR_MAX_FRAME) {
        receiver->overlong = true;
        return NULL;
    }
    slot->bytes[slot->length++] = decoded;
    receiver->crc = crc32_byte(receiver->crc, decoded);
    return NULL;
}

static uint8_t after(uint8_t slot) { return (uint8_t)((slot + 1u) % (RR_QUEUE + 1u)); }

bool receiver_keep(struct receiver *receiver) {
    uint8_t next = after(receiver->head);
    if (next == receiver->tail) {
        receiver->dropped++;
        return false;
    }
    receiver->slots[receiver->head].cancelled = false;
    receiver->slots[next].length = 0;
    receiver->head = next;
    return true;
}

const struct frame *receiver_next(struct receiver *receiver) {
    return receiver->tail == receiver->head ? NULL : &receiver->slots[receiver->tail];
}

void receiver_done(struct receiver *receiver) { receiver->tail = after(receiver->tail); }

void receiver_cancel(struct receiver *receiver) {
    for (uint8_t slot = receiver->tail; slot != receiver->head; slot = after(slot)) {
        receiver->slots[slot].cancelled = true;
    }
}

void frame_send(uint8_t *bytes, uint8_t type, uint16_t seq, size_t length) {
    size_t body = FRAME_HEAD + length;
    bytes[0] = RR_VERSION;
    bytes[1] = type;
    put16(bytes + 2, seq);
    put32(bytes + body, crc32(bytes, body));
    hal_byte_out(0);
    cobs_encode(bytes, body + 4u, hal_byte_out);
    hal_byte_out(0);
}
