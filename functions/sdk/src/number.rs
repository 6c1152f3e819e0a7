//! Numbers in text, read exactly and without floats: a float would cost code, and two devices could round it differently.
//!
//! Total: whatever the bytes are, the answer is a number or none. Nothing is ever wrapped or cut.

/// Digits of an exponent that are read; a number with a longer one is refused.
const EXPONENT_DIGITS_MAX: usize = 3;

/// Reads a whole number: digits with an optional sign, white space around them allowed.
#[must_use]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (sign, text) = sign(text.trim_ascii());
    match digits(text) {
        ([], _) | (_, [_, ..]) => None,
        (all, []) => Some(sign * all.iter().try_fold(0, |value, digit| push(value, *digit))?),
    }
}

/// Reads a decimal number as a whole number of units of 10^-`decimals`: `"21.5"` with 3 decimals is 21500.
///
/// What lies below a unit is rounded, halves away from zero. Exponents as in `2.15e1` are understood.
#[must_use]
pub fn parse_fixed(text: &[u8], decimals: u32) -> Option<i64> {
    let (sign, text) = sign(text.trim_ascii());
    let (whole, text) = digits(text);
    let (fraction, text) = match text {
        [b'.', rest @ ..] => digits(rest),
        _ => (&[][..], text),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent = match text {
        [] => 0,
        [b'e' | b'E', rest @ ..] if rest.len() <= 1 + EXPONENT_DIGITS_MAX => parse_integer(rest)?,
        _ => return None,
    };
    // How many digits stand before the new decimal point; digits that are not written are zeros.
    let mut before_point = i64::try_from(whole.len()).ok()? + i64::from(decimals) + exponent;
    let mut written = whole.iter().chain(fraction);
    let mut value = 0;
    while before_point > 0 {
        value = match written.next() {
            Some(digit) => push(value, *digit)?,
            None if value == 0 => return Some(0),
            None => push(value, b'0')?,
        };
        before_point -= 1;
    }
    if before_point == 0 && written.next().is_some_and(|digit| *digit >= b'5') {
        value = value.checked_add(1)?;
    }
    Some(sign * value)
}

/// The sign as a factor, and what follows it.
fn sign(text: &[u8]) -> (i64, &[u8]) {
    match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    }
}

/// The digits at the beginning, and the rest.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let len = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    (text.get(..len).unwrap_or_default(), text.get(len..).unwrap_or_default())
}

/// One more digit behind `value`, if the result is still a number. Written without `checked_mul`, which wasm32 makes long.
fn push(value: i64, digit: u8) -> Option<i64> {
    let digit = i64::from(digit - b'0');
    if value > (i64::MAX - digit) / 10 { None } else { Some(value * 10 + digit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_exactly() {
        for (text, value) in [("0", 0), ("-0", 0), ("007", 7), (" 42\n", 42), ("+5", 5), ("-17", -17)] {
            assert_eq!(parse_integer(text.as_bytes()), Some(value), "{text}");
        }
        assert_eq!(parse_integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_integer(b"-9223372036854775807"), Some(-i64::MAX));
    }

    #[test]
    fn what_is_not_a_whole_number_is_refused() {
        for text in
            ["", " ", "-", "+-1", "1 2", "1.0", "0x10", "9223372036854775808", "99999999999999999999", "\u{661}"]
        {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn decimals_become_units() {
        for (text, decimals, value) in [
            ("21.5", 3, 21_500),
            ("-21.5", 3, -21_500),
            ("8", 7, 80_000_000),
            (".5", 1, 5),
            ("5.", 1, 50),
            ("48.1372001", 7, 481_372_001),
            ("0.000", 0, 0),
            ("2.15e1", 1, 215),
            ("1E-05", 7, 100),
            ("12e+2", 0, 1200),
            ("0e999", 7, 0),
            ("1e-999", 7, 0),
            ("9223372036854775.807", 3, i64::MAX),
        ] {
            assert_eq!(parse_fixed(text.as_bytes(), decimals), Some(value), "{text}");
        }
    }

    #[test]
    fn below_a_unit_halves_go_away_from_zero() {
        for (text, value) in [
            ("0.4", 0),
            ("0.5", 1),
            ("-0.5", -1),
            ("1.49999", 1),
            ("0.04", 0),
            ("0.0999", 0),
            ("99.5", 100),
            ("5e-1", 1),
            ("5e-2", 0),
            ("-2.5", -3),
        ] {
            assert_eq!(parse_fixed(text.as_bytes(), 0), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_decimal_number_is_refused() {
        for text in
            ["", ".", "-", "e5", "1e", "1e+", "1e1.5", "1,5", "1.2.3", "nan", "inf", "1 1", "9223372036854775.8075"]
        {
            assert_eq!(parse_fixed(text.as_bytes(), 3), None, "{text}");
        }
        assert_eq!(parse_fixed(b"1e18", 1), None);
        assert_eq!(parse_fixed(b"1e999", 0), None);
    }
}
