//! THE agent machine: what a device does, as a value. The same code runs on Linux, on microcontrollers and in the simulator.
//!
//! It has no clock, I/O, thread, allocation, global or random source: time, entropy and bytes are arguments. Files by concern;
//! `port` is the boundary.
pub mod port;
pub mod time;

// The machine behind the port, as a shell sees it:
//
//   Agent::<'b, SLOTS>::new(now, config: Config<'b>, buffers: Buffers<'b>, restored: Restored<'_>) -> Agent
//   agent.handle(now, Input<'_>)
//   agent.poll(now) -> Option<Effect<'_>>         // until None
//   agent.poll_timeout() -> Option<Instant>
//   agent.references(&Digest) -> bool             // for Effect::Collect
//   agent.is_finished() -> bool                   // after Input::Shutdown
//   agent.link() -> LinkState, agent.accepted() -> Option<(Revision, Digest)>, agent.boot() -> BootId
//   agent.unix_ms(now) -> Option<u64>             // once a Fresh came
