//! One running copy of a module: activations in slices of fuel, until it ends, yields or is stopped.
//!
//! It must never outlive a trap: after one, every further activation is refused, and the owner loads a new instance. An
//! activation that is stopped leaves no trace in the durable state; what it logged and emitted before has gone out.

use super::abi::{MEMORY_EXPORT, PARAMS_MAX};
use super::call::{HostCall, Ledger};
use super::error::{LoadError, TrapCause};
use super::host::Host;
use super::limits::{FUEL_PER_HOST_CALL, Limits};
use super::module::{ENTRY_NAMES, Module};
use alloc::boxed::Box;
use alloc::vec::Vec;
use wasmi::errors::{ErrorKind, InstantiationError};
use wasmi::{
    Error, Extern, Func, FuncType, Memory, ResumableCall, ResumableCallOutOfFuel, Store, StoreLimits,
    StoreLimitsBuilder, Val, ValType,
};

/// Why the owner wants a function to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation<'a> {
    /// Once, after an instance was loaded.
    Start,
    /// A message for it.
    Event {
        /// Where it came from.
        topic: &'a str,
        /// What it says.
        payload: &'a [u8],
    },
    /// Its period is over.
    Timer,
    /// Once, before it is dropped.
    Stop,
}

/// What became of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The activation ended and its state is durable.
    Done {
        /// Fuel that the whole activation burned.
        fuel_used: u64,
    },
    /// The slice is used up: call [`Instance::resume`].
    Yielded {
        /// Fuel that the activation burned so far.
        fuel_used: u64,
    },
    /// The function was stopped and the instance is dead.
    Trapped {
        /// Why.
        cause: TrapCause,
        /// Fuel that the activation burned.
        fuel_used: u64,
    },
    /// The owner let it go no further: its terms are over, which is no fault. The instance is dead, and its last state is not kept.
    Ended {
        /// Fuel that the activation burned.
        fuel_used: u64,
    },
    /// The module has no entry point for this activation; nothing ran.
    Ignored,
    /// Nothing ran, and the instance is as it was.
    Refused(Refusal),
}

/// Why an activation did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another activation has yielded and is not finished.
    Busy,
    /// The instance trapped earlier.
    Dead,
    /// There is nothing to resume.
    NotRunning,
    /// The topic or payload of an event is longer than its limit.
    InputTooLong,
}

/// Where an instance stands between two calls.
#[derive(Debug)]
enum Phase {
    Idle,
    Suspended(Box<Suspended>),
    Dead,
}

/// An activation that ran out of a slice.
#[derive(Debug)]
struct Suspended {
    call: ResumableCallOutOfFuel,
    run: Run,
}

/// An activation in progress.
#[derive(Debug)]
struct Run {
    ledger: Ledger,
    fuel_left: u64,
}

/// One running copy of a module.
#[derive(Debug)]
pub struct Instance {
    store: Store<StoreLimits>,
    entries: [Option<Func>; 4],
    memory: Option<Memory>,
    limits: Limits,
    phase: Phase,
}

impl Instance {
    /// Makes an instance: memory, data, and the module's own start function with the fuel of one slice.
    pub fn load(module: &Module) -> Result<Self, LoadError> {
        let limits = *module.limits();
        let compiled = module.compiled();
        let mut store = Store::new(compiled.engine(), store_limits(&limits));
        store.limiter(|limits| limits);
        store.set_fuel(limits.fuel_per_slice).map_err(|e| start_error(&e))?;
        let externs: Vec<Extern> = module.imports().iter().map(|spec| Extern::Func(import(&mut store, spec))).collect();
        let instance = wasmi::Instance::new(&mut store, compiled, &externs).map_err(|e| start_error(&e))?;
        let entries = ENTRY_NAMES.map(|name| instance.get_func(&store, name));
        let memory = instance.get_memory(&store, MEMORY_EXPORT);
        Ok(Self { store, entries, memory, limits, phase: Phase::Idle })
    }

    /// Whether it trapped and must be dropped.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead)
    }

    /// Bytes of linear memory it has now.
    #[must_use]
    pub fn memory_bytes(&self) -> u32 {
        let bytes = self.memory.map_or(0, |memory| memory.data_size(&self.store));
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// The linear memory, for who looks at a function from outside; a device has no reason to.
    #[must_use]
    pub fn memory(&self) -> &[u8] {
        self.memory.map_or(&[], |memory| memory.data(&self.store))
    }

    /// The same, to be marked before anything runs.
    pub fn memory_mut(&mut self) -> &mut [u8] {
        match self.memory {
            Some(memory) => memory.data_mut(&mut self.store),
            None => &mut [],
        }
    }

    /// Begins an activation and runs its first slice.
    pub fn activate(&mut self, activation: Activation<'_>, host: &mut dyn Host) -> Outcome {
        match self.phase {
            Phase::Idle => {}
            Phase::Suspended(_) => return Outcome::Refused(Refusal::Busy),
            Phase::Dead => return Outcome::Refused(Refusal::Dead),
        }
        let [start, event, timer, stop] = self.entries;
        let (entry, topic, input): (_, &str, &[u8]) = match activation {
            Activation::Start => (start, "", &[]),
            Activation::Event { topic, payload } => (event, topic, payload),
            Activation::Timer => (timer, "", &[]),
            Activation::Stop => (stop, "", &[]),
        };
        let Some(entry) = entry else {
            return Outcome::Ignored;
        };
        if longer(topic.len(), self.limits.topic_bytes) || longer(input.len(), self.limits.input_bytes) {
            return Outcome::Refused(Refusal::InputTooLong);
        }
        let run = Run { ledger: Ledger::new(topic, input), fuel_left: self.limits.fuel_per_activation };
        if !host.may_go_on() {
            return self.end(&run);
        }
        let grant = self.grant(&run, 0);
        if self.store.set_fuel(grant).is_err() {
            return self.trap(TrapCause::Engine, &run);
        }
        let call = entry.call_resumable(&mut self.store, &[], &mut []);
        self.drive(call, run, grant, host)
    }

    /// Runs the next slice of an activation that yielded.
    pub fn resume(&mut self, host: &mut dyn Host) -> Outcome {
        let suspended = match core::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Suspended(suspended) => suspended,
            Phase::Idle => return Outcome::Refused(Refusal::NotRunning),
            Phase::Dead => {
                self.phase = Phase::Dead;
                return Outcome::Refused(Refusal::Dead);
            }
        };
        let Suspended { call, run } = *suspended;
        if !host.may_go_on() {
            return self.end(&run);
        }
        let grant = self.grant(&run, call.required_fuel());
        if self.store.set_fuel(grant).is_err() {
            return self.trap(TrapCause::Engine, &run);
        }
        let call = call.resume(&mut self.store, &mut []);
        self.drive(call, run, grant, host)
    }

    /// Fuel for the next slice. A single instruction that needs more (a large copy) gets what it needs.
    fn grant(&self, run: &Run, required: u64) -> u64 {
        self.limits.fuel_per_slice.max(required).min(run.fuel_left)
    }

    /// Serves host calls and resumes, until the call ends or the slice does.
    fn drive(
        &mut self,
        mut call: Result<ResumableCall, Error>,
        mut run: Run,
        grant: u64,
        host: &mut dyn Host,
    ) -> Outcome {
        loop {
            match call {
                Err(error) => {
                    self.settle(&mut run, grant);
                    return self.trap(TrapCause::of(&error), &run);
                }
                Ok(ResumableCall::Finished) => {
                    self.settle(&mut run, grant);
                    return if host.may_go_on() { self.finish(run, host) } else { self.end(&run) };
                }
                Ok(ResumableCall::OutOfFuel(pending)) => {
                    let burned = self.settle(&mut run, grant);
                    // The second condition cannot be true for a correct interpreter; it keeps a wrong one from yielding forever.
                    if pending.required_fuel() > run.fuel_left || (burned == 0 && pending.required_fuel() <= grant) {
                        return self.trap(TrapCause::OutOfFuel, &run);
                    }
                    let fuel_used = self.used(&run);
                    self.phase = Phase::Suspended(Box::new(Suspended { call: pending, run }));
                    return Outcome::Yielded { fuel_used };
                }
                Ok(ResumableCall::HostTrap(pending)) => {
                    let Some(request) = pending.host_error().downcast_ref::<HostCall>().copied() else {
                        self.settle(&mut run, grant);
                        return self.trap(TrapCause::Engine, &run);
                    };
                    if !host.may_go_on() {
                        self.settle(&mut run, grant);
                        return self.end(&run);
                    }
                    match self.serve(&request, &mut run.ledger, host) {
                        Ok(value) => call = pending.resume(&mut self.store, &[value], &mut []),
                        Err(cause) => {
                            self.settle(&mut run, grant);
                            return self.trap(cause, &run);
                        }
                    }
                }
            }
        }
    }

    /// One host call, paid with fuel like everything else.
    fn serve(&mut self, request: &HostCall, ledger: &mut Ledger, host: &mut dyn Host) -> Result<Val, TrapCause> {
        let fuel = self.store.get_fuel().map_err(|_| TrapCause::Engine)?;
        self.store.set_fuel(fuel.saturating_sub(FUEL_PER_HOST_CALL)).map_err(|_| TrapCause::Engine)?;
        let memory = match &self.memory {
            Some(memory) => memory.data_mut(&mut self.store),
            None => &mut [],
        };
        ledger.serve(request, memory, host, &self.limits)
    }

    /// Takes what a slice burned off the activation's fuel, and says how much that was.
    fn settle(&self, run: &mut Run, grant: u64) -> u64 {
        let burned = grant.saturating_sub(self.store.get_fuel().unwrap_or(0));
        run.fuel_left = run.fuel_left.saturating_sub(burned);
        burned
    }

    /// Fuel that an activation burned so far.
    fn used(&self, run: &Run) -> u64 {
        self.limits.fuel_per_activation.saturating_sub(run.fuel_left)
    }

    /// The end of an activation: its state becomes durable, or the instance is dead because it believes in state that is not.
    fn finish(&mut self, run: Run, host: &mut dyn Host) -> Outcome {
        let fuel_used = self.used(&run);
        if run.ledger.state.commit(host).is_err() {
            self.phase = Phase::Dead;
            return Outcome::Trapped { cause: TrapCause::StateCommit, fuel_used };
        }
        Outcome::Done { fuel_used }
    }

    /// The end of an instance that may not go on.
    fn end(&mut self, run: &Run) -> Outcome {
        self.phase = Phase::Dead;
        Outcome::Ended { fuel_used: self.used(run) }
    }

    /// The end of the instance.
    fn trap(&mut self, cause: TrapCause, run: &Run) -> Outcome {
        self.phase = Phase::Dead;
        Outcome::Trapped { cause, fuel_used: self.used(run) }
    }
}

/// What the interpreter asks before it grows anything.
fn store_limits(limits: &Limits) -> StoreLimits {
    let size = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    StoreLimitsBuilder::new()
        .memory_size(size(limits.memory_bytes))
        .table_elements(size(limits.table_elements))
        .instances(1)
        .memories(1)
        .tables(size(limits.tables))
        // The guest learns of it as -1 from memory.grow and can cope.
        .trap_on_grow_failure(false)
        .build()
}

/// An import that suspends the guest and hands its arguments out.
fn import(store: &mut Store<StoreLimits>, spec: &'static super::abi::ImportSpec) -> Func {
    let ty = FuncType::new(spec.param_types(), [spec.result]);
    Func::new(store, ty, move |_caller, params, _results| {
        let mut args = [0; PARAMS_MAX];
        let mut long = 0;
        for (to, from) in args.iter_mut().zip(params) {
            *to = from.i32().unwrap_or(0);
            long = from.i64().unwrap_or(long);
        }
        Err(Error::host(HostCall { import: spec.import, args, long, wide: spec.result == ValType::I64 }))
    })
}

/// Why an instance could not be made.
fn start_error(error: &Error) -> LoadError {
    match error.kind() {
        ErrorKind::Instantiation(
            InstantiationError::FailedToInstantiateMemory(_) | InstantiationError::FailedToInstantiateTable(_),
        ) => LoadError::OutOfMemory,
        _ => LoadError::StartTrapped { cause: TrapCause::of(error) },
    }
}

/// Whether a length exceeds a limit.
fn longer(len: usize, limit: u32) -> bool {
    u32::try_from(len).map_or(true, |len| len > limit)
}
