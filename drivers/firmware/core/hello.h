/* The answer to HELLO: what this board is, in tagged fields. */
#ifndef RR_HELLO_H
#define RR_HELLO_H

#include <stddef.h>
#include <stdint.h>

/* Write the payload for `session`; its length, or 0 where the fields do not fit. */
size_t hello_pack(uint8_t *payload, uint32_t session);

#endif
