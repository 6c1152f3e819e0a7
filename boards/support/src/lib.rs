//! What follows from a board's table: the memory map of its build, QEMU's command line, and the check of sizes. It runs on the developer's machine, never on a board.
#![forbid(unsafe_code)]

pub mod build;
pub mod elf;
pub mod qemu;
pub mod size;

pub use board::{Mistake, Table};

/// All boards, by name.
pub fn all() -> Result<Vec<Table>, Mistake> {
    board::known()
}

/// The board of that name.
pub fn named(name: &str) -> Result<Table, Mistake> {
    let mut all = all()?;
    match all.iter().position(|board| board.name == name) {
        Some(index) => Ok(all.swap_remove(index)),
        None => {
            let names: Vec<_> = all.iter().map(|board| board.name.as_str()).collect();
            Err(Mistake(format!("there is no board {name}; there are: {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_unknown_board_is_told_with_those_that_are_there() {
        assert!(super::named("toaster").expect_err("no such board").to_string().contains("qemu-mps2-an386"));
        assert!(super::named("qemu-mps2-an386").is_ok());
    }

    #[test]
    fn a_board_is_named_like_its_folder() {
        let boards = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for board in super::all().expect("right tables") {
            assert!(boards.join(&board.name).join("board.toml").is_file(), "{}", board.name);
        }
    }
}
