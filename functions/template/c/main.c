/* NAME: says hello at every tick of its timer, and counts the ticks in its durable state.
 *
 * The configuration is the place that it names; workload.yaml says what it is, how often it runs, and where.
 */
#include "../fulmar.h"

FULMAR_FUNCTION

/* Where the number of runs is kept. */
static const char RUNS[4] = {'r', 'u', 'n', 's'};

/* A line of text, built piece by piece; what does not fit is cut. */
struct line {
    char text[128];
    uint32_t len;
};

static void add(struct line *line, const char *text, uint32_t len) {
    for (uint32_t i = 0; i < len && line->len < sizeof line->text; i++) {
        line->text[line->len++] = text[i];
    }
}

static void add_number(struct line *line, uint32_t number) {
    char digits[10];
    uint32_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    add(line, digits + at, sizeof digits - at);
}

FULMAR_EXPORT(fulmar_timer) {
    char place[64];
    uint32_t run = 0;
    struct line line = {.len = 0};
    int32_t len = fulmar_config_read(0, place, sizeof place);
    if (fulmar_state_get(RUNS, sizeof RUNS, &run, sizeof run) != (int32_t)sizeof run) {
        run = 0;
    }
    run++;
    if (fulmar_state_set(RUNS, sizeof RUNS, &run, sizeof run) < 0) {
        fulmar_log_text(FULMAR_WARN, "cannot count: the state is full");
    }
    add(&line, "hello from ", 11);
    if (len > 0) {
        add(&line, place, (uint32_t)len);
    } else {
        add(&line, "somewhere", 9);
    }
    add(&line, ", run ", 6);
    add_number(&line, run);
    fulmar_log(FULMAR_INFO, line.text, line.len);
}
