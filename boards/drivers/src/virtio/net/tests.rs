//! The network driver against a device that is played by the specification, of both kinds.

use super::*;
use crate::registers::fake::{Device as Registers_, Fake};
use crate::virtio::queue::fake::{put_used, refuse_notices, take_available, wants_interrupt};
use crate::virtio::{acknowledge, queue};
use std::boxed::Box;
use std::vec::Vec;

const LEGACY: u32 = 1;
const PRESENT: u32 = 2;

struct Chip {
    memory: &'static Memory,
    magic: u32,
    version: u32,
    kind: u32,
    offered: u64,
    refuses: bool,
    length_max: u32,
    select: u32,
    agreed: u64,
    status: u32,
    queue: usize,
    page_bytes: u32,
    /// Of each queue: what the driver said of it.
    told: [[u64; 3]; 2],
    ready: [bool; 2],
    seen: [u16; 2],
    link_is_up: bool,
    interrupt: u32,
    notices: [u32; 2],
    sent: Vec<Vec<u8>>,
    holds: Vec<u32>,
    is_slow: bool,
}

impl Chip {
    fn new(version: u32) -> Self {
        let memory: &'static Memory = Box::leak(Box::default());
        Self {
            memory,
            magic: 0x7472_6976,
            version,
            kind: ID,
            // And some that nobody here wants.
            offered: FEATURE_MAC | FEATURE_STATUS | 1 << 15 | 1 << 27 | u64::from(version == PRESENT) << 32,
            refuses: false,
            length_max: 1024,
            select: 0,
            agreed: 0,
            status: 0,
            queue: 0,
            page_bytes: 0,
            told: [[0; 3]; 2],
            ready: [false; 2],
            seen: [0; 2],
            link_is_up: true,
            interrupt: 0,
            notices: [0; 2],
            sent: Vec::new(),
            holds: Vec::new(),
            is_slow: false,
        }
    }

    fn header_bytes(&self) -> usize {
        if self.version == LEGACY { 10 } else { 12 }
    }

    /// The bytes of a buffer that the driver named by its address.
    fn buffer(&self, queue: usize, number: usize, address: u64) -> &'static Buffer {
        let buffer = &self.memory.buffers[queue][number];
        assert_eq!(address, (&raw const *buffer).addr() as u64);
        buffer
    }

    /// A frame comes in; false if the driver has given no buffer.
    fn deliver(&mut self, frame: &[u8]) -> bool {
        assert!(self.status == if self.version == LEGACY { 7 } else { 15 }, "the driver is not ready: {}", self.status);
        let Some((number, address, length, is_writable)) = take_available(&self.memory.queues[0], &mut self.seen[0])
        else {
            return false;
        };
        assert!(is_writable);
        let header = vec_of(0xee, self.header_bytes());
        let bytes: Vec<u8> = header.into_iter().chain(frame.iter().copied()).take(length as usize).collect();
        let buffer = self.buffer(0, number, address);
        buffer.iter().zip(&bytes).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
        put_used(&self.memory.queues[0], number as u32, bytes.len() as u32);
        if wants_interrupt(&self.memory.queues[0]) {
            self.interrupt |= 1;
        }
        true
    }

    fn transmit(&mut self) {
        while let Some((number, address, length, is_writable)) =
            take_available(&self.memory.queues[1], &mut self.seen[1])
        {
            assert!(!is_writable);
            let buffer = self.buffer(1, number, address);
            let bytes: Vec<u8> = buffer.iter().take(length as usize).map(|byte| byte.load(Ordering::Relaxed)).collect();
            let (header, frame) = bytes.split_at(self.header_bytes());
            assert!(header.iter().all(|byte| *byte == 0), "nothing is left to the device");
            self.sent.push(frame.to_vec());
            self.holds.push(number as u32);
        }
        if !self.is_slow {
            self.release();
        }
    }

    fn release(&mut self) {
        // In any order.
        while let Some(number) = self.holds.pop() {
            put_used(&self.memory.queues[1], number, 0);
        }
    }
}

fn vec_of(byte: u8, length: usize) -> Vec<u8> {
    std::vec![byte; length]
}

impl Registers_ for Chip {
    fn read(&mut self, offset: usize) -> u32 {
        match offset {
            0x000 => self.magic,
            0x004 => self.version,
            0x008 => self.kind,
            0x010 => (self.offered >> (32 * self.select)) as u32,
            0x034 => self.length_max,
            0x060 => self.interrupt,
            0x070 => self.status,
            0x100 => u32::from_le_bytes([2, 0, 0, 0]),
            0x104 => u32::from_le_bytes([0, 0x2a, u8::from(self.link_is_up), 0]),
            other => panic!("read of {other:#x}"),
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        let legacy_only = [0x028, 0x03c, 0x040].contains(&offset);
        let present_only = (0x080..0x0b0).contains(&offset) || offset == 0x044;
        assert!(!(legacy_only && self.version == PRESENT || present_only && self.version == LEGACY), "{offset:#x}");
        match offset {
            0x014 | 0x024 => self.select = value,
            0x020 => {
                assert!(self.select == 0 || self.version == PRESENT, "a legacy device has no more features");
                let keep = self.agreed & !(0xffff_ffff << (32 * self.select));
                self.agreed = keep | u64::from(value) << (32 * self.select);
                assert_eq!(self.agreed & !self.offered, 0, "what was not offered");
            }
            0x028 => self.page_bytes = value,
            0x030 => self.queue = value as usize,
            0x038 => assert_eq!(value, QUEUE_LENGTH as u32),
            0x03c => assert_eq!(value, 256),
            0x040 => self.told[self.queue][0] = u64::from(value),
            0x044 => self.ready[self.queue] = value == 1,
            0x050 => {
                self.notices[value as usize] += 1;
                if value == 1 {
                    self.transmit();
                }
            }
            0x064 => self.interrupt &= !value,
            0x070 if value & 8 != 0 && self.refuses => self.status = value & !8,
            0x070 => self.status = value,
            0x080..0x0b0 => {
                let field = &mut self.told[self.queue][(offset - 0x080) / 16];
                let high = offset % 16 == 4;
                *field |= u64::from(value) << if high { 32 } else { 0 };
            }
            other => panic!("write of {other:#x}"),
        }
    }
}

fn started(chip: Chip) -> (VirtioNet<Fake<Chip>>, Fake<Chip>) {
    let memory = chip.memory;
    let fake = Fake::new(chip);
    (VirtioNet::start(fake.clone(), memory).expect("the device is there"), fake)
}

#[test]
fn both_kinds_are_told_where_their_queues_are_and_what_is_known() {
    let (nic, fake) = started(Chip::new(PRESENT));
    assert_eq!(nic.address(), [2, 0, 0, 0, 0, 0x2a]);
    let chip = fake.0.borrow();
    assert_eq!(chip.agreed, FEATURE_MAC | FEATURE_STATUS | 1 << 32);
    assert_eq!(chip.told, chip.memory.queues.each_ref().map(queue::Queue::addresses));
    assert_eq!((chip.ready, chip.status), ([true; 2], 15));
    let (nic, fake) = started(Chip::new(LEGACY));
    assert_eq!(nic.address(), [2, 0, 0, 0, 0, 0x2a]);
    let chip = fake.0.borrow();
    assert_eq!(chip.agreed, FEATURE_MAC | FEATURE_STATUS | 1 << 27);
    // This host's addresses are longer than a legacy device can be told.
    let pages = chip.memory.queues.each_ref().map(|queue| u64::from((queue.addresses()[0] / 256) as u32));
    assert_eq!((chip.told.map(|told| told[0]), chip.page_bytes, chip.status), (pages, 256, 7));
    let [descriptors, _, used] = chip.memory.queues[0].addresses();
    assert_eq!((descriptors % 256, used - descriptors), (0, 256), "where a legacy device looks");
}

#[test]
fn frames_come_and_go_on_both_kinds_for_longer_than_a_queue() {
    for version in [LEGACY, PRESENT] {
        let (mut nic, fake) = started(Chip::new(version));
        let mut frame = [0; FRAME_BUFFER_BYTES];
        for round in 0..70_000usize {
            let length = 1 + round % if round < 2 * FRAME_BYTES_MAX { FRAME_BYTES_MAX } else { 8 };
            let sent = vec_of(round as u8, length);
            assert!(fake.0.borrow_mut().deliver(&sent), "version {version}, round {round}");
            assert_eq!(nic.receive(&mut frame), Some(length));
            assert_eq!(frame[..length], sent);
            assert_eq!(nic.receive(&mut frame), None);
            assert!(nic.can_send());
            nic.send(&sent);
            assert_eq!(fake.0.borrow_mut().sent.pop(), Some(sent));
        }
    }
}

#[test]
fn the_device_holds_all_buffers_and_no_more_while_it_is_slow() {
    let (mut nic, fake) = started(Chip::new(LEGACY));
    fake.0.borrow_mut().is_slow = true;
    for number in 0..QUEUE_LENGTH {
        assert!(nic.can_send());
        nic.send(&[number as u8; 60]);
    }
    assert!(!nic.can_send());
    nic.send(&[9; 60]);
    assert_eq!(fake.0.borrow().sent.len(), QUEUE_LENGTH, "what cannot be sent is not");
    fake.0.borrow_mut().release();
    assert!(nic.can_send());
    let mut frames = 0;
    while fake.0.borrow_mut().deliver(&[7; 60]) {
        frames += 1;
    }
    assert_eq!(frames, QUEUE_LENGTH);
}

#[test]
fn what_the_device_says_wrongly_is_passed_over() {
    let (mut nic, fake) = started(Chip::new(PRESENT));
    let mut frame = [0; FRAME_BUFFER_BYTES];
    let memory = fake.0.borrow().memory;
    let [queue, transmit] = &memory.queues;
    // A buffer that is none, one without a frame, and one that is longer than it can be.
    put_used(queue, u32::MAX, 60);
    put_used(queue, 0, 12);
    put_used(queue, 1, u32::MAX);
    assert_eq!(nic.receive(&mut frame), None);
    put_used(transmit, 4, 0);
    assert!(nic.can_send());
    put_used(queue, 2, 12 + 60);
    assert_eq!(nic.receive(&mut frame), Some(60));
}

#[test]
fn only_a_frame_after_listening_interrupts() {
    let (mut nic, fake) = started(Chip::new(PRESENT));
    let mut frame = [0; FRAME_BUFFER_BYTES];
    fake.0.borrow_mut().deliver(&[1; 60]);
    assert_eq!(fake.0.borrow().interrupt, 0);
    nic.receive(&mut frame);
    nic.listen();
    fake.0.borrow_mut().deliver(&[1; 60]);
    assert_eq!(fake.0.borrow().interrupt, 1);
    acknowledge(&fake);
    assert_eq!(fake.0.borrow().interrupt, 0);
    nic.receive(&mut frame);
    fake.0.borrow_mut().deliver(&[1; 60]);
    assert_eq!(fake.0.borrow().interrupt, 0, "nobody listens while frames are taken");
}

#[test]
fn a_device_that_looks_by_itself_gets_no_notices() {
    let (mut nic, fake) = started(Chip::new(PRESENT));
    refuse_notices(&fake.0.borrow().memory.queues[1]);
    nic.send(&[1; 60]);
    assert_eq!(fake.0.borrow().notices[1], 0);
}

#[test]
fn the_link_is_that_of_the_device_if_it_says() {
    let (nic, fake) = started(Chip::new(PRESENT));
    assert!(nic.link_is_up());
    fake.0.borrow_mut().link_is_up = false;
    assert!(!nic.link_is_up());
    let mut mute = Chip::new(PRESENT);
    mute.offered &= !FEATURE_STATUS;
    mute.link_is_up = false;
    assert!(started(mute).0.link_is_up());
}

#[test]
fn what_is_no_network_device_that_can_be_used_is_told() {
    type Change = fn(&mut Chip);
    let cases: [(Change, StartError); 8] = [
        (|chip| chip.magic = 0, StartError::Missing(0)),
        (|chip| chip.version = 3, StartError::Version(3)),
        (|chip| chip.kind = 0, StartError::Kind(0)),
        (|chip| chip.kind = 2, StartError::Kind(2)),
        (|chip| chip.offered = FEATURE_MAC, StartError::Features(FEATURE_MAC)),
        (|chip| chip.offered = 1 << 32, StartError::Features(0)),
        (
            |chip| (chip.offered, chip.refuses) = (FEATURE_MAC | 1 << 32, true),
            StartError::Features(FEATURE_MAC | 1 << 32),
        ),
        (|chip| chip.length_max = 2, StartError::Queue(0)),
    ];
    for (change, error) in cases {
        let mut chip = Chip::new(PRESENT);
        change(&mut chip);
        let memory = chip.memory;
        assert_eq!(VirtioNet::start(Fake::new(chip), memory).err(), Some(error));
    }
}
