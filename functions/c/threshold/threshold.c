/* Says when a value goes up to a limit and when it comes back below another, and nothing in between: the twin in C of
 * functions/threshold, which describes triggers, capabilities and configuration.
 *
 * It must do what its twin does, byte for byte: the tests give both the same inputs and compare all that they say and keep.
 */
#include "../fulmar.h"

FULMAR_FUNCTION

/* Decimals of a reading that count. */
#define DECIMALS 6
#define CONFIG_BYTES 256
#define PAYLOAD_BYTES 512
#define FIELD_BYTES 32
#define TOPIC_BYTES 64
#define LINE_BYTES 160
/* Digits of an exponent, with its sign. */
#define EXPONENT_BYTES 4

/* Bytes somewhere else; a text that is not there has no start. */
struct text {
    const char *start;
    uint32_t len;
};

#define TEXT(literal) ((struct text){"" literal, sizeof(literal) - 1})

static const struct text NOTHING = {0, 0};

/* A name that outlives the configuration. */
struct name {
    char bytes[TOPIC_BYTES];
    uint32_t len;
};

static struct {
    int is_good;
    int64_t high;
    int64_t low;
    int has_field;
    struct name field;
    struct name topic;
} settings;

/* --- texts ------------------------------------------------------------------------------------------------------------- */

static int is_white(char byte) {
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\f' || byte == '\r';
}

static int is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

static struct text from(struct text text, uint32_t at) {
    return (struct text){text.start + at, text.len - at};
}

static struct text trim_start(struct text text) {
    while (text.len > 0 && is_white(text.start[0])) {
        text = from(text, 1);
    }
    return text;
}

static struct text trim_end(struct text text) {
    while (text.len > 0 && is_white(text.start[text.len - 1])) {
        text.len--;
    }
    return text;
}

static struct text trim(struct text text) {
    return trim_end(trim_start(text));
}

static int is_same(struct text one, struct text other) {
    if (one.len != other.len) {
        return 0;
    }
    for (uint32_t i = 0; i < one.len; i++) {
        if (one.start[i] != other.start[i]) {
            return 0;
        }
    }
    return 1;
}

static void keep(struct name *name, struct text text) {
    for (uint32_t i = 0; i < text.len; i++) {
        name->bytes[i] = text.start[i];
    }
    name->len = text.len;
}

/* A log line of two parts. */
static void say(int32_t level, struct text what, struct text why) {
    char line[LINE_BYTES];
    uint32_t len = 0;
    for (uint32_t i = 0; i < what.len && len < LINE_BYTES; i++) {
        line[len++] = what.start[i];
    }
    for (uint32_t i = 0; i < why.len && len < LINE_BYTES; i++) {
        line[len++] = why.start[i];
    }
    fulmar_log(level, line, len);
}

static void say_failure(struct text what, int32_t error) {
    struct text why = TEXT("an error of a later version");
    switch (error) {
    case FULMAR_ERR_UNKNOWN:
        why = TEXT("not known");
        break;
    case FULMAR_ERR_BOUNDS:
        why = TEXT("outside the memory");
        break;
    case FULMAR_ERR_QUOTA:
        why = TEXT("a quota is used up");
        break;
    case FULMAR_ERR_CAPABILITY:
        why = TEXT("not allowed here");
        break;
    case FULMAR_ERR_TOO_LONG:
        why = TEXT("too long");
        break;
    case FULMAR_ERR_NOT_FOUND:
        why = TEXT("not found");
        break;
    case FULMAR_ERR_INVALID:
        why = TEXT("not valid");
        break;
    default:
        break;
    }
    say(FULMAR_WARN, what, why);
}

/* --- numbers, exact and without floats --------------------------------------------------------------------------------- */

/* One more digit behind a number; false when the result is none any more. */
static int push(int64_t *value, char byte) {
    int64_t digit = byte - '0';
    if (*value > (INT64_MAX - digit) / 10) {
        return 0;
    }
    *value = *value * 10 + digit;
    return 1;
}

static struct text take_sign(struct text text, int64_t *sign) {
    *sign = 1;
    if (text.len > 0 && (text.start[0] == '-' || text.start[0] == '+')) {
        *sign = text.start[0] == '-' ? -1 : 1;
        return from(text, 1);
    }
    return text;
}

/* The digits at the beginning; what follows them is left in `text`. */
static struct text take_digits(struct text *text) {
    struct text digits = {text->start, 0};
    while (digits.len < text->len && is_digit(text->start[digits.len])) {
        digits.len++;
    }
    *text = from(*text, digits.len);
    return digits;
}

static int read_integer(struct text text, int64_t *out) {
    int64_t sign;
    text = take_sign(trim(text), &sign);
    struct text digits = take_digits(&text);
    if (digits.len == 0 || text.len > 0) {
        return 0;
    }
    *out = 0;
    for (uint32_t i = 0; i < digits.len; i++) {
        if (!push(out, digits.start[i])) {
            return 0;
        }
    }
    *out *= sign;
    return 1;
}

/* A decimal number in units of 10^-DECIMALS; halves of a unit go away from zero. */
static int read_fixed(struct text text, int64_t *out) {
    int64_t sign, exponent = 0, value = 0;
    struct text fraction = NOTHING;
    text = take_sign(trim(text), &sign);
    struct text whole = take_digits(&text);
    if (text.len > 0 && text.start[0] == '.') {
        text = from(text, 1);
        fraction = take_digits(&text);
    }
    if (whole.len == 0 && fraction.len == 0) {
        return 0;
    }
    if (text.len > 0) {
        int is_exponent = text.start[0] == 'e' || text.start[0] == 'E';
        if (!is_exponent || text.len > 1 + EXPONENT_BYTES || !read_integer(from(text, 1), &exponent)) {
            return 0;
        }
    }
    /* Digits before the new decimal point; digits that are not written are zeros. */
    int64_t before_point = (int64_t)whole.len + DECIMALS + exponent;
    uint32_t at = 0, written = whole.len + fraction.len;
    for (; before_point > 0; before_point--, at++) {
        if (at >= written && value == 0) {
            *out = 0;
            return 1;
        }
        char digit = '0';
        if (at < whole.len) {
            digit = whole.start[at];
        } else if (at < written) {
            digit = fraction.start[at - whole.len];
        }
        if (!push(&value, digit)) {
            return 0;
        }
    }
    if (before_point == 0 && at < written) {
        char next = at < whole.len ? whole.start[at] : fraction.start[at - whole.len];
        if (next >= '5') {
            if (value == INT64_MAX) {
                return 0;
            }
            value++;
        }
    }
    *out = sign * value;
    return 1;
}

/* --- one field of a JSON object ---------------------------------------------------------------------------------------- */

/* What follows this byte, if it comes next. */
static int expect(struct text *text, char byte) {
    *text = trim_start(*text);
    if (text->len == 0 || text->start[0] != byte) {
        return 0;
    }
    *text = from(*text, 1);
    return 1;
}

/* Bytes of the string at the beginning, quotes included; 0 when there is none. */
static uint32_t string_len(struct text text) {
    int is_escaped = 0;
    if (text.len == 0 || text.start[0] != '"') {
        return 0;
    }
    for (uint32_t at = 1; at < text.len; at++) {
        if (is_escaped) {
            is_escaped = 0;
        } else if (text.start[at] == '\\') {
            is_escaped = 1;
        } else if (text.start[at] == '"') {
            return at + 1;
        }
    }
    return 0;
}

/* Bytes of the value at the beginning; 0 when it is empty or the text ends inside it. */
static uint32_t value_len(struct text text) {
    uint32_t depth = 0, at = 0;
    for (;;) {
        if (at >= text.len) {
            return 0;
        }
        char byte = text.start[at];
        if (byte == '"') {
            uint32_t len = string_len(from(text, at));
            if (len == 0) {
                return 0;
            }
            at += len;
            continue;
        }
        if ((byte == '}' || byte == ']' || byte == ',') && depth == 0) {
            break;
        }
        if (byte == '{' || byte == '[') {
            depth++;
        } else if (byte == '}' || byte == ']') {
            depth--;
        }
        at++;
    }
    return trim_end((struct text){text.start, at}).len;
}

/* The text of a field at the top; the first of its name counts. */
static struct text json_field(struct text object, struct text name) {
    struct text rest = object;
    if (!expect(&rest, '{')) {
        return NOTHING;
    }
    for (;;) {
        rest = trim_start(rest);
        uint32_t key_len = string_len(rest);
        if (key_len == 0) {
            return NOTHING;
        }
        struct text key = {rest.start + 1, key_len - 2};
        rest = from(rest, key_len);
        if (!expect(&rest, ':')) {
            return NOTHING;
        }
        rest = trim_start(rest);
        uint32_t len = value_len(rest);
        if (len == 0) {
            return NOTHING;
        }
        if (is_same(key, name)) {
            return (struct text){rest.start, len};
        }
        rest = from(rest, len);
        if (!expect(&rest, ',')) {
            return NOTHING;
        }
    }
}

/* --- the configuration ------------------------------------------------------------------------------------------------- */

/* The next entry of `key=value`; false at the end. */
static int next_entry(struct text *rest, struct text *key, struct text *value) {
    while (rest->len > 0) {
        uint32_t end = 0;
        while (end < rest->len && rest->start[end] != '\n' && rest->start[end] != ';') {
            end++;
        }
        struct text line = trim((struct text){rest->start, end});
        *rest = end < rest->len ? from(*rest, end + 1) : NOTHING;
        if (line.len == 0 || line.start[0] == '#') {
            continue;
        }
        uint32_t at = 0;
        while (at < line.len && line.start[at] != '=') {
            at++;
        }
        *key = trim((struct text){line.start, at});
        *value = at < line.len ? trim(from(line, at + 1)) : TEXT("");
        return 1;
    }
    return 0;
}

/* Why the configuration is no good; nothing when it is. */
static struct text read_settings(struct text config) {
    struct text key, value, high = NOTHING, low = NOTHING, field = NOTHING, topic = NOTHING;
    while (next_entry(&config, &key, &value)) {
        struct text *slot;
        if (is_same(key, TEXT("high"))) {
            slot = &high;
        } else if (is_same(key, TEXT("low"))) {
            slot = &low;
        } else if (is_same(key, TEXT("field"))) {
            slot = &field;
        } else if (is_same(key, TEXT("topic"))) {
            slot = &topic;
        } else {
            return TEXT("an unknown setting: known are high, low, field and topic");
        }
        /* Of equal keys the first counts. */
        if (slot->start == 0) {
            *slot = value;
        }
    }
    if (high.start == 0 || !read_fixed(high, &settings.high)) {
        return TEXT("high must be a number: write for example high=30");
    }
    settings.low = settings.high;
    if (low.start != 0 && !read_fixed(low, &settings.low)) {
        return TEXT("low must be a number: write for example low=28");
    }
    if (settings.low > settings.high) {
        return TEXT("low must not be above high");
    }
    settings.has_field = field.start != 0;
    if (field.len > FIELD_BYTES) {
        return TEXT("field is longer than 32 bytes");
    }
    keep(&settings.field, field);
    if (topic.start == 0) {
        topic = TEXT("threshold");
    }
    if (topic.len > TOPIC_BYTES) {
        return TEXT("topic is longer than 64 bytes");
    }
    keep(&settings.topic, topic);
    return NOTHING;
}

FULMAR_EXPORT(fulmar_start) {
    char bytes[CONFIG_BYTES];
    struct text why = TEXT("it is longer than this function reads");
    int32_t len = fulmar_config_len();
    if (len <= CONFIG_BYTES) {
        len = fulmar_config_read(0, bytes, CONFIG_BYTES);
        why = read_settings((struct text){bytes, len < 0 ? 0 : (uint32_t)len});
    }
    settings.is_good = why.start == 0;
    if (!settings.is_good) {
        say(FULMAR_ERROR, TEXT("the configuration is refused: "), why);
    }
}

/* --- a reading --------------------------------------------------------------------------------------------------------- */

static int read_reading(int64_t *out) {
    char bytes[PAYLOAD_BYTES];
    /* Half a payload is worse than none. */
    if (fulmar_input_len() > PAYLOAD_BYTES) {
        return 0;
    }
    int32_t len = fulmar_input_read(0, bytes, PAYLOAD_BYTES);
    struct text reading = {bytes, len < 0 ? 0 : (uint32_t)len};
    if (settings.has_field) {
        reading = json_field(reading, (struct text){settings.field.bytes, settings.field.len});
    }
    return read_fixed(reading, out);
}

FULMAR_EXPORT(fulmar_event) {
    int64_t value;
    uint8_t flag = 0;
    /* Without a configuration nothing can be decided; that was said at the start. */
    if (!settings.is_good) {
        return;
    }
    if (!read_reading(&value)) {
        fulmar_log_text(FULMAR_WARN, "a reading without a number was ignored");
        return;
    }
    int was_on = fulmar_state_get("on", 2, &flag, sizeof flag) == (int32_t)sizeof flag && flag == 1;
    int is_on = was_on ? value >= settings.low : value >= settings.high;
    if (is_on == was_on) {
        return;
    }
    int32_t error = fulmar_emit(settings.topic.bytes, settings.topic.len, is_on ? "on" : "off", is_on ? 2 : 3);
    if (error < 0) {
        /* Tried again with the next reading. */
        say_failure(TEXT("nothing was emitted: "), error);
        return;
    }
    flag = is_on ? 1 : 0;
    error = fulmar_state_set("on", 2, &flag, sizeof flag);
    if (error < 0) {
        say_failure(TEXT("the change may be emitted again: "), error);
    }
}
