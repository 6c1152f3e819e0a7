//! Artifacts under cuts at every operation, sectors that wear out, rot, and content that means harm.
use super::mock::{MockFlash, TORN, Torn};
use crate::machine::port::{Content, FetchFailure};
use crate::machine::time::Instant;
use crate::store::artifact::{Artifacts, DATA_OFFSET};
use crate::store::limits::ARTIFACTS_MAX;
use crate::transfer::{Sink, SinkError, Step, Transfer};
use embedded_storage::nor_flash::NorFlash;
use std::vec::Vec;
use wire::Digest;
use wire::transfer::{Chunk, Want};

type Small = MockFlash<4, 512>;

/// Blank granules in it, and a blank end: as code with constants has them.
fn content(seed: usize, bytes: usize) -> Vec<u8> {
    let byte = |at: usize| if (at / 200 + seed) % 4 == 3 { 0xff } else { (at * 7 + at / 251 + seed * 13) as u8 };
    (0..bytes).map(byte).collect()
}

/// Brings a content in, over a perfect link, with chunks of 400 bytes. The real transfer decides.
pub(crate) fn fetch<F: NorFlash>(artifacts: &mut Artifacts<F>, content: &[u8]) -> Result<(), FetchFailure> {
    let digest = Digest::of(content);
    let mut transfer = Transfer::begin(Instant::ZERO, Content::Artifact, digest, content.len() as u32, artifacts)?;
    for _ in 0..10_000 {
        match transfer.poll(Instant::ZERO, 0, artifacts) {
            Some(Step::Ask(Want::Artifact { offset, count, .. })) => {
                let chunks = content[offset as usize..].chunks(400).take(usize::from(count));
                for (number, bytes) in chunks.enumerate() {
                    let chunk = Chunk { content: digest.prefix(), offset: offset + number as u32 * 400, bytes };
                    transfer.chunk(Instant::ZERO, &chunk, artifacts);
                }
            }
            Some(Step::Done) => return Ok(()),
            Some(Step::Failed(failure)) => return Err(failure),
            other => panic!("{other:?}"),
        }
    }
    panic!("the transfer does not end");
}

fn holds<F: NorFlash>(artifacts: &mut Artifacts<F>, content: &[u8]) -> bool {
    let digest = Digest::of(content);
    let is_held = artifacts.holds(&digest, content.len() as u32);
    if is_held {
        let mut read = std::vec![0; content.len()];
        assert!(artifacts.read_at(&digest, 0, &mut read));
        assert!(read == content, "it holds something else");
    }
    is_held
}

#[test]
fn what_was_fetched_is_held_over_a_restart_and_read_in_parts() {
    fn works<const W: usize, const E: usize>() {
        let mut artifacts = Artifacts::open(MockFlash::<W, E>::new(32));
        let contents = [content(1, 3000), content(2, 1), content(3, 0), content(4, 2816), content(5, 4096)];
        for content in &contents {
            fetch(&mut artifacts, content).unwrap();
        }
        let flash = artifacts.into_flash();
        assert_eq!(flash.violations, 0, "unit {W}");
        let mut artifacts = Artifacts::open(flash);
        for content in &contents {
            assert!(holds(&mut artifacts, content), "unit {W}: {} bytes", content.len());
        }
        let digest = Digest::of(&contents[0]);
        let mut part = [0; 700];
        assert!(artifacts.read_at(&digest, 1001, &mut part));
        assert_eq!(part, contents[0][1001..1701]);
        assert!(!artifacts.read_at(&digest, 2500, &mut part), "beyond its end");
        assert!(!artifacts.read_at(&Digest::of(b"other"), 0, &mut part));
        let span = artifacts.span(&digest).unwrap();
        let lies = &artifacts.into_flash().bytes[span.offset as usize..][..span.bytes as usize];
        assert_eq!(lies, contents[0], "an engine may use it where it lies");
    }
    works::<1, 512>();
    works::<4, 512>();
    works::<16, 1024>();
    works::<32, 4096>();
}

/// Two versions of a component one after the other, as a set switch does it: the new one comes while the old one is kept, then
/// the old one goes.
fn switch<const W: usize, const E: usize>(
    flash: MockFlash<W, E>,
    old: &[u8],
    new: &[u8],
) -> (MockFlash<W, E>, Result<(), FetchFailure>) {
    let mut artifacts = Artifacts::open(flash);
    let mut result = if holds(&mut artifacts, new) { Ok(()) } else { fetch(&mut artifacts, new) };
    if result.is_ok() {
        let kept = Digest::of(new);
        artifacts.collect(&mut |digest| *digest == kept);
        if artifacts.holds(&Digest::of(old), old.len() as u32) {
            result = Err(FetchFailure::Absent);
        }
    }
    (artifacts.into_flash(), result)
}

#[test]
fn c19_a_cut_at_every_operation_of_a_switch_leaves_the_old_artifact_or_the_new_one() {
    let (old, new) = (content(1, 2000), content(2, 2300));
    let mut artifacts = Artifacts::open(Small::new(16));
    fetch(&mut artifacts, &old).unwrap();
    let before = artifacts.into_flash();
    let (whole, result) = switch(before.clone(), &old, &new);
    assert_eq!(result, Ok(()));
    let operations = whole.operations - before.operations;
    assert!(operations > 15, "{operations}");
    for torn in TORN {
        for operation in 0..operations {
            let at = std::format!("{torn:?} at operation {operation}");
            let (flash, _) = switch(before.clone().cut_at(operation, torn), &old, &new);
            assert!(flash.is_off, "{at}: no cut");
            let mut artifacts = Artifacts::open(flash.reboot());
            let has = [holds(&mut artifacts, &old), holds(&mut artifacts, &new)];
            assert!(has[0] || has[1], "{at}: neither is left");
            let (flash, result) = switch(artifacts.into_flash(), &old, &new);
            assert_eq!(result, Ok(()), "{at}: it does not go on");
            let mut artifacts = Artifacts::open(flash);
            assert!(holds(&mut artifacts, &new), "{at}");
            assert_eq!(artifacts.into_flash().violations, 0, "{at}: a unit was programmed twice");
        }
    }
}

#[test]
fn c19_a_second_cut_at_every_operation_after_the_first_changes_nothing() {
    let (old, new) = (content(1, 700), content(2, 900));
    let mut artifacts = Artifacts::open(MockFlash::<32, 512>::new(8));
    fetch(&mut artifacts, &old).unwrap();
    let before = artifacts.into_flash();
    let operations = switch(before.clone(), &old, &new).0.operations - before.operations;
    for torn in [Torn::Bits, Torn::Zeroes, Torn::FirstHalf] {
        for first in 0..operations {
            let flash = switch(before.clone().cut_at(first, torn), &old, &new).0.reboot();
            for second in 0..operations {
                let at = std::format!("{torn:?} at {first}, then at {second}");
                let (flash, result) = switch(flash.clone().cut_at(second, torn), &old, &new);
                let mut artifacts = Artifacts::open(flash.reboot());
                let has = [holds(&mut artifacts, &old), holds(&mut artifacts, &new)];
                assert!(has[0] || has[1], "{at}: neither is left");
                assert!(has[1] || result.is_err(), "{at}: it was said to be there");
                let (flash, result) = switch(artifacts.into_flash(), &old, &new);
                assert_eq!((result, flash.violations), (Ok(()), 0), "{at}");
            }
        }
    }
}

#[test]
fn a_reset_at_every_byte_goes_on_near_it() {
    let content = content(3, 2600);
    let digest = Digest::of(&content);
    for cut in 0..content.len() {
        let mut artifacts = Artifacts::open(Small::new(16));
        assert_eq!(artifacts.begin(&digest, 2600), Ok(0));
        artifacts.append(0, &content[..cut]).unwrap();
        let mut artifacts = Artifacts::open(artifacts.into_flash());
        let there = artifacts.begin(&digest, 2600).unwrap() as usize;
        // Blank granules at the end look as if they had not come: at most one row of them here.
        assert!(there <= cut && there + 4 * 256 > cut, "cut at {cut}, goes on at {there}");
        fetch(&mut artifacts, &content).unwrap();
        assert_eq!(artifacts.into_flash().violations, 0, "cut at {cut}");
    }
}

#[test]
fn rot_is_noticed_before_use_and_the_artifact_is_fetched_again() {
    let content = content(4, 1300);
    let mut artifacts = Artifacts::open(Small::new(8));
    fetch(&mut artifacts, &content).unwrap();
    let flash = artifacts.into_flash();
    for bit in (0..flash.bytes.len() * 8).step_by(7) {
        let mut rotten = flash.clone();
        rotten.bytes[bit / 8] ^= 1 << (bit % 8);
        let mut artifacts = Artifacts::open(rotten);
        if !holds(&mut artifacts, &content) {
            fetch(&mut artifacts, &content).unwrap_or_else(|failure| panic!("bit {bit}: {failure:?}"));
            assert!(holds(&mut artifacts, &content), "bit {bit}");
        }
    }
}

#[test]
fn headers_within_a_content_are_never_looked_at() {
    // A content that begins a header at each sector, saying that the rest of the flash is an artifact.
    let victim = content(1, 600);
    let mut artifacts = Artifacts::open(Small::new(16));
    fetch(&mut artifacts, &content(9, 3000)).unwrap();
    let header = artifacts.into_flash().bytes[..64].to_vec();
    assert_eq!(&header[..4], b"FJA1");
    let mut hostile = std::vec![0x11; 2500];
    for start in (512 - DATA_OFFSET as usize..hostile.len() - 64).step_by(512) {
        hostile[start..start + 64].copy_from_slice(&header);
    }
    let mut artifacts = Artifacts::open(Small::new(16));
    fetch(&mut artifacts, &hostile).unwrap();
    fetch(&mut artifacts, &victim).unwrap();
    let before = artifacts.into_flash();
    let kept = Digest::of(&victim);
    let mut artifacts = Artifacts::open(before.clone());
    assert_eq!(artifacts.collect(&mut |digest| *digest == kept), 1);
    let room = artifacts.room();
    for torn in TORN {
        // It is collected, with a cut at each operation: what it says of itself must not cover the victim.
        for operation in 0..6 {
            let mut artifacts = Artifacts::open(before.clone().cut_at(operation, torn));
            artifacts.collect(&mut |digest| *digest == kept);
            let mut artifacts = Artifacts::open(artifacts.into_flash().reboot());
            assert!(holds(&mut artifacts, &victim), "{torn:?} at {operation}");
            artifacts.collect(&mut |digest| *digest == kept);
            assert!(holds(&mut artifacts, &victim), "{torn:?} at {operation}, collected");
            assert_eq!(artifacts.room(), room, "{torn:?} at {operation}: all of its place is free again");
        }
    }
}

#[test]
fn a_worn_sector_is_passed_over_and_tells() {
    let content = content(5, 1000);
    for sector in 0..8 {
        let mut flash = Small::new(8);
        flash.worn.push(sector);
        let mut artifacts = Artifacts::open(flash);
        fetch(&mut artifacts, &content).unwrap_or_else(|failure| panic!("sector {sector}: {failure:?}"));
        assert!(holds(&mut artifacts, &content));
    }
    let mut flash = Small::new(8);
    flash.worn = (0..8).collect();
    let mut artifacts = Artifacts::open(flash);
    assert_eq!(fetch(&mut artifacts, &content), Err(FetchFailure::NoSpace));
    assert!(artifacts.wear().bad_sectors > 0 && artifacts.wear().failures > 0);
    assert!(!holds(&mut artifacts, &content));
}

#[test]
fn one_that_can_not_be_erased_any_more_neither_goes_nor_does_harm() {
    let (old, new) = (content(1, 700), content(2, 700));
    let mut artifacts = Artifacts::open(Small::new(8));
    fetch(&mut artifacts, &old).unwrap();
    let sector = artifacts.span(&Digest::of(&old)).unwrap().offset as usize / 512;
    let mut flash = artifacts.into_flash();
    flash.worn.push(sector);
    let mut artifacts = Artifacts::open(flash);
    let kept = Digest::of(&new);
    fetch(&mut artifacts, &new).unwrap();
    artifacts.collect(&mut |digest| *digest == kept);
    assert!(holds(&mut artifacts, &new));
    // What is left of it is not it, now and after a restart; asked for anew it finds another place.
    assert!(!holds(&mut artifacts, &old));
    for _ in 0..2 {
        fetch(&mut artifacts, &old).unwrap();
        assert!(holds(&mut artifacts, &old) && holds(&mut artifacts, &new));
        artifacts = Artifacts::open(artifacts.into_flash());
        assert!(holds(&mut artifacts, &old) && holds(&mut artifacts, &new));
    }
}

#[test]
fn a_unit_that_takes_nothing_sends_the_artifact_elsewhere() {
    let content = content(6, 1200);
    for sector in 0..8 {
        let mut flash = Small::new(8);
        flash.stuck.push(sector * 512 + 300);
        let mut artifacts = Artifacts::open(flash);
        fetch(&mut artifacts, &content).unwrap_or_else(|failure| panic!("sector {sector}: {failure:?}"));
        assert!(holds(&mut artifacts, &content), "sector {sector}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_takes_nothing_away() {
    let mut artifacts = Artifacts::open(Small::new(8));
    assert_eq!(artifacts.room(), (4096, 4096 - 256));
    let kept = content(1, 2000);
    fetch(&mut artifacts, &kept).unwrap();
    let free = artifacts.room().1;
    assert_eq!(free, 3 * 512 - 256);
    assert_eq!(fetch(&mut artifacts, &content(2, free as usize + 1)), Err(FetchFailure::NoSpace));
    assert!(holds(&mut artifacts, &kept));
    fetch(&mut artifacts, &content(2, free as usize)).unwrap();
    assert_eq!(artifacts.room().1, 0);
    assert_eq!(fetch(&mut artifacts, &content(3, 1)), Err(FetchFailure::NoSpace));
}

#[test]
fn the_number_of_artifacts_is_limited() {
    let mut artifacts = Artifacts::open(Small::new(64));
    for number in 0..ARTIFACTS_MAX {
        fetch(&mut artifacts, &content(number, 10 + number)).unwrap();
    }
    assert_eq!(artifacts.room().1, 0, "none more, whatever is free");
    assert_eq!(fetch(&mut artifacts, &content(40, 50)), Err(FetchFailure::NoSpace));
    assert_eq!(artifacts.collect(&mut |_| false), ARTIFACTS_MAX as u32);
    fetch(&mut artifacts, &content(40, 50)).unwrap();
}

#[test]
fn only_what_follows_is_appended() {
    let mut artifacts = Artifacts::open(Small::new(8));
    let digest = Digest::of(b"x");
    assert_eq!(artifacts.append(0, b"x"), Err(SinkError::Failed(FetchFailure::Absent)), "nothing was begun");
    artifacts.begin(&digest, 1).unwrap();
    assert_eq!(artifacts.append(1, b"x"), Err(SinkError::Failed(FetchFailure::Absent)));
    assert_eq!(artifacts.append(0, b"xy"), Err(SinkError::Failed(FetchFailure::Absent)), "too long");
    assert_eq!(artifacts.finish(), Err(FetchFailure::HashMismatch), "not all of it came");
    artifacts.begin(&digest, 1).unwrap();
    artifacts.append(0, b"x").unwrap();
    assert_eq!(artifacts.finish(), Ok(()));
    // Said with another length it is another one, and the first is not kept beside it.
    assert!(!artifacts.holds(&digest, 2));
}

#[test]
fn wear_is_spread_and_counted() {
    let mut artifacts = Artifacts::open(Small::new(16));
    for version in 0..200 {
        let content = content(version, 900);
        fetch(&mut artifacts, &content).unwrap();
        let kept = Digest::of(&content);
        artifacts.collect(&mut |digest| *digest == kept);
    }
    let said = artifacts.wear();
    let zones: Vec<u32> = artifacts.zones().to_vec();
    let flash = artifacts.into_flash();
    let counted: Vec<u32> = (0..16).map(|sector| flash.erases.get(&sector).copied().unwrap_or(0)).collect();
    assert_eq!(zones, counted);
    let most = counted.iter().max().copied().unwrap();
    assert_eq!(said.erases_per_sector, most);
    let total: u32 = counted.iter().sum();
    assert!(most * 16 < total * 2, "some sectors are worn out before others: {counted:?}");
    // Kept by whoever has a journal.
    let mut artifacts = Artifacts::open(flash);
    assert_eq!(artifacts.wear().erases_per_sector, 0);
    artifacts.zones_restore(zones.into_iter());
    assert_eq!(artifacts.wear().erases_per_sector, most);
}

#[test]
fn a_flash_of_any_content_or_of_no_use_holds_nothing_and_boots() {
    for fill in [0x00, 0x46, 0xa5] {
        let mut flash = Small::new(8);
        flash.bytes.fill(fill);
        let mut artifacts = Artifacts::open(flash);
        let content = content(1, 500);
        fetch(&mut artifacts, &content).unwrap();
        assert!(holds(&mut artifacts, &content));
    }
    let mut artifacts = Artifacts::open(MockFlash::<64, 512>::new(8));
    assert_eq!((artifacts.room(), fetch(&mut artifacts, &content(1, 5))), ((0, 0), Err(FetchFailure::NoSpace)));
}
