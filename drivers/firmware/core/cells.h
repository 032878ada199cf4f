/* The cells that a READ or a COUNT names. */
#ifndef RR_CELLS_H
#define RR_CELLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "refusal.h"

struct cells {
    uint8_t count;
    uint32_t at[RR_MAX_CELLS];
};

/* u8 count | u8 form | u32 each (form 0), or u32 first, u32 stride (form 1). False and a
   refusal of `type` where that is not what stands there, or a cell is not, or is there twice. */
bool cells_unpack(
    struct cells *cells, const uint8_t *data, size_t length, uint8_t type, struct refusal *why
);

/* Is each a cell of the chip, and none there twice? */
bool cells_check(const struct cells *cells, struct refusal *why);

#endif
