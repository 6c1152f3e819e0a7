//! The world that the tests give to a function, and how they write modules.

use super::super::{
    Activation, Capabilities, CommitError, EmitError, HardwareError, Host, Instance, Level, Limits, Module, Outcome,
    RandomError, StateChange, TellError,
};
use crate::machine::port::Telling;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// All that can be allowed.
pub const ALL: Capabilities = Capabilities::from_bits(
    Capabilities::DEFAULT.bits()
        | Capabilities::GPIO.bits()
        | Capabilities::ADC.bits()
        | Capabilities::PWM.bits()
        | Capabilities::I2C.bits(),
);

/// A world in memory that writes down what was asked of it.
#[derive(Default)]
pub struct World {
    pub logs: Vec<(Level, Vec<u8>)>,
    pub emits: Vec<(String, Vec<u8>)>,
    pub config: Vec<u8>,
    pub state: BTreeMap<Vec<u8>, Vec<u8>>,
    pub commits: u32,
    pub commit_fails: bool,
    pub emit_refuses: Option<EmitError>,
    /// Class, key and value of what was raised, reported and measured.
    pub told: Vec<(&'static str, String, String)>,
    pub tell_refuses: bool,
    pub no_entropy: bool,
    pub now_us: u64,
    pub wall_ms: Option<u64>,
    pub fence: u64,
    pub freshness_ms: Option<u64>,
    pub is_degraded: bool,
    /// Pins by handle, each an output of both kinds, an input and an analogue one.
    pub pins: BTreeMap<u16, u16>,
    /// Bus, address, what went out; the answer counts up from 1.
    pub transfers: Vec<(u16, u8, Vec<u8>)>,
    /// The hardware does not answer.
    pub is_broken: bool,
    /// So many more answers to whether it may go on are yes; `None`: all.
    pub goes_on_for: Option<u32>,
}

impl World {
    /// The last emitted payload as a number.
    pub fn answer(&self) -> i32 {
        let (_, payload) = self.emits.last().expect("the function emitted nothing");
        i32::from_le_bytes(payload.as_slice().try_into().unwrap())
    }

    /// Log lines as text.
    pub fn lines(&self) -> Vec<String> {
        self.logs.iter().map(|(_, text)| String::from_utf8(text.clone()).unwrap()).collect()
    }
}

impl World {
    fn pin(&mut self, handle: u16) -> Result<&mut u16, HardwareError> {
        if self.is_broken {
            return Err(HardwareError::Failed);
        }
        self.pins.get_mut(&handle).ok_or(HardwareError::NoHandle)
    }
}

impl Host for World {
    fn log(&mut self, level: Level, text: &[u8]) {
        self.logs.push((level, text.to_vec()));
    }
    fn emit(&mut self, topic: &str, payload: &[u8]) -> Result<(), EmitError> {
        if let Some(error) = self.emit_refuses {
            return Err(error);
        }
        self.emits.push((topic.into(), payload.to_vec()));
        Ok(())
    }
    fn tell(&mut self, telling: &Telling<'_>) -> Result<(), TellError> {
        if self.tell_refuses {
            return Err(TellError);
        }
        self.told.push(match *telling {
            Telling::Alarm { key, text } => ("alarm", key.into(), text.into()),
            Telling::State { key, text } => ("state", key.into(), text.into()),
            Telling::Metric { key, value, scale } => ("metric", key.into(), format!("{value}e{scale}")),
        });
        Ok(())
    }
    fn config(&self) -> &[u8] {
        &self.config
    }
    fn state_get(&mut self, key: &[u8], out: &mut [u8]) -> Option<u32> {
        let value = self.state.get(key)?;
        for (to, from) in out.iter_mut().zip(value) {
            *to = *from;
        }
        Some(u32::try_from(value.len()).unwrap())
    }
    fn state_size(&self) -> u32 {
        u32::try_from(self.state.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()).unwrap()
    }
    fn state_commit(&mut self, changes: &[StateChange<'_>]) -> Result<(), CommitError> {
        if self.commit_fails {
            return Err(CommitError);
        }
        self.commits += 1;
        for change in changes {
            match change.value {
                Some(value) => self.state.insert(change.key.to_vec(), value.to_vec()),
                None => self.state.remove(change.key),
            };
        }
        Ok(())
    }
    fn monotonic_us(&mut self) -> u64 {
        self.now_us += 1;
        self.now_us
    }
    fn wall_ms(&mut self) -> Option<u64> {
        self.wall_ms
    }
    fn fence(&mut self) -> u64 {
        self.fence
    }
    fn freshness_ms(&mut self) -> Option<u64> {
        self.freshness_ms
    }
    fn is_degraded(&mut self) -> bool {
        self.is_degraded
    }
    fn may_go_on(&mut self) -> bool {
        match &mut self.goes_on_for {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }
    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        if self.no_entropy {
            return Err(RandomError);
        }
        out.fill(0xa5);
        Ok(())
    }
    fn gpio_read(&mut self, handle: u16) -> Result<bool, HardwareError> {
        self.pin(handle).map(|level| *level > 0)
    }
    fn gpio_write(&mut self, handle: u16, is_high: bool) -> Result<(), HardwareError> {
        self.pin(handle).map(|level| *level = u16::from(is_high))
    }
    fn adc_read(&mut self, handle: u16) -> Result<u16, HardwareError> {
        self.pin(handle).copied()
    }
    fn pwm_set(&mut self, handle: u16, duty: u16) -> Result<(), HardwareError> {
        self.pin(handle).map(|level| *level = duty)
    }
    fn i2c_write_read(&mut self, handle: u16, address: u8, out: &[u8], into: &mut [u8]) -> Result<(), HardwareError> {
        self.pin(handle)?;
        self.transfers.push((handle, address, out.to_vec()));
        for (byte, value) in into.iter_mut().zip((1..=u8::MAX).cycle()) {
            *byte = value;
        }
        Ok(())
    }
}

/// A module from text, with the ABI section.
pub fn module(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {body} (@custom \"fulmar.abi\" \"\\01\"))")).unwrap()
}

/// A module whose timer runs `code`.
pub fn timer(code: &str) -> Vec<u8> {
    module(&format!("(memory (export \"memory\") 1) (func (export \"fulmar_timer\") {code})"))
}

/// An instance with the limits of Linux.
pub fn instance(bytes: &[u8]) -> Instance {
    instance_with(bytes, &Limits::LINUX)
}

/// An instance with these limits.
pub fn instance_with(bytes: &[u8], limits: &Limits) -> Instance {
    Instance::load(&Module::load(bytes, limits, ALL).unwrap()).unwrap()
}

/// Runs an activation over all its slices.
pub fn run(instance: &mut Instance, activation: Activation<'_>, world: &mut World) -> Outcome {
    let mut outcome = instance.activate(activation, world);
    let mut slices = 0;
    while let Outcome::Yielded { .. } = outcome {
        slices += 1;
        assert!(slices < 10_000, "an activation must end");
        outcome = instance.resume(world);
    }
    outcome
}

/// Calls one import with up to six arguments from outside: the event's payload carries them, the answer is emitted.
pub struct Probe {
    instance: Instance,
    pub world: World,
}

impl Probe {
    /// A probe of the import with this name and number of parameters.
    pub fn new(name: &str, params: usize) -> Self {
        Self::with_limits(name, params, &Limits::LINUX)
    }

    pub fn with_limits(name: &str, params: usize, limits: &Limits) -> Self {
        // A parameter of 64 bits is given in the same four bytes, with its sign.
        let long = (name == "measure").then_some(2);
        let kinds: Vec<&str> = (0..params).map(|at| if long == Some(at) { "i64" } else { "i32" }).collect();
        let own = if matches!(name, "emit" | "input_read") {
            String::new()
        } else {
            format!(
                "(import \"fulmar\" \"{name}\" (func ${name} {} (result i32)))",
                kinds.iter().map(|kind| format!("(param {kind})")).collect::<Vec<_>>().join(" ")
            )
        };
        let args: String = (0..params)
            .map(|i| {
                let load = if long == Some(i) { "i64.load32_s" } else { "i32.load" };
                format!("({load} (i32.const {}))", 65_536 - 64 + i * 4)
            })
            .collect::<Vec<_>>()
            .join(" ");
        let bytes = module(&format!(
            "{own}
             (import \"fulmar\" \"emit\" (func $emit (param i32 i32 i32 i32) (result i32)))
             (import \"fulmar\" \"input_read\" (func $input_read (param i32 i32 i32) (result i32)))
             (memory (export \"memory\") 1)
             (data (i32.const 65000) \"answer\")
             (data (i32.const 0) \"keyword\\00value\\ff\\fe\")
             (func (export \"fulmar_event\")
               (drop (call $input_read (i32.const 0) (i32.const {at}) (i32.const 24)))
               (i32.store (i32.const {answer}) (call ${name} {args}))
               (drop (call $emit (i32.const 65000) (i32.const 6) (i32.const {answer}) (i32.const 4))))",
            at = 65_536 - 64,
            answer = 65_536 - 32,
        ));
        Self { instance: instance_with(&bytes, limits), world: World::default() }
    }

    /// What the import answers.
    pub fn call(&mut self, args: &[i32]) -> i32 {
        let payload: Vec<u8> = args.iter().flat_map(|arg| arg.to_le_bytes()).collect();
        let event = Activation::Event { topic: "in", payload: &payload };
        let outcome = run(&mut self.instance, event, &mut self.world);
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        self.world.answer()
    }
}
