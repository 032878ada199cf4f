#include "hello.h"

#include <string.h>

#include "bytes.h"
#include "frame.h"
#include "hal.h"

enum tag { TAG_MODEL = 1, TAG_SERIAL, TAG_FIRMWARE, TAG_GEOMETRY, TAG_READING, TAG_PULSES };

#define NEWBORN 1u
#define LONGEST_NAME 100u

/* Where the next field goes. The fields of a chip with names of at most LONGEST_NAME bytes
   take less than half of a frame. */
struct writer {
    uint8_t *at;
};

static uint8_t *open_field(struct writer *writer, enum tag tag, size_t length) {
    uint8_t *field = writer->at;
    field[0] = (uint8_t)tag;
    put16(field + 1, (uint16_t)length);
    writer->at += 3u + length;
    return field + 3;
}

static void put_name(struct writer *writer, enum tag tag, const char *name) {
    size_t length = strlen(name);
    length = length > LONGEST_NAME ? LONGEST_NAME : length;
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

size_t hello_pack(uint8_t *payload, uint32_t session) {
    const struct hal_chip *chip = hal_chip();
    struct writer writer = {payload + 8};
    put32(payload, session);
    payload[4] = RR_MINOR;
    payload[5] = RR_WINDOW;
    payload[6] = RR_MAX_CELLS;
    payload[7] = hal_newborn() ? NEWBORN : 0u;
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
    return (size_t)(writer.at - payload);
}
