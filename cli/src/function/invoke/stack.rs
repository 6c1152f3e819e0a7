//! How deep the stack of a function was: its bytes are marked before it runs, and what is marked still was never used.
//!
//! Only where the stack lies first, as `fulmar fn build` links it: then the stack pointer begins where the stack ends. Whatever
//! looks different is not measured, so that nothing but stack is ever marked.

use agent_nostd::function::Instance;

const MARK: u8 = 0xa5;
const GLOBALS: u8 = 6;
const HEADER_BYTES: usize = 8;
const I32: u8 = 0x7f;
const MUTABLE: u8 = 1;
const I32_CONST: u8 = 0x41;

/// Bytes of a stack that lies first in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack(usize);

/// A number in LEB128 of at most 32 bits that is not negative, and what follows.
fn number(bytes: &[u8], is_signed: bool) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let is_negative = is_signed && byte & 0x40 != 0;
            return if is_negative { None } else { Some((usize::try_from(value).ok()?, bytes.get(at + 1..)?)) };
        }
    }
    None
}

/// What the first global begins with, if that is a number that changes: linkers put the stack pointer there.
fn stack_pointer(module: &[u8]) -> Option<usize> {
    let mut rest = module.get(HEADER_BYTES..)?;
    loop {
        let (id, after) = rest.split_first()?;
        let (len, after) = number(after, false)?;
        let (body, after) = after.split_at_checked(len)?;
        if *id == GLOBALS {
            let (_count, first) = number(body, false)?;
            let first = first.strip_prefix(&[I32, MUTABLE, I32_CONST])?;
            return number(first, true).map(|(value, _)| value);
        }
        rest = after;
    }
}

impl Stack {
    /// The stack of a module, when it has so many bytes and lies first.
    pub fn of(module: &[u8], stated_bytes: u32) -> Option<Self> {
        let stated = usize::try_from(stated_bytes).ok()?;
        (stack_pointer(module) == Some(stated)).then_some(Self(stated))
    }

    /// To be called before anything runs. False: there is something else where the stack should be.
    pub fn mark(self, instance: &mut Instance) -> bool {
        match instance.memory_mut().get_mut(..self.0) {
            Some(stack) if stack.iter().all(|byte| *byte == 0) => {
                stack.fill(MARK);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Bytes that were used, at the deepest since they were marked.
    pub fn deepest(self, instance: &Instance) -> u32 {
        let stack = instance.memory().get(..self.0).unwrap_or_default();
        let untouched = stack.iter().take_while(|byte| **byte == MARK).count();
        u32::try_from(stack.len() - untouched).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::function::args::Class;
    use agent_nostd::function::{Capabilities, Module};

    const COUNTER: &[u8] = include_bytes!("../../../../functions/counter/counter.wasm");

    #[test]
    fn the_stack_of_a_sample_is_found_and_measured() {
        assert_eq!(Stack::of(COUNTER, 2048), None);
        let stack = Stack::of(COUNTER, 1024).unwrap();
        let module = Module::load(COUNTER, &Class::Mcu.limits(), Capabilities::DEFAULT).unwrap();
        let mut instance = Instance::load(&module).unwrap();
        assert!(stack.mark(&mut instance));
        assert_eq!(stack.deepest(&instance), 0);
        assert!(!stack.mark(&mut instance), "it is not empty any more");
        let last = instance.memory_mut().get_mut(1000).unwrap();
        *last = 0;
        assert_eq!(stack.deepest(&instance), 24);
    }

    #[test]
    fn no_module_is_too_strange() {
        for end in 0..COUNTER.len() {
            let _total = Stack::of(COUNTER.get(..end).unwrap(), 1024);
        }
        assert_eq!(Stack::of(b"\0asm\x01\0\0\0\x06\xff\xff\xff\xff\xff\x01", 1024), None);
        assert_eq!(Stack::of(b"\0asm\x01\0\0\0\x06\x05\x01\x7f\x01\x41\x40", 64), None, "negative");
    }
}
