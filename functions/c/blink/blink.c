/* Switches between on and off at every tick of its timer and emits which: a lamp without a lamp.
 *
 * Trigger: a timer. Capabilities: emit, state (a restart goes on where it was). It must never emit the same word twice in a row.
 * Configuration: the topic to emit to, nothing else; `blink` when there is none.
 */
#include "../fulmar.h"

FULMAR_FUNCTION

/* Bytes of the longest topic that the device takes. */
#define TOPIC_BYTES 128

static const char KEY[2] = {'o', 'n'};

static int is_white(char byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* The configured topic without white space at its end; 0 when there is none, and negative when it is too long. */
static int32_t read_topic(char *out) {
    int32_t len = fulmar_config_len();
    if (len > TOPIC_BYTES) {
        return FULMAR_ERR_TOO_LONG;
    }
    len = fulmar_config_read(0, out, TOPIC_BYTES);
    while (len > 0 && is_white(out[len - 1])) {
        len--;
    }
    return len;
}

FULMAR_EXPORT(fulmar_timer) {
    char topic[TOPIC_BYTES];
    uint8_t on = 0;
    int32_t emitted;
    int32_t topic_len = read_topic(topic);
    if (topic_len < 0) {
        fulmar_log_text(FULMAR_ERROR, "the configuration is refused: a topic has at most 128 bytes");
        return;
    }
    if (fulmar_state_get(KEY, sizeof KEY, &on, sizeof on) != (int32_t)sizeof on) {
        on = 0;
    }
    on = on == 0;
    /* State first: should the write be refused, nothing is said, and the next tick tries again. */
    if (fulmar_state_set(KEY, sizeof KEY, &on, sizeof on) < 0) {
        fulmar_log_text(FULMAR_WARN, "cannot switch: the state is full");
        return;
    }
    if (topic_len == 0) {
        emitted = on ? fulmar_emit_text("blink", "on") : fulmar_emit_text("blink", "off");
    } else {
        emitted = on ? fulmar_emit(topic, (uint32_t)topic_len, "on", 2) : fulmar_emit(topic, (uint32_t)topic_len, "off", 3);
    }
    if (emitted < 0) {
        /* Not said, so not switched. */
        on = on == 0;
        fulmar_state_set(KEY, sizeof KEY, &on, sizeof on);
        fulmar_log_text(FULMAR_WARN, "nothing was emitted");
    }
}
