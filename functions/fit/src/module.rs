//! The two sections of a module that matter here, taken apart and put together again; all others are copied.
//!
//! Total: a module that is not understood is refused with the reason, never changed by half.

/// First bytes of every module: magic and version.
const HEADER: &[u8] = b"\0asm\x01\0\0\0";
const MEMORY_SECTION: u8 = 5;
const GLOBAL_SECTION: u8 = 6;
const EXPORT_SECTION: u8 = 7;
const GLOBAL_EXPORT: u8 = 3;
/// Bits of a memory's type.
const HAS_MAX: u8 = 1;
const HAS_PAGE_SIZE: u8 = 8;
/// Where the program's stack and data end.
const END_OF_MEMORY: &[u8] = b"__heap_base";
/// Exports that linkers add for allocators.
const LINKER_EXPORTS: [&[u8]; 2] = [END_OF_MEMORY, b"__data_end"];

/// Why a module is refused.
type Why = &'static str;

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Why> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("the module ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Why> {
        self.take(1)?.first().copied().ok_or("the module ends early")
    }

    /// An unsigned number in LEB128.
    fn number(&mut self) -> Result<u32, Why> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| "a number has more than 32 bits");
            }
        }
        Err("a number has more than 32 bits")
    }

    /// A signed number in LEB128, of 32 bits.
    fn signed(&mut self) -> Result<i32, Why> {
        let mut value = 0_i64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let unused = 64 - shift - 7;
                return i32::try_from(value << unused >> unused).map_err(|_| "a number has more than 32 bits");
            }
        }
        Err("a number has more than 32 bits")
    }

    fn block(&mut self) -> Result<&'a [u8], Why> {
        let len = self.number()?;
        self.take(usize::try_from(len).map_err(|_| "a length is too large")?)
    }
}

fn put_number(out: &mut Vec<u8>, mut value: u32) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn put_block(out: &mut Vec<u8>, block: &[u8]) -> Result<(), Why> {
    put_number(out, u32::try_from(block.len()).map_err(|_| "a section is too large")?);
    out.extend_from_slice(block);
    Ok(())
}

/// One entry of the export section.
struct Export<'a> {
    name: &'a [u8],
    kind: u8,
    index: u32,
}

fn exports(section: &[u8]) -> Result<Vec<Export<'_>>, Why> {
    let mut reader = Reader(section);
    let count = reader.number()?;
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(Export { name: reader.block()?, kind: reader.byte()?, index: reader.number()? });
    }
    Ok(found)
}

/// The value of a global that is a constant of 32 bits. Globals before it must be numbers with constant values too.
fn global(section: &[u8], index: u32) -> Result<i32, Why> {
    const I32: u8 = 0x7f;
    const I32_CONST: u8 = 0x41;
    const END: u8 = 0x0b;
    let mut reader = Reader(section);
    let count = reader.number()?;
    for at in 0..count {
        let (kind, _mutable, opcode) = (reader.byte()?, reader.byte()?, reader.byte()?);
        if kind != I32 || opcode != I32_CONST {
            return Err("a global before __heap_base is not a constant of 32 bits");
        }
        let value = reader.signed()?;
        if reader.byte()? != END {
            return Err("a global before __heap_base is not a constant of 32 bits");
        }
        if at == index {
            return Ok(value);
        }
    }
    Err("__heap_base names a global that does not exist")
}

/// The memory section with this many bytes of memory, or none when its pages are not of 64 KiB.
fn memory(section: &[u8], bytes: u32) -> Result<Option<Vec<u8>>, Why> {
    let mut reader = Reader(section);
    if reader.number()? != 1 {
        return Err("there must be one memory");
    }
    let flags = reader.byte()?;
    if flags & HAS_PAGE_SIZE != 0 {
        return Ok(None);
    }
    if flags & !HAS_MAX != 0 {
        return Err("the memory is shared or of 64 bits");
    }
    let mut out = vec![1, HAS_PAGE_SIZE];
    put_number(&mut out, bytes);
    // The logarithm of the page size.
    out.push(0);
    Ok(Some(out))
}

/// The module with exactly the memory that it needs. One that has pages of its own stays as it is.
pub fn fit(bytes: &[u8]) -> Result<Vec<u8>, Why> {
    let body = bytes.strip_prefix(HEADER).ok_or("not a WebAssembly core module")?;
    let mut reader = Reader(body);
    let mut sections = Vec::new();
    while !reader.0.is_empty() {
        sections.push((reader.byte()?, reader.block()?));
    }
    let section = |id: u8| sections.iter().find(|(own, _)| *own == id).map_or(&[0][..], |(_, body)| *body);
    let exported = exports(section(EXPORT_SECTION))?;
    let end = exported.iter().find(|export| export.name == END_OF_MEMORY && export.kind == GLOBAL_EXPORT);
    let end = end.ok_or("the global __heap_base is not exported: link with --export=__heap_base")?;
    let end = u32::try_from(global(section(GLOBAL_SECTION), end.index)?).map_err(|_| "__heap_base is negative")?;

    let mut out = HEADER.to_vec();
    for (id, body) in sections {
        out.push(id);
        match id {
            MEMORY_SECTION => match memory(body, end)? {
                Some(fitted) => put_block(&mut out, &fitted)?,
                None => return Ok(bytes.to_vec()),
            },
            EXPORT_SECTION => {
                let kept: Vec<_> = exported.iter().filter(|export| !LINKER_EXPORTS.contains(&export.name)).collect();
                let mut fitted = Vec::new();
                put_number(&mut fitted, u32::try_from(kept.len()).map_err(|_| "too many exports")?);
                for export in kept {
                    put_block(&mut fitted, export.name)?;
                    fitted.push(export.kind);
                    put_number(&mut fitted, export.index);
                }
                put_block(&mut out, &fitted)?;
            }
            _ => put_block(&mut out, body)?,
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory of 2 pages, a stack pointer of 1024, `__heap_base` of 1300, exports `memory` and `__heap_base`.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0\
        \x05\x03\x01\x00\x02\
        \x06\x0f\x02\x7f\x01\x41\x80\x08\x0b\x7f\x00\x41\x94\x8a\x80\x00\x0b\
        \x07\x18\x02\x06memory\x02\x00\x0b__heap_base\x03\x01\
        \x00\x0c\x0afulmar.abi\x01";

    #[test]
    fn memory_ends_where_the_program_ends() {
        let expected = b"\0asm\x01\0\0\0\
            \x05\x05\x01\x08\x94\x0a\x00\
            \x06\x0f\x02\x7f\x01\x41\x80\x08\x0b\x7f\x00\x41\x94\x8a\x80\x00\x0b\
            \x07\x0a\x01\x06memory\x02\x00\
            \x00\x0c\x0afulmar.abi\x01";
        assert_eq!(fit(MODULE).as_deref(), Ok(&expected[..]));
    }

    #[test]
    fn a_module_with_own_pages_stays_as_it_is() {
        let own = MODULE.to_vec();
        let at = own.windows(5).position(|bytes| bytes == b"\x05\x03\x01\x00\x02");
        let mut own = own;
        own.splice(8..13, *b"\x05\x05\x01\x08\x94\x0a\x00");
        assert_eq!((at, fit(&own)), (Some(8), Ok(own)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(fit(b"").is_err() && fit(b"\0asm\x0d\0\x01\0").is_err());
        assert!(fit(HEADER).is_err_and(|why| why.contains("--export=__heap_base")));
        for len in HEADER.len()..MODULE.len() - 14 {
            assert!(fit(MODULE.get(..len).unwrap_or_default()).is_err(), "{len}");
        }
        for at in HEADER.len()..MODULE.len() {
            for flip in 1..=255 {
                let mut bad = MODULE.to_vec();
                if let Some(byte) = bad.get_mut(at) {
                    *byte ^= flip;
                }
                let _total = fit(&bad);
            }
        }
    }
}
