/* A toy 1T1R die in integers: not physics, but each pulse moves its cell the right way.

   SET brings a cell nearer to a ceiling that the gate sets (5 lsb for each 10 mV above 0.8 V),
   RESET nearer to 10 lsb; how near depends on the voltage above 0.6 V and on the width. */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hal.h"
#include "sim.h"

#define LSB 100000000LL           /* 0.1 uS in fS */
#define TEN_MILLIVOLTS 10000000000000LL
#define NANOSECOND 1000000LL      /* in fs */
#define LOWEST 5                  /* lsb that are still told from nothing */
#define HIGHEST 1500
#define FLOOR 10
#define AMPS_PER_CODE 5120000000LL /* 256 lsb at 0.2 V: 5.12 uA, in fA */
#define THRESHOLD 60              /* steps of 10 mV */
#define GATE_THRESHOLD 80

#define RANGE_VOLTS {0, 300 * TEN_MILLIVOLTS, TEN_MILLIVOLTS}
#define RANGE_GATE {0, 400 * TEN_MILLIVOLTS, TEN_MILLIVOLTS}
#define RANGE_WIDTH {100 * NANOSECOND, 10000 * NANOSECOND, 10 * NANOSECOND}
#define RANGE_LIMIT {0, 1000000000000LL, 1000000000LL} /* to 1 mA by 1 uA */

#define INPUT_BITS 4
#define ROWS_AT_ONCE 16
#define CONVERTER_BITS 6
#define SUM_BITS 11 /* 15 * 63 * (32 / 16) = 1890 */
#define LEVELS_PER_CODE 256u /* of 16 cells at 256 lsb each the converter shows 16 */

static const struct hal_knob knobs[] = {
    {{-20 * LSB, 20 * LSB, LSB}, 1, "read_offset", "S added to each reading"},
};

static struct hal_chip chip = {
    "reference-1t1r", "firmware-0", "rramhil reference firmware", SIM_TILES, SIM_ROWS, SIM_COLUMNS,
    {LOWEST * LSB, HIGHEST * LSB, LSB, 20 * TEN_MILLIVOLTS, 1000 * NANOSECOND,
     120 * TEN_MILLIVOLTS, 16, true},
    {
        {16, HAL_HAS_GATE, RANGE_VOLTS, RANGE_WIDTH, RANGE_GATE, {0, 0, 0}},
        {16, HAL_HAS_GATE, RANGE_VOLTS, RANGE_WIDTH, RANGE_GATE, {0, 0, 0}},
        {1, HAL_HAS_GATE | HAL_HAS_LIMIT, RANGE_VOLTS, RANGE_WIDTH, RANGE_GATE, RANGE_LIMIT},
    },
    {INPUT_BITS, CONVERTER_BITS, SUM_BITS, 0, ROWS_AT_ONCE, AMPS_PER_CODE, 100 * NANOSECOND},
    {16, 40, 1, {70, 2, 300, 250, 0, 300}, {70, 2, 300, 400, 0, 300}},
    knobs, 1,
};

struct sim_options sim_options;
static struct sim_die own_die;
static struct sim_die *die = &own_die;
static struct hal_setting dacs;
static uint64_t pulses_here; /* of this process */
static uint32_t width;
static uint64_t pulse_ends;
static const char *trouble = "";

struct sim_die *sim_die(void) { return die; }

/* Numerical Recipes' linear congruential generator; its upper bits are good enough here. */
static uint32_t draw(uint32_t *state, uint32_t below) {
    *state = *state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)*state * below) >> 32);
}

static void make_die(void) {
    uint32_t state = sim_options.seed;
    memset(die, 0, sizeof *die);
    for (uint32_t cell = 0; cell < SIM_CELLS; cell++) {
        die->level[cell] = 256u * (50u + draw(&state, 550));
    }
    die->noise = state;
    die->offset = 0;
    die->cells = SIM_CELLS;
    memcpy(die->magic, "RRDIE 1", 8);
}

static bool map_die(int file) {
    struct stat about;
    if (fstat(file, &about) != 0 || (about.st_size == 0 && ftruncate(file, sizeof own_die) != 0)) {
        perror(sim_options.state);
        return false;
    }
    bool made = about.st_size == 0;
    if (!made && about.st_size != (off_t)sizeof own_die) {
        fprintf(stderr, "%s is not the state of this die; name another file\n", sim_options.state);
        return false;
    }
    void *map = mmap(NULL, sizeof own_die, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) {
        perror(sim_options.state);
        return false;
    }
    die = map;
    if (made) {
        make_die();
    }
    if (memcmp(die->magic, "RRDIE 1", 8) != 0 || die->cells != SIM_CELLS) {
        fprintf(stderr, "%s is not the state of this die; name another file\n", sim_options.state);
        return false;
    }
    return true;
}

bool sim_open_die(void) {
    if (sim_options.serial != NULL) {
        chip.serial = sim_options.serial;
    }
    if (sim_options.state == NULL) {
        make_die();
        return true;
    }
    int file = open(sim_options.state, O_RDWR | O_CREAT, 0600);
    if (file < 0) {
        perror(sim_options.state);
        return false;
    }
    bool mapped = map_die(file);
    (void)close(file);
    return mapped;
}

/* --------------------------------------------------------------------------- the chip */

const struct hal_chip *hal_chip(void) { return &chip; }

bool hal_newborn(void) { return die->pulses == 0; }

uint16_t hal_read_code(uint32_t cell) {
    sim_spend(sim_options.read_ms);
    int64_t code = (int64_t)(die->level[cell] + 128u) / 256 + die->offset;
    if (sim_options.noise > 0) {
        code += (int64_t)draw(&die->noise, 2u * sim_options.noise + 1u) - sim_options.noise;
    }
    return code < LOWEST ? 0 : code > HIGHEST ? HAL_ABOVE : (uint16_t)code;
}

uint32_t hal_counted(uint8_t kind, uint32_t cell) { return die->counts[kind][cell]; }

void hal_count(uint8_t kind, uint32_t cell) { die->counts[kind][cell]++; }

/* --------------------------------------------------------------------------- outputs */

enum hal_outputs hal_outputs(void) {
    if ((die->outputs & (SIM_DACS | SIM_SWITCHES)) != 0) {
        return HAL_DRIVEN;
    }
    return die->outputs != 0 ? HAL_ARMED : HAL_OFF;
}

void hal_outputs_off(void) {
    if (die->outputs != 0) {
        die->off_ns = sim_nanoseconds();
    }
    die->outputs = 0;
}

void hal_supplies_on(void) { die->outputs |= SIM_SUPPLIES; }

void hal_set_dacs(const struct hal_setting *setting) {
    dacs = *setting;
    die->outputs |= SIM_DACS;
}

static int64_t at_most(int64_t value, int64_t most) { return value < most ? value : most; }

static int64_t ceiling(void) {
    int64_t lsb = at_most(5 * ((int64_t)dacs.gate - GATE_THRESHOLD), HIGHEST);
    if ((dacs.terminals & HAL_HAS_LIMIT) != 0) {
        lsb = at_most(lsb, 2 * (int64_t)dacs.limit);
    }
    return 256 * lsb;
}

/* How far a cell goes from where it is to where the pulse drives it, in 1/4096. */
static int64_t share(void) {
    int64_t over = (int64_t)dacs.volts - THRESHOLD;
    if (over <= 0 || dacs.gate <= GATE_THRESHOLD) {
        return 0;
    }
    return 4096 * over / (over + 80) * (int64_t)width / ((int64_t)width + 500);
}

static void move(void) {
    int64_t level = die->level[dacs.cell];
    int64_t way = (dacs.kind == KIND_RESET ? 256 * FLOOR : ceiling()) - level;
    if ((way < 0) == (dacs.kind == KIND_RESET)) {
        die->level[dacs.cell] = (uint32_t)(level + way * share() / 4096);
    }
}

void hal_pulse_start(uint32_t width_ns) {
    die->pulses++;
    pulses_here++;
    die->outputs |= SIM_SWITCHES;
    width = width_ns;
    pulse_ends = sim_nanoseconds() + (uint64_t)sim_options.pulse_ms * 1000000u;
}

enum hal_outcome hal_pulse_outcome(void) {
    if (sim_options.pulse_ms > 0) {
        (void)sim_interrupts(1);
    }
    if ((die->outputs & SIM_SWITCHES) == 0) {
        trouble = "the outputs were put off during the pulse";
        return HAL_UNKNOWN;
    }
    if (sim_options.pulse_ms > 0 && sim_nanoseconds() < pulse_ends) {
        return HAL_BUSY;
    }
    move();
    if (pulses_here == sim_options.die_at_pulse) {
        _exit(3);
    }
    die->outputs &= SIM_SUPPLIES;
    if (pulses_here == sim_options.fail_at_pulse) {
        trouble = "the supply tripped";
        return HAL_UNKNOWN;
    }
    return HAL_PULSED;
}

const char *hal_trouble(void) { return trouble; }

/* --------------------------------------------------------------------------- beyond cells */

/* What the converter of a column gives for one group of rows and one bit of the inputs. */
static uint32_t convert(uint32_t first, uint32_t column, const uint16_t *inputs, uint8_t bit) {
    uint64_t sum = 0;
    for (uint32_t row = 0; row < ROWS_AT_ONCE; row++) {
        if ((inputs[row] >> bit & 1u) != 0) {
            sum += die->level[first + row * SIM_COLUMNS + column];
        }
    }
    uint64_t code = sum / (256u * LEVELS_PER_CODE);
    uint64_t highest = (1u << CONVERTER_BITS) - 1u;
    return (uint32_t)(code < highest ? code : highest);
}

bool hal_product(uint32_t tile, const uint16_t *inputs, uint32_t *sums) {
    sim_spend(sim_options.product_ms);
    for (uint32_t column = 0; column < SIM_COLUMNS; column++) {
        sums[column] = 0;
        for (uint32_t row = 0; row < SIM_ROWS; row += ROWS_AT_ONCE) {
            uint32_t first = (tile * SIM_ROWS + row) * SIM_COLUMNS;
            for (uint8_t bit = 0; bit < INPUT_BITS; bit++) {
                sums[column] += convert(first, column, inputs + row, bit) << bit;
            }
        }
    }
    return true;
}

bool hal_turn(uint8_t knob, const int16_t *values, uint16_t count) {
    (void)knob;
    (void)count;
    die->offset = values[0];
    return true;
}
