#include "cells.h"

#include "bytes.h"
#include "frame.h"
#include "hal.h"

enum form { FORM_LIST = 0, FORM_RUN = 1 };

static void refuse_cell(struct refusal *why, enum sentence sentence, uint32_t cell) {
    *why = refuse(WHY_REFUSED, sentence, 0);
    why->cell = cell;
}

bool cells_check(const struct cells *cells, struct refusal *why) {
    const struct hal_chip *chip = hal_chip();
    uint64_t size = (uint64_t)chip->tiles * chip->rows * chip->columns;
    for (uint8_t i = 0; i < cells->count; i++) {
        if (cells->at[i] >= size) {
            refuse_cell(why, SAY_NO_CELL, cells->at[i]);
            return false;
        }
        for (uint8_t j = 0; j < i; j++) {
            if (cells->at[j] == cells->at[i]) {
                refuse_cell(why, SAY_TWICE, cells->at[i]);
                return false;
            }
        }
    }
    return true;
}

/* A run that leaves 32 bits leaves the chip: its last cell is put at the highest number. */
static void unpack_run(struct cells *cells, uint32_t first, uint32_t stride) {
    for (uint8_t i = 0; i < cells->count; i++) {
        uint64_t cell = first + (uint64_t)stride * i;
        cells->at[i] = cell > UINT32_MAX ? UINT32_MAX : (uint32_t)cell;
    }
}

static bool unpack(struct cells *cells, const uint8_t *data, size_t length) {
    if (length < 2 || data[0] < 1 || data[0] > RR_MAX_CELLS) {
        return false;
    }
    cells->count = data[0];
    if (data[1] == FORM_RUN && length == 10) {
        unpack_run(cells, get32(data + 2), get32(data + 6));
        return true;
    }
    if (data[1] != FORM_LIST || length != 2u + 4u * (size_t)cells->count) {
        return false;
    }
    for (uint8_t i = 0; i < cells->count; i++) {
        cells->at[i] = get32(data + 2u + 4u * (size_t)i);
    }
    return true;
}

bool cells_unpack(
    struct cells *cells, const uint8_t *data, size_t length, uint8_t type, struct refusal *why
) {
    if (!unpack(cells, data, length)) {
        *why = refuse(WHY_LAYOUT, SAY_LAYOUT, type);
        return false;
    }
    return cells_check(cells, why);
}
