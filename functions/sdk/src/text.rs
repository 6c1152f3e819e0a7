//! A line of text of bounded length, built without an allocator and without `core::fmt`, which would cost several KiB.

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

/// At most `N` bytes; what does not fit is cut.
#[derive(Debug, Clone)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> AsRef<[u8]> for Text<N> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<const N: usize> Text<N> {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// A copy of these bytes, if all of them fit: for names, which must not be cut.
    #[must_use]
    pub fn whole(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= N).then(|| Self::new().with(bytes))
    }

    /// Appends bytes.
    #[must_use]
    pub fn with(mut self, more: &[u8]) -> Self {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(more) {
            *to = *from;
            self.len += 1;
        }
        self
    }

    /// Appends a number in decimal.
    #[must_use]
    pub fn with_number(self, number: u64) -> Self {
        self.with_padded(number, 1)
    }

    /// Appends a number in decimal, with a sign when it is negative.
    #[must_use]
    pub fn with_signed(self, number: i64) -> Self {
        let text = if number < 0 { self.with(b"-") } else { self };
        text.with_number(number.unsigned_abs())
    }

    /// Appends a number of units of 10^-`decimals` as a decimal number, without zeros at its end: the way back from
    /// [`parse_fixed`](crate::parse_fixed).
    #[must_use]
    pub fn with_fixed(self, units: i64, decimals: u32) -> Self {
        let (mut whole, mut unit) = (units.unsigned_abs(), 1);
        for _ in 0..decimals {
            // Above 10^19 a unit is more than any number.
            unit = u64::saturating_mul(unit, 10);
        }
        let mut fraction = whole % unit;
        whole /= unit;
        let text = if units < 0 { self.with(b"-") } else { self }.with_number(whole);
        if fraction == 0 {
            return text;
        }
        let mut digits = usize::try_from(decimals).unwrap_or(DIGITS_MAX);
        while fraction % 10 == 0 {
            fraction /= 10;
            digits -= 1;
        }
        text.with(b".").with_padded(fraction, digits)
    }

    /// Appends a number with at least this many digits.
    fn with_padded(self, mut number: u64, digits_min: usize) -> Self {
        let mut digits = [b'0'; DIGITS_MAX];
        let mut first = DIGITS_MAX - digits_min.clamp(1, DIGITS_MAX);
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                first = first.min(at);
                break;
            }
        }
        self.with(digits.get(first..).unwrap_or_default())
    }

    /// What was built.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is(text: Text<32>, expected: &str) {
        assert_eq!(core::str::from_utf8(text.as_bytes()).ok(), Some(expected));
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        is(Text::new().with_number(0), "0");
        is(Text::new().with_number(1_000_500), "1000500");
        is(Text::new().with_number(u64::MAX), "18446744073709551615");
        is(Text::new().with_signed(-7), "-7");
        is(Text::new().with_signed(i64::MIN), "-9223372036854775808");
    }

    #[test]
    fn units_are_written_with_a_point_and_without_trailing_zeros() {
        is(Text::new().with_fixed(21_500, 3), "21.5");
        is(Text::new().with_fixed(-21_000, 3), "-21");
        is(Text::new().with_fixed(-5, 3), "-0.005");
        is(Text::new().with_fixed(1_000_000_070, 7), "100.000007");
        is(Text::new().with_fixed(12, 0), "12");
        is(Text::new().with_fixed(0, 6), "0");
        is(Text::new().with_fixed(i64::MIN, 1), "-922337203685477580.8");
        is(Text::new().with_fixed(i64::MAX, 19), "0.9223372036854775807");
    }

    #[test]
    fn what_is_written_reads_back() {
        for units in [0, 1, -1, 10, 999, -1000, 123_456_789, i64::MAX] {
            for decimals in 0..=9 {
                let text = Text::<32>::new().with_fixed(units, decimals);
                assert_eq!(crate::parse_fixed(text.as_bytes(), decimals), Some(units), "{units} {decimals}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_but_names_are_whole() {
        assert_eq!(Text::<4>::new().with(b"abc").with(b"def").with_number(1).as_bytes(), b"abcd");
        assert_eq!(Text::<4>::whole(b"abcd").map(|text| text.as_bytes().len()), Some(4));
        assert!(Text::<4>::whole(b"abcde").is_none());
    }
}
