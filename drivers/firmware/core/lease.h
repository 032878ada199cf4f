/* The lease: pulses pass only while a host is heard, and everything that puts outputs off. */
#ifndef RR_LEASE_H
#define RR_LEASE_H

#include <stdbool.h>
#include <stdint.h>

/* What last put the outputs off. */
enum off { OFF_START, OFF_HOST, OFF_LEASE, OFF_ABORT, OFF_FAULT, OFF_HELLO };

/* Written by interrupts and, while they are held, by the main loop. */
struct lease {
    volatile bool armed;
    volatile uint8_t why;
    volatile uint16_t expired;
    volatile uint16_t milliseconds; /* of the ARM */
    volatile uint32_t heard;        /* when the last right frame arrived */
    volatile uint32_t since;        /* when the outputs were last put off, or armed */
};

/* Interrupts held, or in one. */
void lease_begin(struct lease *lease, uint16_t milliseconds);
void lease_off(struct lease *lease, enum off why);
void lease_heard(struct lease *lease);

/* The timer interrupt: put the outputs off if the lease has run out. */
void lease_tick(struct lease *lease);

/* Milliseconds left, 0 when not armed. Interrupts held. */
uint16_t lease_left(const struct lease *lease);

#endif
