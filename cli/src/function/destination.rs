//! `--target`: a class of devices, or one board, and what a function takes of it, measured in the devices' own engine.
//!
//! A board's figures are those of its table. Nothing is estimated but the time of a call, which says so.

use super::args::{Class, Place};
use super::check;
use super::dev::INPUTS;
use super::invoke::{self, Measured, Setup};
use super::project::Project;
use crate::code::Code;
use crate::failure::Failure;
use crate::show::bytes as size;
use crate::table::Table;
use agent_nostd::function::{Capabilities, Module, ModuleInfo, heap_bytes};
use agent_nostd::store::artifact::DATA_OFFSET;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Before the name of a board.
const OF_BOARD: &str = "mcu-";
/// Instructions of a core for a unit of fuel, at the most (`agent-nostd/src/function/limits.rs`).
const INSTRUCTIONS_PER_FUEL: u64 = 25;
/// What functions cannot have of a board's heap (`boards/common/src/heap.rs`).
const HEAP_OVERHEAD_SHARE: u64 = 8;
/// Of one instance of one component; what a manifest asks for is counted by the device.
const INSTANCES: u16 = 1;

/// Where a function is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// As it was asked for.
    pub name: String,
    pub class: Class,
    /// Boxed, because a command line holds one and is passed by value.
    board: Option<Box<board::Table>>,
}

fn boards() -> Vec<board::Table> {
    board::known().unwrap_or_default().into_iter().filter(|table| table.functions).collect()
}

/// Everything that can be asked for.
pub fn names() -> Vec<String> {
    let classes = Class::ALL.into_iter().map(|class| class.name().to_owned());
    classes.chain(boards().into_iter().map(|table| OF_BOARD.to_owned() + &table.name)).collect()
}

impl Destination {
    /// For the command line and for `function.toml` alike.
    pub fn parse(name: &str) -> Result<Self, String> {
        if let Some(class) = Class::ALL.into_iter().find(|class| class.name() == name) {
            return Ok(Self { name: name.to_owned(), class, board: None });
        }
        let board = name.strip_prefix(OF_BOARD).unwrap_or_default();
        let found = board::known().unwrap_or_default().into_iter().find(|table| table.name == board);
        match found {
            Some(table) if table.functions => {
                Ok(Self { name: name.to_owned(), class: Class::Mcu, board: Some(Box::new(table)) })
            }
            Some(table) => Err(format!("{} runs no functions: the engine does not fit it", table.name)),
            None => Err(format!("there is no target {name:?}, but {}", names().join(", "))),
        }
    }

    /// The budget of the heap that functions have.
    fn heap_bytes(&self) -> Option<u64> {
        self.board.as_ref().map(|table| table.budget.heap_bytes - table.budget.heap_bytes / HEAP_OVERHEAD_SHARE)
    }

    /// Where a module lies: bytes of the partition, and of a sector.
    fn flash(&self) -> Option<(u64, u64)> {
        let table = self.board.as_ref()?;
        table.partition(board::ARTIFACTS).map(|partition| (partition.bytes, table.storage.erase_bytes))
    }

    const fn place(&self) -> Place {
        Place { class: self.class, config: None, fence: None, unheard: None, degraded: false }
    }
}

/// Something that a function takes, and how much there is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Figure {
    what: &'static str,
    key: &'static str,
    takes: u64,
    most: Option<u64>,
    note: String,
}

/// What a function takes of its destination.
#[derive(Clone, Debug)]
pub struct Report {
    destination: Destination,
    figures: Vec<Figure>,
    /// `None`: the engine does not take it.
    needs: Option<Vec<&'static str>>,
    runs: u64,
    /// Empty: it fits. Otherwise a code and words for each reason.
    why: Vec<(String, String)>,
}

impl Report {
    /// Of the function of a directory, whose inputs are played for it.
    pub fn of_project(project: &Project, destination: &Destination, namespace: &str) -> Result<Self, Failure> {
        let setup = Setup::of_project(project, &destination.place(), namespace)?;
        let inputs = project.directory.join(INPUTS);
        Self::of(&setup, destination, inputs.exists().then_some(inputs.as_path()))
    }

    /// Of a module alone, which has the defaults of a manifest.
    pub fn of_module(module: &Path, destination: &Destination, namespace: &str) -> Result<Self, Failure> {
        Self::of(&Setup::of(module, &destination.place(), namespace)?, destination, None)
    }

    fn of(setup: &Setup, destination: &Destination, inputs: Option<&Path>) -> Result<Self, Failure> {
        let bytes = check::read(&setup.module)?;
        let mut report =
            Self { destination: destination.clone(), figures: Vec::new(), needs: None, runs: 0, why: Vec::new() };
        let module_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        report.add("module", "module", module_bytes, Some(setup.limits.module_bytes.into()), String::new());
        if let Some((partition, sector)) = destination.flash() {
            let stored = (module_bytes + u64::from(DATA_OFFSET)).div_ceil(sector) * sector;
            report.add("flash", "flash", stored, Some(partition), format!("in sectors of {}", size(sector)));
        }
        match Module::check(&bytes, &setup.limits, setup.granted) {
            Err(error) => report.why.push((error.code().to_owned(), error.to_string())),
            Ok(info) => {
                let measured = invoke::measure(setup, &bytes, inputs)?;
                report.module(setup, &bytes, &info, &measured);
            }
        }
        report.judge();
        Ok(report)
    }

    fn add(&mut self, what: &'static str, key: &'static str, takes: u64, most: Option<u64>, note: String) {
        self.figures.push(Figure { what, key, takes, most, note });
    }

    /// What is known of a module that the engine takes, and of its runs.
    fn module(&mut self, setup: &Setup, bytes: &[u8], info: &ModuleInfo, measured: &Measured) {
        let sum = &measured.sum;
        self.runs = sum.runs;
        self.add("code", "code", info.code_bytes.into(), None, format!("in {} functions", info.functions));
        let pages = match info.page_bytes {
            0 => String::new(),
            1 => "in pages of 1 byte".to_owned(),
            page => format!("in pages of {}", size(page.into())),
        };
        let memory = info.memory_bytes.max(sum.memory_bytes_max);
        self.add("memory", "memory", memory.into(), Some(setup.limits.memory_bytes.into()), pages);
        if let (Some(stack), Some(used)) = (setup.stack_bytes, sum.stack_bytes_max) {
            self.add("  stack", "stack", used.into(), Some(stack.into()), format!("the deepest of {} runs", sum.runs));
            self.add("  data", "data", info.memory_bytes.saturating_sub(stack).into(), None, String::new());
        }
        let module_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let heap = heap_bytes(module_bytes, setup.limits.memory_bytes, INSTANCES);
        self.add(
            "heap",
            "heap",
            heap,
            self.destination.heap_bytes(),
            "with the engine and all memory that is granted".to_owned(),
        );
        let time = match &self.destination.board {
            Some(table) => {
                let ms = sum.fuel_max.saturating_mul(INSTRUCTIONS_PER_FUEL * 1000).div_ceil(u64::from(table.clock_hz));
                format!("of the largest run; at {} MHz about {ms} ms", table.clock_hz / 1_000_000)
            }
            None => "of the largest run".to_owned(),
        };
        self.add("fuel", "fuel", sum.fuel_max, Some(setup.limits.fuel_per_activation), time);
        self.needs = Some(info.needs.names().collect());
        if let Some((reason, detail)) = &measured.failure {
            self.why.push((reason.clone(), format!("a run of it failed: {detail}")));
        }
        self.pins(info.needs);
    }

    /// Whether the board has what the function asks for.
    fn pins(&mut self, needs: Capabilities) {
        const OF_PINS: [(Capabilities, &str); 4] = [
            (Capabilities::GPIO, "gpio"),
            (Capabilities::ADC, "adc"),
            (Capabilities::I2C, "i2c"),
            (Capabilities::PWM, "pwm"),
        ];
        let has: Option<BTreeSet<&str>> = match (&self.destination.board, self.destination.class) {
            (Some(table), _) => Some(table.pins.iter().map(|pin| pin.kind.capability()).collect()),
            (None, Class::Linux) => Some(BTreeSet::new()),
            (None, Class::Mcu) => None,
        };
        let Some(has) = has else { return };
        for (capability, name) in OF_PINS {
            if needs.contains(capability) && !has.contains(name) {
                let why = format!("it uses {name}, and {} has none for functions", self.destination.name);
                self.why.push(("NO_PERIPHERAL".to_owned(), why));
            }
        }
    }

    /// Every figure that is above what there is.
    fn judge(&mut self) {
        for Figure { what, takes, most, .. } in &self.figures {
            let Some(most) = most.filter(|most| takes > most) else { continue };
            let why = format!("{} takes {takes}, and there are {most}", what.trim());
            // The engine has said so already of what it refuses.
            if *what != "module" || self.why.is_empty() {
                self.why.push((Code::DoesNotFit.row().text.to_owned(), why));
            }
        }
    }

    pub fn fits(&self) -> bool {
        self.why.is_empty()
    }

    /// Fails unless it fits.
    pub fn demand(&self, module: &Path) -> Result<(), Failure> {
        if self.fits() {
            return Ok(());
        }
        let what = format!("{} does not fit {}", module.display(), self.destination.name);
        let failure = Failure::new(Code::DoesNotFit, what);
        let told = self.why.iter().fold(failure, |failure, (code, why)| failure.why(format!("{code}: {why}")));
        Err(told.next(
            "a smaller stack (function.toml: stack-bytes), fewer static data, less in one run; or another --target",
        ))
    }

    pub fn text(&self) -> String {
        let title = match &self.destination.board {
            Some(table) => format!("{} ({})", self.destination.name, table.title),
            None => self.destination.name.clone(),
        };
        let mut table = Table::new(&["TAKES", "", "OF", "SHARE", "NOTE"]);
        for Figure { what, key, takes, most, note } in &self.figures {
            let show = |count: u64| if *key == "fuel" { count.to_string() } else { size(count) };
            let share = most.and_then(|most| (takes * 100).checked_div(most)).map(|share| format!("{share} %"));
            table.row(vec![
                (*what).to_owned(),
                show(*takes),
                most.map(show).unwrap_or_default(),
                share.unwrap_or_default(),
                note.clone(),
            ]);
        }
        let needs = match self.needs.as_deref() {
            None => String::new(),
            Some([]) => "needs nothing but logs and the time\n".to_owned(),
            Some(needs) => format!("needs {}, beside logs and the time\n", needs.join(", ")),
        };
        let verdict = if self.fits() { "It fits." } else { "It does not fit." };
        format!("{title}\n{}{needs}{verdict}\n", table.text())
    }

    pub fn json(&self) -> Value {
        let mut takes = serde_json::Map::new();
        for Figure { key, takes: count, most, .. } in &self.figures {
            takes.insert((*key).to_owned(), json!({"takes": count, "of": most}));
        }
        let why: Vec<Value> = self.why.iter().map(|(code, why)| json!({"code": code, "detail": why})).collect();
        json!({
            "target": self.destination.name, "fits": self.fits(), "why": why,
            "board": self.destination.board.as_ref().map(|table| &table.name),
            "runs": self.runs, "needs": self.needs, "figures": takes,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AN386: &str = "mcu-qemu-mps2-an386";

    fn module(folder: &Path, text: &str) -> std::path::PathBuf {
        let path = folder.join("a.wasm");
        std::fs::write(&path, wat::parse_str(format!("(module {text} (@custom \"fulmar.abi\" \"\\01\"))")).unwrap())
            .unwrap();
        path
    }

    fn of(text: &str, target: &str) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let destination = Destination::parse(target).unwrap();
        Report::of_module(&module(folder.path(), text), &destination, "default").unwrap()
    }

    const TIMER: &str = "(func (export \"fulmar_timer\"))";

    #[test]
    fn a_target_is_a_class_or_a_board_with_an_engine() {
        assert!(names().iter().any(|name| name == AN386) && names().iter().any(|name| name == "mcu"));
        assert!(names().iter().all(|name| Destination::parse(name).is_ok()));
        assert!(Destination::parse("mcu-qemu-lm3s6965").unwrap_err().contains("runs no functions"));
        for unknown in ["qemu-mps2-an386", "mcu-", "mcu-arduino", ""] {
            assert!(Destination::parse(unknown).unwrap_err().contains(AN386), "{unknown}");
        }
    }

    #[test]
    fn a_small_module_fits_with_the_figures_of_its_board() {
        let report = of(&format!("(memory (export \"memory\") 1000 (pagesize 1)) {TIMER}"), AN386);
        assert!(report.fits(), "{report:?}");
        let document = report.json();
        assert_eq!(document["figures"]["memory"]["takes"], 1000, "{document:#}");
        let table = board::known().unwrap().into_iter().find(|table| table.name == "qemu-mps2-an386").unwrap();
        assert_eq!(document["figures"]["heap"]["of"], table.budget.heap_bytes / 8 * 7);
        // One sector, its head with it.
        assert_eq!(document["figures"]["flash"]["takes"], table.storage.erase_bytes);
        assert!(document["figures"]["fuel"]["takes"].as_u64().unwrap() > 0, "it was run");
        assert!(
            report.text().contains("in pages of 1 byte") && report.text().ends_with("It fits.\n"),
            "{}",
            report.text()
        );
    }

    #[test]
    fn what_does_not_fit_says_why() {
        let reasons = |text: &str, target: &str| {
            let report = of(text, target);
            let codes: Vec<String> = report.why.iter().map(|(code, _)| code.clone()).collect();
            assert_eq!(report.demand(Path::new("a.wasm")).is_err(), !codes.is_empty());
            codes
        };
        assert_eq!(reasons(&format!("(memory 1) {TIMER}"), "mcu"), ["MEMORY_TOO_LARGE"]);
        assert!(reasons(&format!("(memory 1) {TIMER}"), "linux").is_empty());
        assert_eq!(reasons("(func (export \"fulmar_timer\") (loop (br 0)))", "mcu"), ["OUT_OF_FUEL"]);
        let gpio = format!("(import \"fulmar\" \"gpio_read\" (func (param i32) (result i32))) {TIMER}");
        assert!(reasons(&gpio, AN386).is_empty());
        assert_eq!(reasons(&gpio, "mcu-qemu-riscv32-virt"), ["NO_PERIPHERAL"]);
        assert_eq!(reasons(&gpio, "linux"), ["NO_PERIPHERAL"]);
        let padded = format!("{TIMER} (@custom \"x\" \"{}\")", "x".repeat(40_000));
        assert_eq!(reasons(&padded, AN386), ["MODULE_TOO_LARGE"]);
    }
}
