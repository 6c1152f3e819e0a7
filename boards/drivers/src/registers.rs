//! Access to a block of registers: the real one by address, and in tests a fake one. It knows no device.

/// A block of registers that are as wide as `W`, addressed by byte offset.
pub trait Registers<W = u32> {
    fn read(&self, offset: usize) -> W;
    fn write(&self, offset: usize, value: W);

    /// Reads a register, changes it, writes it back.
    fn modify(&self, offset: usize, change: impl FnOnce(W) -> W) {
        self.write(offset, change(self.read(offset)));
    }
}

/// What a bus moves at once.
pub trait Width: Copy {}

impl Width for u8 {}
impl Width for u16 {}
impl Width for u32 {}

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

impl<W: Width> Registers<W> for Mmio {
    fn read(&self, offset: usize) -> W {
        // SAFETY: `new` requires a register block here; drivers name aligned offsets within it, of which any value is a number.
        unsafe { core::ptr::with_exposed_provenance::<W>(self.base + offset).read_volatile() }
    }

    fn write(&self, offset: usize, value: W) {
        // SAFETY: as above.
        unsafe { core::ptr::with_exposed_provenance_mut::<W>(self.base + offset).write_volatile(value) }
    }
}

/// A register block that a test plays: it sees every access in order.
#[cfg(test)]
pub mod fake {
    use super::Registers;
    use core::cell::RefCell;
    use std::rc::Rc;

    /// What a device does on an access.
    pub trait Device<W = u32> {
        fn read(&mut self, offset: usize) -> W;
        fn write(&mut self, offset: usize, value: W);
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

    impl<W, D: Device<W>> Registers<W> for Fake<D> {
        fn read(&self, offset: usize) -> W {
            self.0.borrow_mut().read(offset)
        }
        fn write(&self, offset: usize, value: W) {
            self.0.borrow_mut().write(offset, value);
        }
    }
}
