//! A second hub: a process on a copy of the database, with the same keys, at the same broker, until an operator ends one of the two.
//!
//! While the second one acts it stands in the place of the first, so that all that drives a hub is there once. The copy may be of
//! hours ago; the first hub may run, stand still or come back; and either there is an account for each, so that both hear one
//! another, or one for both, which the one has that entered it last.
use super::device::{Device, Join};
use super::fault::Fault;
use super::network::Client;
use super::task::{ARTIFACTS, Task, WORKLOADS, name_of};
use super::world::{Event, HubNode, Phase, World};
use hub::engine::{Answer, DeviceChange, Input, Mode, Problem, Request, Ticket};
use hub::model::ObjectKey;
use std::collections::BTreeSet;
use std::mem;
use wire::topic::Topic;
use wire::{DeviceId, Digest, Revision};

/// A copy is not started for seconds.
const RIVAL_MS_MIN: u64 = 60_000;
/// Two hubs that hear one another say nothing to devices after this: a few of their announcements.
const NOTICED_MS: u64 = 40_000;

/// What is known of two hubs.
#[derive(Debug, Default)]
pub struct Contest {
    /// Sets of hubs that are not there any more.
    signed: BTreeSet<(DeviceId, Revision, Digest)>,
    /// Since when nothing kept the two from hearing one another.
    since_ms: Option<u64>,
    /// The operator said that the first one goes on.
    pub is_decided: bool,
    /// It says so just now.
    pub is_asked: bool,
    /// The copy is the one that stays.
    is_copy_kept: bool,
    /// Questions of the second hub's operator. One may be answered when the copy is the hub that stays.
    asked: BTreeSet<u64>,
}

impl HubNode {
    /// Another process in its place. What is wrong with the place stays.
    fn succeed(&mut self, other: Self) -> Self {
        let before = mem::replace(self, other);
        self.client = before.client;
        (self.commit_slow, self.disk_full, self.paused) = (before.commit_slow, before.disk_full, before.paused);
        (self.wall_offset_ms, self.jumped_ms) = (before.wall_offset_ms, before.jumped_ms);
        before
    }
}

impl World<'_> {
    /// The second hub acts.
    pub fn as_rival(&mut self, act: impl FnOnce(&mut Self)) {
        let Some(rival) = self.rival.as_mut() else { return };
        mem::swap(&mut self.hub, rival);
        act(self);
        if let Some(first) = self.rival.as_mut() {
            mem::swap(&mut self.hub, first);
        }
    }

    pub fn is_of_rival(&self, event: &Event) -> bool {
        let Some(rival) = &self.rival else { return false };
        match event {
            Event::HubWake { life }
            | Event::HubConnect { life }
            | Event::HubRefused { life, .. }
            | Event::Written { life }
            | Event::AccountTaken { life }
            | Event::RivalOperator { life } => *life == rival.life,
            Event::HubSilence { connection } => rival.connection == Some(*connection),
            _ => false,
        }
    }

    /// What a device holds that only the other hub knows is proven with a signature, so that only runs with real ones have two.
    pub fn rival_comes(&mut self) {
        let has_joined = |node: &Device<'_>| matches!(node.join, Join::Joined { .. });
        if self.rival.is_some() || !self.ground.is_real || !self.devices.iter().all(has_joined) {
            return;
        }
        let is_old = self.fate.chance(500);
        let copy = match self.backup.as_deref().filter(|_| is_old) {
            Some(backup) => backup.clone(),
            None => self.hub.durable.clone(),
        };
        // The account was free for each of two before.
        let is_shared = self.broker.account.is_some() || self.fate.chance(500);
        if self.hub.is_up() && self.fate.chance(500) {
            self.hub_crash(Fault::SecondHub);
        } else {
            self.counts.hit(Fault::SecondHub);
        }
        self.broker.account = is_shared.then_some(Client::Rival);
        let is_copy_kept = self.fate.chance(250);
        let Contest { signed, asked, .. } = mem::take(&mut self.contest);
        self.contest = Contest { is_copy_kept, signed, asked, ..Contest::default() };
        self.rival = Some(Box::new(HubNode::new(Client::Rival, copy)));
        self.as_rival(Self::hub_start);
        let ms = self.duration_ms().max(RIVAL_MS_MIN);
        self.lasts_for(Fault::SecondHub, 0, ms);
        if let Some(life) = self.rival.as_ref().map(|rival| rival.life) {
            let pause = self.fate.between(2_000, 60_000);
            self.after(pause, Event::RivalOperator { life });
        }
    }

    /// Somebody works with the second hub too.
    pub fn rival_operator(&mut self, life: u32) {
        if !self.hub.is_rival() || self.hub.life != life || self.phase != Phase::Safety {
            return;
        }
        let key = |n: usize| ObjectKey::workload("default", &name_of(n));
        let n = self.fate.index(WORKLOADS);
        let request = match self.fate.below(5) {
            0 => Request::Delete { key: key(n), if_match: None },
            1 => {
                let name = format!("dev-{}", self.fate.index(self.devices.len()));
                Request::DeviceChange { name, change: DeviceChange::Drain }
            }
            _ => {
                // Nothing of the first hub's operator is drawn from.
                let mut own = self.fate.fork();
                mem::swap(&mut self.operator.random, &mut own);
                let document = self.operator.proposal(n);
                mem::swap(&mut self.operator.random, &mut own);
                Request::Put { key: key(n), document, mode: Mode::Commit, if_match: None }
            }
        };
        self.say(|_| format!("operator of the second hub: {request:?}"));
        let ticket = Ticket(self.operator.next_ticket);
        self.operator.next_ticket += 1;
        self.contest.asked.insert(ticket.0);
        self.hub_tell(Input::Request { ticket, actor: "another".to_owned(), request });
        let pause = self.fate.between(5_000, 90_000);
        self.after(pause, Event::RivalOperator { life });
    }

    pub fn rival_asked(&mut self, ticket: Ticket) -> bool {
        self.contest.asked.remove(&ticket.0)
    }

    pub fn rival_answered(&mut self, result: Result<Answer, Problem>) {
        let sequence = self.hub.durable.sequence;
        if let Ok(Answer::Object { resource_version, .. }) = result
            && resource_version > sequence
        {
            self.fail(|| format!("[I5] the second hub answers with version {resource_version}, not durable"));
        }
    }

    // --- The account ---

    /// The hub that acts enters its credentials, as each does when it starts and when it takes over.
    pub fn account_take(&mut self) {
        if self.broker.account.is_none() {
            return;
        }
        let client = self.hub.client;
        let Some((other, life)) = self.rival.as_ref().map(|other| (other.client, other.life)) else {
            self.broker.account = None;
            return;
        };
        self.broker.account = Some(client);
        let numbers: Vec<u32> =
            self.connections.iter().filter(|(_, of)| of.client == other && of.at_broker).map(|(n, _)| *n).collect();
        numbers.into_iter().for_each(|number| self.broker_drops(number));
        let pause = self.random.between(500, 5_000);
        self.after(pause, Event::AccountTaken { life });
    }

    pub fn account_taken(&mut self, life: u32) {
        let client = self.hub.client;
        if self.hub.life == life && self.broker.account.is_some_and(|owner| owner != client) {
            self.hub_tell(Input::AccountTaken);
        }
    }

    // --- The end ---

    /// The operator ends one of the two, and goes on as the guide says.
    pub fn rival_ends(&mut self) {
        if self.contest.is_copy_kept {
            self.rival_stays()
        } else {
            self.rival_goes()
        }
        self.contest.since_ms = None;
        self.contest.is_decided = false;
        if self.broker.account.is_some() || self.fate.chance(500) {
            self.operator.wish(Task::HubTakeover);
        }
        if self.fate.chance(500) {
            self.operator.wish(Task::HubApply);
        }
    }

    fn rival_goes(&mut self) {
        let Some(rival) = self.rival.take() else { return };
        self.say(|_| "-- the second hub is ended".to_owned());
        if let Some(number) = rival.connection {
            self.hang_up(number);
        }
        self.remember_signed(&rival);
    }

    /// The copy is the one that is meant to be there.
    fn rival_stays(&mut self) {
        let Some(rival) = self.rival.take() else { return };
        self.say(|_| "-- the first hub is ended, and the second one stays".to_owned());
        if let Some(number) = self.hub.connection.take() {
            self.hang_up(number);
        }
        self.operator_lost_hub();
        self.operator.known.values_mut().for_each(|known| known.is_uncertain = true);
        let first = self.hub.succeed(*rival);
        self.remember_signed(&first);
        self.hub.held = first.held;
        for connection in self.connections.values_mut().filter(|of| of.client == Client::Rival) {
            connection.client = Client::Hub;
        }
        self.broker.account = match self.broker.account {
            Some(Client::Rival) | None => None,
            // That of the hub that was ended: the other one has to take it.
            Some(_) => Some(Client::Rival),
        };
        // The copy may have been made before these were there.
        (0..ARTIFACTS).for_each(|n| self.operator.wish(Task::Artifact(n)));
        (0..2).for_each(|n| self.operator.wish(Task::Region(n)));
    }

    fn remember_signed(&mut self, node: &HubNode) {
        let signed = node.durable.signed.iter().map(|((device, revision), digest)| (*device, *revision, *digest));
        self.contest.signed.extend(signed);
    }

    // --- Oracles ---

    /// One of the hubs may not have heard the other one until now.
    pub fn contest_begins_anew(&mut self) {
        self.contest.since_ms = None;
    }

    /// By this hub or by another one with its key.
    pub fn was_signed(&self, device: DeviceId, revision: Revision, digest: Digest) -> bool {
        let by = |node: &HubNode| node.durable.signed.get(&(device, revision)) == Some(&digest);
        by(&self.hub)
            || self.rival.as_deref().is_some_and(by)
            || self.contest.signed.contains(&(device, revision, digest))
    }

    /// Of two hubs that can hear one another none speaks to devices (C12), unless an operator said that the first one shall.
    pub fn judge_silence(&mut self, topic: &Topic) {
        let Some(other) = self.rival.as_deref() else { return };
        let is_clear = |node: &HubNode| {
            let link = self.links.get(&node.client).copied().unwrap_or_default();
            node.is_linked && node.paused == 0 && link.stalled == [0, 0] && link.slow == 0 && link.chaos == 0
        };
        if !is_clear(other) || !is_clear(&self.hub) {
            self.contest.since_ms = None;
            return;
        }
        let since = *self.contest.since_ms.get_or_insert(self.now);
        let may_speak = (self.contest.is_decided || self.contest.is_asked) && !self.hub.is_rival();
        if matches!(topic, Topic::Down(..)) && self.now - since > NOTICED_MS && !may_speak {
            let (client, seconds) = (self.hub.client, (self.now - since) / 1000);
            self.fail(|| format!("[C12] {client:?} publishes on {topic:?} after {seconds} s beside another hub"));
        }
    }
}
