//! A fleet of simulated devices in one process, for demonstrations: only the places are made up. Each device is the real
//! agent with its own keys, connection, journal and functions, and joins by a token like any other.
//!
//! Must never know the hub's insides, nor be given anything that a real device would not get.
#![forbid(unsafe_code)]

mod chaos;
mod crew;
mod door;
mod place;
mod road;
mod roster;

pub use chaos::{DELAY_MAX, FAULT_TIME_MAX, FAULTS_MAX, RESET_PAUSE_MIN, SKEW_MAX_MS};
pub use crew::{Crew, CrewError};
pub use door::{DOOR, QUESTION_BYTES_MAX};
pub use place::{CITIES, City, DEVICES_MAX, Place, places};
pub use roster::{Entry, Roster, RosterError, TOKENS_BYTES_MAX, read_tokens};
