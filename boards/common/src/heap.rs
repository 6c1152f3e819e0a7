//! The heap of functions. Nothing else allocates; what does not fit is refused by the engine, and costs its own workload only.
//! May be unsafe, for the allocator's start.
#![allow(unsafe_code)]

use embedded_alloc::LlffHeap;

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: LlffHeap = LlffHeap::empty();

/// Parts of the heap that cannot be given out as a whole: heads of blocks, gaps between them.
const OVERHEAD_SHARE: usize = 8;

/// Gives the heap its memory. Answers how much of it functions may count on.
pub fn start(memory: &'static mut [u8]) -> u32 {
    let usable = memory.len() - memory.len() / OVERHEAD_SHARE;
    // SAFETY: the memory is given away for good, and this runs once, because whoever owned it has it no more.
    unsafe { HEAP.init(memory.as_mut_ptr().expose_provenance(), memory.len()) };
    u32::try_from(usable).unwrap_or(u32::MAX)
}
