//! A board's firmware over offers, transfers, resets and everything that can go wrong with them; the machine around it is real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::shell::port::Running;
use crate::store::tests::mock::MockFlash;
use crate::store::{Flash, Slot};
use crate::transfer::Sink;
use std::vec::Vec;
use wire::dalek::{Ed25519, Ed25519Key};
use wire::firmware::ImageHead;
use wire::sign::Sign;

const BOARD: &str = "garden-node";
const FLEET: &str = "home";
type Chip = MockFlash<4, 512>;

/// Slots as boot code leaves them.
struct Board {
    slot: Slot<Chip>,
    running: Running,
    is_marked: bool,
    takes_marks: bool,
    resets: u32,
}

impl Updates for Board {
    fn board(&self) -> &str {
        BOARD
    }

    fn running(&mut self) -> Option<Running> {
        Some(self.running)
    }

    fn sink(&mut self) -> &mut dyn Sink {
        &mut self.slot
    }

    fn fetched(&mut self) -> Option<(u32, Digest)> {
        self.slot.image(BOARD).map(|image| (image.version, image.digest))
    }

    fn mark(&mut self) -> bool {
        self.is_marked = self.takes_marks;
        self.takes_marks
    }

    fn confirm(&mut self) -> bool {
        self.running.is_trial &= !self.takes_marks;
        self.takes_marks
    }

    fn reset(&mut self) {
        self.resets += 1;
    }
}

struct World {
    board: Board,
    store: Flash<Chip, Chip>,
    firmware: Firmware,
    now: Instant,
}

fn image(board: &str, version: u32) -> Vec<u8> {
    let head = ImageHead { board, version }.encode().unwrap();
    head.into_iter().chain((0..900u32).map(|at| (at + version) as u8)).collect()
}

impl World {
    fn running(version: u32) -> Self {
        let running = Running { version, is_trial: false };
        let mut board =
            Board { slot: Slot::open(Chip::new(10)), running, is_marked: false, takes_marks: true, resets: 0 };
        let mut store = Flash::open(Chip::new(8), Chip::new(4));
        let firmware = Firmware::new(Instant::ZERO, &mut board, &mut store, ResetCause::PowerOn);
        Self { board, store, firmware, now: Instant::ZERO }
    }

    fn offer_signed(&mut self, image: &[u8], version: u32, key: &Ed25519Key) {
        let (bytes, digest) = (image.len() as u32, Digest::of(image));
        let signature = Statement { board: BOARD, version, bytes, digest }.sign(key, FLEET).unwrap();
        let offer = Offer { version, bytes, digest, trial_s: 60, signature: &signature.0 };
        let hub = Ed25519Key::from_seed(&[2; 32]).public_key();
        let is_signed = |statement: &Statement<'_>| statement.is_signed(&Ed25519, &hub, FLEET, &signature);
        self.firmware.offered(&offer, BOARD, is_signed);
    }

    fn offer(&mut self, image: &[u8], version: u32) {
        self.offer_signed(image, version, &Ed25519Key::from_seed(&[2; 32]));
    }

    fn says(&self) -> (Phase, Obstacle, u32, u32) {
        let report = self.firmware.report(Session(1), BOARD).unwrap();
        (report.phase, report.obstacle, report.running, report.target)
    }

    /// Goes on until nothing is wanted, with a source that has `image`.
    fn fetch(&mut self, image: &[u8]) {
        for _ in 0..1000 {
            match self.firmware.fetch(self.now, 0, &mut self.board, &mut self.store) {
                Some(Act::Ask(Want::Artifact { digest, offset, count })) => {
                    let rest = &image[offset as usize..];
                    for (number, bytes) in rest.chunks(300).take(count.into()).enumerate() {
                        let chunk = Chunk { content: digest.prefix(), offset: offset + number as u32 * 300, bytes };
                        self.firmware.chunk(self.now, &chunk, &mut self.board);
                    }
                }
                None => return,
                other => panic!("{other:?}"),
            }
        }
        panic!("the transfer does not end");
    }

    /// The board starts again, as boot code decided.
    fn boot(&mut self, running: Running, cause: ResetCause) {
        self.board.running = running;
        self.board.is_marked = false;
        self.firmware = Firmware::new(self.now, &mut self.board, &mut self.store, cause);
    }
}

const fn trial(version: u32) -> Running {
    Running { version, is_trial: true }
}

const fn steady(version: u32) -> Running {
    Running { version, is_trial: false }
}

#[test]
fn an_offer_is_fetched_verified_marked_tried_and_confirmed() {
    let mut world = World::running(1);
    assert_eq!(world.says(), (Phase::Idle, Obstacle::None, 1, 0));
    let new = image(BOARD, 2);
    world.offer(&new, 2);
    assert_eq!(world.says(), (Phase::Fetching, Obstacle::None, 1, 2));
    world.fetch(&new);
    assert_eq!(world.says(), (Phase::Installing, Obstacle::None, 1, 2));
    assert!(world.board.is_marked && world.firmware.reset_at.is_some());
    world.boot(trial(2), ResetCause::Software);
    assert_eq!(world.says(), (Phase::Trial, Obstacle::None, 2, 2));
    assert_eq!(world.firmware.fed_until(), Some(Instant::from_ms(60_000).after(TRIAL_GRACE)));
    assert!(world.firmware.confirm(2, &mut world.board, &mut world.store));
    assert_eq!(world.says(), (Phase::Done, Obstacle::None, 2, 2));
    assert_eq!((world.board.running.is_trial, world.firmware.fed_until()), (false, None));
    world.boot(steady(2), ResetCause::PowerOn);
    assert_eq!(world.says(), (Phase::Idle, Obstacle::None, 2, 0));
}

#[test]
fn what_did_not_stay_is_told_with_how_its_run_ended() {
    for (cause, obstacle) in [
        (ResetCause::Panic, Obstacle::Panic),
        (ResetCause::Watchdog, Obstacle::Watchdog),
        (ResetCause::PowerOn, Obstacle::Interrupted),
        (ResetCause::Pin, Obstacle::Interrupted),
        (ResetCause::Software, Obstacle::NotStarted),
    ] {
        let mut world = World::running(1);
        let new = image(BOARD, 2);
        world.offer(&new, 2);
        world.fetch(&new);
        world.boot(steady(1), cause);
        assert_eq!(world.says(), (Phase::Failed, obstacle, 1, 2), "{cause:?}");
        // It says so until something else is tried, over further boots.
        world.boot(steady(1), ResetCause::PowerOn);
        assert_eq!(world.says(), (Phase::Failed, obstacle, 1, 2));
        // Offered again, it lies in the slot already.
        world.offer(&new, 2);
        world.fetch(&new);
        assert_eq!(world.says().0, Phase::Installing);
    }
}

#[test]
fn a_confirmation_whose_note_was_cut_counts() {
    let mut world = World::running(1);
    let new = image(BOARD, 2);
    world.offer(&new, 2);
    world.fetch(&new);
    world.boot(steady(2), ResetCause::PowerOn);
    assert_eq!(world.says(), (Phase::Done, Obstacle::None, 2, 2));
    world.offer(&image(BOARD, 1), 1);
    assert_eq!(world.says().1, Obstacle::Downgrade);
}

#[test]
fn nothing_below_what_was_confirmed_is_taken_whatever_runs() {
    let mut world = World::running(1);
    world.boot(trial(5), ResetCause::Software);
    assert!(world.firmware.confirm(5, &mut world.board, &mut world.store));
    // Somebody wrote an old image with a cable.
    world.boot(steady(2), ResetCause::PowerOn);
    for version in [1, 3, 4] {
        world.offer(&image(BOARD, version), version);
        assert_eq!(world.says(), (Phase::Failed, Obstacle::Downgrade, 2, version));
    }
    world.offer(&image(BOARD, 5), 5);
    assert_eq!(world.says().0, Phase::Fetching);
}

#[test]
fn what_is_not_signed_or_not_what_was_offered_is_never_marked() {
    let mut world = World::running(1);
    let new = image(BOARD, 2);
    world.offer_signed(&new, 2, &Ed25519Key::from_seed(&[9; 32]));
    assert_eq!(world.says(), (Phase::Failed, Obstacle::Signature, 1, 2));
    // The image says another version, or is for another board, than the statement.
    for image in [image(BOARD, 3), image("another-board", 2)] {
        world.offer(&image, 2);
        world.fetch(&image);
        assert_eq!(world.says(), (Phase::Failed, Obstacle::Content, 1, 2));
    }
    assert!(!world.board.is_marked);
    let long = std::vec![0xaa; 10 * 512];
    world.offer(&long, 2);
    world.fetch(&long);
    assert_eq!(world.says(), (Phase::Failed, Obstacle::NoSpace, 1, 2));
}

#[test]
fn flash_that_takes_nothing_ends_an_update_and_never_a_trial() {
    let mut world = World::running(1);
    world.board.takes_marks = false;
    let new = image(BOARD, 2);
    world.offer(&new, 2);
    world.fetch(&new);
    assert_eq!(world.says(), (Phase::Failed, Obstacle::Flash, 1, 2));
    world.boot(trial(2), ResetCause::Software);
    assert!(!world.firmware.confirm(2, &mut world.board, &mut world.store));
    assert_eq!(world.says().0, Phase::Trial, "the watchdog decides");
    assert!(world.firmware.fed_until().is_some());
}

#[test]
fn while_an_image_is_on_trial_the_way_back_is_not_touched() {
    let mut world = World::running(1);
    world.boot(trial(2), ResetCause::Software);
    let new = image(BOARD, 3);
    world.offer(&new, 3);
    assert_eq!(world.says(), (Phase::Trial, Obstacle::None, 2, 2));
    world.fetch(&new);
    assert_eq!(world.board.fetched(), None);
}

#[test]
fn the_longest_note_and_the_longest_report_fit() {
    let pending = Some(Pending { version: u32::MAX, trial_s: u16::MAX });
    let kept = Kept { format: FORMAT, floor: u32::MAX, pending, failed: Some((u32::MAX, Obstacle::NotStarted)) };
    let mut store = Flash::open(Chip::new(8), Chip::new(4));
    assert!(kept.save(&mut store));
    assert_eq!(Kept::load(&mut store), kept);
    let board = core::str::from_utf8(&[b'b'; wire::limits::NAME_BYTES_MAX]).unwrap();
    let (session, most) = (Session(u32::MAX), u32::MAX);
    let (phase, obstacle) = (Phase::Failed, Obstacle::NotStarted);
    let report = Report { session, board, running: most, target: most, phase, obstacle, done: most };
    let mut buffer = [0; crate::shell::limits::FIRMWARE_REPORT_BYTES];
    let context =
        wire::LiveContext { fleet: FLEET, device: wire::DeviceId([1; 16]), boot: wire::BootId([1; 8]), session };
    assert!(wire::frame::encode_live(&mut buffer, &wire::PairKey([1; 32]), &context, &report).is_ok());
}
