/* The board side of the protocol. One `struct board`, static, for one line.

   `board_byte` belongs to the serial interrupt, `board_tick` to a timer interrupt of 1 kHz (of
   the same priority), everything else to the main loop. What they share stands first, is
   volatile, and the main loop touches it only while interrupts are held. No function is
   called by itself, directly or not; two boards in one program would share only the hardware
   layer. */
#ifndef RR_BOARD_H
#define RR_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "apply.h"
#include "cells.h"
#include "frame.h"
#include "hal.h"
#include "lease.h"
#include "memory.h"
#include "program.h"

/* A request under way, and how many of its cells or vectors are finished. */
struct task {
    volatile uint8_t type; /* 0: none */
    volatile uint16_t seq;
    volatile uint8_t cells;
};

/* An ABORT or a STATUS that waits for its answer. */
struct urgent {
    uint8_t type;
    uint16_t seq;
    struct task stopped;
};

/* Why a session halted in the middle of a request. A session has one at most. */
struct fault {
    uint32_t cell;
    const char *trouble;
    uint8_t statuses[RR_MAX_CELLS];
};

struct board {
    struct receiver receiver;
    struct lease lease;
    struct task task;
    struct urgent urgent[RR_URGENT];
    volatile uint8_t urgent_count;
    volatile bool stop;   /* an ABORT came: end the request under way */
    volatile bool halted; /* the session takes no more pulses */

    /* The main loop's own. */
    uint32_t session;
    bool greeted; /* a HELLO came since the start */
    struct memory memory;
    struct fault fault;
    struct apply apply;
    struct program program;
    struct cells cells;
    int16_t values[FRAME_MAX_PAYLOAD / 2u]; /* of a knob */
    uint16_t inputs[RR_MAX_ROWS];
    uint32_t sums[RR_MAX_COLUMNS];
    uint8_t reply[RR_MAX_FRAME];
};

void board_start(struct board *board);

/* The serial interrupt: one byte has arrived. ABORT puts the outputs off in here. */
void board_byte(struct board *board, uint8_t byte);

/* The timer interrupt, every millisecond. */
void board_tick(struct board *board);

/* The main loop: answer the oldest request. False: none waits. */
bool board_work(struct board *board);

/* Answer what is urgent. The core calls it between cells and while a pulse lasts. */
void board_attend(struct board *board);

/* Set the converters, pulse, wait with board_attend, count. What became of the cell. */
enum status board_pulse(
    struct board *board, const struct hal_setting *setting, uint32_t width_ns
);

#endif
