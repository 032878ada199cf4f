/* What the core asks of a board: the only functions to write when it is ported.

   "Main" are called by the main loop alone. "Any" are also called by an interrupt, while the
   main loop is wherever it is, also in a main function. */
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
#define HAL_HIGHEST_CODE 0xfffdu

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

/* The product in the array. input_bits 0: the board computes none. */
struct hal_products {
    uint8_t input_bits, converter_bits, sum_bits, order;
    uint16_t rows_at_once;
    int64_t amps_per_code, seconds;
};

/* One staircase of write-verify: `first` steps of voltage, `more` for each pulse after the
   first of its kind, never above `most`; gate in steps. */
struct hal_staircase {
    int16_t first, more, most, gate, limit;
    uint32_t width_ns;
};

/* The board's own write-verify. attempts 0: it has none. */
struct hal_programs {
    uint16_t levels, attempts, cells_at_once;
    struct hal_staircase set, reset;
};

struct hal_knob {
    struct hal_range range;
    uint16_t values; /* how many it takes */
    const char *name, *meaning;
};

/* What this board is. Constant from `board_start` on. */
struct hal_chip {
    const char *model, *serial, *firmware;
    uint32_t tiles, rows, columns;
    struct hal_reading reading;
    struct hal_pulses pulses[KINDS];
    struct hal_products products;
    struct hal_programs programs;
    const struct hal_knob *knobs;
    uint8_t knob_count;
};

/* One cell's settings, in steps of the ranges; the core has checked them. */
struct hal_setting {
    uint32_t cell;
    uint8_t kind;
    uint8_t terminals; /* HAL_HAS_LIMIT is missing: no current limit was asked for */
    int16_t volts, gate, limit;
};

enum hal_outcome {
    HAL_BUSY,     /* the pulse is under way */
    HAL_PULSED,   /* once, in full */
    HAL_NOT_DONE, /* certainly nothing reached the cell */
    HAL_UNKNOWN   /* it began and did not end as it should */
};

const struct hal_chip *hal_chip(void); /* any */
bool hal_newborn(void);                /* main; real silicon: false */

/* Main. Conductance in lsb, 0 below the range, HAL_ABOVE, HAL_NO_ANSWER. */
uint16_t hal_read_code(uint32_t cell);

/* Main. Set the converters for one cell; its switches stay open. */
void hal_set_dacs(const struct hal_setting *setting);

/* Main, with interrupts held: close the switches, and let hardware open them again after
   `width_ns` and put the converters to zero. Does not wait. */
void hal_pulse_start(uint32_t width_ns);

/* Main. What became of the pulse; the core asks until it is no longer HAL_BUSY. HAL_UNKNOWN
   when `hal_outputs_off` came while the switches were closed. After HAL_NOT_DONE and
   HAL_UNKNOWN `hal_trouble` says why, in a sentence that stays where it is. */
enum hal_outcome hal_pulse_outcome(void);
const char *hal_trouble(void);

/* Main. How many pulses of `kind` the chip has had at this cell, and one more of them. */
uint32_t hal_counted(uint8_t kind, uint32_t cell);
void hal_count(uint8_t kind, uint32_t cell);

/* Main. One input code for each row of `tile` in, one sum for each column out. False: the
   hardware failed. Not called where the chip computes no products. */
bool hal_product(uint32_t tile, const uint16_t *inputs, uint32_t *sums);

/* Main. Set a knob to `values` steps of its range. False: the hardware failed. */
bool hal_turn(uint8_t knob, const int16_t *values, uint16_t count);

/* Main, with interrupts held: the supplies of the pulses up, all lines at zero. */
void hal_supplies_on(void);

/* Any. Supplies down, all switches open, all converters at zero, at once. Repeating it does
   no harm. */
void hal_outputs_off(void);

/* Any. 0 off, 1 supplies up, 2 a line is driven; read back where the hardware can. */
enum hal_outputs { HAL_OFF = 0, HAL_ARMED = 1, HAL_DRIVEN = 2 };
enum hal_outputs hal_outputs(void);

uint32_t hal_milliseconds(void); /* any; goes round after 49 days */
void hal_byte_out(uint8_t byte); /* main */

/* Main. Keep the serial and the timer interrupt out (true), let them in again (false). */
void hal_hold_interrupts(bool hold);

#endif
