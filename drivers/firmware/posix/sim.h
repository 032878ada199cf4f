/* The hardware layer on a POSIX system: a toy die and a serial line that is a file descriptor.

   Interrupts are what happens inside `sim_interrupts`: it is called between two requests, and
   while a pulse or a reading takes its time, where a microcontroller would be interrupted. */
#ifndef RR_SIM_H
#define RR_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "board.h"

#ifndef SIM_TILES
#define SIM_TILES 2
#define SIM_ROWS 32
#define SIM_COLUMNS 64
#endif
#define SIM_CELLS (SIM_TILES * SIM_ROWS * SIM_COLUMNS)

/* Bits of `outputs`. */
#define SIM_SUPPLIES 1u /* the supplies of the pulses are up */
#define SIM_DACS 2u     /* a converter is not at zero */
#define SIM_SWITCHES 4u /* a switch is closed */

/* The silicon. With `--state` it is a file that outlives the board, and another process may
   look at it meanwhile: all words are of the machine's own byte order, in this order. */
struct sim_die {
    char magic[8];       /* "RRDIE 1" */
    uint32_t cells;      /* SIM_CELLS */
    uint32_t outputs;    /* what is driven now */
    uint64_t pulses;     /* begun, on all cells */
    uint64_t off_ns;     /* when they last were put off (monotonic clock) */
    uint64_t heard_ns;   /* when the last byte came */
    uint32_t noise;      /* state of the noise */
    int32_t offset;      /* of the converter, in lsb: the knob */
    uint32_t level[SIM_CELLS]; /* conductance in 1/256 lsb */
    uint32_t counts[3][SIM_CELLS];
};

/* What a test may ask for. All zeroes: a board without faults. */
struct sim_options {
    const char *serial;
    const char *state;
    uint32_t seed;          /* of a new die */
    uint32_t noise;         /* of a reading: evenly within so many lsb to either side */
    uint32_t pulse_ms;      /* how long a pulse takes in truth, whatever its width */
    uint32_t read_ms;       /* how long the reading of one cell takes */
    uint32_t product_ms;    /* how long one product takes */
    uint64_t die_at_pulse;  /* the process ends in the middle of this pulse (from 1) */
    uint64_t fail_at_pulse; /* this pulse fails, and may have reached its cell */
    uint32_t drop_in;       /* one byte in so many is lost on its way in */
    uint32_t drop_out;      /* and on its way out */
};

extern struct sim_options sim_options;

/* Make or map the die. False and a sentence on standard error when it cannot be had. */
bool sim_open_die(void);
struct sim_die *sim_die(void);

/* The line, and the board whose interrupts it raises. */
void sim_attach(struct board *board, int line);

/* Send what waits, let interrupts in, and wait at most `milliseconds` for one. False: the line
   has ended. */
bool sim_interrupts(uint32_t milliseconds);

/* Let `milliseconds` pass with interrupts. */
void sim_spend(uint32_t milliseconds);

/* Give what was written to the line. */
void sim_flush(void);

uint64_t sim_nanoseconds(void);

#endif
