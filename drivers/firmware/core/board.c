#include "board.h"

#include <string.h>

#include "bytes.h"
#include "crc32.h"
#include "hal.h"
#include "hello.h"
#include "text.h"

void board_start(struct board *board) {
    memset(board, 0, sizeof *board);
    hal_outputs_off();
}

void board_byte(struct board *board, uint8_t byte) {
    const struct frame *frame = receiver_byte(&board->receiver, byte);
    if (frame != NULL) {
        (void)receiver_keep(&board->receiver);
    }
}

/* What a request came to: an answer of `length` bytes in the reply, or a refusal. */
struct outcome {
    bool refused;
    size_t length;
};

static struct outcome done(size_t length) {
    struct outcome outcome = {false, length};
    return outcome;
}

static struct outcome refused(void) {
    struct outcome outcome = {true, 0};
    return outcome;
}

static uint8_t *answer(struct board *board) { return board->reply.bytes + FRAME_HEAD; }

static struct outcome hello(struct board *board, const struct frame *frame, struct refusal *why) {
    if (frame_payload_length(frame) != 4) {
        *why = refuse(WHY_LAYOUT, SAY_LAYOUT, HELLO);
        return refused();
    }
    uint32_t session = get32(frame_payload(frame));
    if (!board->greeted || session != board->session) {
        board->greeted = true;
        board->session = session;
        board->halted = false;
        memory_clear(&board->memory, frame_seq(frame));
    }
    return done(hello_pack(answer(board), session));
}

static struct outcome read(struct board *board, const struct frame *frame, struct refusal *why) {
    struct cells *cells = &board->cells;
    if (!cells_unpack(cells, frame_payload(frame), frame_payload_length(frame), READ, why)) {
        return refused();
    }
    for (uint8_t i = 0; i < cells->count; i++) {
        put16(answer(board) + 2u * (size_t)i, hal_read_code(cells->at[i]));
    }
    return done(2u * (size_t)cells->count);
}

static struct outcome count(struct board *board, const struct frame *frame, struct refusal *why) {
    struct cells *cells = &board->cells;
    const uint8_t *payload = frame_payload(frame);
    size_t length = frame_payload_length(frame);
    if (length < 1) {
        *why = refuse(WHY_LAYOUT, SAY_LAYOUT, COUNT);
        return refused();
    }
    if (!cells_unpack(cells, payload + 1, length - 1, COUNT, why)) {
        return refused();
    }
    if (payload[0] >= KINDS) {
        *why = refuse(WHY_REFUSED, SAY_NO_KIND, payload[0]);
        return refused();
    }
    for (uint8_t i = 0; i < cells->count; i++) {
        put32(answer(board) + 4u * (size_t)i, hal_counted(payload[0], cells->at[i]));
    }
    return done(4u * (size_t)cells->count);
}

/* --------------------------------------------------------------------------- pulses */

static void note_fault(struct board *board, uint8_t pulsed, enum status next) {
    struct fault *fault = &board->fault;
    fault->count = board->apply.cells.count;
    memset(fault->statuses, STATUS_UNTOUCHED, sizeof fault->statuses);
    memset(fault->statuses, STATUS_PULSED, pulsed);
    fault->statuses[pulsed] = (uint8_t)next;
    fault->cell = board->apply.cells.at[pulsed];
    fault->trouble = hal_trouble();
    board->halted = true;
}

/* The answer that is kept: the first time, and again. */
static struct outcome kept_answer(
    struct board *board, const struct result *result, struct refusal *why
) {
    uint8_t *at = answer(board);
    if (result->state == RESULT_REFUSED) {
        *why = result->refusal;
        return refused();
    }
    at[0] = result->count;
    at[1] = result->state == RESULT_FAULT ? 1 : 0;
    if (at[1] == 0) {
        return done(2);
    }
    struct text text = {at + 2 + result->count, 0, RR_MAX_SENTENCE};
    memcpy(at + 2, board->fault.statuses, result->count);
    text_words(&text, "cell ");
    text_number(&text, board->fault.cell);
    text_words(&text, ": ");
    text_words(&text, board->fault.trouble);
    return done(2u + result->count + text.length);
}

static void execute(struct board *board, struct result *result) {
    struct apply *apply = &board->apply;
    enum status next;
    if (!apply_check(apply, &result->refusal)) {
        result->state = RESULT_REFUSED;
        return;
    }
    uint8_t pulsed = apply_execute(apply, &board->stop, &next);
    result->count = apply->cells.count;
    result->state = RESULT_DONE;
    if (pulsed < apply->cells.count) {
        note_fault(board, pulsed, next);
        result->state = RESULT_FAULT;
    }
}

static uint32_t checksum(const struct frame *frame) {
    return crc32_byte(
        crc32(frame_payload(frame), frame_payload_length(frame)), frame_type(frame)
    );
}

static struct outcome apply(struct board *board, const struct frame *frame, struct refusal *why) {
    uint16_t seq = frame_seq(frame);
    uint32_t crc = checksum(frame);
    struct result *result = memory_at(&board->memory, seq);
    if (!apply_unpack(&board->apply, frame_payload(frame), frame_payload_length(frame), why)) {
        return refused();
    }
    if (board->apply.session != board->session) {
        *why = refuse(WHY_SESSION, SAY_OTHER_SESSION, 0);
        return refused();
    }
    switch (memory_find(&board->memory, seq, crc)) {
    case KNOWN_TOO_OLD:
        *why = refuse(WHY_STALE, SAY_TOO_OLD, seq);
        return refused();
    case KNOWN_OTHER:
        *why = refuse(WHY_STALE, SAY_REUSED, seq);
        return refused();
    case KNOWN_SAME:
        return kept_answer(board, result, why);
    default:
        break;
    }
    if (board->halted) {
        *why = refuse(WHY_HALTED, SAY_HALTED, 0);
        return refused();
    }
    result->crc = crc;
    execute(board, result);
    return kept_answer(board, result, why);
}

/* --------------------------------------------------------------------------- requests */

static struct outcome request(
    struct board *board, const struct frame *frame, struct refusal *why
) {
    uint8_t type = frame_type(frame);
    if (frame_version(frame) != RR_VERSION) {
        *why = refuse(WHY_VERSION, SAY_VERSION, frame_version(frame));
        return refused();
    }
    if (type == HELLO) {
        return hello(board, frame, why);
    }
    if (type != READ && type != APPLY && type != COUNT) {
        *why = refuse(WHY_TYPE, SAY_TYPE, type);
        return refused();
    }
    if (!board->greeted) {
        *why = refuse(WHY_SESSION, SAY_NO_SESSION, 0);
        return refused();
    }
    memory_advance(&board->memory, frame_seq(frame));
    return type == READ    ? read(board, frame, why)
           : type == COUNT ? count(board, frame, why)
                           : apply(board, frame, why);
}

bool board_work(struct board *board) {
    const struct frame *frame = receiver_next(&board->receiver);
    struct refusal why;
    if (frame == NULL) {
        return false;
    }
    struct outcome outcome = request(board, frame, &why);
    uint8_t type = (uint8_t)(frame_type(frame) | FRAME_REPLY);
    uint16_t seq = frame_seq(frame);
    receiver_done(&board->receiver);
    if (outcome.refused) {
        type = NAK;
        outcome.length = refusal_pack(&why, answer(board));
    }
    frame_send(&board->reply, type, seq, outcome.length);
    return true;
}
