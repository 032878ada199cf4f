#include "hello.h"

#include <string.h>

#include "bytes.h"
#include "frame.h"
#include "hal.h"
#include "product.h"

enum tag { TAG_MODEL = 1, TAG_SERIAL, TAG_FIRMWARE, TAG_GEOMETRY, TAG_READING, TAG_PULSES, TAG_PRODUCT = 8, TAG_PROGRAM, TAG_KNOB };

#define NEWBORN 1u
#define HELLO_HEAD 12u
#define LONGEST_NAME 100u

/* Where the next field goes, and what is left of the frame. */
struct writer {
    uint8_t *at;
    size_t room;
    bool full;
};

/* Room for the contents of a field, or somewhere harmless when the frame is full. */
static uint8_t *open_field(struct writer *writer, enum tag tag, size_t length) {
    static uint8_t nowhere[27u + 2u * LONGEST_NAME];
    uint8_t *field = writer->at;
    if (writer->full || length > writer->room || writer->room - length < 3u) {
        writer->full = true;
        return nowhere;
    }
    field[0] = (uint8_t)tag;
    put16(field + 1, (uint16_t)length);
    writer->at += 3u + length;
    writer->room -= 3u + length;
    return field + 3;
}

static size_t at_most(size_t value, size_t most) { return value < most ? value : most; }

static void put_name(struct writer *writer, enum tag tag, const char *name) {
    size_t length = at_most(strlen(name), LONGEST_NAME);
    memcpy(open_field(writer, tag, length), name, length);
}

static uint8_t *put_range(uint8_t *at, const struct hal_range *range) {
    put64s(at, range->low);
    put64s(at + 8, range->high);
    put64s(at + 16, range->step);
    return at + 24;
}

static void put_reading(struct writer *writer, const struct hal_reading *reading) {
    const int64_t values[5] = {
        reading->lowest, reading->highest, reading->lsb, reading->volts, reading->seconds};
    uint8_t *at = open_field(writer, TAG_READING, 5u * 8u + 2u + 1u + 8u);
    for (size_t i = 0; i < 5; i++, at += 8) {
        put64s(at, values[i]);
    }
    put16(at, reading->cells_at_once);
    at[2] = reading->has_gate ? 1 : 0;
    put64s(at + 3, reading->has_gate ? reading->gate : 0);
}

static void put_pulses(struct writer *writer, uint8_t kind, const struct hal_pulses *pulses) {
    bool gate = (pulses->terminals & HAL_HAS_GATE) != 0;
    bool limit = (pulses->terminals & HAL_HAS_LIMIT) != 0;
    size_t ranges = 2u + (gate ? 1u : 0u) + (limit ? 1u : 0u);
    uint8_t *at = open_field(writer, TAG_PULSES, 4u + 24u * ranges);
    at[0] = kind;
    put16(at + 1, pulses->cells_at_once);
    at[3] = pulses->terminals;
    at = put_range(put_range(at + 4, &pulses->volts), &pulses->seconds);
    if (gate) {
        at = put_range(at, &pulses->gate);
    }
    if (limit) {
        (void)put_range(at, &pulses->limit);
    }
}

static void put_geometry(struct writer *writer, const struct hal_chip *chip) {
    uint8_t *at = open_field(writer, TAG_GEOMETRY, 12);
    put32(at, chip->tiles);
    put32(at + 4, chip->rows);
    put32(at + 8, chip->columns);
}

static void put_products(struct writer *writer, const struct hal_products *products) {
    uint8_t *at = open_field(writer, TAG_PRODUCT, 22);
    at[0] = products->input_bits;
    at[1] = products->converter_bits;
    at[2] = products->sum_bits;
    at[3] = products->order;
    put16(at + 4, products->rows_at_once);
    put64s(at + 6, products->amps_per_code);
    put64s(at + 14, products->seconds);
}

static void put_programs(struct writer *writer, const struct hal_programs *programs) {
    uint8_t *at = open_field(writer, TAG_PROGRAM, 6);
    put16(at, programs->levels);
    put16(at + 2, programs->attempts);
    put16(at + 4, programs->cells_at_once);
}

static void put_knob(struct writer *writer, const struct hal_knob *knob) {
    size_t name = at_most(strlen(knob->name), LONGEST_NAME);
    size_t meaning = at_most(strlen(knob->meaning), LONGEST_NAME);
    uint8_t *at = open_field(writer, TAG_KNOB, 27u + name + meaning);
    at = put_range(at, &knob->range);
    put16(at, knob->values);
    at[2] = (uint8_t)name;
    memcpy(at + 3, knob->name, name);
    memcpy(at + 3 + name, knob->meaning, meaning);
}

static void put_abilities(struct writer *writer, const struct hal_chip *chip) {
    if (product_possible()) {
        put_products(writer, &chip->products);
    }
    if (chip->programs.attempts > 0) {
        put_programs(writer, &chip->programs);
    }
    for (uint8_t i = 0; i < chip->knob_count; i++) {
        put_knob(writer, &chip->knobs[i]);
    }
}

size_t hello_pack(uint8_t *payload, uint32_t session) {
    const struct hal_chip *chip = hal_chip();
    struct writer writer = {payload + HELLO_HEAD, FRAME_MAX_PAYLOAD - HELLO_HEAD, false};
    put32(payload, session);
    payload[4] = RR_MINOR;
    put16(payload + 5, RR_SCHEMA);
    payload[7] = RR_WINDOW;
    payload[8] = RR_MAX_CELLS;
    payload[9] = hal_newborn() ? NEWBORN : 0u;
    put16(payload + 10, RR_LEASE_MS);
    put_name(&writer, TAG_MODEL, chip->model);
    put_name(&writer, TAG_SERIAL, chip->serial);
    put_name(&writer, TAG_FIRMWARE, chip->firmware);
    put_geometry(&writer, chip);
    put_reading(&writer, &chip->reading);
    for (uint8_t kind = 0; kind < KINDS; kind++) {
        if (chip->pulses[kind].cells_at_once > 0) {
            put_pulses(&writer, kind, &chip->pulses[kind]);
        }
    }
    put_abilities(&writer, chip);
    return writer.full ? 0 : (size_t)(writer.at - payload);
}
