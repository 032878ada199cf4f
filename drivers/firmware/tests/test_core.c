/* Unit tests of the core, without a line.

     test_core           checks checksum, COBS, the receiver and the memory of results
     test_core frames    reads bytes from standard input and writes, for each frame that comes
                         out, its bytes and the bytes that the core sends for it, in hexadecimal
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "board.h"
#include "cobs.h"
#include "crc32.h"
#include "hal.h"
#include "sim.h"

#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

static struct receiver receiver;
static struct memory memory;
static uint8_t sent[2 * RR_MAX_FRAME];
static size_t sent_length;

static void keep(uint8_t byte) {
    CHECK(sent_length < sizeof sent);
    sent[sent_length++] = byte;
}

static void test_checksum(void) {
    static const uint8_t check[] = "123456789";
    CHECK(crc32(check, 9) == 0xcbf43926u); /* the check value of the CRC catalogue */
    CHECK(crc32(check, 0) == 0);
}

static void round_trip(const uint8_t *data, size_t length) {
    struct cobs decoder = {0};
    uint8_t back[RR_MAX_FRAME];
    size_t count = 0;
    sent_length = 0;
    cobs_encode(data, length, keep);
    CHECK(sent_length <= length + length / 254u + 1u);
    for (size_t i = 0; i < sent_length; i++) {
        CHECK(sent[i] != 0);
        if (cobs_decode(&decoder, sent[i], &back[count])) {
            count++;
        }
    }
    CHECK(cobs_complete(&decoder));
    CHECK(count == length);
    CHECK(memcmp(back, data, length) == 0);
}

static void test_cobs(void) {
    static uint8_t data[RR_MAX_FRAME];
    for (size_t length = 0; length <= sizeof data; length++) {
        memset(data, 7, sizeof data);
        round_trip(data, length);
        memset(data, 0, sizeof data);
        round_trip(data, length);
        memset(data, 7, sizeof data);
        data[length / 2] = 0;
        round_trip(data, length);
    }
}

/* Give `count` bytes to the receiver; how many frames came out. */
static unsigned feed(const uint8_t *bytes, size_t count) {
    unsigned frames = 0;
    for (size_t i = 0; i < count; i++) {
        if (receiver_byte(&receiver, bytes[i]) != NULL) {
            frames++;
        }
    }
    return frames;
}

static void test_receiver(void) {
    static struct frame frame;
    memset(&receiver, 0, sizeof receiver);
    sent_length = 0;
    memcpy(frame.bytes, "\x01\x02\x03\x04hello", 9);
    put32(frame.bytes + 9, crc32(frame.bytes, 9));
    cobs_encode(frame.bytes, 13, keep);
    keep(0);
    CHECK(feed(sent, sent_length) == 1);
    for (size_t bit = 0; bit < 8u * sent_length; bit++) {
        sent[bit / 8u] ^= (uint8_t)(1u << bit % 8u);
        CHECK(feed(sent, sent_length) == 0);
        CHECK(feed((const uint8_t *)"", 1) == 0);
        sent[bit / 8u] ^= (uint8_t)(1u << bit % 8u);
        CHECK(feed(sent, sent_length) == 1);
    }
    memset(frame.bytes, 7, sizeof frame.bytes); /* longer than a frame can be, then a good one */
    CHECK(feed(frame.bytes, sizeof frame.bytes) == 0);
    CHECK(feed(frame.bytes, sizeof frame.bytes) == 0);
    CHECK(feed((const uint8_t *)"", 1) == 0);
    CHECK(feed(sent, sent_length) == 1);
}

static void test_queue(void) {
    memset(&receiver, 0, sizeof receiver);
    CHECK(receiver_next(&receiver) == NULL);
    for (unsigned i = 0; i < RR_QUEUE; i++) {
        CHECK(feed(sent, sent_length) == 1);
        CHECK(receiver_keep(&receiver));
    }
    CHECK(feed(sent, sent_length) == 1);
    CHECK(!receiver_keep(&receiver));
    for (unsigned i = 0; i < RR_QUEUE; i++) {
        CHECK(receiver_next(&receiver) != NULL);
        CHECK(frame_seq(receiver_next(&receiver)) == 0x0403);
        receiver_done(&receiver);
    }
    CHECK(receiver_next(&receiver) == NULL);
}

static void remember(uint16_t seq, uint32_t crc) {
    struct result *result = memory_at(&memory, seq);
    memory_advance(&memory, seq);
    CHECK(memory_find(&memory, seq, crc) == KNOWN_NEW);
    result->state = RESULT_DONE;
    result->crc = crc;
}

static void test_memory(uint16_t start) {
    memory_clear(&memory, start);
    remember((uint16_t)(start + 1u), 11);
    CHECK(memory_find(&memory, (uint16_t)(start + 1u), 11) == KNOWN_SAME);
    CHECK(memory_find(&memory, (uint16_t)(start + 1u), 12) == KNOWN_OTHER);
    memory_advance(&memory, (uint16_t)(start + 64u));
    CHECK(memory_find(&memory, (uint16_t)(start + 1u), 11) == KNOWN_SAME);
    memory_advance(&memory, (uint16_t)(start + 65u));
    CHECK(memory_find(&memory, (uint16_t)(start + 1u), 11) == KNOWN_TOO_OLD);
    CHECK(memory_find(&memory, (uint16_t)(start + 65u), 11) == KNOWN_NEW);
    memory_advance(&memory, start); /* an old number changes nothing */
    CHECK(memory.newest == (uint16_t)(start + 65u));
}

static void test_numbers_that_come_round(void) {
    memory_clear(&memory, 0);
    remember(1, 11);
    for (uint32_t seq = 2; seq <= 65537u; seq += 30000u) {
        memory_advance(&memory, (uint16_t)seq);
    }
    memory_advance(&memory, 65535u);
    memory_advance(&memory, 0);
    remember(1, 11);
}

/* --------------------------------------------------------------------------- frames */

static void print_hex(const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        printf("%02x", bytes[i]);
    }
}

static void echo(const struct frame *frame) {
    static uint8_t copy[RR_MAX_FRAME];
    static struct board board;
    int ends[2];
    uint8_t bytes[2 * RR_MAX_FRAME];
    memcpy(copy, frame->bytes, sizeof copy);
    CHECK(pipe(ends) == 0);
    sim_attach(&board, ends[1]);
    frame_send(copy, frame_type(frame), frame_seq(frame), frame_payload_length(frame));
    sim_flush();
    ssize_t length = read(ends[0], bytes, sizeof bytes);
    CHECK(length > 0);
    print_hex(frame->bytes, frame->length);
    printf(" ");
    print_hex(bytes, (size_t)length);
    printf("\n");
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
}

static void echo_frames(void) {
    int byte;
    while ((byte = getchar()) != EOF) {
        const struct frame *frame = receiver_byte(&receiver, (uint8_t)byte);
        if (frame != NULL) {
            echo(frame);
        }
    }
    printf("dropped %u\n", (unsigned)receiver.dropped);
}

int main(int count, char **words) {
    if (count == 2 && strcmp(words[1], "frames") == 0) {
        echo_frames();
        return 0;
    }
    test_checksum();
    test_cobs();
    test_receiver();
    test_queue();
    test_memory(0);
    test_memory(65500);
    test_numbers_that_come_round();
    puts("core: all is well");
    return 0;
}
