//! A line of text of bounded length, built without an allocator and without `core::fmt`, which would cost several KiB.

/// At most `N` bytes; what does not fit is cut.
#[derive(Debug, Clone)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Text<N> {
    /// An empty line.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
    pub fn with_number(self, mut number: u64) -> Self {
        const DIGITS_MAX: usize = 20;
        let mut digits = [b'0'; DIGITS_MAX];
        let mut first = DIGITS_MAX - 1;
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            first = at;
            if number == 0 {
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
