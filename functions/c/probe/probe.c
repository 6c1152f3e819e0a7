/* Calls every import of fulmar.h once for each event and emits what it answered: the test of the header against a device.
 *
 * Needs all capabilities but hardware. It must have one answer for every import: 8 bytes each, lowest first, on topic `answers`.
 */
#include "../fulmar.h"

FULMAR_FUNCTION

#define BUFFER_BYTES 16
#define KEY "key"
#define KEY_BYTES 3

FULMAR_EXPORT(fulmar_event) {
    char buffer[BUFFER_BYTES];
    int64_t answers[18];
    answers[0] = fulmar_log_text(FULMAR_INFO, "probing");
    answers[1] = fulmar_emit_text("probe", "here");
    answers[2] = fulmar_input_len();
    answers[3] = fulmar_input_read(2, buffer, BUFFER_BYTES);
    answers[4] = fulmar_input_topic_len();
    answers[5] = fulmar_input_topic_read(1, buffer, BUFFER_BYTES);
    answers[6] = fulmar_config_len();
    answers[7] = fulmar_config_read(3, buffer, BUFFER_BYTES);
    answers[8] = fulmar_state_get(KEY, KEY_BYTES, buffer, BUFFER_BYTES);
    answers[9] = fulmar_state_set(KEY, KEY_BYTES, "value", 5);
    answers[10] = fulmar_state_get(KEY, KEY_BYTES, buffer, BUFFER_BYTES);
    answers[11] = fulmar_state_delete(KEY, KEY_BYTES);
    answers[12] = fulmar_time_monotonic_us();
    answers[13] = fulmar_time_wall_ms();
    answers[14] = fulmar_random(buffer, BUFFER_BYTES);
    answers[15] = fulmar_alarm_text("hot", "too hot");
    answers[16] = fulmar_report_text("door", "open");
    answers[17] = fulmar_measure("t", 1, -215, -1);
    fulmar_emit("answers", 7, answers, sizeof answers);
}
