//! The one way to say something to whoever watches a board: lines with the time since boot, to one sink. It must work
//! before everything else does, and within a fault.

use core::cell::Cell;
use core::fmt::{self, Write};
use critical_section::Mutex;

/// Takes bytes and returns when they are on their way.
pub type Sink = fn(&[u8]);

static SINK: Mutex<Cell<Option<Sink>>> = Mutex::new(Cell::new(None));

/// From now on lines go to `sink`.
pub fn install(sink: Sink) {
    critical_section::with(|cs| SINK.borrow(cs).set(Some(sink)));
}

/// One line of text.
pub fn line(text: &str) {
    write(format_args!("{text}"));
}

/// Writes one line: seconds since boot with milliseconds, then the text. Use the macro `log!`.
pub fn write(text: fmt::Arguments<'_>) {
    let Some(sink) = critical_section::with(|cs| SINK.borrow(cs).get()) else { return };
    let milliseconds = embassy_time_driver::now() / (embassy_time_driver::TICK_HZ / 1000);
    let mut out = Out(sink);
    // The sink cannot fail, and a text that cannot be formatted is cut.
    let _ = write!(out, "[{:5}.{:03}] {text}\r\n", milliseconds / 1000, milliseconds % 1000);
}

struct Out(Sink);

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        (self.0)(text.as_bytes());
        Ok(())
    }
}

/// Says a line on the board's log, as `format!` would write it.
#[macro_export]
macro_rules! log {
    ($($text:tt)*) => { $crate::log::write(core::format_args!($($text)*)) };
}
