/* Sizes of the board, all static: there is no heap. Change them here, or with -D. */
#ifndef RR_CONFIG_H
#define RR_CONFIG_H

/* Of the protocol, docs/board-protocol.md. */
#define RR_VERSION 2u
#define RR_MINOR 0u
#define RR_SCHEMA 1u
#define RR_MAX_FRAME 1024u   /* bytes of a frame before COBS */
#define RR_MAX_CELLS 64u     /* cells of a frame */
#define RR_REMEMBERED 64u    /* numbers whose results are kept; a power of two */
#define RR_MAX_SENTENCE 200u /* bytes of a sentence */

/* Requests that may be in flight, at least 2. */
#ifndef RR_WINDOW
#define RR_WINDOW 8u
#endif

/* Requests that are taken in while others wait: the window, and room for some that the line
   delivers twice. Each costs a frame of RAM. */
#ifndef RR_QUEUE
#define RR_QUEUE (RR_WINDOW + 2u)
#endif

/* ABORTs and STATUSes that wait for their answer; a host has one of each under way. */
#define RR_URGENT 4u

/* The longest lease. */
#ifndef RR_LEASE_MS
#define RR_LEASE_MS 200u
#endif

/* The largest tile of which the board computes products. */
#ifndef RR_MAX_ROWS
#define RR_MAX_ROWS 256u
#endif
#ifndef RR_MAX_COLUMNS
#define RR_MAX_COLUMNS 256u
#endif

#endif
