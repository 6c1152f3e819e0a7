//! The cryptography against published vectors and against its own definition, and the ways in which it must fail.
use crate::corpus::corpus;
use crate::families::{BOOT, FLEET, SESSION, World};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use wire::dalek::{Ed25519, Ed25519Key, ExchangeSecret};
use wire::frame::Kind;
use wire::join::{Accepted, ExchangeKey};
use wire::limits::JOIN_SECRET_BYTES;
use wire::sign::{PublicKey, Sign, Signature, Verify};
use wire::topic::TokenId;
use wire::{DeviceId, Digest, LiveContext, PairKey, Session};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|letter| letter.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

#[test]
fn ed25519_signs_as_in_rfc_8032() {
    // RFC 8032, section 7.1, tests 1 to 3.
    let vectors = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (secret, public, message, signature) in vectors {
        let key = Ed25519Key::from_seed(&array(secret));
        let (public, signature) = (PublicKey(array(public)), Signature(array(signature)));
        assert_eq!(key.public_key(), public);
        assert!(key.sign(&bytes(message)) == signature);
        assert!(Ed25519.verify(&public, &bytes(message), &signature));
        assert!(!Ed25519.verify(&public, &[bytes(message), vec![0]].concat(), &signature));
    }
}

#[test]
fn no_flipped_bit_of_a_signature_or_key_verifies() {
    let key = Ed25519Key::from_seed(&[8; 32]);
    let (public, signature) = (key.public_key(), key.sign(b"text"));
    for bit in 0..512 {
        let mut bent = signature;
        bent.0[bit / 8] ^= 1 << (bit % 8);
        assert!(!Ed25519.verify(&public, b"text", &bent), "signature bit {bit}");
    }
    for bit in 0..256 {
        let mut bent = public;
        bent.0[bit / 8] ^= 1 << (bit % 8);
        assert!(!Ed25519.verify(&bent, b"text", &signature), "key bit {bit}");
    }
}

/// Encodings of the points of small order on Curve25519 in Edwards form, and the canonical zeros.
fn small_order_edwards() -> Vec<[u8; 32]> {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut minus_one = [0xff; 32];
    minus_one[0] = 0xec;
    minus_one[31] = 0x7f;
    let order_eight = array("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
    let order_eight_other = array("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");
    vec![[0; 32], identity, minus_one, order_eight, order_eight_other]
}

#[test]
fn a_key_of_small_order_verifies_nothing() {
    // Without strict verification R = identity and s = 0 would be a signature of every text under such a key.
    for point in small_order_edwards() {
        for r in small_order_edwards() {
            let mut forged = [0; 64];
            forged[..32].copy_from_slice(&r);
            for text in [&b""[..], b"a", b"b", b"c", b"d", b"e", b"f", b"g"] {
                assert!(!Ed25519.verify(&PublicKey(point), text, &Signature(forged)));
            }
        }
    }
}

#[test]
fn a_signature_with_a_scalar_over_the_order_is_refused() {
    let key = Ed25519Key::from_seed(&[8; 32]);
    let mut signature = key.sign(b"text");
    let order: [u8; 32] = array("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0u16;
    for (byte, add) in signature.0[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert!(!Ed25519.verify(&key.public_key(), b"text", &signature));
}

/// RFC 2104, written from its definition.
fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut inner = Sha256::new();
    inner.update(block.map(|byte| byte ^ 0x36));
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new();
    outer.update(block.map(|byte| byte ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

#[test]
fn the_tag_is_hmac_sha_256_over_what_is_covered() {
    // RFC 4231, cases 1 and 2: first the ruler is measured.
    assert_eq!(
        hmac_sha256(&[0x0b; 20], &[b"Hi There"]),
        array("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
    );
    assert_eq!(
        hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]),
        array("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    );
    let world = World::new();
    let context = LiveContext { fleet: FLEET, device: world.device, boot: BOOT, session: Session(0x0102_0304) };
    for kind in Kind::ALL {
        let full = hmac_sha256(
            &world.pair.0,
            &[
                b"fulmar/v1/live\0",
                &[1, kind as u8, 5],
                b"north",
                &world.device.0,
                &BOOT.0,
                &[4, 3, 2, 1],
                b"some body",
            ],
        );
        let tag = world.pair.tag(&context, kind, b"some body");
        assert_eq!(tag, full[..16]);
        assert!(world.pair.verify(&context, kind, b"some body", &tag));
    }
}

#[test]
fn no_flipped_bit_of_a_tag_verifies() {
    let world = World::new();
    let context = LiveContext { fleet: FLEET, device: world.device, boot: BOOT, session: SESSION };
    let tag = world.pair.tag(&context, Kind::Grant, b"body");
    for bit in 0..128 {
        let mut bent = tag;
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(!world.pair.verify(&context, Kind::Grant, b"body", &bent));
    }
}

#[test]
fn both_sides_agree_on_one_pair_key_per_fleet_and_device() {
    let (device, hub) = (ExchangeSecret::from_seed([4; 32]), ExchangeSecret::from_seed([5; 32]));
    let id = World::new().device;
    let key = device.pair_key(&hub.public_key(), FLEET, id).unwrap();
    assert!(hub.pair_key(&device.public_key(), FLEET, id) == Some(key.clone()));
    let pinned = corpus().into_iter().find(|item| item.group == "key" && item.name == "pair").unwrap();
    assert_eq!(key.0.to_vec(), pinned.bytes);
    let others = [
        device.pair_key(&hub.public_key(), "south", id),
        device.pair_key(&hub.public_key(), FLEET, DeviceId([0; 16])),
        ExchangeSecret::from_seed([6; 32]).pair_key(&hub.public_key(), FLEET, id),
    ];
    for other in others {
        assert!(other.is_some() && other != Some(key.clone()));
    }
}

#[test]
fn the_pair_key_is_hkdf_over_x25519() {
    let (device, hub) = (x25519_dalek::StaticSecret::from([4; 32]), x25519_dalek::StaticSecret::from([5; 32]));
    let shared = device.diffie_hellman(&x25519_dalek::PublicKey::from(&hub));
    let id = World::new().device;
    let mut expected = [0; 32];
    let info = [FLEET.as_bytes(), &id.0].concat();
    Hkdf::<Sha256>::new(Some(b"fulmar/v1/pair"), shared.as_bytes()).expand(&info, &mut expected).unwrap();
    let hub = ExchangeSecret::from_seed([5; 32]).public_key();
    assert!(ExchangeSecret::from_seed([4; 32]).pair_key(&hub, FLEET, id) == Some(PairKey(expected)));
}

/// Tokens that were given out, and accounts at brokers, live by it: it never changes.
#[test]
fn the_secret_of_a_token_is_hkdf_over_the_hub_s_own_key() {
    let seed = [7; 32];
    let hub = ExchangeSecret::from_seed(seed);
    let expected = |fleet: &str, token: TokenId| {
        let mut secret = [0; JOIN_SECRET_BYTES];
        let info = [fleet.as_bytes(), &token.0].concat();
        Hkdf::<Sha256>::new(Some(b"fulmar/v1/join-secret"), &seed).expand(&info, &mut secret).unwrap();
        Some(secret)
    };
    let all = [("north", 1), ("north", 2), ("south", 1)].map(|(fleet, id)| {
        let token = TokenId([id; 8]);
        let secret = hub.join_secret(fleet, token);
        assert_eq!(secret, expected(fleet, token));
        secret
    });
    assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    assert_ne!(ExchangeSecret::from_seed([8; 32]).join_secret("north", TokenId([1; 8])), all[0]);
}

#[test]
fn an_exchange_key_of_small_order_gives_no_key() {
    // Montgomery u-coordinates of the points of small order (RFC 7748, section 6.1 asks for the check), and aliases of them.
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = [0xff; 32];
    minus_one[0] = 0xec;
    minus_one[31] = 0x7f;
    let mut prime = minus_one;
    prime[0] = 0xed;
    let mut prime_plus_one = minus_one;
    prime_plus_one[0] = 0xee;
    let order_eight = array("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
    let order_eight_other = array("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157");
    let secret = ExchangeSecret::from_seed([4; 32]);
    for point in [[0; 32], one, minus_one, prime, prime_plus_one, order_eight, order_eight_other] {
        let key = ExchangeKey(point);
        assert!(secret.pair_key(&key, FLEET, World::new().device).is_none(), "{point:02x?}");
        assert!(secret.seal(&key, &Digest::of(b"answer"), &[1; 32]).is_none());
        assert!(secret.open(&key, &Digest::of(b"answer"), &[0; 48]).is_none());
    }
}

#[test]
fn only_the_right_secret_and_answer_open_a_sealed_credential() {
    let (device, hub) = (ExchangeSecret::from_seed([4; 32]), ExchangeSecret::from_seed([5; 32]));
    let credential = [0xab; 32];
    let sealed = hub.seal(&device.public_key(), &Digest::of(b"answer"), &credential).unwrap();
    assert!(!sealed.windows(8).any(|window| window == [0xab; 8]));
    assert_eq!(device.open(&hub.public_key(), &Digest::of(b"answer"), &sealed), Some(credential));
    assert_eq!(device.open(&hub.public_key(), &Digest::of(b"another answer"), &sealed), None);
    assert_eq!(ExchangeSecret::from_seed([6; 32]).open(&hub.public_key(), &Digest::of(b"answer"), &sealed), None);
    assert_eq!(device.open(&ExchangeSecret::from_seed([6; 32]).public_key(), &Digest::of(b"answer"), &sealed), None);
}

#[test]
fn an_answer_that_was_changed_on_the_way_does_not_open() {
    let (device, hub) = (ExchangeSecret::from_seed([4; 32]), ExchangeSecret::from_seed([5; 32]));
    let answer = Accepted {
        nonce: [1; 16],
        device: DeviceId([2; 16]),
        hub_signing: PublicKey([3; 32]),
        hub_exchange: hub.public_key(),
        sealed: &[],
        artifacts: "http://right",
        name: "porch",
        approved: false,
    };
    let sealed = hub.seal(&device.public_key(), &answer.covered().unwrap(), &[7; 32]).unwrap();
    let opens = |answer: Accepted<'_>| device.open(&hub.public_key(), &answer.covered().unwrap(), &sealed).is_some();
    assert!(opens(Accepted { sealed: &sealed, ..answer }));
    assert!(!opens(Accepted { artifacts: "http://wrong", ..answer }));
    assert!(!opens(Accepted { name: "gate", ..answer }));
    assert!(!opens(Accepted { approved: true, ..answer }));
    assert!(!opens(Accepted { device: DeviceId([9; 16]), ..answer }));
}

#[test]
fn a_bent_cut_or_grown_seal_does_not_open() {
    let (device, hub) = (ExchangeSecret::from_seed([4; 32]), ExchangeSecret::from_seed([5; 32]));
    let sealed = hub.seal(&device.public_key(), &Digest::of(b"answer"), &[0xab; 32]).unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut bent = sealed;
        bent[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(device.open(&hub.public_key(), &Digest::of(b"answer"), &bent), None, "bit {bit}");
    }
    for end in 0..sealed.len() {
        assert_eq!(device.open(&hub.public_key(), &Digest::of(b"answer"), &sealed[..end]), None);
    }
    assert_eq!(device.open(&hub.public_key(), &Digest::of(b"answer"), &[&sealed[..], &[0]].concat()), None);
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let seed = [0x2a; 32];
    let shown = [
        format!("{:?}", Ed25519Key::from_seed(&seed)),
        format!("{:?}", ExchangeSecret::from_seed(seed)),
        format!("{:?}", PairKey(seed)),
        format!("{:?}", Signature([0x2a; 64])),
    ];
    for text in shown {
        assert!(!text.contains("42") && !text.to_lowercase().contains("2a"), "{text}");
    }
}
