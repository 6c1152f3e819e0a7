//! One field of a JSON object, found by scanning: enough for the readings that sensors and gateways send.
//!
//! It is no validator: it looks at nothing behind the field, and compares names as they are written, escapes included. It must
//! be total: no payload may make it read outside, loop or recurse.

/// The text of field `name` of the object, as it is written: `21.5`, `"on"`, `{...}`. The first one counts.
///
/// None when the bytes are not an object, end early or have no such field at the top.
#[must_use]
pub fn json_field<'a>(object: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = expect(object, b'{')?;
    loop {
        let (key, after) = string(rest.trim_ascii_start())?;
        let from = expect(after, b':')?.trim_ascii_start();
        let len = value_len(from)?;
        if key.get(1..key.len() - 1) == Some(name) {
            return from.get(..len);
        }
        rest = expect(from.get(len..)?, b',')?;
    }
}

/// What follows this byte, if it comes next.
fn expect(text: &[u8], byte: u8) -> Option<&[u8]> {
    match text.trim_ascii_start() {
        [first, rest @ ..] if *first == byte => Some(rest),
        _ => None,
    }
}

/// A string with its quotes, and what follows.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = string_len(text)?;
    Some((text.get(..len)?, text.get(len..)?))
}

/// Bytes of the string at the beginning, quotes included.
fn string_len(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Bytes of the value at the beginning. It must be followed by something: a number that ends with the payload is cut.
fn value_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0_u32;
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => at += string_len(text.get(at..)?)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' | b',' if depth == 0 => break,
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            _ => at += 1,
        }
    }
    match text.get(..at)?.trim_ascii_end().len() {
        0 => None,
        len => Some(len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_at_the_top_only() {
        let object = br#" { "a" : 1 ,"b":"x,\"}", "c":{"d":[2,{"e":3}]}, "d":-4.5e1,"t":true } "#;
        for (name, value) in
            [("a", Some("1")), ("b", Some(r#""x,\"}""#)), ("c", Some(r#"{"d":[2,{"e":3}]}"#)), ("d", Some("-4.5e1"))]
        {
            assert_eq!(json_field(object, name.as_bytes()), value.map(str::as_bytes), "{name}");
        }
        assert_eq!(json_field(object, b"t"), Some(&b"true"[..]));
        assert_eq!(json_field(object, b"e"), None);
        assert_eq!(json_field(object, b""), None);
    }

    #[test]
    fn the_first_of_equal_fields_counts() {
        assert_eq!(json_field(br#"{"a":1,"a":2}"#, b"a"), Some(&b"1"[..]));
    }

    #[test]
    fn what_is_no_object_or_ends_early_has_no_fields() {
        for text in [
            "",
            "{",
            "{}",
            "1",
            "[1]",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1"#,
            r#"{"a":"x}"#,
            r#"{a:1}"#,
            r#"{"b":1 "a":2}"#,
        ] {
            assert_eq!(json_field(text.as_bytes(), b"a"), None, "{text}");
        }
    }

    #[test]
    fn no_bytes_are_too_strange() {
        // Every short text over the bytes that mean something.
        let alphabet = *b"{}[],:\"\\a1 ";
        let mut text = [0; 6];
        for mut number in 0..alphabet.len().pow(6) {
            for slot in &mut text {
                *slot = alphabet.get(number % alphabet.len()).copied().unwrap_or_default();
                number /= alphabet.len();
            }
            let _total = json_field(&text, b"a");
        }
    }
}
