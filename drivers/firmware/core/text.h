/* Sentences without a library: words and numbers into a buffer, cut off where it is full. */
#ifndef RR_TEXT_H
#define RR_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct text {
    uint8_t *at;
    size_t length;
    size_t room;
};

void text_words(struct text *text, const char *words);
void text_number(struct text *text, int64_t number);

#endif
