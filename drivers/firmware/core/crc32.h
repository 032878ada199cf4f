/* CRC-32 of IEEE 802.3, four bits at a time: 64 bytes of table, short enough for an interrupt. */
#ifndef RR_CRC32_H
#define RR_CRC32_H

#include <stddef.h>
#include <stdint.h>

#define CRC32_START 0xffffffffu
/* The register after a message and its own little-endian checksum. */
#define CRC32_RESIDUE 0xdebb20e3u

uint32_t crc32_byte(uint32_t state, uint8_t byte);
/* The checksum of all of `data`. */
uint32_t crc32(const uint8_t *data, size_t length);

#endif
