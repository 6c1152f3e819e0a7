//! ARM's semihosting (specification 2.0): a firmware asks the debugger or emulator that it runs under to do something with files
//! of that machine. Without one, the first request ends in a fault. One of the files that may be unsafe.

/// What is asked. Each is answered at once.
#[derive(Debug)]
pub enum Request<'a> {
    /// The command line, with a zero behind it. Answered with 0 if it fits.
    CommandLine(&'a mut [u8]),
    /// Opens the file of this name, which ends with a zero, for reads and writes. Answered with its handle, or -1.
    Open(&'a [u8]),
    /// Moves to a byte of the file. Answered with 0.
    Seek { handle: i32, to: u32 },
    /// Answered with how many bytes were not read.
    Read { handle: i32, into: &'a mut [u8] },
    /// Answered with how many bytes were not written.
    Write { handle: i32, from: &'a [u8] },
    /// Answered with the length of the file, or -1.
    Length { handle: i32 },
}

/// Whoever answers.
pub trait Host {
    fn ask(&mut self, request: Request<'_>) -> i32;
}

/// The one that this firmware runs under.
#[cfg(all(feature = "cortex-m", target_arch = "arm"))]
pub struct Debugger;

#[cfg(all(feature = "cortex-m", target_arch = "arm"))]
impl Host for Debugger {
    fn ask(&mut self, request: Request<'_>) -> i32 {
        /// "rb+".
        const READ_AND_WRITE: usize = 3;
        let address = |bytes: &[u8]| bytes.as_ptr().expose_provenance();
        let (operation, words) = match request {
            Request::Open(path) => (0x01, [address(path), READ_AND_WRITE, path.len().saturating_sub(1)]),
            Request::Write { handle, from } => (0x05, [handle as usize, address(from), from.len()]),
            Request::Read { handle, into } => {
                (0x06, [handle as usize, into.as_mut_ptr().expose_provenance(), into.len()])
            }
            Request::Seek { handle, to } => (0x0a, [handle as usize, to as usize, 0]),
            Request::Length { handle } => (0x0c, [handle as usize, 0, 0]),
            Request::CommandLine(into) => (0x15, [into.as_mut_ptr().expose_provenance(), into.len(), 0]),
        };
        let mut answer = operation;
        // SAFETY: the block of words and what it points to live until the answer is there; the host touches nothing else.
        unsafe {
            core::arch::asm!("bkpt #0xab", inout("r0") answer, in("r1") words.as_ptr(), options(nostack));
        }
        answer
    }
}
