//! `capacity` and `top`: what devices have, what is free of it, and what they carry.
//!
//! Free memory and storage are what devices say; one that says nothing counts as having nothing free.

use crate::args::{Capacity, CapacityBy, Global, Output, Top, TopBy};
use crate::client::Client;
use crate::failure::Failure;
use crate::list;
use crate::output::{line, no_geojson, print_table, whole};
use crate::show::{self, bytes, number, text};
use crate::table::Table;
use crate::target::{Target, collection};
use hub::model::Kind;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where a device without one is counted.
const NONE: &str = "(none)";

/// Of one device or a group of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Amounts {
    devices: u64,
    online: u64,
    workloads: u64,
    restarts: u64,
    memory: (u64, u64),
    storage: (u64, u64),
}

impl Amounts {
    fn of(device: &Value) -> Self {
        let capacity = |name: &str| number(device, &format!("/status/capacity/{name}"));
        let workloads = show::list(device, "/status/workloads");
        Self {
            devices: 1,
            online: u64::from(text(device, "/status/online/state") == "Online"),
            workloads: workloads.len() as u64,
            restarts: workloads.iter().map(|workload| number(workload, "/restarts")).sum(),
            memory: (capacity("memoryFreeBytes"), capacity("memoryBytes")),
            storage: (capacity("storageFreeBytes"), capacity("storageBytes")),
        }
    }

    fn add(&mut self, other: &Self) {
        self.devices += other.devices;
        self.online += other.online;
        self.workloads += other.workloads;
        self.restarts += other.restarts;
        self.memory = (self.memory.0 + other.memory.0, self.memory.1 + other.memory.1);
        self.storage = (self.storage.0 + other.storage.0, self.storage.1 + other.storage.1);
    }

    fn json(&self, name: &str) -> Value {
        let amount = |(free, total): (u64, u64)| json!({"freeBytes": free, "totalBytes": total});
        json!({
            "name": name, "devices": self.devices, "online": self.online, "workloads": self.workloads,
            "restarts": self.restarts, "memory": amount(self.memory), "storage": amount(self.storage),
        })
    }
}

/// `12 MiB of 64 MiB`; the free part first, as one looks for it.
fn amount((free, total): (u64, u64)) -> String {
    if total == 0 { String::new() } else { format!("{} of {}", bytes(free), bytes(total)) }
}

/// Used, in percent.
fn used((free, total): (u64, u64)) -> Option<u64> {
    let used = total.checked_sub(free)?;
    (used * 100).checked_div(total)
}

fn percent(amount: (u64, u64)) -> String {
    used(amount).map(|percent| format!("{percent} %")).unwrap_or_default()
}

fn devices(client: &Client, parameters: list::Parameters) -> Result<Vec<Value>, Failure> {
    list::list(client, &collection(Kind::Device, None), &parameters, None, None).map(|listed| listed.items)
}

/// Devices by name of what they are counted with.
fn groups(client: &Client, args: &Capacity) -> Result<BTreeMap<String, Vec<Value>>, Failure> {
    let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    if args.by == CapacityBy::Region {
        // Which devices are certainly inside is the hub's to say.
        for region in list::all(client, &collection(Kind::Region, None))? {
            let name = text(&region, "/metadata/name");
            let mut selection = args.selection.clone();
            if selection.within.as_ref().is_some_and(|within| *within != name) {
                continue;
            }
            selection.within = Some(name.clone());
            groups.insert(name, devices(client, list::parameters(&selection))?);
        }
        if let (Some(within), true) = (&args.selection.within, groups.is_empty()) {
            client.get(&Target::new(Kind::Region, "", within).path())?;
        }
        return Ok(groups);
    }
    for device in devices(client, list::parameters(&args.selection))? {
        let name = match args.by {
            CapacityBy::Class => text(&device, "/status/class"),
            CapacityBy::Site => text(&device, "/spec/site"),
            CapacityBy::Device | CapacityBy::Region => text(&device, "/metadata/name"),
        };
        groups.entry(if name.is_empty() { NONE.to_owned() } else { name }).or_default().push(device);
    }
    Ok(groups)
}

pub fn run(global: &Global, args: &Capacity) -> Result<(), Failure> {
    let groups = groups(&Client::connect(global)?, args)?;
    let sums: Vec<(String, Amounts)> = groups
        .into_iter()
        .map(|(name, devices)| {
            let mut sum = Amounts::default();
            devices.iter().for_each(|device| sum.add(&Amounts::of(device)));
            (name, sum)
        })
        .collect();
    let items: Vec<Value> = sums.iter().map(|(name, sum)| sum.json(name)).collect();
    if whole(global.output, &json!({"items": items}))? {
        return Ok(());
    }
    match global.output {
        Output::GeoJson => return Err(no_geojson()),
        Output::Name => return sums.iter().try_for_each(|(name, _)| line(name)),
        _ => {}
    }
    let head = match args.by {
        CapacityBy::Class => "CLASS",
        CapacityBy::Region => "REGION",
        CapacityBy::Site => "SITE",
        CapacityBy::Device => "DEVICE",
    };
    let mut table =
        Table::new(&[head, "DEVICES", "ONLINE", "WORKLOADS", "MEMORY FREE", "USED", "STORAGE FREE", "USED"]);
    for (name, sum) in sums {
        table.row(vec![
            name,
            sum.devices.to_string(),
            sum.online.to_string(),
            sum.workloads.to_string(),
            amount(sum.memory),
            percent(sum.memory),
            amount(sum.storage),
            percent(sum.storage),
        ]);
    }
    print_table(global.output, &if args.no_headers { table.bare() } else { table.text() })
}

pub fn top(global: &Global, args: &Top) -> Result<(), Failure> {
    let devices = devices(&Client::connect(global)?, list::parameters(&args.selection))?;
    let mut rows: Vec<(String, Amounts)> =
        devices.iter().map(|device| (text(device, "/metadata/name"), Amounts::of(device))).collect();
    let weight = |amounts: &Amounts| match args.by {
        TopBy::Memory => used(amounts.memory),
        TopBy::Storage => used(amounts.storage),
        TopBy::Workloads => Some(amounts.workloads),
        TopBy::Restarts => Some(amounts.restarts),
    };
    rows.sort_by(|a, b| weight(&b.1).cmp(&weight(&a.1)).then_with(|| a.0.cmp(&b.0)));
    rows.truncate(args.limit);
    let items: Vec<Value> = rows.iter().map(|(name, amounts)| amounts.json(name)).collect();
    if whole(global.output, &json!({"items": items}))? {
        return Ok(());
    }
    match global.output {
        Output::GeoJson => return Err(no_geojson()),
        Output::Name => return rows.iter().try_for_each(|(name, _)| line(&format!("device/{name}"))),
        _ => {}
    }
    let mut table = Table::new(&["DEVICE", "MEMORY USED", "FREE", "STORAGE USED", "FREE", "WORKLOADS", "RESTARTS"]);
    for (name, amounts) in rows {
        table.row(vec![
            name,
            percent(amounts.memory),
            amount(amounts.memory),
            percent(amounts.storage),
            amount(amounts.storage),
            amounts.workloads.to_string(),
            amounts.restarts.to_string(),
        ]);
    }
    print_table(global.output, &if args.no_headers { table.bare() } else { table.text() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_devices_are_summed_up() {
        let device = json!({
            "status": {"online": {"state": "Online"}, "workloads": [{"restarts": 2}, {}],
            "capacity": {"memoryBytes": 1024, "memoryFreeBytes": 256, "storageBytes": 4096}}
        });
        let mut sum = Amounts::of(&device);
        sum.add(&Amounts::of(&json!({})));
        assert_eq!((sum.devices, sum.online, sum.workloads, sum.restarts), (2, 1, 2, 2));
        assert_eq!((amount(sum.memory).as_str(), percent(sum.memory).as_str()), ("256 B of 1 KiB", "75 %"));
        assert_eq!((amount(sum.storage).as_str(), percent(sum.storage).as_str()), ("0 B of 4 KiB", "100 %"));
        assert_eq!((amount((0, 0)), percent((0, 0))), (String::new(), String::new()));
    }
}
