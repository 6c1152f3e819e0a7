//! Fields of objects as short text. Total over any JSON: a hub of another version may say more or less.

use serde_json::Value;

/// The text at a JSON pointer; empty if there is none.
pub fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => crate::output::plain(text),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => String::new(),
    }
}

pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

pub fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

pub fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Several lines as one.
pub fn plain_lines(text: &str) -> String {
    text.lines().map(|line| crate::output::plain(line.trim())).collect::<Vec<String>>().join("; ")
}

/// `a=b,c=d`.
pub fn labels(value: &Value) -> String {
    let Some(Value::Object(map)) = value.pointer("/metadata/labels") else { return String::new() };
    let pairs: Vec<String> =
        map.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.join(",")
}

/// The status of a condition: `True`, `False`, `Unknown`; empty if it is not there.
pub fn condition(value: &Value, name: &str) -> String {
    let found = list(value, "/status/conditions").iter().find(|condition| text(condition, "/type") == name);
    found.map(|condition| text(condition, "/status")).unwrap_or_default()
}

/// `/detail` without the code in front that `/reason` says already.
pub fn detail(entry: &Value) -> String {
    let (reason, detail) = (text(entry, "/reason"), text(entry, "/detail"));
    match detail.strip_prefix(&reason).and_then(|rest| rest.strip_prefix(": ")) {
        Some(rest) if !reason.is_empty() => rest.to_owned(),
        Some(_) | None => detail,
    }
}

/// `[longitude, latitude]` at a pointer.
pub fn point(value: &Value, pointer: &str) -> String {
    match list(value, pointer) {
        [longitude, latitude] => format!("{longitude},{latitude}"),
        _ => String::new(),
    }
}

/// Time since an RFC 3339 time.
pub fn age(timestamp: &str, now_ms: i64) -> String {
    match timestamp.parse::<jiff::Timestamp>() {
        Ok(time) => span_ms(u64::try_from(now_ms.saturating_sub(time.as_millisecond())).unwrap_or(0)),
        Err(_) => String::new(),
    }
}

/// Two digits or so are enough to see how old something is.
pub fn span_ms(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

pub fn bytes(count: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| count >= *size) {
        None => format!("{count} B"),
        Some((unit, size)) if count.is_multiple_of(size) => format!("{} {unit}", count / size),
        Some((unit, size)) => format!("{}.{} {unit}", count / size, count % size * 10 / size),
    }
}

/// A Unix time as RFC 3339 with milliseconds, in UTC.
pub fn time_ms(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map(|time| format!("{time:.3}")).unwrap_or_default()
}

pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_of_any_shape_are_text_or_nothing() {
        let value = json!({"a": {"b": "x\u{1b}", "n": 7, "l": [1]}, "metadata": {"labels": {"z": "1", "a": "2"}}});
        assert_eq!(text(&value, "/a/b"), "x\u{fffd}");
        assert_eq!(text(&value, "/a/n"), "7");
        assert_eq!(text(&value, "/a/l"), "");
        assert_eq!(text(&Value::Null, "/a/b/c"), "");
        assert_eq!(labels(&value), "a=2,z=1");
    }

    #[test]
    fn a_code_is_not_said_twice() {
        assert_eq!(detail(&json!({"reason": "TRAPPED", "detail": "TRAPPED: unreachable"})), "unreachable");
        assert_eq!(detail(&json!({"reason": "", "detail": ": x"})), ": x");
        assert_eq!(detail(&json!({"reason": "NONE", "detail": "x"})), "x");
    }

    #[test]
    fn ages_and_times() {
        assert_eq!(time_ms(1_795_313_000_123), "2026-11-22T02:03:20.123Z");
        assert_eq!(age("2026-11-22T02:03:20Z", 1_795_313_090_000), "90s");
        assert_eq!(age("2026-11-22T02:03:20Z", 0), "0s");
        assert_eq!(age("", 0), "");
        assert_eq!((span_ms(7_199_999), span_ms(200_000_000)), ("119m".to_owned(), "2d".to_owned()));
    }

    #[test]
    fn sizes_have_the_largest_unit_that_leaves_one() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(65_536), "64 KiB");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
    }
}
