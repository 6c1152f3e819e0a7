//! Every limit of a function, each with a name and a default, so that reaching one can be said, counted and raised.
//!
//! Must never hold a limit that nothing enforces, or a default of "none".

/// Bytes of linear memory on a device of the Linux class.
pub const MEMORY_BYTES: u32 = 2 * 1024 * 1024;
/// Bytes of linear memory on a microcontroller; needs a module with custom page size.
pub const MEMORY_BYTES_MCU: u32 = 16 * 1024;
/// Fuel of one activation: 0.1 s on a large machine, about 1 s on a small Linux board.
pub const FUEL_PER_ACTIVATION: u64 = 10_000_000;
/// Fuel of one activation on a microcontroller.
pub const FUEL_PER_ACTIVATION_MCU: u64 = 500_000;
/// Fuel between two looks at the rest of the device (protocol: a slice takes at most 20 ms).
pub const FUEL_PER_SLICE: u64 = 200_000;
/// Fuel between two looks at the rest of a microcontroller: 20-25 instructions of the core per unit.
pub const FUEL_PER_SLICE_MCU: u64 = 50_000;
/// Calls to the host in one activation.
pub const HOST_CALLS_PER_ACTIVATION: u32 = 1_000;
/// Calls to the host in one activation on a microcontroller.
pub const HOST_CALLS_PER_ACTIVATION_MCU: u32 = 200;
/// A function that goes on calling after its quota is refused is stopped at this many times the quota.
pub const HOST_CALLS_GROSS_FACTOR: u32 = 4;
/// Fuel that one host call costs besides what the guest itself burns: no call is free.
pub const FUEL_PER_HOST_CALL: u64 = 100;
/// Bytes of a module.
pub const MODULE_BYTES: u32 = 1024 * 1024;
/// Bytes of a module on a microcontroller.
pub const MODULE_BYTES_MCU: u32 = 32 * 1024;
/// Bytes of all custom sections (names, debug data) together.
pub const CUSTOM_SECTION_BYTES: u32 = 64 * 1024;
/// Instructions of a module; bounds the memory that its compiled form takes.
pub const INSTRUCTIONS: u32 = 400_000;
/// Instructions of a module on a microcontroller.
pub const INSTRUCTIONS_MCU: u32 = 8 * 1024;
/// Height of the value stack.
pub const VALUE_STACK_BYTES: u32 = 256 * 1024;
/// Height of the value stack on a microcontroller.
pub const VALUE_STACK_BYTES_MCU: u32 = 8 * 1024;
/// The value stack starts this high and grows to its limit; also the least that the limit can be.
pub const VALUE_STACK_BYTES_MIN: u32 = 512;
/// Depth of calls.
pub const CALL_DEPTH: u32 = 256;
/// Depth of calls on a microcontroller.
pub const CALL_DEPTH_MCU: u32 = 32;
/// Bytes of configuration, and bytes of the payload of one event.
pub const INPUT_BYTES: u32 = 64 * 1024;
/// Bytes of the payload of one event on a microcontroller.
pub const INPUT_BYTES_MCU: u32 = 1024;
/// Bytes of the topic of an event, in or out.
pub const TOPIC_BYTES: u32 = 128;
/// Bytes of one log line.
pub const LOG_LINE_BYTES: u32 = 256;
/// Bytes logged in one activation.
pub const LOG_BYTES_PER_ACTIVATION: u32 = 4 * 1024;
/// Bytes logged in one activation on a microcontroller.
pub const LOG_BYTES_PER_ACTIVATION_MCU: u32 = 512;
/// Bytes of one emitted payload.
pub const EMIT_PAYLOAD_BYTES: u32 = 8 * 1024;
/// Bytes of one emitted payload on a microcontroller.
pub const EMIT_PAYLOAD_BYTES_MCU: u32 = 512;
/// Bytes emitted in one activation, topics included.
pub const EMIT_BYTES_PER_ACTIVATION: u32 = 32 * 1024;
/// Bytes emitted in one activation on a microcontroller.
pub const EMIT_BYTES_PER_ACTIVATION_MCU: u32 = 2 * 1024;
/// Bytes of alarms, states and metrics in one activation, keys included.
pub const SAMPLE_BYTES_PER_ACTIVATION: u32 = 4 * 1024;
/// Bytes of alarms, states and metrics in one activation on a microcontroller.
pub const SAMPLE_BYTES_PER_ACTIVATION_MCU: u32 = 512;
/// Alarms in one activation: each is a write to flash.
pub const ALARMS_PER_ACTIVATION: u32 = 8;
/// Alarms in one activation on a microcontroller.
pub const ALARMS_PER_ACTIVATION_MCU: u32 = 2;
/// Bytes of durable state: the sum of all keys and values.
pub const STATE_BYTES: u32 = 64 * 1024;
/// Bytes of durable state on a microcontroller.
pub const STATE_BYTES_MCU: u32 = 1024;
/// Bytes of one key of the state. Not a field: the engine keeps a key on its stack.
pub const STATE_KEY_BYTES: usize = 64;
/// Bytes of one transfer on a bus, in each direction. Not a field: the engine keeps what goes out on its stack.
pub const I2C_BYTES_MAX: usize = 256;
/// Bytes of one value of the state.
pub const STATE_VALUE_BYTES: u32 = 4 * 1024;
/// Bytes of one value of the state on a microcontroller.
pub const STATE_VALUE_BYTES_MCU: u32 = 256;
/// Different keys that one activation may write.
pub const STATE_WRITES_PER_ACTIVATION: u32 = 64;
/// Bytes of randomness in one call.
pub const RANDOM_BYTES: u32 = 256;

/// Heap that a module takes besides its memory: the engine itself, while it checks and compiles.
pub const ENGINE_BYTES: u32 = 24 * 1024;
/// Heap for each byte of a module, compiled and beside its own bytes.
pub const HEAP_PER_MODULE_BYTE: u32 = 8;
/// Heap of an instance besides its memory: its value stack, and what surrounds both.
pub const INSTANCE_BYTES: u32 = VALUE_STACK_BYTES_MCU + 1024;

/// Heap that a component takes at most, measured (`tests/heap.rs`): what a device without more must have free to start it.
#[must_use]
pub const fn heap_bytes(module_bytes: u32, memory_bytes: u32, instances: u16) -> u64 {
    let module = ENGINE_BYTES as u64 + HEAP_PER_MODULE_BYTE as u64 * module_bytes as u64;
    module + (INSTANCE_BYTES as u64 + memory_bytes as u64) * instances as u64
}

/// What one function may use. Part of the signed assignment; the fields that an assignment does not carry keep their default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of linear memory, at start and after growing.
    pub memory_bytes: u32,
    /// Fuel of one activation; an activation that burns more is stopped as out of fuel.
    pub fuel_per_activation: u64,
    /// Fuel between two yields to the owner, and all the fuel of the module's own start function.
    pub fuel_per_slice: u64,
    /// Host calls of one activation; above it calls answer with a quota error, far above it the function is stopped.
    pub host_calls_per_activation: u32,
    /// Most bytes of a module.
    pub module_bytes: u32,
    /// Most bytes of all custom sections of a module together.
    pub custom_section_bytes: u32,
    /// Most bytes of the value stack.
    pub value_stack_bytes: u32,
    /// Deepest nesting of calls.
    pub call_depth: u32,
    /// Most tables of a module.
    pub tables: u32,
    /// Most elements of one table.
    pub table_elements: u32,
    /// Most global variables of a module.
    pub globals: u32,
    /// Most functions of a module, imports included.
    pub functions: u32,
    /// Most function types of a module.
    pub types: u32,
    /// Most parameters of one function type.
    pub params: u32,
    /// Most results of one function type.
    pub results: u32,
    /// Most local variables of one function.
    pub locals: u32,
    /// Most instructions of all functions together: compiled, one takes up to about 50 bytes.
    pub instructions: u32,
    /// Deepest nesting of blocks in a function: one takes up to about 200 bytes while it is compiled.
    pub nesting: u32,
    /// Most operands on the stack of a function.
    pub operands: u32,
    /// Most imports of a module.
    pub imports: u32,
    /// Most exports of a module.
    pub exports: u32,
    /// Most element segments of a module.
    pub element_segments: u32,
    /// Most data segments of a module.
    pub data_segments: u32,
    /// Most bytes of one event's payload.
    pub input_bytes: u32,
    /// Most bytes of a topic, in or out.
    pub topic_bytes: u32,
    /// Most bytes of one log line.
    pub log_line_bytes: u32,
    /// Most bytes logged in one activation.
    pub log_bytes_per_activation: u32,
    /// Most bytes of one emitted payload.
    pub emit_payload_bytes: u32,
    /// Most bytes emitted in one activation, topics included.
    pub emit_bytes_per_activation: u32,
    /// Most bytes of alarms, states and metrics in one activation, keys included.
    pub sample_bytes_per_activation: u32,
    /// Most alarms in one activation.
    pub alarms_per_activation: u32,
    /// Most bytes of durable state: the sum of all keys and values.
    pub state_bytes: u32,
    /// Most bytes of one value of the state.
    pub state_value_bytes: u32,
    /// Most different keys written in one activation.
    pub state_writes_per_activation: u32,
    /// Most bytes of randomness in one call.
    pub random_bytes: u32,
}

impl Limits {
    /// The defaults of the Linux class.
    pub const LINUX: Limits = Limits {
        memory_bytes: MEMORY_BYTES,
        fuel_per_activation: FUEL_PER_ACTIVATION,
        fuel_per_slice: FUEL_PER_SLICE,
        host_calls_per_activation: HOST_CALLS_PER_ACTIVATION,
        module_bytes: MODULE_BYTES,
        custom_section_bytes: CUSTOM_SECTION_BYTES,
        value_stack_bytes: VALUE_STACK_BYTES,
        call_depth: CALL_DEPTH,
        tables: 1,
        table_elements: 1024,
        globals: 64,
        functions: 4096,
        types: 512,
        params: 16,
        results: 4,
        locals: 512,
        instructions: INSTRUCTIONS,
        nesting: 4096,
        operands: 4096,
        imports: 64,
        exports: 64,
        element_segments: 64,
        data_segments: 256,
        input_bytes: INPUT_BYTES,
        topic_bytes: TOPIC_BYTES,
        log_line_bytes: LOG_LINE_BYTES,
        log_bytes_per_activation: LOG_BYTES_PER_ACTIVATION,
        emit_payload_bytes: EMIT_PAYLOAD_BYTES,
        emit_bytes_per_activation: EMIT_BYTES_PER_ACTIVATION,
        sample_bytes_per_activation: SAMPLE_BYTES_PER_ACTIVATION,
        alarms_per_activation: ALARMS_PER_ACTIVATION,
        state_bytes: STATE_BYTES,
        state_value_bytes: STATE_VALUE_BYTES,
        state_writes_per_activation: STATE_WRITES_PER_ACTIVATION,
        random_bytes: RANDOM_BYTES,
    };

    /// The defaults of a microcontroller with at least 128 KiB of RAM.
    pub const MCU: Limits = Limits {
        memory_bytes: MEMORY_BYTES_MCU,
        fuel_per_activation: FUEL_PER_ACTIVATION_MCU,
        fuel_per_slice: FUEL_PER_SLICE_MCU,
        host_calls_per_activation: HOST_CALLS_PER_ACTIVATION_MCU,
        module_bytes: MODULE_BYTES_MCU,
        custom_section_bytes: 1024,
        value_stack_bytes: VALUE_STACK_BYTES_MCU,
        call_depth: CALL_DEPTH_MCU,
        table_elements: 64,
        globals: 16,
        functions: 256,
        types: 64,
        locals: 128,
        instructions: INSTRUCTIONS_MCU,
        nesting: 256,
        operands: 256,
        imports: 32,
        exports: 16,
        element_segments: 8,
        data_segments: 32,
        input_bytes: INPUT_BYTES_MCU,
        log_bytes_per_activation: LOG_BYTES_PER_ACTIVATION_MCU,
        emit_payload_bytes: EMIT_PAYLOAD_BYTES_MCU,
        emit_bytes_per_activation: EMIT_BYTES_PER_ACTIVATION_MCU,
        sample_bytes_per_activation: SAMPLE_BYTES_PER_ACTIVATION_MCU,
        alarms_per_activation: ALARMS_PER_ACTIVATION_MCU,
        state_bytes: STATE_BYTES_MCU,
        state_value_bytes: STATE_VALUE_BYTES_MCU,
        state_writes_per_activation: 16,
        random_bytes: 64,
        ..Limits::LINUX
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::LINUX
    }
}
