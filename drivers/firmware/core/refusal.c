#include "refusal.h"

#include "config.h"
#include "hal.h"
#include "text.h"

const char *kind_name(uint8_t kind) {
    static const char *const names[KINDS] = {"SET", "RESET", "FORM"};
    return kind < KINDS ? names[kind] : "pulse";
}

static int64_t rounded_up(int64_t value, int64_t step) {
    return value / step + (value > 0 && value % step != 0 ? 1 : 0);
}

static void say_range(struct text *text, const struct hal_range *range) {
    text_words(text, " (allowed: ");
    text_number(text, rounded_up(range->low, range->step));
    text_words(text, " to ");
    text_number(text, range->high / range->step);
    text_words(text, ")");
}

static void say_setting(
    struct text *text, const struct refusal *refusal, const char *name,
    const struct hal_range *range
) {
    text_words(text, kind_name(refusal->kind));
    text_words(text, " of cell ");
    text_number(text, refusal->cell);
    text_words(text, ": ");
    text_words(text, name);
    text_words(text, " of ");
    text_number(text, refusal->value);
    text_words(text, " steps");
    say_range(text, range);
}

static void say_width(struct text *text, const struct refusal *refusal) {
    const struct hal_range *range = &hal_chip()->pulses[refusal->kind].seconds;
    text_words(text, kind_name(refusal->kind));
    text_words(text, " of ");
    text_number(text, refusal->cell);
    text_words(text, " ns (allowed: ");
    text_number(text, range->low / 1000000);
    text_words(text, " to ");
    text_number(text, range->high / 1000000);
    text_words(text, " in steps of ");
    text_number(text, range->step / 1000000);
    text_words(text, ")");
}

static void say_no_cell(struct text *text, const struct refusal *refusal) {
    const struct hal_chip *chip = hal_chip();
    text_words(text, "cell ");
    text_number(text, refusal->cell);
    text_words(text, " does not exist: ");
    text_words(text, chip->serial);
    text_words(text, " has cells 0 to ");
    text_number(text, (int64_t)chip->tiles * chip->rows * chip->columns - 1);
}

static void say(struct text *text, const char *before, int64_t number, const char *behind) {
    text_words(text, before);
    text_number(text, number);
    text_words(text, behind);
}

static void say_kind(struct text *text, const struct refusal *refusal, const char *what) {
    text_words(text, hal_chip()->model);
    text_words(text, what);
    text_words(text, kind_name(refusal->kind));
}

static void say_session(struct text *text, const struct refusal *refusal) {
    switch (refusal->sentence) {
    case SAY_NO_SESSION:
        text_words(text, "no session since this board started; say HELLO");
        break;
    case SAY_OTHER_SESSION:
        text_words(text, "another host opened a session since; say HELLO");
        break;
    case SAY_TOO_OLD:
        say(text, "request ", refusal->value, " is too old to be known");
        break;
    case SAY_REUSED:
        say(text, "number ", refusal->value, " was given to another request");
        break;
    case SAY_UNARMED:
        text_words(text, "not armed: the lease ran out, or there was no ARM");
        break;
    case SAY_BUSY:
        text_words(text, "another host has this board: its lease holds");
        break;
    case SAY_FORGOTTEN:
        say(text, "request ", refusal->value, " was executed, but its answer is not kept");
        break;
    default:
        text_words(text, "halted since a fault or an abort; say HELLO");
    }
}

static void say_form(struct text *text, const struct refusal *refusal) {
    switch (refusal->sentence) {
    case SAY_VERSION:
        say(text, "this board speaks version ", RR_VERSION, ", not ");
        text_number(text, refusal->value);
        break;
    case SAY_TYPE:
        say(text, "this board knows no request of type ", refusal->value, "");
        break;
    default:
        say(text, "the payload is not what a request of type ", refusal->value, " carries");
    }
}

static void say_limit(struct text *text, const struct refusal *refusal) {
    const struct hal_pulses *limits = &hal_chip()->pulses[refusal->kind % KINDS];
    switch (refusal->sentence) {
    case SAY_NO_CELL:
        say_no_cell(text, refusal);
        break;
    case SAY_TWICE:
        say(text, "cell ", refusal->cell, " is named twice in one request");
        break;
    case SAY_NO_KIND:
        say(text, "there is no kind of pulse ", refusal->value, "; 0 is SET, 1 RESET, 2 FORM");
        break;
    case SAY_CANNOT:
        say_kind(text, refusal, " does no ");
        break;
    case SAY_VOLTS:
        say_setting(text, refusal, "voltage", &limits->volts);
        break;
    case SAY_GATE:
        say_setting(text, refusal, "gate voltage", &limits->gate);
        break;
    case SAY_LIMIT:
        say_setting(text, refusal, "current limit", &limits->limit);
        break;
    case SAY_WIDTH:
        say_width(text, refusal);
        break;
    case SAY_NEEDS_GATE:
        say_kind(text, refusal, " needs a gate voltage for ");
        break;
    case SAY_HAS_NO_GATE:
        say_kind(text, refusal, " has no gate voltage for ");
        break;
    default:
        say_kind(text, refusal, " has no current limit for ");
    }
}

static void say_knob(struct text *text, const struct refusal *refusal) {
    const struct hal_knob *knob = &hal_chip()->knobs[refusal->kind];
    text_words(text, knob->name);
    if (refusal->sentence == SAY_VALUES) {
        say(text, " takes ", knob->values, " values, not ");
        text_number(text, refusal->value);
        return;
    }
    say(text, " of ", refusal->value, " steps");
    say_range(text, &knob->range);
}

static void say_other(struct text *text, const struct refusal *refusal) {
    const struct hal_chip *chip = hal_chip();
    switch (refusal->sentence) {
    case SAY_LEASE:
        say(text, "a lease of ", refusal->value, " ms; the longest is ");
        text_number(text, RR_LEASE_MS);
        break;
    case SAY_NO_TILE:
        say(text, "tile ", refusal->cell, " does not exist; the number of tiles is ");
        text_number(text, chip->tiles);
        break;
    case SAY_WINDOW:
        say(text, "the window of cell ", refusal->cell, " is upside down");
        break;
    case SAY_LEVELS:
        say(text, "more than ", chip->programs.levels, " windows in one request");
        break;
    case SAY_NO_KNOB:
        say(text, "there is no knob ", refusal->value, "");
        break;
    case SAY_VALUES:
    case SAY_SETTING:
        say_knob(text, refusal);
        break;
    case SAY_TOO_LONG:
        text_words(text, "what this board is does not fit into a frame; shorten its names");
        break;
    default:
        text_words(text, hal_trouble());
    }
}

size_t refusal_pack(const struct refusal *refusal, uint8_t *payload) {
    struct text text = {payload + 1, 0, RR_MAX_SENTENCE};
    payload[0] = refusal->why;
    if (refusal->sentence <= SAY_LAYOUT) {
        say_form(&text, refusal);
    } else if (refusal->sentence <= SAY_FORGOTTEN) {
        say_session(&text, refusal);
    } else if (refusal->sentence <= SAY_HAS_NO_LIMIT) {
        say_limit(&text, refusal);
    } else {
        say_other(&text, refusal);
    }
    return 1u + text.length;
}
