/* The serial line, the clock and the interrupts of the simulated board. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "hal.h"
#include "sim.h"

#define TICK_MS 2       /* of the timer, while there is a lease */
#define PATIENCE_MS 500 /* a host that takes no bytes for so long loses them, as on a wire */

static struct board *board;
static int line = -1;
static bool ended;
static uint8_t waiting[4096];
static size_t waiting_length;
static uint32_t bytes_in, bytes_out;

uint64_t sim_nanoseconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t hal_milliseconds(void) { return (uint32_t)(sim_nanoseconds() / 1000000u); }

/* The interrupts of this board are calls, so none comes by surprise. */
void hal_hold_interrupts(bool hold) { (void)hold; }

void sim_attach(struct board *attached, int to) {
    board = attached;
    line = to;
    ended = false;
}

static bool lost(uint32_t *number, uint32_t one_in) {
    return one_in > 0 && ++*number % one_in == 0;
}

static void take_bytes(void) {
    uint8_t bytes[4096];
    ssize_t count = read(line, bytes, sizeof bytes);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
        ended = true;
        return;
    }
    for (ssize_t i = 0; i < count; i++) {
        if (!lost(&bytes_in, sim_options.drop_in)) {
            board_byte(board, bytes[i]);
        }
    }
    sim_die()->heard_ns = sim_nanoseconds();
}

/* The interrupts: wait at most `milliseconds` for bytes, or for room to write where `events` asks for that. */
static void wait_for(short events, uint32_t milliseconds) {
    struct pollfd waited = {line, events, 0};
    bool any = poll(&waited, 1, (int)milliseconds) > 0;
    if (any && (waited.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        take_bytes();
    }
    board_tick(board);
}

bool sim_interrupts(uint32_t milliseconds) {
    sim_flush();
    bool ticking = board->lease.armed && milliseconds > TICK_MS;
    if (!ended) {
        wait_for(POLLIN, ticking ? TICK_MS : milliseconds);
    }
    return !ended;
}

void sim_spend(uint32_t milliseconds) {
    uint64_t until = sim_nanoseconds() + (uint64_t)milliseconds * 1000000u;
    uint64_t now = sim_nanoseconds();
    while (now < until && !ended) {
        (void)sim_interrupts((uint32_t)((until - now + 999999u) / 1000000u));
        now = sim_nanoseconds();
    }
}

void hal_byte_out(uint8_t byte) {
    if (lost(&bytes_out, sim_options.drop_out)) {
        return;
    }
    waiting[waiting_length++] = byte;
    if (waiting_length == sizeof waiting) {
        sim_flush();
    }
}

void sim_flush(void) {
    uint64_t until = sim_nanoseconds() + PATIENCE_MS * 1000000u;
    size_t sent = 0;
    while (sent < waiting_length && !ended) {
        ssize_t count = write(line, waiting + sent, waiting_length - sent);
        if (count > 0) {
            sent += (size_t)count;
        } else if (errno == EAGAIN) {
            if (sim_nanoseconds() > until || line < 0) {
                break;
            }
            wait_for(POLLIN | POLLOUT, 10);
        } else if (errno != EINTR) {
            ended = true;
        }
    }
    waiting_length = 0;
}
