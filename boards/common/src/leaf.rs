//! The way out of a board without a network: one serial line, whose other end is a gateway's.

use crate::port::BoardClock;
use agent_nostd::line::LineState;
use agent_nostd::shell::port::Clock as _;
use agent_nostd::shell::serial::{Serial, SerialLine};
use drivers::log;
use embedded_io_async::{Read, Write};
use static_cell::StaticCell;

/// Speed of the line, unless a board's wiring asks for another one. A gateway takes the same by default.
pub const BAUD: u32 = 115_200;

/// Moves bytes between the port and the line: a task of its own.
pub struct Pump<R, T> {
    line: &'static SerialLine,
    reader: R,
    writer: T,
}

impl<R: Read, T: Write> Pump<R, T> {
    pub async fn run(mut self) -> ! {
        let told = |line: &agent_nostd::line::Line| match (line.state(), line.peer()) {
            (LineState::Open, Some(gateway)) => log!("line: open, behind {gateway}"),
            (LineState::Closed(end), _) => log!("line: {end}"),
            (LineState::Idle | LineState::Opening | LineState::Open, _) => {}
        };
        match self.line.pump(&BoardClock, &mut self.reader, &mut self.writer, told).await {}
    }
}

/// The line of a board. Once. `seed`: of this boot, so that a gateway tells its connections from those before.
pub fn connect<R, T>((reader, writer): (R, T), seed: u64) -> (Serial<'static, BoardClock>, Pump<R, T>) {
    static LINE: StaticCell<SerialLine> = StaticCell::new();
    let line = &*LINE.init(SerialLine::new(BoardClock.now(), seed as u32));
    (Serial { line, clock: &BoardClock }, Pump { line, reader, writer })
}
