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
    fn the_stack_is_read_from_the_log() {
        assert_eq!(stack_of_line("[    1.234] stack: 5120 of 8192 bytes used"), Some(5120));
        assert_eq!(stack_of_line("[    1.234] network: up"), None);
    }
}
