#include "board.h"

#include <string.h>

#include "hal.h"
#include "requests.h"

#define STATE_LENGTH 20u

void board_start(struct board *board) {
    memset(board, 0, sizeof *board);
    hal_hold_interrupts(true);
    lease_off(&board->lease, OFF_START);
    board->lease.since = hal_milliseconds();
    hal_hold_interrupts(false);
}

/* --------------------------------------------------------------------------- interrupts */

/* An ABORT is never the one that finds no place. */
static void wait_urgently(struct board *board, const struct urgent *urgent) {
    if (board->urgent_count < RR_URGENT) {
        board->urgent[board->urgent_count++] = *urgent;
    } else if (urgent->type == ABORT) {
        board->urgent[RR_URGENT - 1u] = *urgent;
    }
}

static void abort_all(struct board *board) {
    lease_off(&board->lease, OFF_ABORT);
    board->halted = true;
    board->stop = true;
    receiver_cancel(&board->receiver);
}

void board_byte(struct board *board, uint8_t byte) {
    const struct frame *frame = receiver_byte(&board->receiver, byte);
    if (frame == NULL) {
        return;
    }
    const struct urgent urgent = {frame_type(frame), frame_seq(frame), board->task};
    bool ours = frame_version(frame) == RR_VERSION;
    if (urgent.type == ABORT) {
        abort_all(board);
        wait_urgently(board, &urgent);
        return;
    }
    if (ours && urgent.type != HELLO) {
        lease_heard(&board->lease);
    }
    if (ours && urgent.type == STATUS && frame_payload_length(frame) == 0) {
        wait_urgently(board, &urgent);
    } else {
        (void)receiver_keep(&board->receiver);
    }
}

void board_tick(struct board *board) { lease_tick(&board->lease); }

/* --------------------------------------------------------------------------- main loop */

/* Take the oldest urgent request, and write its answer behind `bytes`. */
static bool take_urgent(struct board *board, struct urgent *taken, uint8_t *bytes) {
    hal_hold_interrupts(true);
    bool any = board->urgent_count > 0;
    if (any) {
        *taken = board->urgent[0];
        board->urgent_count--;
        for (uint8_t i = 0; i < board->urgent_count; i++) {
            board->urgent[i] = board->urgent[i + 1u];
        }
        const struct task *task = taken->type == ABORT ? &taken->stopped : &board->task;
        (void)state_pack(board, task, bytes + FRAME_HEAD);
    }
    hal_hold_interrupts(false);
    return any;
}

void board_attend(struct board *board) {
    struct urgent urgent;
    uint8_t bytes[STATE_LENGTH + FRAME_LEAST];
    while (take_urgent(board, &urgent, bytes)) {
        frame_send(bytes, (uint8_t)(urgent.type | FRAME_REPLY), urgent.seq, STATE_LENGTH);
    }
}

static bool start_pulse(struct board *board, uint32_t width_ns) {
    hal_hold_interrupts(true);
    bool may = board->lease.armed && !board->stop;
    if (may) {
        hal_pulse_start(width_ns);
    } else {
        hal_outputs_off(); /* the converters were set a moment ago */
    }
    hal_hold_interrupts(false);
    return may;
}

/* Why a pulse was not done. The outputs go off where they are not yet. */
static void note_trouble(struct board *board) {
    hal_hold_interrupts(true);
    if (board->stop) {
        board->fault.trouble = "the host sent ABORT";
    } else if (!board->lease.armed) {
        board->fault.trouble = "the lease ran out";
    } else {
        board->fault.trouble = hal_trouble();
        lease_off(&board->lease, OFF_FAULT);
    }
    hal_hold_interrupts(false);
}

enum status board_pulse(
    struct board *board, const struct hal_setting *setting, uint32_t width_ns
) {
    enum hal_outcome outcome = HAL_NOT_DONE;
    hal_set_dacs(setting);
    if (start_pulse(board, width_ns)) {
        while ((outcome = hal_pulse_outcome()) == HAL_BUSY) {
            board_attend(board);
        }
    }
    board_attend(board);
    if (outcome == HAL_PULSED) {
        hal_count(setting->kind, setting->cell);
        return STATUS_PULSED;
    }
    note_trouble(board);
    return outcome == HAL_NOT_DONE ? STATUS_UNTOUCHED : STATUS_UNKNOWN;
}

static void set_task(struct board *board, uint8_t type, uint16_t seq) {
    board->task.type = type;
    board->task.seq = seq;
    board->task.cells = 0;
}

/* From here on an ABORT stops this request. False: one came while it waited. */
static bool take_up(struct board *board, const struct frame *frame) {
    hal_hold_interrupts(true);
    bool cancelled = frame->cancelled;
    board->stop = false;
    if (!cancelled) {
        set_task(board, frame_type(frame), frame_seq(frame));
    }
    hal_hold_interrupts(false);
    return !cancelled;
}

static void put_down(struct board *board) {
    hal_hold_interrupts(true);
    set_task(board, 0, 0);
    hal_hold_interrupts(false);
    board_attend(board); /* the answer to an ABORT goes before that of what it stopped */
}

bool board_work(struct board *board) {
    const struct frame *frame = receiver_next(&board->receiver);
    struct refusal why = refuse(WHY_HALTED, SAY_HALTED, 0);
    struct outcome outcome = refused();
    board_attend(board);
    if (frame == NULL) {
        return false;
    }
    if (take_up(board, frame)) {
        outcome = request(board, frame, &why);
    }
    uint8_t type = (uint8_t)(frame_type(frame) | FRAME_REPLY);
    uint16_t seq = frame_seq(frame);
    put_down(board);
    receiver_done(&board->receiver);
    if (outcome.refused) {
        type = NAK;
        outcome.length = refusal_pack(&why, answer(board));
    }
    frame_send(board->reply, type, seq, outcome.length);
    return true;
}
