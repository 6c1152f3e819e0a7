//! Whether a table agrees with itself. The first thing that does not is said in words of the table.
use crate::{Board, CONFIG, CONFIG_BYTES_MIN, JOURNAL, PARTITIONS, Region, Writer};

const NAME_BYTES_MAX: usize = 63;
/// Pages of UF2, which the loaders write whole.
const UF2_PAGE_BYTES: u32 = 256;

pub fn check(board: &Board) -> Result<(), String> {
    name(&board.name)?;
    region("flash", board.flash)?;
    region("ram", board.ram)?;
    storage(board)?;
    partitions(board)?;
    budget(board)?;
    writer(board)
}

fn name(name: &str) -> Result<(), String> {
    let is_label = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_label { Ok(()) } else { Err(format!("name = {name:?} is not a label: a-z, 0-9 and - between them")) }
}

fn region(what: &str, region: Region) -> Result<(), String> {
    if region.size == 0 {
        return Err(format!("[{what}] has no size"));
    }
    if region.origin.checked_add(region.size - 1).is_none() {
        return Err(format!("[{what}] ends behind the last address"));
    }
    Ok(())
}

fn storage(board: &Board) -> Result<(), String> {
    let storage = board.storage;
    region("storage", Region { origin: storage.origin, size: storage.size })?;
    if storage.erase == 0 || storage.write == 0 || !storage.erase.is_multiple_of(storage.write) {
        return Err("[storage] erase is not a multiple of write".to_owned());
    }
    if !storage.size.is_multiple_of(storage.erase) {
        return Err("[storage] size is not a multiple of erase".to_owned());
    }
    Ok(())
}

fn partitions(board: &Board) -> Result<(), String> {
    for needed in [CONFIG, JOURNAL] {
        if board.partition(needed).is_none() {
            return Err(format!("[partitions] has no {needed}"));
        }
    }
    let mut placed: Vec<(&str, u64, u64)> = Vec::new();
    for (name, partition) in &board.partitions {
        if !PARTITIONS.contains(&name.as_str()) {
            return Err(format!("partition {name} is unknown; there are {}", PARTITIONS.join(", ")));
        }
        let erase = board.storage.erase;
        if partition.size == 0 || !partition.size.is_multiple_of(erase) || !partition.offset.is_multiple_of(erase) {
            return Err(format!("partition {name} does not begin and end with a part of {erase} bytes"));
        }
        let (start, end) = (u64::from(partition.offset), u64::from(partition.offset) + u64::from(partition.size));
        if end > u64::from(board.storage.size) {
            return Err(format!("partition {name} ends behind [storage]"));
        }
        if let Some((other, ..)) = placed.iter().find(|(_, from, to)| start < *to && *from < end) {
            return Err(format!("partitions {other} and {name} overlap"));
        }
        placed.push((name, start, end));
    }
    match board.partition(CONFIG) {
        Some(config) if config.size < CONFIG_BYTES_MIN => {
            Err(format!("partition {CONFIG} has {} bytes and needs {CONFIG_BYTES_MIN}", config.size))
        }
        Some(_) | None => Ok(()),
    }
}

fn budget(board: &Board) -> Result<(), String> {
    let budget = board.budget;
    if budget.flash == 0 || budget.flash > board.flash.size {
        return Err("[budget] flash is none, or more than there is".to_owned());
    }
    let memory = u64::from(budget.ram) + u64::from(budget.stack);
    if budget.ram == 0 || budget.stack == 0 || memory > u64::from(board.ram.size) {
        return Err("[budget] ram and stack are none, or more than there is".to_owned());
    }
    // Where code and partitions share a chip, the largest image must end before the first partition that follows it.
    let code = (u64::from(board.flash.origin), u64::from(board.flash.origin) + u64::from(budget.flash));
    for (name, partition) in &board.partitions {
        let start = u64::from(board.storage.origin) + u64::from(partition.offset);
        let end = start + u64::from(partition.size);
        let is_file = matches!(board.writer, Writer::Qemu(_)) && board.storage.origin == 0;
        if !is_file && code.0 < end && start < code.1 {
            return Err(format!("an image as large as [budget] flash would lie on partition {name}"));
        }
    }
    Ok(())
}

fn writer(board: &Board) -> Result<(), String> {
    match &board.writer {
        Writer::Qemu(qemu) => {
            let has = |mark: &str| qemu.arguments.iter().any(|argument| argument.contains(mark));
            if !has("{image}") {
                return Err("[writer] arguments do not say where the {image} goes".to_owned());
            }
            let mut rest = qemu.arguments.join(" ");
            for mark in ["{image}", "{flash}", "{mac}"] {
                rest = rest.replace(mark, "");
            }
            if rest.contains(['{', '}']) {
                return Err("[writer] arguments have braces that are not {image}, {flash} or {mac}".to_owned());
            }
            qemu.host.parse::<std::net::Ipv4Addr>().map_err(|_| "[writer] host is not an IPv4 address".to_owned())?;
            Ok(())
        }
        Writer::Uf2(_) if !board.storage.erase.is_multiple_of(UF2_PAGE_BYTES) => {
            Err(format!("[storage] erase is not a multiple of {UF2_PAGE_BYTES}, the pages of UF2"))
        }
        Writer::Uf2(_) | Writer::ProbeRs(_) | Writer::Espflash(_) => Ok(()),
    }
}
