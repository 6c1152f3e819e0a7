//! A configuration as lines of `key = value`: small enough to read without an allocator, easy to write into a manifest.
//!
//! Entries end at a line break or a semicolon. Empty lines and lines that begin with `#` do not count. Of equal keys
//! the first counts. It must never guess: a line without `=` is a key without a value, for [`Entries::unknown`] to find.

/// The entries of a configuration.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    /// The entries in this text.
    #[must_use]
    pub const fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// The value of a key; the first one counts.
    #[must_use]
    pub fn get(mut self, key: &[u8]) -> Option<&'a [u8]> {
        self.find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The first key that is none of `known`: most likely a spelling mistake.
    #[must_use]
    pub fn unknown(mut self, known: &[&[u8]]) -> Option<&'a [u8]> {
        self.find(|(name, _)| !known.contains(name)).map(|(name, _)| name)
    }
}

/// Key and value, without the white space around them.
impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (line, rest) = split(self.rest, |byte| matches!(byte, b'\n' | b';'));
            self.rest = rest;
            let line = line.trim_ascii();
            if !line.is_empty() && line.first() != Some(&b'#') {
                let (key, value) = split(line, |byte| byte == b'=');
                return Some((key.trim_ascii(), value.trim_ascii()));
            }
        }
        None
    }
}

/// What stands before and behind the first byte that separates.
pub(crate) fn split(text: &[u8], separates: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let at = text.iter().position(|byte| separates(*byte)).unwrap_or(text.len());
    (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"# hot house\n high = 30 ; low=28\r\n\ncorner=1,2;corner = 3,4;;\nformula = a=b\nalone";

    #[test]
    fn entries_end_at_lines_and_semicolons() {
        let entries = Entries::new(TEXT);
        assert_eq!(entries.get(b"high"), Some(&b"30"[..]));
        assert_eq!(entries.get(b"low"), Some(&b"28"[..]));
        assert_eq!(entries.get(b"formula"), Some(&b"a=b"[..]));
        assert_eq!(entries.get(b"alone"), Some(&b""[..]));
        assert_eq!(entries.get(b"hig"), None);
        assert_eq!(entries.count(), 6);
        assert_eq!(Entries::new(b" \n;# only = a remark").next(), None);
    }

    #[test]
    fn of_equal_keys_the_first_counts() {
        assert_eq!(Entries::new(TEXT).get(b"corner"), Some(&b"1,2"[..]));
    }

    #[test]
    fn unknown_keys_are_found() {
        let known: [&[u8]; 4] = [b"high", b"low", b"corner", b"formula"];
        assert_eq!(Entries::new(TEXT).unknown(&known), Some(&b"alone"[..]));
        assert_eq!(Entries::new(b"high=1").unknown(&known), None);
        assert_eq!(Entries::new(b"=1").unknown(&known), Some(&b""[..]));
    }
}
