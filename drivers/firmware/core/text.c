#include "text.h"

static void put(struct text *text, char character) {
    if (text->length < text->room) {
        text->at[text->length++] = (uint8_t)character;
    }
}

void text_words(struct text *text, const char *words) {
    for (; *words != '\0'; words++) {
        put(text, *words);
    }
}

void text_number(struct text *text, int64_t number) {
    char digits[20];
    size_t count = 0;
    uint64_t rest = number < 0 ? 0u - (uint64_t)number : (uint64_t)number;
    if (number < 0) {
        put(text, '-');
    }
    do {
        digits[count++] = (char)('0' + (char)(rest % 10u));
        rest /= 10u;
    } while (rest > 0);
    while (count > 0) {
        put(text, digits[--count]);
    }
}
