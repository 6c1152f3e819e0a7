//! The memory map and constants of the boot code, from its board's table.

fn main() -> Result<(), support::Mistake> {
    support::build::emit_boot(support::build::Runtime::CortexM, "../qemu-mps2-an386")
}
