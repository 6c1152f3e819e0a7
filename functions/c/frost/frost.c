/* Keeps something from freezing: reads a thermometer on a bus, measures it, and switches an output on while it is too cold.
 *
 * Trigger: timer. Capabilities: i2c, gpio, telemetry. Configuration: four numbers with a blank between them: the handle of the
 * bus, the address of the thermometer (an LM75, a TMP105, and their like), the handle of the output, and the degrees below which
 * it is on. It goes off two degrees above that. It must never heat by a thermometer that does not answer.
 */
#include "../fulmar.h"

FULMAR_FUNCTION

/* Bytes of the longest configuration. */
#define CONFIG_BYTES 32
#define NUMBERS 4
/* Values are in thousandths of a degree. */
#define SCALE (-3)
#define HYSTERESIS 2000
/* No number of a configuration is longer than this. */
#define NUMBER_MAX 100000

enum { BUS = 0, ADDRESS = 1, PIN = 2, LEAST = 3 };

static int32_t is_on;

/* Whole numbers with one blank between them; 0 when the text is anything else. */
static int read_numbers(const char *text, int32_t len, int32_t *out) {
    int32_t at = 0;
    for (int32_t number = 0; number < NUMBERS; number++) {
        int32_t value = 0;
        const int negative = at < len && text[at] == '-';
        at += negative;
        if (at >= len || text[at] < '0' || text[at] > '9') {
            return 0;
        }
        for (; at < len && text[at] >= '0' && text[at] <= '9'; at++) {
            value = value * 10 + (text[at] - '0');
            if (value > NUMBER_MAX) {
                return 0;
            }
        }
        out[number] = negative ? -value : value;
        if (number + 1 < NUMBERS && (at >= len || text[at++] != ' ')) {
            return 0;
        }
    }
    return at == len;
}

static void turn(int32_t pin, int32_t level) {
    if (fulmar_gpio_write((uint32_t)pin, level) < 0) {
        fulmar_log_text(FULMAR_ERROR, "this board has no such output");
        return;
    }
    if (level && !is_on) {
        fulmar_report_text("heating", "on");
    } else if (!level && is_on) {
        fulmar_report_text("heating", "off");
    }
    is_on = level;
}

FULMAR_EXPORT(fulmar_timer) {
    char text[CONFIG_BYTES];
    int32_t numbers[NUMBERS];
    uint8_t wanted = 0;
    uint8_t read[2];
    int32_t value = 0;
    const int32_t len = fulmar_config_len();
    if (len > CONFIG_BYTES || !read_numbers(text, fulmar_config_read(0, text, CONFIG_BYTES), numbers)) {
        fulmar_log_text(FULMAR_ERROR, "the configuration is refused: bus, address, output and degrees, as in 5 72 0 3");
        return;
    }
    if (fulmar_i2c_write_read((uint32_t)numbers[BUS], (uint32_t)numbers[ADDRESS], &wanted, 1, read, 2) < 0) {
        fulmar_log_text(FULMAR_WARN, "the thermometer does not answer");
        turn(numbers[PIN], 0);
        return;
    }
    /* Degrees in the first byte, with their sign; parts of 256 in the second. */
    value = (int16_t)(read[0] << 8 | read[1]) * 1000 / 256;
    fulmar_measure("temperature", 11, value, SCALE);
    if (value < numbers[LEAST] * 1000) {
        turn(numbers[PIN], 1);
    } else if (value >= numbers[LEAST] * 1000 + HYSTERESIS) {
        turn(numbers[PIN], 0);
    }
}
