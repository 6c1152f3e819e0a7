//! A split virtqueue (OASIS virtio 1.2, section 2.7) of buffers of one part each: memory that driver and device share. All of it is atomic
//! numbers, so that no look at it is undefined, whatever the device does; what the device says is checked.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};

/// Buffers at the same time; a power of two.
pub const QUEUE_LENGTH: usize = 4;
/// Legacy devices are told a page and find the used ring at the next multiple of this.
pub const LEGACY_ALIGN: usize = 256;

/// The device writes to the buffer.
const DESCRIPTOR_WRITE: u16 = 2;
/// In the available ring: no interrupt for a buffer that was used.
const NO_INTERRUPT: u16 = 1;
/// In the used ring: no notice of a buffer that is available.
const NO_NOTICE: u16 = 1;

#[repr(C, align(16))]
struct Descriptor {
    /// Low and high half.
    address: [AtomicU32; 2],
    length: AtomicU32,
    flags: AtomicU16,
    next: AtomicU16,
}

impl Descriptor {
    const fn new() -> Self {
        Self {
            address: [const { AtomicU32::new(0) }; 2],
            length: AtomicU32::new(0),
            flags: AtomicU16::new(0),
            next: AtomicU16::new(0),
        }
    }
}

#[repr(C)]
struct Available {
    flags: AtomicU16,
    index: AtomicU16,
    ring: [AtomicU16; QUEUE_LENGTH],
}

#[repr(C)]
struct Element {
    descriptor: AtomicU32,
    length: AtomicU32,
}

#[repr(C, align(256))]
struct Used {
    flags: AtomicU16,
    index: AtomicU16,
    ring: [Element; QUEUE_LENGTH],
}

/// The memory of one queue.
#[repr(C, align(256))]
pub struct Queue {
    descriptors: [Descriptor; QUEUE_LENGTH],
    available: Available,
    used: Used,
}

const _: () = assert!(offset_of!(Queue, available) == 16 * QUEUE_LENGTH);
const _: () = assert!(offset_of!(Queue, used) == LEGACY_ALIGN && align_of::<Queue>() == LEGACY_ALIGN);

/// A buffer that the device is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub buffer: usize,
    /// Bytes that the device wrote.
    pub length: usize,
}

impl Queue {
    pub const fn new() -> Self {
        Self {
            descriptors: [const { Descriptor::new() }; QUEUE_LENGTH],
            available: Available {
                flags: AtomicU16::new(0),
                index: AtomicU16::new(0),
                ring: [const { AtomicU16::new(0) }; QUEUE_LENGTH],
            },
            used: Used {
                flags: AtomicU16::new(0),
                index: AtomicU16::new(0),
                ring: [const { Element { descriptor: AtomicU32::new(0), length: AtomicU32::new(0) } }; QUEUE_LENGTH],
            },
        }
    }

    /// As new, for a device that was reset.
    pub fn clear(&self) {
        for index in [&self.available.index, &self.available.flags, &self.used.index, &self.used.flags] {
            index.store(0, Ordering::Relaxed);
        }
    }

    /// Of descriptors, available ring and used ring, as the device sees them.
    pub fn addresses(&self) -> [u64; 3] {
        let address = |pointer: *const u8| pointer.expose_provenance() as u64;
        [
            address((&raw const self.descriptors).cast()),
            address((&raw const self.available).cast()),
            address((&raw const self.used).cast()),
        ]
    }

    /// Says once where the buffer of a number is, and who writes to it.
    pub fn describe(&self, buffer: usize, address: u64, length: u32, is_written_by_device: bool) {
        let descriptor = &self.descriptors[buffer % QUEUE_LENGTH];
        descriptor.address[0].store(address as u32, Ordering::Relaxed);
        descriptor.address[1].store((address >> 32) as u32, Ordering::Relaxed);
        descriptor.length.store(length, Ordering::Relaxed);
        descriptor.flags.store(if is_written_by_device { DESCRIPTOR_WRITE } else { 0 }, Ordering::Relaxed);
    }

    /// The length of what a buffer holds for the device to read.
    pub fn set_length(&self, buffer: usize, length: u32) {
        self.descriptors[buffer % QUEUE_LENGTH].length.store(length, Ordering::Relaxed);
    }

    /// Gives a buffer to the device, which has no more than all of them.
    pub fn give(&self, buffer: usize) {
        let index = self.available.index.load(Ordering::Relaxed);
        self.available.ring[usize::from(index) % QUEUE_LENGTH].store(buffer as u16, Ordering::Relaxed);
        // What is in the buffer comes before the word that it is there.
        self.available.index.store(index.wrapping_add(1), Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// The next buffer that the device is done with. `seen` counts those that were taken.
    pub fn take(&self, seen: &mut u16) -> Option<Done> {
        if self.used.index.load(Ordering::Acquire) == *seen {
            return None;
        }
        let element = &self.used.ring[usize::from(*seen) % QUEUE_LENGTH];
        *seen = seen.wrapping_add(1);
        let buffer = element.descriptor.load(Ordering::Relaxed) as usize;
        Some(Done { buffer, length: element.length.load(Ordering::Relaxed) as usize })
    }

    /// Whether the device shall interrupt for the next buffer that it is done with.
    pub fn set_interrupts(&self, are_wanted: bool) {
        self.available.flags.store(if are_wanted { 0 } else { NO_INTERRUPT }, Ordering::Relaxed);
        // The device hears of it before the next look at what it has done.
        fence(Ordering::SeqCst);
    }

    pub fn wants_notice(&self) -> bool {
        self.used.flags.load(Ordering::Relaxed) & NO_NOTICE == 0
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

/// The other side of a queue, for tests.
#[cfg(test)]
pub mod fake {
    use super::*;

    /// The next buffer that the driver has given: number, address, length, whether the device may write.
    pub fn take_available(queue: &Queue, seen: &mut u16) -> Option<(usize, u64, u32, bool)> {
        if queue.available.index.load(Ordering::Acquire) == *seen {
            return None;
        }
        let number = usize::from(queue.available.ring[usize::from(*seen) % QUEUE_LENGTH].load(Ordering::Relaxed));
        *seen = seen.wrapping_add(1);
        let descriptor = &queue.descriptors[number];
        let half = |index: usize| u64::from(descriptor.address[index].load(Ordering::Relaxed));
        let flags = descriptor.flags.load(Ordering::Relaxed);
        assert_eq!(flags & !DESCRIPTOR_WRITE, 0, "buffers have one part");
        Some((number, half(0) | half(1) << 32, descriptor.length.load(Ordering::Relaxed), flags != 0))
    }

    pub fn put_used(queue: &Queue, buffer: u32, length: u32) {
        let index = queue.used.index.load(Ordering::Relaxed);
        let element = &queue.used.ring[usize::from(index) % QUEUE_LENGTH];
        element.descriptor.store(buffer, Ordering::Relaxed);
        element.length.store(length, Ordering::Relaxed);
        queue.used.index.store(index.wrapping_add(1), Ordering::Release);
    }

    pub fn wants_interrupt(queue: &Queue) -> bool {
        queue.available.flags.load(Ordering::Relaxed) & NO_INTERRUPT == 0
    }

    pub fn refuse_notices(queue: &Queue) {
        queue.used.flags.store(NO_NOTICE, Ordering::Relaxed);
    }
}
