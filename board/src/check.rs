//! Whether a table agrees with itself. The first thing that does not is said in words of the table.
use crate::{
    CONFIG, CONFIG_BYTES_MIN, JOURNAL, Memory, PARTITIONS, PINS_MAX, PinKind, Qemu, SLOT_A, SLOT_B, SLOT_HEAD_BYTES,
    STATE, Table,
};

const NAME_BYTES_MAX: usize = 63;
/// One past the last address of a 32-bit part.
const ADDRESSES: u64 = 1 << 32;
/// Pages of UF2, which the loaders write whole.
const UF2_PAGE_BYTES: u64 = 256;
/// More than any sector takes, and less than a watchdog waits for.
const ERASE_MS_MAX: u64 = 5_000;
/// Stacks of all parts are aligned to so much.
const STACK_ALIGNMENT: u64 = 8;

pub fn check(table: &Table) -> Result<(), String> {
    name(&table.name)?;
    memory("program", table.program)?;
    memory("ram", table.ram)?;
    memory("storage", Memory { origin: table.storage.origin, bytes: table.storage.bytes })?;
    partitions(table)?;
    budget(table)?;
    slots(table)?;
    pins(table)?;
    shared_chip(table)?;
    writers(table)
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn name(name: &str) -> Result<(), String> {
    let is_label = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    ensure(is_label, || format!("name = {name:?} is not a label: a-z, 0-9 and - between them"))
}

fn memory(what: &str, memory: Memory) -> Result<(), String> {
    let is_within = memory.bytes > 0 && memory.origin < ADDRESSES && memory.bytes <= ADDRESSES - memory.origin;
    ensure(is_within, || format!("[{what}] is empty, or ends behind the last address"))
}

fn partitions(table: &Table) -> Result<(), String> {
    let storage = &table.storage;
    let (erase, write) = (storage.erase_bytes, storage.write_bytes);
    ensure(erase.is_power_of_two() && write.is_power_of_two() && write <= erase, || {
        "storage.erase_bytes and storage.write_bytes are powers of two, and the former is not the smaller".to_owned()
    })?;
    ensure(storage.erase_ms <= ERASE_MS_MAX, || format!("storage.erase_ms is above {ERASE_MS_MAX}"))?;
    let mut end = 0;
    for partition in &storage.partitions {
        let name = &partition.name;
        ensure(PARTITIONS.contains(&name.as_str()), || {
            format!("partition {name} is unknown; there are {}", PARTITIONS.join(", "))
        })?;
        ensure(partition.offset >= end, || format!("partition {name} begins before the one above it ends"))?;
        let is_whole = partition.bytes > 0
            && partition.offset.is_multiple_of(erase)
            && partition.bytes.is_multiple_of(erase)
            && partition.bytes <= storage.bytes;
        ensure(is_whole, || format!("partition {name} is not made of whole sectors of {erase}, or is too long"))?;
        end = partition.offset.saturating_add(partition.bytes);
        ensure(end <= storage.bytes, || format!("partition {name} ends beyond storage.bytes"))?;
    }
    for needed in [CONFIG, JOURNAL] {
        let count = storage.partitions.iter().filter(|partition| partition.name == needed).count();
        ensure(count == 1, || format!("there must be one partition {needed}"))?;
    }
    ensure(table.partition(CONFIG).is_none_or(|config| config.bytes >= CONFIG_BYTES_MIN), || {
        format!("partition {CONFIG} is shorter than {CONFIG_BYTES_MIN}")
    })
}

fn pins(table: &Table) -> Result<(), String> {
    ensure(table.pins.len() <= PINS_MAX, || format!("there are more than {PINS_MAX} pins"))?;
    ensure(table.functions || table.pins.is_empty(), || {
        "only functions have pins, and this board runs none".to_owned()
    })?;
    for (at, pin) in table.pins.iter().enumerate() {
        let (handle, kind) = (pin.handle, pin.kind);
        let is_first = table.pins.iter().take(at).all(|other| other.handle != handle);
        ensure(is_first, || format!("handle {handle} is there twice"))?;
        let safe_max = match kind {
            PinKind::GpioOut => Some(1),
            PinKind::Pwm => Some(u16::MAX),
            PinKind::GpioIn | PinKind::Adc | PinKind::I2c => None,
        };
        let is_right = match (pin.safe, safe_max) {
            (Some(safe), Some(most)) => safe <= most,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        ensure(is_right, || {
            format!("pin {handle}: safe is for outputs, which must have it: 0 or 1 for gpio-out, 0 to 65535 for pwm")
        })?;
    }
    Ok(())
}

fn budget(table: &Table) -> Result<(), String> {
    let budget = &table.budget;
    ensure(budget.image_bytes > 0 && budget.image_bytes <= table.program.bytes, || {
        format!("budget.image_bytes {} is none, or over program.bytes {}", budget.image_bytes, table.program.bytes)
    })?;
    let parts = [budget.static_bytes, budget.heap_bytes, budget.stack_bytes];
    let ram = parts.into_iter().fold(0, u64::saturating_add);
    ensure(ram <= table.ram.bytes, || {
        format!("the budgets of RAM are {ram} together, over ram.bytes {}", table.ram.bytes)
    })?;
    ensure(budget.stack_bytes > 0 && budget.stack_bytes.is_multiple_of(STACK_ALIGNMENT), || {
        format!("budget.stack_bytes is no multiple of {STACK_ALIGNMENT}")
    })?;
    ensure(table.functions || budget.heap_bytes == 0, || {
        "only functions have a heap, and this board runs none".to_owned()
    })
}

/// Two slots, the state of their swap and boot code belong together.
fn slots(table: &Table) -> Result<(), String> {
    let places = [SLOT_A, SLOT_B, STATE].map(|name| table.partition(name));
    let (Some(boot), [Some(a), Some(b), Some(state)]) = (table.boot, places) else {
        let is_none = table.boot.is_none() && places.iter().all(Option::is_none);
        return ensure(is_none, || format!("{SLOT_A}, {SLOT_B}, {STATE} and [boot] are all there, or none of them"));
    };
    memory("boot", Memory { origin: boot.origin, bytes: boot.bytes })?;
    ensure(table.qemu.is_some(), || "[boot] goes with [qemu]: the other ways of writing know one program".to_owned())?;
    let program = (table.address(a) + SLOT_HEAD_BYTES, a.bytes - SLOT_HEAD_BYTES.min(a.bytes));
    ensure((table.program.origin, table.program.bytes) == program, || {
        format!("[program] is not what {SLOT_A} has behind its head: origin {:#x}, bytes {:#x}", program.0, program.1)
    })?;
    let sector = table.storage.erase_bytes;
    ensure(b.bytes >= a.bytes + sector, || format!("{SLOT_B} is not longer than {SLOT_A} by a sector of {sector}"))?;
    let words = (2 + 4 * (a.bytes / sector)) * table.storage.write_bytes;
    ensure(state.bytes >= words, || format!("partition {STATE} is shorter than the {words} bytes that a swap notes"))?;
    let budget = &table.budget;
    let ram = budget.static_bytes + budget.heap_bytes + budget.stack_bytes;
    ensure(boot.ram_bytes > 0 && ram.saturating_add(boot.ram_bytes) <= table.ram.bytes, || {
        format!("the boot code's RAM, {}, is none, or on that of the firmware", boot.ram_bytes)
    })
}

/// Where program and partitions share a chip, the largest image must leave the partitions alone.
fn shared_chip(table: &Table) -> Result<(), String> {
    // An emulated storage is a file of its own, whatever its origin.
    if table.qemu.is_some() {
        return Ok(());
    }
    let image = (table.program.origin, table.program.origin + table.budget.image_bytes);
    // That of a board with slots is in one of them.
    for partition in table.storage.partitions.iter().filter(|partition| partition.name != SLOT_A) {
        let start = table.address(partition);
        let is_apart = start + partition.bytes <= image.0 || image.1 <= start;
        ensure(is_apart, || format!("an image of budget.image_bytes would lie on partition {}", partition.name))?;
    }
    Ok(())
}

fn writers(table: &Table) -> Result<(), String> {
    let writers = [table.qemu.is_some(), table.uf2.is_some(), table.probe_rs.is_some(), table.espflash.is_some()];
    ensure(writers.into_iter().filter(|is_there| *is_there).count() <= 1, || {
        "there is more than one of [qemu], [uf2], [probe_rs] and [espflash]".to_owned()
    })?;
    if let Some(qemu) = &table.qemu {
        emulator(table, qemu)?;
    }
    let is_paged = table.uf2.is_none() || table.storage.erase_bytes.is_multiple_of(UF2_PAGE_BYTES);
    ensure(is_paged, || format!("storage.erase_bytes is no multiple of {UF2_PAGE_BYTES}, the pages of UF2"))
}

fn emulator(table: &Table, qemu: &Qemu) -> Result<(), String> {
    let end = table.storage.partitions.iter().map(|partition| partition.offset + partition.bytes).max().unwrap_or(0);
    ensure(qemu.flash_file_offset.saturating_add(end) <= qemu.flash_file_bytes, || {
        "qemu.flash_file_bytes ends before the partitions do".to_owned()
    })?;
    ensure(qemu.args.iter().any(|arg| arg.contains("{image}")), || {
        "qemu.args do not say where the {image} goes".to_owned()
    })?;
    let marks = ["{image}", "{flash}", "{mac}"];
    let rest = marks.into_iter().fold(qemu.args.join(" "), |rest, mark| rest.replace(mark, ""));
    ensure(!rest.contains(['{', '}']), || "qemu.args have braces that are not {image}, {flash} or {mac}".to_owned())?;
    ensure(qemu.host.parse::<std::net::Ipv4Addr>().is_ok(), || "qemu.host is not an IPv4 address".to_owned())
}
