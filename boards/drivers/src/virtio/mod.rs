//! Virtio devices behind memory-mapped registers (OASIS virtio 1.2, section 4.2), of the legacy kind and of the present one: how a device is
//! found, told what its driver knows, and given queues. It knows no kind of device.

pub mod net;
pub mod queue;

use crate::registers::Registers;
use queue::{LEGACY_ALIGN, QUEUE_LENGTH, Queue};

const MAGIC: usize = 0x000;
const VERSION: usize = 0x004;
const DEVICE_ID: usize = 0x008;
const DEVICE_FEATURES: usize = 0x010;
const DEVICE_FEATURES_SELECT: usize = 0x014;
const DRIVER_FEATURES: usize = 0x020;
const DRIVER_FEATURES_SELECT: usize = 0x024;
const GUEST_PAGE_BYTES: usize = 0x028;
const QUEUE_SELECT: usize = 0x030;
const QUEUE_LENGTH_MAX: usize = 0x034;
const QUEUE_LENGTH_NOW: usize = 0x038;
const QUEUE_ALIGN: usize = 0x03c;
const QUEUE_PAGE: usize = 0x040;
const QUEUE_READY: usize = 0x044;
const QUEUE_NOTIFY: usize = 0x050;
const INTERRUPT_STATUS: usize = 0x060;
const INTERRUPT_ACKNOWLEDGE: usize = 0x064;
const STATUS: usize = 0x070;
const QUEUE_DESCRIPTORS: usize = 0x080;
const QUEUE_AVAILABLE: usize = 0x090;
const QUEUE_USED: usize = 0x0a0;
/// What follows depends on the kind of device.
pub const CONFIG: usize = 0x100;

const MAGIC_VALUE: u32 = 0x7472_6976;
const VERSION_LEGACY: u32 = 1;
const VERSION_PRESENT: u32 = 2;

const STATUS_ACKNOWLEDGE: u32 = 1;
const STATUS_DRIVER: u32 = 2;
const STATUS_DRIVER_OK: u32 = 4;
const STATUS_FEATURES_OK: u32 = 8;

/// A buffer may be cut as the driver likes. All present devices do.
const FEATURE_ANY_LAYOUT: u64 = 1 << 27;
/// The device is of the present kind.
const FEATURE_VERSION_1: u64 = 1 << 32;

/// Why a device could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// No virtio at the address: this was read in the place of its mark.
    Missing(u32),
    /// The registers are of a version that this does not know.
    Version(u32),
    /// A device of another kind; 0: the slot is empty.
    Kind(u32),
    /// It offers these features, and not those that are needed.
    Features(u64),
    /// The queue of this number is too short, or there is none.
    Queue(u32),
}

/// A device that was told what its driver knows.
pub struct Device<R> {
    registers: R,
    is_legacy: bool,
    features: u64,
}

impl<R: Registers> Device<R> {
    /// Resets a device of kind `id` and agrees on those of the `wanted` features that it has.
    pub fn start(registers: R, id: u32, wanted: u64) -> Result<Self, StartError> {
        let magic = registers.read(MAGIC);
        if magic != MAGIC_VALUE {
            return Err(StartError::Missing(magic));
        }
        let is_legacy = match registers.read(VERSION) {
            VERSION_LEGACY => true,
            VERSION_PRESENT => false,
            other => return Err(StartError::Version(other)),
        };
        let found = registers.read(DEVICE_ID);
        if found != id {
            return Err(StartError::Kind(found));
        }
        registers.write(STATUS, 0);
        registers.write(STATUS, STATUS_ACKNOWLEDGE);
        registers.write(STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
        let offered = (0..2).fold(0, |offered, half| {
            registers.write(DEVICE_FEATURES_SELECT, half);
            offered | u64::from(registers.read(DEVICE_FEATURES)) << (32 * half)
        });
        let needed = if is_legacy { FEATURE_ANY_LAYOUT } else { FEATURE_VERSION_1 };
        let features = offered & (wanted | needed);
        if features & needed == 0 {
            return Err(StartError::Features(offered));
        }
        // Legacy devices have the lower half alone.
        for half in 0..if is_legacy { 1 } else { 2 } {
            registers.write(DRIVER_FEATURES_SELECT, half);
            registers.write(DRIVER_FEATURES, (features >> (32 * half)) as u32);
        }
        if is_legacy {
            registers.write(GUEST_PAGE_BYTES, LEGACY_ALIGN as u32);
        } else {
            registers.modify(STATUS, |status| status | STATUS_FEATURES_OK);
            if registers.read(STATUS) & STATUS_FEATURES_OK == 0 {
                return Err(StartError::Features(offered));
            }
        }
        Ok(Self { registers, is_legacy, features })
    }

    /// Gives the device memory for one of its queues.
    pub fn give(&self, number: u32, queue: &'static Queue) -> Result<(), StartError> {
        let registers = &self.registers;
        registers.write(QUEUE_SELECT, number);
        if registers.read(QUEUE_LENGTH_MAX) < QUEUE_LENGTH as u32 {
            return Err(StartError::Queue(number));
        }
        queue.clear();
        registers.write(QUEUE_LENGTH_NOW, QUEUE_LENGTH as u32);
        let [descriptors, available, used] = queue.addresses();
        if self.is_legacy {
            registers.write(QUEUE_ALIGN, LEGACY_ALIGN as u32);
            registers.write(QUEUE_PAGE, (descriptors / LEGACY_ALIGN as u64) as u32);
        } else {
            for (register, address) in
                [(QUEUE_DESCRIPTORS, descriptors), (QUEUE_AVAILABLE, available), (QUEUE_USED, used)]
            {
                registers.write(register, address as u32);
                registers.write(register + 4, (address >> 32) as u32);
            }
            registers.write(QUEUE_READY, 1);
        }
        Ok(())
    }

    /// All queues are given: let it work.
    pub fn go(&self) {
        self.registers.modify(STATUS, |status| status | STATUS_DRIVER_OK);
    }

    pub const fn is_legacy(&self) -> bool {
        self.is_legacy
    }

    pub const fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// A word of what this kind of device has for itself.
    pub fn config(&self, offset: usize) -> u32 {
        self.registers.read(CONFIG + offset)
    }

    /// Says that a queue has something new, unless the device looks by itself.
    pub fn notify(&self, number: u32, queue: &Queue) {
        if queue.wants_notice() {
            self.registers.write(QUEUE_NOTIFY, number);
        }
    }
}

/// Takes the interrupt back. For the interrupt handler, which has no device, only its registers.
pub fn acknowledge(registers: &impl Registers) {
    registers.write(INTERRUPT_ACKNOWLEDGE, registers.read(INTERRUPT_STATUS));
}
