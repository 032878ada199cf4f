/* What each request does, in the main loop. */
#ifndef RR_REQUESTS_H
#define RR_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>

#include "board.h"

/* What a request came to: a payload of `length` bytes in `answer`, or a refusal. */
struct outcome {
    bool refused;
    size_t length;
};

static inline struct outcome done(size_t length) {
    struct outcome outcome = {false, length};
    return outcome;
}

static inline struct outcome refused(void) {
    struct outcome outcome = {true, 0};
    return outcome;
}

static inline struct outcome no(struct refusal *why, uint8_t reason, enum sentence sentence) {
    *why = refuse(reason, sentence, 0);
    return refused();
}

static inline uint8_t *answer(struct board *board) { return board->reply + FRAME_HEAD; }

/* Do what `frame` asks. */
struct outcome request(struct board *board, const struct frame *frame, struct refusal *why);

/* A request that is executed once for each number: APPLY, PROGRAM, KNOB. */
struct outcome once(struct board *board, const struct frame *frame, struct refusal *why);

/* The state of the board, 20 bytes. Interrupts held. */
size_t state_pack(const struct board *board, const struct task *task, uint8_t *to);

#endif
