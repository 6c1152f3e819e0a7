//! Bytes are for ever: a change here is a change of the protocol.
use crate::corpus::{Family, Item, corpus};
use crate::families::{SCRATCH_BYTES, World, body, frame, provision, text};
use crate::{crate_dir, pinned};
use std::collections::{BTreeMap, BTreeSet};
use wire::frame::Kind;

fn describe(items: &[&Item]) -> String {
    let mut out = String::new();
    for item in items {
        out.push_str(&format!("[{}] {} bytes\n{}\n", item.name, item.bytes.len(), item.says));
        for line in item.bytes.chunks(32) {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            out.push_str(&format!("    {}\n", hex.join(" ")));
        }
    }
    out
}

#[test]
fn every_byte_is_as_pinned() {
    let corpus = corpus();
    let mut groups: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for item in &corpus {
        groups.entry(item.group).or_default().push(item);
    }
    let folder = crate_dir().join("golden");
    let problems: Vec<String> = groups
        .iter()
        .filter_map(|(group, items)| pinned(&folder.join(format!("{group}.hex")), &describe(items)).err())
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let files: BTreeSet<String> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let expected: BTreeSet<String> = groups.keys().map(|group| format!("{group}.hex")).collect();
    assert_eq!(files, expected, "a golden file without its message, or the reverse");
}

#[test]
fn every_kind_has_a_golden_frame_that_its_receiver_accepts() {
    let (world, mut scratch) = (World::new(), vec![0; SCRATCH_BYTES]);
    let mut seen = BTreeSet::new();
    for item in corpus() {
        match item.family {
            Family::Frame(kind) => {
                assert_eq!(frame(&world, &item.bytes, &mut scratch), Ok(kind), "{} {}", item.group, item.name);
                seen.insert(kind as u8);
            }
            Family::Set => assert_eq!(body(Kind::Desired, &item.bytes, &mut scratch), Ok(())),
            Family::Text => assert!(text(&item.bytes), "{}", item.says),
            Family::Provision => assert_eq!(provision(&item.bytes), Ok(())),
            Family::Clauses | Family::Bytes => {}
        }
    }
    let all: BTreeSet<u8> = Kind::ALL.into_iter().map(|kind| kind as u8).collect();
    assert_eq!(seen, all);
}
