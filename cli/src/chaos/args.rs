//! The command line of `fulmar chaos` as types.

use crate::complete;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub enum Chaos {
    /// Cut and refuse the link of devices: what they run goes on
    Partition {
        #[command(flatten)]
        on: On,
    },
    /// Make everything on the link of devices take longer, each way
    Latency {
        /// So much longer: 300ms, 2s; a minute at most
        #[arg(long, value_name = "TIME", value_parser = time)]
        by: Duration,
        #[command(flatten)]
        on: On,
    },
    /// Take the power of devices away, as long as the fault lasts; or reset them again and again
    Kill {
        /// Reset them at once, and again after this time, until the fault is over
        #[arg(long, value_name = "TIME", value_parser = time)]
        every: Option<Duration>,
        #[command(flatten)]
        on: On,
    },
    /// Set the wall clock of devices wrong: nothing changes, but that certificates end early or begin late
    ClockSkew {
        /// So far ahead, or behind with `-`: 90s, -12h; at most ten years
        #[arg(long, value_name = "TIME", value_parser = skew, allow_hyphen_values = true)]
        by: i64,
        #[command(flatten)]
        on: On,
    },
    /// Let the disk of devices take nothing more: no new set, no new artifact, nothing that functions remember
    DiskFull {
        #[command(flatten)]
        on: On,
    },
    /// Show the faults that are going on
    #[command(visible_alias = "ls")]
    List,
    /// End faults before their time
    Stop {
        /// Numbers of `chaos list`; all of them without one
        #[arg(value_name = "ID")]
        ids: Vec<u32>,
    },
}

/// Which simulated devices, and for how long.
#[derive(Clone, Debug, Args)]
pub struct On {
    /// Names with commas (sim-fra-01,sim-par-01), labels as with -l (site=fra,sensor), or `all`
    #[arg(long, value_name = "DEVICES", required_unless_present = "within", add = ArgValueCompleter::new(complete::devices))]
    pub on: Option<String>,
    /// Only those that are certainly inside this region
    #[arg(long, value_name = "REGION", add = ArgValueCompleter::new(complete::regions))]
    pub within: Option<String>,
    /// The fault ends by itself after this time; an hour at most
    #[arg(long = "for", value_name = "TIME", default_value = "2m", value_parser = time)]
    pub lasts: Duration,
}

fn time(text: &str) -> Result<Duration, String> {
    hub::model::Span::parse(text).map(|span| span.duration()).map_err(|error| error.to_string())
}

/// Milliseconds, with a sign.
fn skew(text: &str) -> Result<i64, String> {
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let amount = i64::try_from(time(rest)?.as_millis()).map_err(|_| "that is more than ten years".to_owned())?;
    Ok(sign * amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_has_a_sign() {
        assert_eq!((skew("90s"), skew("-12h")), (Ok(90_000), Ok(-43_200_000)));
        assert!(skew("--5s").is_err() && skew("soon").is_err());
    }
}
