#include "lease.h"

#include "hal.h"

void lease_begin(struct lease *lease, uint16_t milliseconds) {
    uint32_t now = hal_milliseconds();
    if (!lease->armed) {
        lease->since = now;
    }
    lease->heard = now;
    lease->milliseconds = milliseconds;
    lease->armed = true;
    hal_supplies_on();
}

void lease_off(struct lease *lease, enum off why) {
    bool was_on = lease->armed || hal_outputs() != HAL_OFF;
    hal_outputs_off();
    lease->armed = false;
    lease->why = (uint8_t)why;
    if (was_on) {
        lease->since = hal_milliseconds();
    }
}

void lease_heard(struct lease *lease) { lease->heard = hal_milliseconds(); }

void lease_tick(struct lease *lease) {
    if (lease->armed && lease_left(lease) == 0) {
        lease->expired++;
        lease_off(lease, OFF_LEASE);
    }
}

uint16_t lease_left(const struct lease *lease) {
    uint32_t silent = hal_milliseconds() - lease->heard;
    if (!lease->armed || silent >= lease->milliseconds) {
        return 0;
    }
    return (uint16_t)(lease->milliseconds - silent);
}
