/* The whole interface between a function in C and a device: ABI version 1, as docs/functions.md describes it.
 *
 * Header only, needs no C library. It must never offer more than the ABI: what is not imported here, no device has.
 *
 *     #include "../fulmar.h"
 *     FULMAR_FUNCTION
 *     FULMAR_EXPORT(fulmar_timer) { fulmar_log_text(FULMAR_INFO, "tick"); }
 *
 * Build with clang for wasm32; functions/build shows the command. Only what is called ends up among the imports of the
 * module, so a function is asked for no more capabilities than it uses.
 */
#ifndef FULMAR_H
#define FULMAR_H

#include <stdint.h>

/* Once in one file of every function: the version of the interface, read by the device before it runs anything. */
#define FULMAR_FUNCTION                                                \
    __asm__(".section .custom_section.fulmar.abi,\"\",@\n\t.int8 1\n");

/* An entry point: fulmar_start, fulmar_event, fulmar_timer or fulmar_stop. At least one is needed. */
#define FULMAR_EXPORT(name)                                            \
    __attribute__((export_name(#name))) void name(void);               \
    void name(void)

#define FULMAR_IMPORT(name) __attribute__((import_module("fulmar"), import_name(#name)))

/* Levels of a log line. */
enum { FULMAR_ERROR = 0, FULMAR_WARN = 1, FULMAR_INFO = 2, FULMAR_DEBUG = 3 };

/* Errors. Every negative result is one; later versions may add more. */
enum {
    FULMAR_ERR_UNKNOWN = -1,    /* not known: no wall time, no entropy yet; the hardware does not answer */
    FULMAR_ERR_BOUNDS = -2,     /* pointer and length do not lie inside the memory */
    FULMAR_ERR_QUOTA = -3,      /* a quota of the activation, the state or the outgoing queue is used up */
    FULMAR_ERR_CAPABILITY = -4, /* the topic is not this function's */
    FULMAR_ERR_TOO_LONG = -5,   /* a key, value, line, topic, payload or transfer is above its limit */
    FULMAR_ERR_NOT_FOUND = -6,  /* no such key; no such pin or bus on this board */
    FULMAR_ERR_INVALID = -7     /* unknown level, bad topic, empty key, a duty or address beyond its range */
};

/* Writes a log line. Text is UTF-8 without a zero at its end; so everywhere. */
FULMAR_IMPORT(log) int32_t fulmar_log(int32_t level, const void *text, uint32_t len);

/* Emits a message to a relative topic. Needs the capability `emit`. */
FULMAR_IMPORT(emit) int32_t fulmar_emit(const void *topic, uint32_t topic_len, const void *payload, uint32_t len);

/* The payload and the topic of the event, and the configuration: their lengths, and copies from an offset on. Reading returns
 * how many bytes were copied. Outside fulmar_event there is no event, and its lengths are 0. */
FULMAR_IMPORT(input_len) int32_t fulmar_input_len(void);
FULMAR_IMPORT(input_read) int32_t fulmar_input_read(uint32_t offset, void *out, uint32_t capacity);
FULMAR_IMPORT(input_topic_len) int32_t fulmar_input_topic_len(void);
FULMAR_IMPORT(input_topic_read) int32_t fulmar_input_topic_read(uint32_t offset, void *out, uint32_t capacity);
FULMAR_IMPORT(config_len) int32_t fulmar_config_len(void);
FULMAR_IMPORT(config_read) int32_t fulmar_config_read(uint32_t offset, void *out, uint32_t capacity);

/* The durable state. Changes are durable, all at once, when the activation has ended well. Getting copies what fits and returns
 * the whole length of the value. Needs the capability `state`. */
FULMAR_IMPORT(state_get) int32_t fulmar_state_get(const void *key, uint32_t key_len, void *out, uint32_t capacity);
FULMAR_IMPORT(state_set) int32_t fulmar_state_set(const void *key, uint32_t key_len, const void *value, uint32_t len);
FULMAR_IMPORT(state_delete) int32_t fulmar_state_delete(const void *key, uint32_t key_len);

/* Microseconds since some moment of this boot; never runs backwards. */
FULMAR_IMPORT(time_monotonic_us) int64_t fulmar_time_monotonic_us(void);

/* Milliseconds since 1970 in UTC, or FULMAR_ERR_UNKNOWN. Needs the capability `wall-time`. */
FULMAR_IMPORT(time_wall_ms) int64_t fulmar_time_wall_ms(void);

/* Fills with random bytes and returns `len`. Needs the capability `random`. */
FULMAR_IMPORT(random) int32_t fulmar_random(void *out, uint32_t len);

/* The fence of the right under which exclusive work runs, or 0: it is not exclusive. Whatever the function acts on should keep the
 * highest one that it has seen and refuse a lower one. */
FULMAR_IMPORT(fence) int64_t fulmar_fence(void);

/* Milliseconds since the hub was last asked with success, or FULMAR_ERR_UNKNOWN: not since the device started. */
FULMAR_IMPORT(freshness) int64_t fulmar_freshness(void);

/* 1: the hub was not heard for so long that the function is to do less than usual; else 0. */
FULMAR_IMPORT(degraded) int32_t fulmar_degraded(void);

/* Raises an alarm: kept on the device, over resets, until the hub has taken it; refused and counted without room. Reports a
 * state: the latest text of a key is what counts. Keeps a measured value, value * 10^scale; the oldest give way. A key is of
 * letters, digits, '.', '_', '-' and '/'. They need the capability `telemetry`. */
FULMAR_IMPORT(alarm) int32_t fulmar_alarm(const void *key, uint32_t key_len, const void *text, uint32_t len);
FULMAR_IMPORT(report) int32_t fulmar_report(const void *key, uint32_t key_len, const void *text, uint32_t len);
FULMAR_IMPORT(measure) int32_t fulmar_measure(const void *key, uint32_t key_len, int64_t value, int32_t scale);

/* Pins and buses by the handles of the board. Levels are 0 and 1; analogue values and duties go from 0 to 65535; an address has
 * seven bits. A transfer writes, then reads, at most 256 bytes each; what is empty is left out; it returns what was read. An
 * output goes to the safe state of the board when the function ends. They need `gpio`, `adc`, `pwm` and `i2c`. */
FULMAR_IMPORT(gpio_read) int32_t fulmar_gpio_read(uint32_t handle);
FULMAR_IMPORT(gpio_write) int32_t fulmar_gpio_write(uint32_t handle, int32_t level);
FULMAR_IMPORT(adc_read) int32_t fulmar_adc_read(uint32_t handle);
FULMAR_IMPORT(pwm_set) int32_t fulmar_pwm_set(uint32_t handle, uint32_t duty);
FULMAR_IMPORT(i2c_write_read) int32_t fulmar_i2c_write_read(uint32_t handle, uint32_t address, const void *out, uint32_t out_len, void *into, uint32_t capacity);

/* The same for string literals and arrays, whose length the compiler knows. */
#define fulmar_log_text(level, literal) fulmar_log((level), "" literal, sizeof(literal) - 1)
#define fulmar_alarm_text(key, literal) fulmar_alarm("" key, sizeof(key) - 1, "" literal, sizeof(literal) - 1)
#define fulmar_report_text(key, literal) fulmar_report("" key, sizeof(key) - 1, "" literal, sizeof(literal) - 1)
#define fulmar_emit_text(topic, literal) fulmar_emit("" topic, sizeof(topic) - 1, "" literal, sizeof(literal) - 1)

#endif
