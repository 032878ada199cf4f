/* The reference firmware as a process: prints the path of a terminal, and is the board there. */
#define _XOPEN_SOURCE 600

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "board.h"
#include "hal.h"
#include "sim.h"

static const char usage[] =
    "usage: board [options]\n"
    "  --fd N             be the board on this open file descriptor, not on a new terminal\n"
    "  --serial NAME      serial of the chip (firmware-0)\n"
    "  --state FILE       file that keeps the die, and shows its outputs (see sim.h)\n"
    "  --seed N           of a new die (0)\n"
    "  --noise N          lsb to either side of a reading (0)\n"
    "  --pulse-ms N       a pulse takes so long\n"
    "  --read-ms N        the reading of a cell takes so long\n"
    "  --product-ms N     a product takes so long\n"
    "  --die-at-pulse N   end in the middle of this pulse\n"
    "  --fail-at-pulse N  this pulse fails\n"
    "  --drop-in N        lose one byte in N on its way in\n"
    "  --drop-out N       and on its way out\n"
    "  --max-seconds N    end after so long (600)\n"
    "  --until-eof        end when standard input ends\n";

static struct board board; /* 10 KB: not on a stack */
static volatile sig_atomic_t told_to_end;

static void end(int number) {
    (void)number;
    told_to_end = 1;
}

struct settings {
    int line;
    uint64_t seconds;
    bool until_eof;
};

static uint64_t number(const char *text) {
    char *rest;
    errno = 0;
    unsigned long long value = strtoull(text, &rest, 10);
    if (errno != 0 || *text == '\0' || *text == '-' || *rest != '\0' || value > 0x7fffffffu) {
        fprintf(stderr, "board: %s is not a whole number from 0 to 2147483647\n", text);
        exit(2);
    }
    return (uint64_t)value;
}

static const struct option options[] = {
    {"fd", required_argument, NULL, 'f'},           {"serial", required_argument, NULL, 's'},
    {"state", required_argument, NULL, 'S'},        {"seed", required_argument, NULL, 'e'},
    {"noise", required_argument, NULL, 'n'},        {"pulse-ms", required_argument, NULL, 'p'},
    {"read-ms", required_argument, NULL, 'r'},      {"die-at-pulse", required_argument, NULL, 'd'},
    {"fail-at-pulse", required_argument, NULL, 'F'}, {"drop-in", required_argument, NULL, 'i'},
    {"drop-out", required_argument, NULL, 'o'},     {"max-seconds", required_argument, NULL, 'm'},
    {"until-eof", no_argument, NULL, 'u'},          {"product-ms", required_argument, NULL, 'P'},
    {NULL, 0, NULL, 0},
};

static void take_fault_option(int option) {
    switch (option) {
    case 'p':
        sim_options.pulse_ms = (uint32_t)number(optarg);
        break;
    case 'r':
        sim_options.read_ms = (uint32_t)number(optarg);
        break;
    case 'P':
        sim_options.product_ms = (uint32_t)number(optarg);
        break;
    case 'd':
        sim_options.die_at_pulse = number(optarg);
        break;
    case 'F':
        sim_options.fail_at_pulse = number(optarg);
        break;
    case 'i':
        sim_options.drop_in = (uint32_t)number(optarg);
        break;
    case 'o':
        sim_options.drop_out = (uint32_t)number(optarg);
        break;
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

static void take_option(int option, struct settings *settings) {
    switch (option) {
    case 'f':
        settings->line = (int)number(optarg);
        break;
    case 's':
        sim_options.serial = optarg;
        break;
    case 'S':
        sim_options.state = optarg;
        break;
    case 'e':
        sim_options.seed = (uint32_t)number(optarg);
        break;
    case 'n':
        sim_options.noise = (uint32_t)number(optarg);
        break;
    case 'm':
        settings->seconds = number(optarg);
        break;
    case 'u':
        settings->until_eof = true;
        break;
    default:
        take_fault_option(option);
    }
}

static bool make_raw(int terminal) {
    struct termios how;
    if (tcgetattr(terminal, &how) != 0) {
        return false;
    }
    how.c_iflag = 0;
    how.c_oflag = 0;
    how.c_lflag = 0;
    how.c_cflag = (how.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8 | CREAD | CLOCAL;
    how.c_cc[VMIN] = 1;
    how.c_cc[VTIME] = 0;
    return tcsetattr(terminal, TCSANOW, &how) == 0;
}

/* The board's end of a new terminal. Its other end stays open here as well: a host that goes
   away is then silence, as on a wire, and not the end of the line. */
static int open_terminal(void) {
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) {
        return -1;
    }
    const char *name = ptsname(master);
    int slave = name == NULL ? -1 : open(name, O_RDWR | O_NOCTTY);
    if (slave < 0 || !make_raw(slave)) {
        return -1;
    }
    printf("serial:%s\n", name);
    (void)fflush(stdout);
    return master;
}

static bool told_by_input(bool until_eof) {
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    char bytes[64];
    return until_eof && poll(&input, 1, 0) > 0 && read(STDIN_FILENO, bytes, sizeof bytes) <= 0;
}

static void serve(const struct settings *settings) {
    uint64_t until = sim_nanoseconds() + settings->seconds * 1000000000u;
    while (!told_to_end && sim_nanoseconds() < until && !told_by_input(settings->until_eof)) {
        if (!sim_interrupts(50)) {
            break;
        }
        while (board_work(&board)) {
            (void)sim_interrupts(0);
        }
    }
    hal_outputs_off();
    sim_flush();
}

int main(int count, char **words) {
    struct settings settings = {-1, 600, false};
    struct sigaction ending = {0};
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        take_option(option, &settings);
    }
    if (optind != count) {
        take_fault_option('?');
    }
    ending.sa_handler = end;
    (void)sigaction(SIGTERM, &ending, NULL);
    (void)sigaction(SIGINT, &ending, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    if (!sim_open_die()) {
        return 2;
    }
    board_start(&board); /* outputs off before anybody is told where the board is */
    int line = settings.line >= 0 ? settings.line : open_terminal();
    if (line < 0 || fcntl(line, F_SETFL, O_NONBLOCK) != 0) {
        perror("board: the line");
        return 2;
    }
    sim_attach(&board, line);
    serve(&settings);
    return 0;
}
