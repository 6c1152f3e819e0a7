//! Access to a block of 32-bit registers: the real one by address, and in tests a fake one. It knows no device.

/// A block of 32-bit registers, addressed by byte offset.
pub trait Registers {
    fn read(&self, offset: usize) -> u32;
    fn write(&self, offset: usize, value: u32);

    /// Reads a register, changes it, writes it back.
    fn modify(&self, offset: usize, change: impl FnOnce(u32) -> u32) {
        self.write(offset, change(self.read(offset)));
    }
}

/// Registers at an address of the memory map.
#[derive(Clone, Copy)]
pub struct Mmio {
    base: usize,
}

impl Mmio {
    /// # Safety
    /// `base` is the address of a device's register block, and reading or writing any register that its driver names has no
    /// effect on memory that Rust knows of.
    pub const unsafe fn new(base: usize) -> Self {
        Self { base }
    }
}

impl Registers for Mmio {
    fn read(&self, offset: usize) -> u32 {
        // SAFETY: `new` requires a register block here; drivers name aligned offsets within it.
        unsafe { core::ptr::with_exposed_provenance::<u32>(self.base + offset).read_volatile() }
    }

    fn write(&self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(self.base + offset).write_volatile(value) }
    }
}

/// A register block that a test plays: it sees every access in order.
#[cfg(test)]
pub mod fake {
    use super::Registers;
    use core::cell::RefCell;
    use std::rc::Rc;

    /// What a device does on an access.
    pub trait Device {
        fn read(&mut self, offset: usize) -> u32;
        fn write(&mut self, offset: usize, value: u32);
    }

    /// Shared, so that a test can look at the device while a driver owns the registers.
    pub struct Fake<D>(pub Rc<RefCell<D>>);

    impl<D> Fake<D> {
        pub fn new(device: D) -> Self {
            Self(Rc::new(RefCell::new(device)))
        }
    }

    impl<D> Clone for Fake<D> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<D: Device> Registers for Fake<D> {
        fn read(&self, offset: usize) -> u32 {
            self.0.borrow_mut().read(offset)
        }
        fn write(&self, offset: usize, value: u32) {
            self.0.borrow_mut().write(offset, value);
        }
    }
}
