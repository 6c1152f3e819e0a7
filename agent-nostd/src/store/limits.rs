//! Every limit of the store, by name.

/// Values that the journal holds at once: those of the machine, of this folder, and of a shell.
pub const KEYS_MAX: usize = 16;
/// Bytes that are moved at once between flash and memory; the largest programming unit must fit.
pub const BUFFER_BYTES: usize = 256;
/// Largest programming unit of a flash.
pub const WRITE_SIZE_MAX: usize = 32;
const _: () = assert!(BUFFER_BYTES.is_multiple_of(WRITE_SIZE_MAX));
