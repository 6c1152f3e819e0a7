//! Server-sent events: the followed lists of the API. Reads total and bounded; a comment is a sign of life.

use std::io::{self, BufRead, Read};

/// Bytes of one line: one item as JSON.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: String,
    pub data: String,
    /// Where a broken stream goes on.
    pub id: Option<String>,
}

/// Items of a stream, in order.
pub struct Items<R> {
    lines: R,
}

impl<R: BufRead> Items<R> {
    pub fn new(lines: R) -> Self {
        Self { lines }
    }

    /// The next item; `None` when the stream has ended.
    pub fn next(&mut self) -> io::Result<Option<Item>> {
        let (mut kind, mut data, mut id) = (String::new(), String::new(), None);
        loop {
            let mut line = String::new();
            let count = (&mut self.lines).take(LINE_BYTES_MAX).read_line(&mut line)?;
            if count == 0 {
                return Ok(None);
            }
            let Some(line) = line.strip_suffix('\n') else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the stream is cut or too long"));
            };
            let line = line.strip_suffix('\r').unwrap_or(line);
            match line.split_once(':') {
                None if line.is_empty() && kind.is_empty() && data.is_empty() => {}
                None if line.is_empty() => return Ok(Some(Item { kind, data, id })),
                Some(("event", value)) => value.trim_start().clone_into(&mut kind),
                Some(("data", value)) => data.push_str(value.strip_prefix(' ').unwrap_or(value)),
                Some(("id", value)) => id = Some(value.trim_start().to_owned()),
                // Comments, and fields that we have no use for.
                Some(_) | None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn items_are_read_and_comments_are_not_items() {
        let text = ": still here\n\nid: 1.7\nevent: log\ndata: {\"text\":\"a: b\"}\n\n: still here\n\nevent: end\ndata: {}\n\n";
        let mut items = Items::new(text.as_bytes());
        assert_eq!(
            items.next().unwrap().unwrap(),
            Item { kind: "log".to_owned(), data: "{\"text\":\"a: b\"}".to_owned(), id: Some("1.7".to_owned()) }
        );
        assert_eq!(items.next().unwrap().unwrap().kind, "end");
        assert_eq!(items.next().unwrap(), None);
    }

    #[test]
    fn a_cut_stream_is_an_error_and_not_an_item() {
        let mut items = Items::new("event: log\ndata: {\"te".as_bytes());
        assert!(items.next().is_err());
    }
}
