//! The devices at work: who has joined is started, who has a token joins first, all stop together.
//!
//! A device that cannot join or start is reported and costs the others nothing. Must never use a token twice for two devices.
use crate::place::Place;
use crate::roster::{Roster, RosterError, device_directory, read_tokens};
use agent::{AgentConfig, AgentError, Crowd, JoinError, JoinOptions, Joined, Member};
use futures_lite::{FutureExt, Stream, StreamExt};
use smol::lock::Semaphore;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use wire::hello::DeviceClass;
use wire::join::JoinRefusal;

/// Below the data directory.
const ARTIFACTS_DIRECTORY: &str = "artifacts";
/// Devices that join at the same time: each takes a thread while it does.
const JOINS_MAX: usize = 8;
/// Questions of one device; the pause grows with each.
const TRIES_MAX: u32 = 5;
const TRY_PAUSE: Duration = Duration::from_secs(1);
const MEBIBYTE: u64 = 1024 * 1024;

/// Why there is no fleet.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    #[error(transparent)]
    Roster(#[from] RosterError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("no device has joined, and there are no tokens. Start the fleet with `fulmar up --demo`, or give --tokens")]
    Nobody,
}

/// All devices of a data directory.
pub struct Crew {
    data: PathBuf,
    crowd: Crowd,
}

/// Memory for functions and bytes for artifacts that a device of this class announces.
const fn capacity(class: DeviceClass) -> (u32, u64) {
    match class {
        DeviceClass::Mcu => (512 * 1024, 4 * MEBIBYTE),
        DeviceClass::Gateway => (32 * 1024 * 1024, 256 * MEBIBYTE),
    }
}

fn config(data: &Path, place: &Place) -> AgentConfig {
    let (memory_bytes, storage_bytes) = capacity(place.class);
    AgentConfig { memory_bytes, storage_bytes, ..AgentConfig::new(device_directory(data, &place.name)) }
}

impl Crew {
    pub fn new(data: &Path) -> Result<Self, CrewError> {
        Ok(Self { data: data.to_owned(), crowd: Crowd::new(&data.join(ARTIFACTS_DIRECTORY))? })
    }

    /// Runs until the first of `orders` comes, then stops every device in order; the second one ends it at once.
    pub fn run<S>(&self, tokens: Option<&Path>, mut orders: impl Stream<Item = S> + Unpin) -> Result<(), CrewError> {
        let roster = Roster::read(&self.data, 0)?;
        let asked = tokens.map(read_tokens).transpose()?.unwrap_or_default();
        let joined: Vec<Place> = roster.entries.into_iter().map(|entry| entry.place).collect();
        let waiting: BTreeMap<String, String> =
            asked.into_iter().filter(|(name, _)| joined.iter().all(|place| place.name != *name)).collect();
        if joined.is_empty() && waiting.is_empty() {
            return Err(CrewError::Nobody);
        }
        self.crowd.run(async {
            let mut members: Vec<Member> = joined.iter().filter_map(|place| self.start(place)).collect();
            tracing::info!(devices = members.len(), "devices that had joined are started");
            let enrolment = async {
                let complete = self.enrol(waiting, &mut members).await;
                if complete && let Some(path) = tokens {
                    // Every one of them is used up.
                    let _ = std::fs::remove_file(path);
                }
                std::future::pending().await
            };
            let stop = async {
                orders.next().await;
            };
            stop.or(enrolment).await;
            tracing::info!(devices = members.len(), "asked to stop");
            members.iter().for_each(Member::request_stop);
            let ended = async {
                for member in members {
                    let name = member.name().to_owned();
                    if let Err(error) = member.ended().await {
                        tracing::error!(name, %error, "a device did not end in order");
                    }
                }
            };
            let abandoned = async {
                orders.next().await;
            };
            ended.or(abandoned).await;
        });
        Ok(())
    }

    fn start(&self, place: &Place) -> Option<Member> {
        match self.crowd.start(&config(&self.data, place)) {
            Ok(member) => Some(member),
            Err(error) => {
                tracing::error!(name = place.name, %error, "a device does not start");
                None
            }
        }
    }

    /// Joins and starts one device after the other, some at the same time. True: all have joined.
    async fn enrol(&self, waiting: BTreeMap<String, String>, members: &mut Vec<Member>) -> bool {
        // With room for every outcome.
        let (done, outcomes) = smol::channel::bounded(waiting.len().max(1));
        let permits = Arc::new(Semaphore::new(JOINS_MAX));
        let mut joins = Vec::new();
        for (name, token) in waiting {
            let Some(place) = Place::of_name(&name) else { continue };
            let (data, permits, done) = (device_directory(&self.data, &name), Arc::clone(&permits), done.clone());
            joins.push(self.crowd.spawn(async move {
                let _permit = permits.acquire_arc().await;
                let options =
                    JoinOptions { token, name: Some(name), position: Some(place.position), class: place.class, data };
                let outcome = join(options).await;
                // Nobody listens any more at a stop.
                let _ = done.send((place, outcome)).await;
            }));
        }
        drop(done);
        let mut all = true;
        while let Ok((place, outcome)) = outcomes.recv().await {
            match outcome {
                Ok(_) => members.extend(self.start(&place)),
                Err(error) => {
                    all = false;
                    tracing::error!(name = place.name, %error, "a device could not join");
                }
            }
        }
        all
    }
}

/// Joins, more than once if the hub could not listen: as often as it takes, always as the same device.
async fn join(options: JoinOptions) -> Result<Joined, JoinError> {
    let mut tries = 1;
    loop {
        let again = options.clone();
        let outcome = smol::unblock(move || agent::join(&again)).await;
        match outcome {
            Err(ref error) if is_passing(error) && tries < TRIES_MAX => {
                tracing::warn!(name = options.name, %error, tries, "a device could not join yet");
                smol::Timer::after(TRY_PAUSE * tries).await;
                tries += 1;
            }
            Ok(_) | Err(_) => return outcome,
        }
    }
}

/// Whether the same question may get another answer.
const fn is_passing(error: &JoinError) -> bool {
    match error {
        JoinError::Unreachable { .. } | JoinError::NoAnswer | JoinError::Refused(JoinRefusal::Busy) => true,
        JoinError::Refused(
            JoinRefusal::TokenUsed
            | JoinRefusal::TokenExpired
            | JoinRefusal::NotAuthentic
            | JoinRefusal::NameTaken
            | JoinRefusal::Malformed,
        )
        | JoinError::Token(_)
        | JoinError::Fleet(_)
        | JoinError::Endpoint(_)
        | JoinError::Name(_)
        | JoinError::Position
        | JoinError::AlreadyJoined { .. }
        | JoinError::Lock(_)
        | JoinError::Identity(_)
        | JoinError::NotTrusted { .. }
        | JoinError::NoPin(_)
        | JoinError::NotAuthorized { .. }
        | JoinError::BrokerRefused { .. }
        | JoinError::WrongHub
        | JoinError::Answer(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_fleet_without_members_and_tokens_says_what_to_do() {
        let data = tempfile::tempdir().unwrap();
        let crew = Crew::new(data.path()).unwrap();
        let error = crew.run(None, futures_lite::stream::pending::<()>()).unwrap_err();
        assert!(matches!(error, CrewError::Nobody) && error.to_string().contains("fulmar up --demo"));
    }

    #[test]
    fn a_token_of_a_device_that_cannot_join_is_not_used_up() {
        let data = tempfile::tempdir().unwrap();
        let crew = Crew::new(data.path()).unwrap();
        let waiting = BTreeMap::from([("sim-fra-01".to_owned(), "nonsense".to_owned())]);
        let mut members = Vec::new();
        assert!(!crew.crowd.run(crew.enrol(waiting, &mut members)));
        assert!(members.is_empty());
        assert!(crew.crowd.run(crew.enrol(BTreeMap::new(), &mut members)));
    }

    #[test]
    fn only_a_hub_that_could_not_listen_is_asked_again() {
        assert!(is_passing(&JoinError::NoAnswer));
        assert!(is_passing(&JoinError::Refused(JoinRefusal::Busy)));
        assert!(!is_passing(&JoinError::Refused(JoinRefusal::NameTaken)));
        assert!(!is_passing(&JoinError::WrongHub));
    }
}
