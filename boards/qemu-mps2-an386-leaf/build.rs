//! The memory map and constants of this board, from its table.

fn main() -> Result<(), support::Mistake> {
    support::build::emit(support::build::Runtime::CortexM)
}
