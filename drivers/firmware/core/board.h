/* The board side of the protocol. One `struct board`, static and all zero at power up.

   `board_byte` belongs to the serial interrupt, `board_work` to the main loop. They share the
   queue of the receiver and the flags below, nothing else. */
#ifndef RR_BOARD_H
#define RR_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "apply.h"
#include "cells.h"
#include "frame.h"
#include "memory.h"

/* The answer with statuses; a session has one at most, for it halts. */
struct fault {
    uint8_t count;
    uint8_t statuses[RR_MAX_CELLS];
    uint32_t cell;
    const char *trouble;
};

struct board {
    struct receiver receiver;
    volatile bool stop; /* pulse no further cell */

    /* The main loop's own. */
    uint32_t session;
    bool greeted; /* a HELLO came since power up */
    bool halted;
    struct memory memory;
    struct fault fault;
    struct apply apply;
    struct cells cells;
    struct frame reply;
};

void board_start(struct board *board);

/* The serial interrupt: one byte has arrived. */
void board_byte(struct board *board, uint8_t byte);

/* The main loop: answer the oldest request. False: there is none. */
bool board_work(struct board *board);

#endif
