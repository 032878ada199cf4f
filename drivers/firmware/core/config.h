/* Sizes of the board, all static: there is no heap. Change them here and nowhere else. */
#ifndef RR_CONFIG_H
#define RR_CONFIG_H

#define RR_VERSION 1u         /* of the protocol; docs/board-protocol.md */
#define RR_MINOR 0u
#define RR_MAX_FRAME 1024u    /* bytes of a frame before COBS */
#define RR_MAX_CELLS 64u      /* cells of a frame */
#define RR_REMEMBERED 64u     /* numbers whose results are kept; a power of two */
#define RR_MAX_SENTENCE 200u  /* bytes of a sentence */

/* Requests that may be in flight. Each costs a frame of RAM. */
#ifndef RR_WINDOW
#define RR_WINDOW 1u
#endif

#endif
