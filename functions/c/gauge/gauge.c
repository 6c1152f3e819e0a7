/* Measures what it is told, says whether that is high, and raises an alarm when it becomes so.
 *
 * Trigger: messages whose payload is a number with up to three decimals. Capabilities: telemetry, state (a restart raises no alarm
 * twice). It must never raise one while the value stays high. Configuration: from which number on it is high; 30 without one.
 */
#include "../fulmar.h"

FULMAR_FUNCTION

/* Bytes of the longest number that is read. */
#define NUMBER_BYTES 24
/* Values are in thousandths. */
#define SCALE (-3)
#define HIGH_DEFAULT 30000
/* No sum of digits below this can overflow. */
#define WHOLE_MAX 1000000000000LL

static const char KEY[4] = {'h', 'i', 'g', 'h'};

static int is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

/* `-12.5` as -12500; 0 when the text is no such number. */
static int read_number(const char *text, int32_t len, int64_t *out) {
    int64_t value = 0;
    int32_t at = 0;
    int32_t decimals = 0;
    const int negative = len > 0 && text[0] == '-';
    if (negative) {
        at = 1;
    }
    if (at == len || !is_digit(text[at])) {
        return 0;
    }
    for (; at < len && is_digit(text[at]); at++) {
        value = value * 10 + (text[at] - '0');
        if (value > WHOLE_MAX) {
            return 0;
        }
    }
    if (at < len && text[at] == '.') {
        for (at++; at < len && is_digit(text[at]) && decimals < 3; at++, decimals++) {
            value = value * 10 + (text[at] - '0');
        }
    }
    for (; decimals < 3; decimals++) {
        value *= 10;
    }
    *out = negative ? -value : value;
    return at == len;
}

FULMAR_EXPORT(fulmar_event) {
    char text[NUMBER_BYTES];
    int64_t value = 0;
    int64_t limit = HIGH_DEFAULT;
    uint8_t was_high = 0;
    uint8_t is_high = 0;
    const int32_t input_len = fulmar_input_len();
    const int32_t config_len = fulmar_config_len();
    if (config_len > 0) {
        if (config_len > NUMBER_BYTES || !read_number(text, fulmar_config_read(0, text, NUMBER_BYTES), &limit)) {
            fulmar_log_text(FULMAR_ERROR, "the configuration is refused: it is a number with up to three decimals");
            return;
        }
    }
    if (input_len > NUMBER_BYTES || !read_number(text, fulmar_input_read(0, text, NUMBER_BYTES), &value)) {
        fulmar_log_text(FULMAR_WARN, "not a number with up to three decimals");
        return;
    }
    fulmar_measure("value", 5, value, SCALE);
    is_high = value >= limit;
    fulmar_state_get(KEY, sizeof KEY, &was_high, sizeof was_high);
    if (is_high == was_high) {
        return;
    }
    /* State first: should the write be refused, nothing is said, and the next value tries again. */
    if (fulmar_state_set(KEY, sizeof KEY, &is_high, sizeof is_high) < 0) {
        fulmar_log_text(FULMAR_WARN, "the state is full");
        return;
    }
    if (is_high) {
        fulmar_report_text("level", "high");
        fulmar_alarm_text("high", "the value is high");
    } else {
        fulmar_report_text("level", "normal");
    }
}
