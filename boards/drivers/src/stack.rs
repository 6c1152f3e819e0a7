//! How much of the stack was ever used: it is painted before anything runs, and paint that is gone was stack.

/// What cortex-m-rt paints with; other boards paint the same.
pub const PAINT: u32 = 0xcccc_cccc;

/// Bytes that were used at most, of a stack that grows down, given as words from its end.
pub fn used_bytes(words: impl ExactSizeIterator<Item = u32>) -> usize {
    let all = words.len();
    let untouched = words.take_while(|word| *word == PAINT).count();
    (all - untouched) * 4
}

/// Used at most, and there: the stack between the linker's symbols `_stack_end` and `_stack_start`.
#[cfg(target_os = "none")]
pub fn measure() -> (usize, usize) {
    unsafe extern "C" {
        static _stack_end: u32;
        static _stack_start: u32;
    }
    let (from, to) = (&raw const _stack_end as usize, &raw const _stack_start as usize);
    // SAFETY: the words between both symbols are the stack, which is there and aligned; reads are volatile, because the
    // compiler knows nothing of what is below the stack pointer.
    let words =
        (from..to).step_by(4).map(|at| unsafe { core::ptr::with_exposed_provenance::<u32>(at).read_volatile() });
    (used_bytes(words), to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_word_without_paint_counts() {
        let mut stack = [PAINT; 64];
        assert_eq!(used_bytes(stack.into_iter()), 0);
        stack[63] = 1;
        stack[40] = 2;
        assert_eq!(used_bytes(stack.into_iter()), 24 * 4);
        stack[0] = 3;
        assert_eq!(used_bytes(stack.into_iter()), 256);
    }
}
