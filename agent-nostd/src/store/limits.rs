//! Every limit of the store, by name.

/// Values that the journal holds at once: those of the machine, of this folder, and of a shell.
pub const KEYS_MAX: usize = 25;
/// Instances of functions that have a memory of their own: the keys that the machine and this folder leave.
pub const STATES_MAX: usize = KEYS_MAX - 10;
/// Bytes that are moved at once between flash and memory; the largest programming unit must fit.
pub const BUFFER_BYTES: usize = 256;
/// Largest programming unit of a flash.
pub const WRITE_SIZE_MAX: usize = 32;
/// Artifacts at once, the one that is being received included.
pub const ARTIFACTS_MAX: usize = 16;
/// Sectors of the artifacts' partition that are used.
pub const SECTORS_MAX: usize = 4096;
/// Sectors that could not be erased and are passed over.
pub const BAD_SECTORS_MAX: usize = 8;
/// Erases are counted for so many parts of the artifacts' partition.
pub const ZONES_MAX: usize = 64;

const _: () = assert!(BUFFER_BYTES.is_multiple_of(WRITE_SIZE_MAX));
