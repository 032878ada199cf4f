#include "requests.h"

#include "bytes.h"
#include "hal.h"
#include "hello.h"
#include "product.h"

static struct outcome layout(struct refusal *why, const struct frame *frame) {
    *why = refuse(WHY_LAYOUT, SAY_LAYOUT, frame_type(frame));
    return refused();
}

/* --------------------------------------------------------------------------- sessions */

/* Interrupts held. An ABORT that came since this request was taken counts. */
static bool open_session(struct board *board, uint32_t session, uint16_t seq, struct refusal *why) {
    if (board->greeted && session == board->session) {
        return true;
    }
    if (board->stop) {
        *why = refuse(WHY_HALTED, SAY_HALTED, 0);
        return false;
    }
    if (board->lease.armed) {
        *why = refuse(WHY_BUSY, SAY_BUSY, 0);
        return false;
    }
    lease_off(&board->lease, OFF_HELLO);
    board->lease.expired = 0;
    board->greeted = true;
    board->session = session;
    board->halted = false;
    memory_clear(&board->memory, seq);
    return true;
}

static struct outcome hello(struct board *board, const struct frame *frame, struct refusal *why) {
    if (frame_payload_length(frame) != 4) {
        return layout(why, frame);
    }
    uint32_t session = get32(frame_payload(frame));
    hal_hold_interrupts(true);
    bool open = open_session(board, session, frame_seq(frame), why);
    hal_hold_interrupts(false);
    if (!open) {
        return refused();
    }
    size_t length = hello_pack(answer(board), session);
    return length == 0 ? no(why, WHY_FAULT, SAY_TOO_LONG) : done(length);
}

/* Interrupts held. */
static bool begin_lease(struct board *board, uint16_t milliseconds, struct refusal *why) {
    if (board->halted || board->stop) {
        *why = refuse(WHY_HALTED, SAY_HALTED, 0);
        return false;
    }
    if (milliseconds == 0) {
        lease_off(&board->lease, OFF_HOST);
    } else {
        lease_begin(&board->lease, milliseconds);
    }
    return true;
}

static struct outcome arm(struct board *board, const struct frame *frame, struct refusal *why) {
    static const struct task none;
    const uint8_t *payload = frame_payload(frame);
    if (frame_payload_length(frame) != 6) {
        return layout(why, frame);
    }
    if (get32(payload) != board->session) {
        return no(why, WHY_SESSION, SAY_OTHER_SESSION);
    }
    if (!board->halted && get16(payload + 4) > RR_LEASE_MS) {
        *why = refuse(WHY_REFUSED, SAY_LEASE, get16(payload + 4));
        return refused();
    }
    hal_hold_interrupts(true);
    bool begun = begin_lease(board, get16(payload + 4), why);
    size_t length = state_pack(board, &none, answer(board));
    hal_hold_interrupts(false);
    return begun ? done(length) : refused();
}

size_t state_pack(const struct board *board, const struct task *task, uint8_t *to) {
    const struct lease *lease = &board->lease;
    to[0] = (uint8_t)hal_outputs();
    to[1] = lease->why;
    put32(to + 2, hal_milliseconds() - lease->since);
    put16(to + 6, lease_left(lease));
    put16(to + 8, lease->expired);
    put32(to + 10, board->greeted ? board->session : 0);
    put16(to + 14, board->greeted ? board->memory.newest : 0);
    to[16] = task->type;
    put16(to + 17, task->seq);
    to[19] = task->cells;
    return 20;
}

/* --------------------------------------------------------------------------- readings */

static struct outcome read(struct board *board, const struct frame *frame, struct refusal *why) {
    struct cells *cells = &board->cells;
    if (!cells_unpack(cells, frame_payload(frame), frame_payload_length(frame), READ, why)) {
        return refused();
    }
    for (uint8_t i = 0; i < cells->count; i++) {
        put16(answer(board) + 2u * (size_t)i, hal_read_code(cells->at[i]));
        board->task.cells = (uint8_t)(i + 1u);
        board_attend(board);
        if (board->stop) {
            return no(why, WHY_HALTED, SAY_HALTED);
        }
    }
    return done(2u * (size_t)cells->count);
}

static struct outcome count(struct board *board, const struct frame *frame, struct refusal *why) {
    struct cells *cells = &board->cells;
    const uint8_t *payload = frame_payload(frame);
    size_t length = frame_payload_length(frame);
    if (length < 1) {
        return layout(why, frame);
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

/* --------------------------------------------------------------------------- product */

static struct outcome multiply(
    struct board *board, uint32_t tile, const uint8_t *inputs, uint8_t vectors,
    struct refusal *why
) {
    const struct hal_chip *chip = hal_chip();
    size_t in = vector_bytes(chip->rows, chip->products.input_bits);
    size_t out = vector_bytes(chip->columns, chip->products.sum_bits);
    for (uint8_t i = 0; i < vectors; i++) {
        codes_unpack(board->inputs, chip->rows, chip->products.input_bits, inputs + in * i);
        if (!hal_product(tile, board->inputs, board->sums)) {
            return no(why, WHY_FAULT, SAY_FAILED);
        }
        codes_pack(board->sums, chip->columns, chip->products.sum_bits, answer(board) + out * i);
        board->task.cells = (uint8_t)(i + 1u);
        board_attend(board);
        if (board->stop) {
            return no(why, WHY_HALTED, SAY_HALTED);
        }
    }
    return done(out * vectors);
}

static struct outcome product(struct board *board, const struct frame *frame, struct refusal *why) {
    const struct hal_chip *chip = hal_chip();
    const uint8_t *payload = frame_payload(frame);
    size_t length = frame_payload_length(frame);
    size_t in = vector_bytes(chip->rows, chip->products.input_bits);
    size_t out = vector_bytes(chip->columns, chip->products.sum_bits);
    if (length < PRODUCT_HEAD || payload[4] < 1 || length != PRODUCT_HEAD + in * payload[4] ||
        out * payload[4] > FRAME_MAX_PAYLOAD) {
        return layout(why, frame);
    }
    uint32_t tile = get32(payload);
    if (tile >= chip->tiles) {
        (void)no(why, WHY_REFUSED, SAY_NO_TILE);
        why->cell = tile;
        return refused();
    }
    return multiply(board, tile, payload + PRODUCT_HEAD, payload[4], why);
}

/* --------------------------------------------------------------------------- dispatch */

static bool known(uint8_t type) {
    const struct hal_chip *chip = hal_chip();
    switch (type) {
    case HELLO:
    case READ:
    case APPLY:
    case COUNT:
    case ARM:
    case STATUS: /* it is here when it carries what it must not */
        return true;
    case PRODUCT:
        return product_possible();
    case PROGRAM:
        return chip->programs.attempts > 0;
    case KNOB:
        return chip->knob_count > 0;
    default:
        return false;
    }
}

static struct outcome in_session(
    struct board *board, const struct frame *frame, struct refusal *why
) {
    memory_advance(&board->memory, frame_seq(frame));
    switch (frame_type(frame)) {
    case READ:
        return read(board, frame, why);
    case COUNT:
        return count(board, frame, why);
    case PRODUCT:
        return product(board, frame, why);
    case ARM:
        return arm(board, frame, why);
    default:
        return once(board, frame, why);
    }
}

struct outcome request(struct board *board, const struct frame *frame, struct refusal *why) {
    uint8_t type = frame_type(frame);
    if (frame_version(frame) != RR_VERSION) {
        *why = refuse(WHY_VERSION, SAY_VERSION, frame_version(frame));
        return refused();
    }
    if (!known(type)) {
        *why = refuse(WHY_TYPE, SAY_TYPE, type);
        return refused();
    }
    if (type == STATUS) {
        return layout(why, frame);
    }
    if (type == HELLO) {
        return hello(board, frame, why);
    }
    return board->greeted ? in_session(board, frame, why)
                          : no(why, WHY_SESSION, SAY_NO_SESSION);
}
