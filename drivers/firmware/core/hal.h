/* What the core asks of a board: the only functions to write when it is ported.

   "Main" are called by the main loop alone. "Any" may also be called by an interrupt while a
   main function waits. The core calls none of them from two places at once otherwise. */
#ifndef RR_HAL_H
#define RR_HAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kind { KIND_SET = 0, KIND_RESET = 1, KIND_FORM = 2, KINDS = 3 };

#define HAL_HAS_GATE 1u
#define HAL_HAS_LIMIT 2u

#define HAL_NO_ANSWER 0xfffeu
#define HAL_ABOVE 0xffffu

/* A closed interval on a grid through zero, in femto-units (fV, fs, fA). */
struct hal_range {
    int64_t low, high, step;
};

struct hal_pulses {
    uint16_t cells_at_once; /* 0: the board does no pulse of this kind */
    uint8_t terminals;      /* HAL_HAS_GATE | HAL_HAS_LIMIT */
    struct hal_range volts, seconds, gate, limit;
};

struct hal_reading {
    int64_t lowest, highest, lsb, volts, seconds, gate; /* femto-units */
    uint16_t cells_at_once;
    bool has_gate;
};

/* What this board is. Constant once `hal_chip` was called. */
struct hal_chip {
    const char *model, *serial, *firmware;
    uint32_t tiles, rows, columns;
    struct hal_reading reading;
    struct hal_pulses pulses[KINDS];
};

/* One cell's settings, in steps of the ranges; the core has checked them. */
struct hal_setting {
    uint32_t cell;
    uint8_t kind;
    uint8_t terminals; /* HAL_HAS_LIMIT is missing: no current limit was asked for */
    int16_t volts, gate, limit;
};

enum hal_outcome {
    HAL_PULSED,   /* once, in full */
    HAL_NOT_DONE, /* certainly nothing reached the cell */
    HAL_UNKNOWN   /* it began and did not end as it should */
};

const struct hal_chip *hal_chip(void); /* any */
bool hal_newborn(void);                /* main; real silicon: false */

/* Main. Conductance in lsb, 0 below the range, HAL_ABOVE, HAL_NO_ANSWER. */
uint16_t hal_read_code(uint32_t cell);

/* Main. Set the converters of one cell; its switches stay open until `hal_pulse`. */
void hal_set_dacs(const struct hal_setting *setting);

/* Main. Close the switches for `width_ns`, open them, put the converters to zero. When
   `hal_outputs_off` comes meanwhile it returns HAL_UNKNOWN at once and drives nothing more.
   After HAL_NOT_DONE or HAL_UNKNOWN `hal_trouble` says why. */
enum hal_outcome hal_pulse(uint32_t width_ns);
const char *hal_trouble(void);

/* Main. How many pulses of `kind` the chip has had at this cell, and one more of them. */
uint32_t hal_counted(uint8_t kind, uint32_t cell);
void hal_count(uint8_t kind, uint32_t cell);

/* Any. All switches open, all converters at zero, at once. Repeating it does no harm. */
void hal_outputs_off(void);
/* Any. What is driven now, read back where the hardware can: 0 is nothing. */
uint8_t hal_outputs(void);

uint32_t hal_milliseconds(void); /* any; goes round after 49 days */
void hal_byte_out(uint8_t byte); /* main */

/* Any. Keep the serial and timer interrupts out (true), let them in again (false). */
void hal_hold_interrupts(bool hold);

#endif
