//! The devices at work: who has joined is started, who has a token joins first, all stop together.
//!
//! A device that cannot join or start is reported and costs the others nothing. Must never use a token twice for two devices.
use crate::chaos::{Chaos, Weather};
use crate::door::{Door, Wish, refusal, shown, too_many};
use crate::place::Place;
use crate::road::Road;
use crate::roster::{Roster, RosterError, device_directory, read_tokens};
use agent::identity::Identity;
use agent::{AgentConfig, AgentError, Crowd, Faults, JoinError, JoinOptions, Joined, Member};
use futures_lite::{FutureExt, Stream, StreamExt};
use serde_json::{Value, json};
use smol::lock::Semaphore;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
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

/// One device, and what it meets.
struct Device {
    place: Place,
    /// `None`: its broker's certificate is for a name that a relay here cannot have.
    road: Option<Road>,
    faults: Arc<Faults>,
    weather: Weather,
    power: Power,
}

enum Power {
    On(Member),
    /// Until its fault is over.
    Off,
    /// It did not start; its log says why.
    Broken,
}

/// All devices of a data directory.
pub struct Crew {
    data: PathBuf,
    crowd: Crowd,
    devices: RefCell<BTreeMap<String, Device>>,
    chaos: RefCell<Chaos>,
}

/// Memory for functions and bytes for artifacts that a device of this class announces.
const fn capacity(class: DeviceClass) -> (u32, u64) {
    match class {
        DeviceClass::Mcu => (512 * 1024, 4 * MEBIBYTE),
        DeviceClass::Gateway => (32 * 1024 * 1024, 256 * MEBIBYTE),
    }
}

impl Device {
    fn config(&self, data: &Path) -> AgentConfig {
        let (memory_bytes, storage_bytes) = capacity(self.place.class);
        AgentConfig {
            memory_bytes,
            storage_bytes,
            broker: self.road.as_ref().map(|road| road.url().to_owned()),
            faults: Some(Arc::clone(&self.faults)),
            ..AgentConfig::new(device_directory(data, &self.place.name))
        }
    }

    fn meet(&mut self, weather: Weather) {
        if let Some(road) = &self.road
            && (weather.is_cut, weather.delay) != (self.weather.is_cut, self.weather.delay)
        {
            road.set(weather.is_cut, weather.delay);
        }
        self.faults.cut_off(weather.is_cut);
        self.faults.fill_disk(weather.is_disk_full);
        self.faults.skew_clock(weather.skew_ms);
        self.weather = weather;
    }
}

impl Crew {
    pub fn new(data: &Path) -> Result<Self, CrewError> {
        let crowd = Crowd::new(&data.join(ARTIFACTS_DIRECTORY))?;
        Ok(Self { data: data.to_owned(), crowd, devices: RefCell::default(), chaos: RefCell::default() })
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
        let door = Door::open(&self.data).map_err(|error| {
            tracing::warn!(%error, "`fulmar chaos` will find nobody: its socket cannot be opened");
        });
        self.crowd.run(async {
            for place in joined {
                self.admit(place).await;
            }
            tracing::info!(devices = self.devices.borrow().len(), "devices that had joined are started");
            let enrolment = async {
                let complete = self.enrol(waiting).await;
                if complete && let Some(path) = tokens {
                    // Every one of them is used up.
                    let _ = std::fs::remove_file(path);
                }
                std::future::pending().await
            };
            let trouble = async {
                match &door {
                    Ok(door) => self.make_trouble(door).await,
                    Err(()) => std::future::pending().await,
                }
            };
            let stop = async {
                orders.next().await;
            };
            stop.or(enrolment).or(trouble).await;
            let powers = std::mem::take(&mut *self.devices.borrow_mut()).into_values().map(|device| device.power);
            let members: Vec<Member> = powers
                .filter_map(|power| match power {
                    Power::On(member) => Some(member),
                    Power::Off | Power::Broken => None,
                })
                .collect();
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

    /// Takes up a device that has joined, and starts it.
    async fn admit(&self, place: Place) {
        let (name, directory) = (place.name.clone(), device_directory(&self.data, &place.name));
        let broker = Identity::load(&directory).ok().flatten().and_then(|identity| identity.membership);
        let road = match broker {
            Some(membership) => Road::open(&membership.broker).await.unwrap_or_else(|error| {
                tracing::warn!(name, %error, "the link of a device cannot be made to fail: no relay");
                None
            }),
            None => None,
        };
        let weather = self.chaos.borrow().weather(&name);
        let mut device = Device { place, road, faults: Arc::default(), weather: Weather::default(), power: Power::Off };
        device.meet(weather);
        if !weather.is_off {
            device.power = self.start(&device);
        }
        self.devices.borrow_mut().insert(name, device);
    }

    fn start(&self, device: &Device) -> Power {
        match self.crowd.start(&device.config(&self.data)) {
            Ok(member) => Power::On(member),
            Err(error) => {
                tracing::error!(name = device.place.name, %error, "a device does not start");
                Power::Broken
            }
        }
    }

    /// Hears what is to go wrong, makes it come true, and ends it in time.
    async fn make_trouble(&self, door: &Door) {
        loop {
            let due = self.chaos.borrow().due();
            let asked = async { Some(door.next().await) };
            let over = async {
                match due {
                    Some(due) => smol::Timer::at(due).await,
                    None => std::future::pending().await,
                };
                None
            };
            let question = asked.or(over).await;
            let answer = question.as_ref().map(|question| self.answer(&question.wish));
            self.change_weather().await;
            if let (Some(question), Some(answer)) = (question, answer) {
                // When the answer is there, it is so.
                let _ = question.reply.send(answer).await;
            }
        }
    }

    fn answer(&self, wish: &Wish) -> Value {
        let now = Instant::now();
        let mut chaos = self.chaos.borrow_mut();
        match wish {
            Wish::List => {
                let faults: Vec<Value> = chaos.active().iter().map(|active| shown(active, now)).collect();
                json!({"faults": faults, "devices": self.devices.borrow().keys().collect::<Vec<_>>()})
            }
            Wish::Stop { id } => {
                let stopped = chaos.stop(*id);
                tracing::info!(?stopped, "faults are ended");
                json!({"stopped": stopped})
            }
            Wish::Start { fault, devices, lasts } => {
                let known = self.devices.borrow();
                if let Some(name) = devices.iter().find(|name| !known.contains_key(*name)) {
                    return refusal("UNKNOWN", format!("there is no simulated device {name}"));
                }
                let has_road = |name: &&String| known.get(*name).is_some_and(|device| device.road.is_some());
                if fault.needs_road()
                    && let Some(name) = devices.iter().find(|name| !has_road(name))
                {
                    let text = format!(
                        "the link of {name} cannot be touched: its broker's certificate is for another name than that of this machine"
                    );
                    return refusal("NO_ROAD", text);
                }
                match chaos.start(now, *fault, devices.clone(), *lasts) {
                    Some(active) => {
                        tracing::info!(id = active.id, fault = fault.name(), devices = devices.len(), "a fault begins");
                        shown(active, now)
                    }
                    None => too_many(),
                }
            }
        }
    }

    /// Gives every device what it has to meet now.
    async fn change_weather(&self) {
        let now = Instant::now();
        let resets = {
            let mut chaos = self.chaos.borrow_mut();
            let over = chaos.expire(now);
            if !over.is_empty() {
                tracing::info!(?over, "faults are over");
            }
            chaos.resets(now)
        };
        let mut leaving = Vec::new();
        for (name, device) in self.devices.borrow_mut().iter_mut() {
            let weather = self.chaos.borrow().weather(name);
            device.meet(weather);
            if (weather.is_off || resets.contains(name)) && matches!(device.power, Power::On(_)) {
                leaving.push(std::mem::replace(&mut device.power, Power::Off));
            }
        }
        for power in leaving {
            if let Power::On(member) = power {
                member.request_abandon();
                let name = member.name().to_owned();
                if let Err(error) = member.ended().await {
                    tracing::error!(name, %error, "a device broke down when it was reset");
                }
            }
        }
        for device in self.devices.borrow_mut().values_mut() {
            if matches!(device.power, Power::Off) && !device.weather.is_off {
                device.power = self.start(device);
            }
        }
    }

    /// Joins and starts one device after the other, some at the same time. True: all have joined.
    async fn enrol(&self, waiting: BTreeMap<String, String>) -> bool {
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
                Ok(_) => self.admit(place).await,
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
        assert!(!crew.crowd.run(crew.enrol(waiting)));
        assert!(crew.devices.borrow().is_empty());
        assert!(crew.crowd.run(crew.enrol(BTreeMap::new())));
    }

    #[test]
    fn only_a_hub_that_could_not_listen_is_asked_again() {
        assert!(is_passing(&JoinError::NoAnswer));
        assert!(is_passing(&JoinError::Refused(JoinRefusal::Busy)));
        assert!(!is_passing(&JoinError::Refused(JoinRefusal::NameTaken)));
        assert!(!is_passing(&JoinError::WrongHub));
    }
}
