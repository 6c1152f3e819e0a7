//! What an image takes, against the budgets of its board. Flash and memory are read from the image; the deepest stack is what
//! a board that runs has said.

use crate::elf::Elf;
use crate::{Mistake, Table};

/// The static that is the function engine's heap.
const HEAP_SYMBOL: &str = "HEAP_MEMORY";

/// Bytes that an image takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub image: u64,
    pub static_ram: u64,
    pub heap: u64,
}

/// Reads the sizes of an image.
pub fn sizes(elf: &Elf) -> Sizes {
    let heap = elf.symbol(|name| name.contains(HEAP_SYMBOL)).map_or(0, |(_, bytes)| u64::from(bytes));
    let mut sizes = Sizes { image: 0, static_ram: 0, heap };
    for section in elf.sections() {
        // Variables that start with a value take both: memory, and their value in the image.
        if section.is_loaded {
            sizes.image += u64::from(section.bytes);
        }
        // The stack has a section of its own on some architectures, and a budget of its own.
        if section.is_writable && ![".stack", ".heap"].contains(&section.name.as_str()) {
            sizes.static_ram += u64::from(section.bytes);
        }
    }
    sizes.static_ram = sizes.static_ram.saturating_sub(heap);
    sizes
}

/// Variables of at least so many bytes are told by name.
const NAMED_BYTES_MIN: u32 = 512;

/// The largest variables, the rest of the static memory last: what it is for.
pub fn variables(board: &str, elf: &Elf, sizes: Sizes) -> String {
    let memory: Vec<_> = elf.sections().into_iter().filter(|section| section.is_writable).collect();
    let is_variable = |address: u32| {
        memory.iter().any(|section| address.checked_sub(section.address).is_some_and(|at| at < section.bytes))
    };
    let mut named: Vec<(u32, String)> = elf
        .symbols()
        .filter(|(name, address, bytes)| {
            *bytes >= NAMED_BYTES_MIN && is_variable(*address) && !name.contains(HEAP_SYMBOL)
        })
        .map(|(name, _, bytes)| (bytes, short_name(&name)))
        .collect();
    named.sort_by(|a, b| b.cmp(a));
    let told: u64 = named.iter().map(|(bytes, _)| u64::from(*bytes)).sum();
    let rest = (sizes.static_ram.saturating_sub(told), "others".to_owned());
    let rows = named.into_iter().map(|(bytes, name)| (u64::from(bytes), name)).chain([rest]);
    rows.map(|(bytes, name)| format!("{board:<20}   of it      {bytes:>9} {name}\n")).collect()
}

/// The last two names of a symbol's path: `_RNvNtCs_6common4kept4SEED` is `kept::SEED`. One that is not Rust's stays as it is.
fn short_name(symbol: &str) -> String {
    let paths = (0..symbol.len()).filter_map(|start| path(symbol.get(start..)?));
    match paths.into_iter().next().as_deref() {
        Some([.., last, name]) => format!("{last}::{name}"),
        Some([name]) => (*name).to_owned(),
        Some([]) | None => symbol.to_owned(),
    }
}

/// Names with their lengths before them, up to the end; those without a name are left out.
fn path(mut text: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    while !text.is_empty() {
        let digits = if text.starts_with('0') { 1 } else { text.bytes().take_while(u8::is_ascii_digit).count() };
        let (length, rest) = text.split_at_checked(digits)?;
        let (name, rest) = rest.split_at_checked(length.parse().ok()?)?;
        names.extend((!name.is_empty()).then_some(name));
        text = rest;
    }
    Some(names)
}

/// One row per budget, and whether all are kept.
pub fn report(table: &Table, sizes: Sizes, stack: Option<u64>) -> (String, bool) {
    let budget = &table.budget;
    let rows = [
        ("flash", Some(sizes.image), budget.image_bytes),
        ("static RAM", Some(sizes.static_ram), budget.static_bytes),
        ("heap", Some(sizes.heap), budget.heap_bytes),
        ("worst stack", stack, budget.stack_bytes),
    ];
    let mut text = String::new();
    let mut is_kept = true;
    for (what, bytes, budget) in rows {
        let (bytes, share) = match bytes {
            Some(bytes) => {
                is_kept &= bytes <= budget;
                let verdict = if bytes > budget { "  OVER BUDGET" } else { "" };
                (bytes.to_string(), format!("{:>4} %{verdict}", (bytes * 100).checked_div(budget).unwrap_or(0)))
            }
            None => ("-".into(), "not run".into()),
        };
        text.push_str(&format!("{:<20} {what:<12} {bytes:>9} of {budget:>9} {share}\n", table.name));
    }
    (text, is_kept)
}

/// The deepest stack that a board said in its log: `stack: 1234 of 8192 bytes used`.
pub fn stack_of_line(line: &str) -> Option<u64> {
    line.split_once("stack: ")?.1.split_once(" of ")?.0.parse().ok()
}

/// The image of a board, where cargo put it.
pub fn read_image(path: &std::path::Path) -> Result<Vec<u8>, Mistake> {
    std::fs::read(path)
        .map_err(|error| Mistake(format!("{}: {error}: build it first with scripts/firmware", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::parse(include_str!("../../qemu-mps2-an386/board.toml")).expect("a right table")
    }

    #[test]
    fn one_byte_over_any_budget_is_over() {
        let budget = table().budget;
        let at = Sizes { image: budget.image_bytes, static_ram: budget.static_bytes, heap: budget.heap_bytes };
        assert!(report(&table(), at, Some(budget.stack_bytes)).1);
        for over in [
            Sizes { image: at.image + 1, ..at },
            Sizes { static_ram: at.static_ram + 1, ..at },
            Sizes { heap: at.heap + 1, ..at },
        ] {
            let (text, is_kept) = report(&table(), over, None);
            assert!(!is_kept && text.contains("OVER BUDGET"), "{text}");
        }
        assert!(!report(&table(), at, Some(budget.stack_bytes + 1)).1);
    }

    #[test]
    fn a_variable_is_told_by_the_end_of_its_path() {
        assert_eq!(short_name("_RNvNtCs87B8TXSQ6ZK_6common4kept4SEED"), "kept::SEED");
        assert_eq!(short_name("_RNvNCNvCs87B8TXSQ6ZK_6common8run_with06CONFIG"), "run_with::CONFIG");
        assert_eq!(short_name("_RNvCs8ySGKwNObZD_20fulmar_qemu_lm3s69656FRAMES"), "fulmar_qemu_lm3s6965::FRAMES");
        assert_eq!(short_name("__vector_table"), "__vector_table");
    }

    #[test]
    fn the_stack_is_read_from_the_log() {
        assert_eq!(stack_of_line("[    1.234] stack: 5120 of 8192 bytes used"), Some(5120));
        assert_eq!(stack_of_line("[    1.234] network: up"), None);
    }
}
