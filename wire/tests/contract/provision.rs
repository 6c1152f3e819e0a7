//! The record that a flasher writes and a device reads: every field at its limit, every damage told by its name.
use crate::corpus::{POSITION, join_token, provision, provision_static};
use wire::Digest;
use wire::codec::{WireError, Writer};
use wire::join::JoinToken;
use wire::limits::*;
use wire::position::Position;
use wire::provision::{
    EntropySeed, FORMAT, HEADER_BYTES, MAGIC, MacAddress, Network, Provision, ProvisionError, StaticAddress, Wifi,
};

/// Makes length and digest fit whatever the body is, as far as there is a header.
pub fn seal(bytes: &mut [u8]) {
    if let Some((header, body)) = bytes.split_at_mut_checked(HEADER_BYTES) {
        header[6..8].copy_from_slice(&(body.len() as u16).to_le_bytes());
        let digest = Digest::of(&[&header[..8], &*body].concat());
        header[8..].copy_from_slice(&digest.0);
    }
}

/// Past our own encoder, which refuses what is not sound.
fn forged(record: &Provision<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let mut writer = Writer::new(&mut buffer);
    writer.bytes(&MAGIC).unwrap();
    writer.bytes(&[FORMAT; 35]).unwrap();
    writer.value(record).unwrap();
    let mut bytes = writer.finish().to_vec();
    seal(&mut bytes);
    bytes
}

fn encoded(record: &Provision<'_>) -> Result<Vec<u8>, WireError> {
    record.encode(&mut [0; PROVISION_BYTES_MAX]).map(<[u8]>::to_vec)
}

/// Both sides say the same of it.
fn judged(record: &Provision<'_>, expected: Result<(), WireError>) {
    assert_eq!(encoded(record).map(|_| ()), expected, "{record:?}");
    let bytes = forged(record);
    assert_eq!(Provision::decode(&bytes).map(|_| ()), expected.map_err(ProvisionError::Damaged), "{record:?}");
}

#[test]
fn a_record_comes_back_as_it_was_whatever_lies_behind_it() {
    for record in [provision(), provision_static()] {
        let bytes = encoded(&record).unwrap();
        assert_eq!(bytes, forged(&record));
        assert_eq!(Provision::decode(&bytes), Ok(record));
        for behind in [0xff, 0, 0x55] {
            let mut partition = bytes.clone();
            partition.resize(4096, behind);
            assert_eq!(Provision::decode(&partition), Ok(record));
            assert_eq!(Provision::decode(&partition[..PROVISION_BYTES_MAX]), Ok(record));
        }
    }
}

#[test]
fn flash_that_was_never_written_is_absent_and_not_damaged() {
    let other = *b"\x7fELF\x01\x01\x01\x00";
    for flash in [&[0xff; 4096][..], &[0; 4096], &[], &MAGIC[..4], &other] {
        assert_eq!(Provision::decode(flash), Err(ProvisionError::Absent));
    }
}

#[test]
fn a_cut_record_is_damaged_at_every_length() {
    let bytes = encoded(&provision_static()).unwrap();
    for length in MAGIC.len()..bytes.len() {
        let cut = &bytes[..length];
        assert_eq!(Provision::decode(cut), Err(ProvisionError::Damaged(WireError::Truncated)), "{length}");
        // Erased flash behind it: the power was cut while it was written.
        let mut partition = cut.to_vec();
        partition.resize(4096, 0xff);
        let got = Provision::decode(&partition);
        let expected = if length == MAGIC.len() {
            ProvisionError::UnknownFormat { format: 0xff }
        } else if length < MAGIC.len() + 3 {
            // The high byte of the length is 0xff.
            ProvisionError::Damaged(WireError::TooLarge { limit: PROVISION_BYTES_MAX as u32 })
        } else {
            ProvisionError::Damaged(WireError::NotAuthentic)
        };
        assert_eq!(got, Err(expected), "{length}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = encoded(&provision()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let got = Provision::decode(&flipped);
        match bit / 8 {
            0..5 => assert_eq!(got, Err(ProvisionError::Absent)),
            5 => assert!(matches!(got, Err(ProvisionError::UnknownFormat { .. }))),
            _ => assert!(matches!(got, Err(ProvisionError::Damaged(_))), "bit {bit}"),
        }
    }
}

#[test]
fn texts_and_numbers_have_their_limits() {
    let text = "t".repeat(200);
    let over = |limit| Err(WireError::TooLarge { limit: limit as u32 });
    let at = |length, limit| if length <= limit { Ok(()) } else { over(limit) };
    for length in [NAME_BYTES_MAX, NAME_BYTES_MAX + 1] {
        judged(&Provision { board: &text[..length], ..provision() }, at(length, NAME_BYTES_MAX));
        judged(&Provision { name: &text[..length], ..provision() }, at(length, NAME_BYTES_MAX));
    }
    for length in [ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX + 1] {
        let token = JoinToken { broker: &text[..length], ..join_token() };
        judged(&Provision { token, ..provision() }, at(length, ADDRESS_BYTES_MAX));
    }
    for length in [WIFI_NAME_BYTES_MAX, WIFI_NAME_BYTES_MAX + 1] {
        let wifi = Some(Wifi { name: &text[..length], secret: "" });
        judged(&Provision { wifi, ..provision() }, at(length, WIFI_NAME_BYTES_MAX));
    }
    for length in [WIFI_SECRET_BYTES_MAX, WIFI_SECRET_BYTES_MAX + 1] {
        let wifi = Some(Wifi { name: "", secret: &text[..length] });
        judged(&Provision { wifi, ..provision() }, at(length, WIFI_SECRET_BYTES_MAX));
    }
    judged(&Provision { board: "", ..provision() }, Err(WireError::Malformed));
    for latitude_e7 in [Position::LATITUDE_E7_MAX, Position::LATITUDE_E7_MAX + 1] {
        let on_earth = latitude_e7 == Position::LATITUDE_E7_MAX;
        let expected = if on_earth { Ok(()) } else { Err(WireError::Malformed) };
        judged(&Provision { position: Some(Position { latitude_e7, ..POSITION }), ..provision() }, expected);
    }
    for (mac, fits) in [([2, 0, 0, 0, 0, 0], true), ([3, 0, 0, 0, 0, 0], false), ([0; 6], false), ([0xff; 6], false)] {
        let expected = if fits { Ok(()) } else { Err(WireError::Malformed) };
        judged(&Provision { mac: MacAddress(mac), ..provision() }, expected);
    }
}

#[test]
fn an_address_must_be_a_hosts_and_its_gateway_within_reach() {
    let net = |address, prefix, gateway| StaticAddress { address, prefix, gateway, dns: None };
    for (case, fits) in [
        (net([10, 0, 0, 7], 24, None), true),
        (net([10, 0, 0, 7], 24, Some([10, 0, 0, 1])), true),
        (net([10, 0, 0, 7], 24, Some([10, 0, 1, 1])), false),
        (net([10, 0, 0, 7], 24, Some([10, 0, 0, 7])), false),
        (net([10, 0, 0, 7], 24, Some([10, 0, 0, 255])), false),
        (net([10, 0, 0, 0], 24, None), false),
        (net([10, 0, 0, 255], 24, None), false),
        (net([10, 0, 0, 5], 30, None), true),
        (net([10, 0, 0, 5], 31, None), false),
        (net([10, 0, 0, 5], 0, None), false),
        (net([10, 0, 0, 5], 255, None), false),
        (net([10, 0, 0, 5], 1, None), true),
        (net([0, 0, 0, 5], 24, None), false),
        (net([127, 0, 0, 5], 8, None), false),
        (net([223, 0, 0, 5], 24, None), true),
        (net([224, 0, 0, 5], 24, None), false),
    ] {
        assert_eq!(case.is_valid(), fits, "{case:?}");
        let expected = if fits { Ok(()) } else { Err(WireError::Malformed) };
        judged(&Provision { network: Network::Static(case), ..provision() }, expected);
    }
}

#[test]
fn the_longest_record_fits_its_limit() {
    let text = "f".repeat(200);
    let position = Position { longitude_e7: -1_800_000_000, latitude_e7: -900_000_000, uncertainty_m: u32::MAX };
    let token = JoinToken { fleet: &text[..FLEET_BYTES_MAX], broker: &text[..ADDRESS_BYTES_MAX], ..join_token() };
    let longest = Provision {
        board: &text[..NAME_BYTES_MAX],
        name: &text[..NAME_BYTES_MAX],
        token,
        position: Some(position),
        wifi: Some(Wifi { name: &text[..WIFI_NAME_BYTES_MAX], secret: &text[..WIFI_SECRET_BYTES_MAX] }),
        ..provision_static()
    };
    let bytes = encoded(&longest).unwrap();
    println!("longest record: {} of {PROVISION_BYTES_MAX}", bytes.len());
    assert_eq!(Provision::decode(&bytes), Ok(longest));
    assert!(bytes.len() > PROVISION_BYTES_MAX - 64, "the limit is wider than what it limits");
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_hashed() {
    let mut bytes = forged(&provision());
    bytes.resize(4096, 0xff);
    let longest = PROVISION_BYTES_MAX - HEADER_BYTES;
    for (length, expected) in [
        (longest, WireError::NotAuthentic),
        (longest + 1, WireError::TooLarge { limit: PROVISION_BYTES_MAX as u32 }),
        (usize::from(u16::MAX), WireError::TooLarge { limit: PROVISION_BYTES_MAX as u32 }),
    ] {
        bytes[6..8].copy_from_slice(&(length as u16).to_le_bytes());
        assert_eq!(Provision::decode(&bytes), Err(ProvisionError::Damaged(expected)));
    }
}

#[test]
fn a_later_format_is_named() {
    let mut bytes = encoded(&provision()).unwrap();
    bytes[MAGIC.len()] = FORMAT + 1;
    let error = Provision::decode(&bytes).unwrap_err();
    assert_eq!(error, ProvisionError::UnknownFormat { format: 2 });
    assert_eq!(error.to_string(), "the provisioning record has format 2, and this firmware reads 1");
}

#[test]
fn secrets_are_not_printed() {
    let record = provision_static();
    let said = format!("{record:?}");
    assert!(!said.contains("tomatoes") && !said.contains(&format!("{:?}", record.seed.0)), "{said}");
    assert!(!said.contains(&format!("{:?}", record.token.secret)), "{said}");
    assert_eq!(format!("{:?}", EntropySeed([7; 32])), "EntropySeed");
}
