//! Who a connection speaks for: the client id of its first packet, as it says itself. For people; nothing is decided by it.

/// Bytes of a connection that are looked at for its client id. Ours stands within the first sixty.
pub const PEEK_BYTES_MAX: usize = 128;
/// Letters of a client id that are shown.
const CLIENT_BYTES_MAX: usize = 64;
const CONNECT: u8 = 0x10;
/// Protocol's name with its length, version, flags, keep-alive.
const FIXED_BYTES: usize = 2 + 4 + 1 + 1 + 2;

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

/// The client id of a CONNECT of MQTT 5; `None`: it is none, or not all there.
pub fn client(bytes: &[u8]) -> Option<&str> {
    let rest = bytes.strip_prefix(&[CONNECT])?;
    let (_, rest) = varint(rest)?;
    let (properties, rest) = varint(rest.get(FIXED_BYTES..)?)?;
    let ([high, low], rest) = rest.get(properties..)?.split_first_chunk::<2>()?;
    let client = rest.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
    let is_plain = client.iter().all(|byte| byte.is_ascii_alphanumeric() || b":-".contains(byte));
    std::str::from_utf8(client).ok().filter(|text| is_plain && !text.is_empty() && text.len() <= CLIENT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(properties: &[u8], client: &[u8]) -> Vec<u8> {
        let mut body = [&[0, 4][..], b"MQTT", &[5, 0xc2, 0, 30], &[properties.len() as u8], properties].concat();
        body.extend((client.len() as u16).to_be_bytes());
        body.extend(client);
        [&[CONNECT, body.len() as u8][..], &body].concat()
    }

    #[test]
    fn the_client_id_of_a_connect_is_found_whole_or_not_at_all() {
        let bytes = connect(&[0x21, 0, 8], b"join:0011223344556677");
        assert_eq!(client(&bytes), Some("join:0011223344556677"));
        for cut in 0..bytes.len() {
            assert_eq!(client(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(client(&connect(&[], b"")), None);
        assert_eq!(client(&connect(&[], b"a\x1b[31m")), None);
        assert_eq!(client(&connect(&[], &[b'a'; CLIENT_BYTES_MAX + 1])), None);
        assert_eq!(client(b"GET / HTTP/1.1\r\n\r\n                               "), None);
        assert_eq!(client(&[CONNECT, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
