//! UF2, the format of the drive that RP2xxx chips show while their button is held: blocks of 512 bytes, each with 256 for one
//! page of flash (github.com/microsoft/uf2). The loader writes pages as they come and starts the chip behind the last one.

use super::image::Part;
use std::collections::BTreeMap;

pub const BLOCK_BYTES: usize = 512;
pub const PAGE_BYTES: usize = 256;
const FIRST_MARK: u32 = 0x0A32_4655;
const SECOND_MARK: u32 = 0x9E5D_5157;
const LAST_MARK: u32 = 0x0AB1_6F30;
/// The block says which family of chips it is for.
const HAS_FAMILY: u32 = 0x2000;
/// As erased flash reads.
const ERASED: u8 = 0xff;

/// One file of all parts. `None`: an address is beyond 32 bits, or there are more blocks than can be counted.
pub fn encode(family: u32, parts: &[Part]) -> Option<Vec<u8>> {
    let mut pages: BTreeMap<u64, [u8; PAGE_BYTES]> = BTreeMap::new();
    for part in parts {
        for (address, byte) in (part.address..).zip(&part.bytes) {
            let offset = address % PAGE_BYTES as u64;
            let page = pages.entry(address - offset).or_insert([ERASED; PAGE_BYTES]);
            if let Some(place) = usize::try_from(offset).ok().and_then(|offset| page.get_mut(offset)) {
                *place = *byte;
            }
        }
    }
    let count = u32::try_from(pages.len()).ok()?;
    let mut out = Vec::with_capacity(pages.len() * BLOCK_BYTES);
    for (number, (address, page)) in (0u32..).zip(&pages) {
        let address = u32::try_from(*address).ok()?;
        let head = [FIRST_MARK, SECOND_MARK, HAS_FAMILY, address, PAGE_BYTES as u32, number, count, family];
        let start = out.len();
        out.extend(head.into_iter().flat_map(u32::to_le_bytes));
        out.extend_from_slice(page);
        out.resize(start + BLOCK_BYTES - 4, 0);
        out.extend(LAST_MARK.to_le_bytes());
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DATA_AT: usize = 32;
    const RP2350: u32 = 0xe48b_ff59;

    fn part(address: u64, bytes: &[u8]) -> Part {
        Part { address, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_block_is_as_the_format_says_byte_by_byte() {
        let page: Vec<u8> = (0..=255).collect();
        let out = encode(RP2350, &[part(0x1000_0000, &page)]).unwrap();
        let mut expected = vec![
            0x55, 0x46, 0x32, 0x0a, // "UF2\n"
            0x57, 0x51, 0x5d, 0x9e, // second mark
            0x00, 0x20, 0x00, 0x00, // has a family
            0x00, 0x00, 0x00, 0x10, // address
            0x00, 0x01, 0x00, 0x00, // 256 bytes
            0x00, 0x00, 0x00, 0x00, // block 0
            0x01, 0x00, 0x00, 0x00, // of 1
            0x59, 0xff, 0x8b, 0xe4, // family
        ];
        expected.extend(&page);
        expected.resize(508, 0);
        expected.extend([0x30, 0x6f, 0xb1, 0x0a]);
        assert_eq!(out, expected);
    }

    #[test]
    fn blocks_are_counted_over_all_parts_and_ascend() {
        let parts = [part(0x1010_0000, b"config"), part(0x1000_0000, &[7; 300])];
        let out = encode(RP2350, &parts).unwrap();
        assert_eq!(out.len(), 3 * BLOCK_BYTES);
        let word =
            |block: usize, at: usize| u32::from_le_bytes(out[block * BLOCK_BYTES + at..][..4].try_into().unwrap());
        let addresses: Vec<u32> = (0..3).map(|block| word(block, 12)).collect();
        assert_eq!(addresses, [0x1000_0000, 0x1000_0100, 0x1010_0000]);
        assert_eq!(
            (0..3).map(|block| (word(block, 20), word(block, 24))).collect::<Vec<_>>(),
            [(0, 3), (1, 3), (2, 3)]
        );
        // What is not said is as erased: 44 bytes of the second page, 6 of the third.
        let data = |block: usize| &out[block * BLOCK_BYTES + DATA_AT..][..PAGE_BYTES];
        assert!(data(1)[..44].iter().all(|byte| *byte == 7) && data(1)[44..].iter().all(|byte| *byte == ERASED));
        assert!(data(2).starts_with(b"config\xff\xff"));
    }

    #[test]
    fn a_part_within_a_page_keeps_its_place_and_shares_the_page() {
        let out = encode(1, &[part(0x10_0010, b"ab"), part(0x10_0012, b"cd")]).unwrap();
        assert_eq!(out.len(), BLOCK_BYTES);
        assert_eq!(&out[DATA_AT + 0x0f..][..6], b"\xffabcd\xff");
    }

    #[test]
    fn an_address_beyond_32_bits_is_none() {
        assert_eq!(encode(1, &[part(u64::from(u32::MAX) + 1, b"x")]), None);
        assert!(encode(1, &[part(u64::from(u32::MAX), b"x")]).is_some());
        assert_eq!(encode(1, &[]), Some(Vec::new()));
    }
}
