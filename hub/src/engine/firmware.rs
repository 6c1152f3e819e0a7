//! Firmware of devices: what they say of it, and rollouts that bring another one to them in waves.
//!
//! How many devices are reached is `crate::wave`'s to say. A rollout is stored as it is, with a verdict for each device; what was offered
//! to whom is soft and is offered again after a restart, which a device answers with what it knows. Nothing here trusts an image: the
//! device checks the hub's signature, and the boot code the hash.

use super::Engine;
use super::device::{Device, Presence, Talk};
use super::event::Draft;
use super::object::Done;
use super::pending::Release;
use super::port::{Answer, FirmwareImage, Instant, Now, Problem, RolloutVerb, Ticket};
use super::problem;
use super::session::live_frame;
use super::stored::timestamp;
use crate::commit::{AuditEntry, ObjectRow, Write};
use crate::model::{DeviceFirmware, ObjectKey, Rollout, RolloutRequest, RolloutTarget, Selector, Span, TargetState};
use crate::wave::{Phase, Plan, Progress, Size, Verdict, WAVES_MAX};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wire::firmware::{Firmware, Obstacle, Offer, Phase as DevicePhase, Statement};
use wire::sign::SIGNATURE_BYTES;
use wire::topic::{Down, Topic};
use wire::{Digest, LiveContext};

/// Rollouts that are kept; the oldest that is over makes room.
pub const ROLLOUTS_MAX: usize = 100;
/// Devices of one rollout.
pub const ROLLOUT_TARGETS_MAX: usize = 20_000;
/// Times that one image is offered to one device in a run of the hub, where the device was interrupted or did not get it.
pub const OFFERS_MAX: u8 = 3;
/// An offer that was not answered is repeated after so long; one whose image did not come is too.
pub const OFFER_PAUSE: Duration = Duration::from_secs(15);
/// A device that is not heard for so long after its trial must be over does not keep the image.
pub const OFFER_SILENCE: Duration = Duration::from_secs(600);
/// As the row of a rollout is marked in the table of objects.
pub(super) const ROW_KIND: &str = "Rollout";
/// How often open rollouts are looked at without a reason.
const PERIOD: Duration = Duration::from_secs(1);
const SOAK_DEFAULT: Duration = Duration::from_secs(30);
const CONFIRM_DEFAULT: Duration = Duration::from_secs(600);
/// Of the time that an image has to confirm itself.
pub const CONFIRM_WITHIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(3600)];
const WAVES_DEFAULT: [&str; 3] = ["1", "10%", "100%"];
const OFFER_BYTES_MAX: usize = 192;
const ACTOR: &str = "system:rollout";

/// What a device last said of its firmware.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub board: String,
    pub running: u32,
    pub target: u32,
    pub phase: DevicePhase,
    pub obstacle: Obstacle,
    pub done: u32,
}

/// What one device was offered in this run of the hub.
#[derive(Clone, Copy, Debug)]
struct Offered {
    version: u32,
    at: Instant,
    tries: u8,
    /// It was seen on its way since: what fails afterwards is this try.
    has_moved: bool,
}

#[derive(Debug, Default)]
pub(super) struct Rollouts {
    offered: BTreeMap<u32, Offered>,
    look_at: Option<Instant>,
    is_due: bool,
}

impl Rollouts {
    /// What was under way before a start goes on.
    pub fn resume(&mut self) {
        self.is_due = true;
    }

    pub fn timeout(&self) -> Option<Instant> {
        if self.is_due { Some(Instant(0)) } else { self.look_at }
    }
}

pub(super) fn obstacle_name(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::None => "",
        Obstacle::Signature => "SIGNATURE",
        Obstacle::Downgrade => "DOWNGRADE",
        Obstacle::Content => "HASH_MISMATCH",
        Obstacle::NoSpace => "NO_SPACE",
        Obstacle::Unreachable => "FETCH_FAILED",
        Obstacle::Flash => "FLASH",
        Obstacle::Panic => "PANIC",
        Obstacle::Watchdog => "WATCHDOG",
        Obstacle::Interrupted => "INTERRUPTED",
        Obstacle::NotStarted => "NOT_STARTED",
    }
}

const fn phase_name(phase: DevicePhase) -> &'static str {
    match phase {
        DevicePhase::Idle => "Idle",
        DevicePhase::Fetching => "Fetching",
        DevicePhase::Installing => "Installing",
        DevicePhase::Trial => "Trial",
        DevicePhase::Done => "Done",
        DevicePhase::Failed => "Failed",
    }
}

pub(super) fn shown(seen: &Seen) -> DeviceFirmware {
    DeviceFirmware {
        board: seen.board.clone(),
        version: seen.running,
        phase: phase_name(seen.phase).to_owned(),
        target: (seen.target > 0).then_some(seen.target),
        reason: obstacle_name(seen.obstacle).to_owned(),
        done_bytes: seen.done,
    }
}

/// The waves of a stored rollout: they were checked when it was made.
fn plan_of(rollout: &Rollout) -> Plan {
    Plan {
        waves: rollout.waves.iter().filter_map(|text| Size::parse(text)).collect(),
        failures_max: rollout.max_failures,
        soak_ms: rollout.soak_ms,
    }
}

fn digest_of(rollout: &Rollout) -> Option<Digest> {
    rollout.artifact.split_once("@sha256:").and_then(|(_, digest)| Digest::parse(digest))
}

fn row(rollout: &Rollout, sequence: u64, now: Now) -> Write {
    Write::ObjectPut(ObjectRow {
        kind: ROW_KIND.to_owned(),
        namespace: String::new(),
        name: rollout.name.clone(),
        uid: String::new(),
        generation: 1,
        resource_version: sequence,
        created_ms: now.wall_ms,
        json: serde_json::to_vec(rollout).unwrap_or_default(),
    })
}

fn invalid(pointer: &str, detail: String) -> Problem {
    let error = crate::model::FieldError { pointer: pointer.to_owned(), detail: detail.clone() };
    Problem { errors: vec![error], ..Problem::new(crate::problem_code::ProblemCode::Invalid, detail) }
}

impl Engine {
    pub(super) fn on_firmware(&mut self, now: Now, index: u32, _: Talk, body: &[u8]) {
        let Ok(said) = wire::codec::decode::<Firmware<'_>>(body) else {
            self.messages_refused += 1;
            return;
        };
        let Firmware { session: _, board, running, target, phase, obstacle, done } = said;
        let Some(device) = self.state.devices.get_mut(index) else { return };
        let seen = Seen { board: board.to_owned(), running, target, phase, obstacle, done };
        let before = device.observed.firmware.replace(seen);
        if let Some(offered) = self.rollouts.offered.get_mut(&index) {
            let is_moving = matches!(phase, DevicePhase::Fetching | DevicePhase::Installing | DevicePhase::Trial);
            offered.has_moved |= is_moving && target == offered.version;
        }
        self.rollouts.is_due = true;
        let is_news = before.is_none_or(|before| (before.phase, before.running) != (phase, running));
        if is_news {
            self.touch_device(now, index);
        }
    }

    /// Length of a firmware image that a rollout brings to this device now.
    pub(super) fn firmware_named(&self, index: u32, digest: &Digest) -> Option<u32> {
        let name = &self.state.devices.get(index)?.keys.name;
        let is_for = |rollout: &&Arc<Rollout>| {
            rollout.is_open()
                && digest_of(rollout).as_ref() == Some(digest)
                && reached(rollout).iter().any(|target| target.device == *name)
        };
        self.state.rollouts.values().find(is_for).map(|rollout| rollout.bytes)
    }

    pub(super) fn rollout_list(&self) -> Answer {
        let items: Vec<&Rollout> = self.state.rollouts.values().map(Arc::as_ref).collect();
        Answer::Report(json!({ "items": items }))
    }

    pub(super) fn rollout_get(&self, name: &str) -> Result<Answer, Problem> {
        let rollout = self.state.rollouts.get(name).ok_or_else(|| problem::no_rollout(name))?;
        Ok(Answer::Report(serde_json::to_value(rollout.as_ref()).unwrap_or_default()))
    }

    pub(super) fn rollout_create(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        wanted: &RolloutRequest,
        image: &FirmwareImage,
    ) -> Done {
        match self.rollout_of(now, actor, wanted, image) {
            Ok(rollout) => {
                let sequence = self.pipeline.next();
                let mut writes = vec![row(&rollout, sequence, now)];
                writes.extend(self.oldest_over(&rollout.name));
                let text = format!(
                    "version {} for {} in waves of {}",
                    rollout.version,
                    rollout.board,
                    rollout.waves.join(", ")
                );
                let draft = Draft::about("RolloutBegun", object_of(&rollout.name), text);
                self.rollout_write(now, actor, "rollout-create", &rollout, writes, draft);
                let answer = Answer::Report(serde_json::to_value(&rollout).unwrap_or_default());
                self.pipeline.release_last(Release::Answer(ticket, Ok(answer)));
                self.rollouts.is_due = true;
                None
            }
            Err(problem) => Some(Err(problem)),
        }
    }

    /// Makes room for one more.
    fn oldest_over(&self, name: &str) -> Option<Write> {
        let others = || self.state.rollouts.values().filter(|rollout| rollout.name != name);
        let oldest = others().filter(|rollout| !rollout.is_open()).min_by(|a, b| a.created.cmp(&b.created))?;
        let name = oldest.name.clone();
        (others().count() >= ROLLOUTS_MAX).then(|| Write::ObjectDelete {
            kind: ROW_KIND,
            namespace: String::new(),
            name,
        })
    }

    fn rollout_of(
        &self,
        now: Now,
        actor: &str,
        wanted: &RolloutRequest,
        image: &FirmwareImage,
    ) -> Result<Rollout, Problem> {
        let FirmwareImage { board, version, bytes, digest } = image;
        if wanted.board.as_ref().is_some_and(|wanted| wanted != board) {
            return Err(invalid("/board", format!("the image is for {board}")));
        }
        let selector = Selector::parse(&wanted.selector).map_err(|error| invalid("/selector", error.to_string()))?;
        let waves: Vec<String> = match wanted.waves.is_empty() {
            true => WAVES_DEFAULT.map(str::to_owned).to_vec(),
            false => wanted.waves.clone(),
        };
        if waves.len() > WAVES_MAX {
            return Err(invalid("/waves", format!("there are {}, the most are {WAVES_MAX}", waves.len())));
        }
        if let Some(text) = waves.iter().find(|text| Size::parse(text).is_none()) {
            let shown: String = text.chars().take(40).collect();
            return Err(invalid("/waves", format!("{shown:?} is no number of devices from 1, and no share as 10%")));
        }
        let span = |pointer: &str, text: &Option<String>, default: Duration| match text {
            None => Ok(default),
            Some(text) => Span::parse(text).map(Span::duration).map_err(|error| invalid(pointer, error.to_string())),
        };
        let soak = span("/soak", &wanted.soak, SOAK_DEFAULT)?;
        let confirm = span("/confirmWithin", &wanted.confirm_within, CONFIRM_DEFAULT)?;
        let [least, most] = CONFIRM_WITHIN;
        if confirm < least || confirm > most {
            return Err(invalid("/confirmWithin", format!("it is from {} s to {} s", least.as_secs(), most.as_secs())));
        }
        let name = format!("{board}-v{version}");
        let is_open = |rollout: &&Arc<Rollout>| rollout.is_open() && rollout.board == *board;
        if let Some(open) = self.state.rollouts.values().find(is_open) {
            return Err(problem::rollout_open(&open.name, board));
        }
        let mut rollout = Rollout {
            name,
            board: board.clone(),
            version: *version,
            artifact: wanted.artifact.clone(),
            bytes: *bytes,
            selector: wanted.selector.clone(),
            waves,
            max_failures: wanted.max_failures,
            soak_ms: u64::try_from(soak.as_millis()).unwrap_or(u64::MAX),
            confirm_within_s: u16::try_from(confirm.as_secs()).unwrap_or(u16::MAX),
            created_by: actor.to_owned(),
            created: timestamp(now.wall_ms),
            progress: Progress::BEGIN,
            targets: Vec::new(),
            signature: String::new(),
        };
        self.targets_extend(&mut rollout, &selector);
        if rollout.targets.is_empty() {
            return Err(problem::no_such_boards(board, &wanted.selector));
        }
        let statement = Statement { board, version: *version, bytes: *bytes, digest: *digest };
        let signer = self.config.signer.as_ref();
        let signature = signer.and_then(|signer| statement.sign(signer.as_ref(), &self.state.fleet_name).ok());
        let signature =
            signature.ok_or_else(|| invalid("/artifact", "this hub has no key to sign firmware".to_owned()))?;
        rollout.signature = data_encoding::HEXLOWER.encode(&signature.0);
        Ok(rollout)
    }

    /// Devices that are such boards and were heard of since; who was a target stays one.
    fn targets_extend(&self, rollout: &mut Rollout, selector: &Selector) {
        let known: std::collections::BTreeSet<&str> =
            rollout.targets.iter().map(|target| target.device.as_str()).collect();
        let mut new = Vec::new();
        for (_, device) in self.state.devices.iter() {
            let name = &device.keys.name;
            let is_board = device.observed.firmware.as_ref().is_some_and(|seen| seen.board == rollout.board);
            let stored = self.state.objects.get(&ObjectKey::device(name));
            let is_meant = stored.is_some_and(|stored| {
                stored.device().is_some_and(|body| body.spec.approved) && selector.matches(&stored.body.labels)
            });
            if is_board && is_meant && !known.contains(name.as_str()) {
                new.push(name.clone());
            }
        }
        new.sort();
        append(&mut rollout.targets, new);
    }

    pub(super) fn rollout_change(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        name: &str,
        verb: RolloutVerb,
    ) -> Done {
        let Some(rollout) = self.state.rollouts.get(name) else { return Some(Err(problem::no_rollout(name))) };
        let mut rollout = Rollout::clone(rollout);
        if !rollout.is_open() {
            return Some(Err(problem::rollout_over(name, &format!("{:?}", rollout.phase()))));
        }
        let (phase, action, reason) = match verb {
            RolloutVerb::Pause => (Phase::Paused, "rollout-pause", "RolloutPaused"),
            RolloutVerb::Resume => (Phase::Running, "rollout-resume", "RolloutResumed"),
            RolloutVerb::Abort => (Phase::Aborted, "rollout-abort", "RolloutAborted"),
        };
        rollout.progress = Progress { phase, settled_ms: None, ..rollout.progress };
        let writes = vec![row(&rollout, self.pipeline.next(), now)];
        let draft = Draft::about(reason, object_of(name), format!("by {actor}"));
        self.rollout_write(now, actor, action, &rollout, writes, draft);
        let answer = Answer::Report(serde_json::to_value(&rollout).unwrap_or_default());
        self.pipeline.release_last(Release::Answer(ticket, Ok(answer)));
        self.rollouts.is_due = true;
        None
    }

    fn rollout_write(
        &mut self,
        now: Now,
        actor: &str,
        action: &'static str,
        rollout: &Rollout,
        writes: Vec<Write>,
        draft: Draft,
    ) {
        let digest = |rollout: &Rollout| Digest::of(&serde_json::to_vec(rollout).unwrap_or_default());
        let entry = AuditEntry {
            time_ms: now.wall_ms,
            actor: actor.to_owned(),
            action,
            object: object_of(&rollout.name),
            before: self.state.rollouts.get(&rollout.name).map(|before| digest(before)),
            after: Some(digest(rollout)),
        };
        self.commit(writes, vec![entry], vec![Release::Event(draft)]);
    }

    /// Looks at every open rollout, when there is a reason or it is time.
    pub(super) fn rollouts_run(&mut self, now: Now) {
        let is_time = self.rollouts.look_at.is_some_and(|at| at <= now.monotonic);
        if !self.rollouts.is_due && !is_time {
            return;
        }
        self.rollouts.is_due = false;
        let open = self.state.rollouts.values().filter(|rollout| rollout.is_open());
        let names: Vec<String> = open.map(|rollout| rollout.name.clone()).collect();
        self.rollouts.look_at = (!names.is_empty()).then(|| now.monotonic.after(PERIOD));
        if self.pipeline.is_full() || self.rivals.is_stopped() {
            return;
        }
        for name in names {
            self.rollout_step(now, &name);
        }
    }

    fn rollout_step(&mut self, now: Now, name: &str) {
        let Some(before) = self.state.rollouts.get(name).cloned() else { return };
        if before.phase() != Phase::Running {
            return;
        }
        let mut rollout = Rollout::clone(&before);
        if let Ok(selector) = Selector::parse(&rollout.selector) {
            self.targets_extend(&mut rollout, &selector);
        }
        let plan = plan_of(&rollout);
        let reach = plan.reach(rollout.progress.wave, rollout.targets.len());
        let mut verdicts = Vec::with_capacity(rollout.targets.len());
        for at in 0..rollout.targets.len() {
            let Some(target) = rollout.targets.get(at) else { continue };
            let (state, reason, verdict) = self.verdict_on(now, &rollout, target, at < reach);
            verdicts.push(verdict);
            if let Some(target) = rollout.targets.get_mut(at) {
                (target.state, target.reason) = (state, reason);
            }
        }
        rollout.progress = plan.step(rollout.progress, &verdicts, now.wall_ms);
        if rollout != *before {
            let writes = vec![row(&rollout, self.pipeline.next(), now)];
            self.rollout_write(now, ACTOR, "rollout-step", &rollout, writes, told(&before, &rollout));
            // The next wave is offered its image at once.
            self.rollouts.is_due = rollout.progress.wave != before.progress.wave;
        }
        if rollout.phase() == Phase::Running {
            self.offer(now, &rollout);
        }
    }

    fn verdict_on(
        &self,
        now: Now,
        rollout: &Rollout,
        target: &RolloutTarget,
        is_reached: bool,
    ) -> (TargetState, String, Verdict) {
        let failed = |reason: &str| (TargetState::Failed, reason.to_owned(), Verdict::Wrong);
        if target.state == TargetState::Failed {
            return failed(&target.reason);
        }
        let updating = |verdict| (TargetState::Updating, String::new(), verdict);
        let waiting = (TargetState::Waiting, String::new(), Verdict::Pending);
        let Some(index) = self.state.devices.index_named(&target.device) else {
            // It was deleted: nobody is worse for that.
            return (TargetState::Updated, "DELETED".to_owned(), Verdict::Right);
        };
        let Some(device) = self.state.devices.get(index) else { return waiting };
        let is_online = device.observed.presence == Presence::Online;
        let seen = device.observed.firmware.as_ref();
        let is_right = seen.is_some_and(|seen| seen.running >= rollout.version && seen.phase != DevicePhase::Trial);
        if is_right || (target.state == TargetState::Updated && seen.is_none()) {
            return (TargetState::Updated, String::new(), Verdict::Right);
        }
        if !is_reached {
            return waiting;
        }
        let offered = self.rollouts.offered.get(&index).copied().filter(|offered| offered.version == rollout.version);
        let Some(offered) = offered else {
            return updating(if is_online { Verdict::Pending } else { Verdict::Away });
        };
        if !is_online {
            let patience = Duration::from_secs(rollout.confirm_within_s.into()) + OFFER_SILENCE;
            let is_gone = offered.has_moved && now.monotonic.since(offered.at) > patience;
            // A device in the middle of it is not away: it is what the wave waits for.
            let verdict = if offered.has_moved { Verdict::Pending } else { Verdict::Away };
            return if is_gone { failed("NOT_HEARD") } else { updating(verdict) };
        }
        match seen {
            Some(seen) if seen.phase == DevicePhase::Failed && seen.target == rollout.version => {
                let is_transient = matches!(seen.obstacle, Obstacle::Interrupted | Obstacle::Unreachable);
                let refused_at_once = matches!(seen.obstacle, Obstacle::Signature | Obstacle::Downgrade);
                if !offered.has_moved && !refused_at_once {
                    // It speaks of an earlier try.
                    return updating(Verdict::Pending);
                }
                if is_transient && offered.tries < OFFERS_MAX {
                    return updating(Verdict::Pending);
                }
                failed(obstacle_name(seen.obstacle))
            }
            Some(_) | None => updating(Verdict::Pending),
        }
    }

    /// Offers the image to whom it is due.
    fn offer(&mut self, now: Now, rollout: &Rollout) {
        let Some(digest) = digest_of(rollout) else { return };
        let Ok(signature) = data_encoding::HEXLOWER.decode(rollout.signature.as_bytes()) else { return };
        if signature.len() != SIGNATURE_BYTES || !self.link.is_up {
            return;
        }
        let Rollout { version, bytes, confirm_within_s: trial_s, .. } = *rollout;
        let offer = Offer { version, bytes, digest, trial_s, signature: &signature };
        let due = reached(rollout).iter().filter(|target| target.state == TargetState::Updating);
        let due: Vec<u32> = due.filter_map(|target| self.state.devices.index_named(&target.device)).collect();
        for index in due {
            let Some(device) = self.state.devices.get(index) else { continue };
            let Some(talk) = device.observed.current.filter(|_| device.observed.presence == Presence::Online) else {
                continue;
            };
            let seen = device.observed.firmware.as_ref();
            let is_moving = seen.is_some_and(|seen| {
                seen.target == version
                    && matches!(seen.phase, DevicePhase::Fetching | DevicePhase::Installing | DevicePhase::Trial)
            });
            let former = self.rollouts.offered.get(&index).copied().filter(|offered| offered.version == version);
            let is_early = former.is_some_and(|former| now.monotonic.since(former.at) < OFFER_PAUSE);
            // One that has not said yet what it runs is offered nothing: it would be asked to take what it has.
            if is_moving || is_early || seen.is_none() {
                continue;
            }
            // Only a try that got somewhere counts.
            let tries = former.map_or(1, |former| former.tries.saturating_add(u8::from(former.has_moved)));
            if self.send_offer(index, talk, &offer) {
                let offered = Offered { version, at: now.monotonic, tries, has_moved: false };
                self.rollouts.offered.insert(index, offered);
            }
        }
    }

    fn send_offer(&mut self, index: u32, talk: Talk, offer: &Offer<'_>) -> bool {
        let Some(device) = self.state.devices.get(index) else { return false };
        let fleet = &self.state.fleet_name;
        let context = LiveContext { fleet, device: Device::id(device), boot: talk.boot, session: talk.session };
        let frame = device.pair.as_ref().and_then(|pair| live_frame(pair, &context, offer, OFFER_BYTES_MAX));
        let topic = Topic::Down(device.id(), Down::Command).print(fleet);
        match (frame, topic) {
            (Some(frame), Ok(topic)) => {
                self.publish(topic.as_str().to_owned(), frame, false);
                true
            }
            (None, _) | (_, Err(_)) => false,
        }
    }
}

/// As many of them as there is room for.
fn append(targets: &mut Vec<RolloutTarget>, devices: Vec<String>) {
    let room = ROLLOUT_TARGETS_MAX.saturating_sub(targets.len());
    let target = |device| RolloutTarget { device, state: TargetState::Waiting, reason: String::new() };
    targets.extend(devices.into_iter().take(room).map(target));
}

fn object_of(name: &str) -> String {
    format!("rollout/{name}")
}

/// The targets that the present wave reaches.
fn reached(rollout: &Rollout) -> &[RolloutTarget] {
    let reach = plan_of(rollout).reach(rollout.progress.wave, rollout.targets.len());
    rollout.targets.get(..reach).unwrap_or(&rollout.targets)
}

/// What a step came to, in words.
fn told(before: &Rollout, after: &Rollout) -> Draft {
    let count = |state| after.targets.iter().filter(|target| target.state == state).count();
    let (updated, failed, all) = (count(TargetState::Updated), count(TargetState::Failed), after.targets.len());
    let text = format!("{updated} of {all} devices run version {}, {failed} do not keep it", after.version);
    let object = object_of(&after.name);
    match after.phase() {
        Phase::Halted => {
            let of: Vec<String> = after
                .targets
                .iter()
                .filter(|target| target.state == TargetState::Failed)
                .take(3)
                .map(|target| format!("{} ({})", target.device, target.reason))
                .collect();
            let text = format!("{text}: nobody else gets it; {}", of.join(", "));
            Draft { severity: super::port::Severity::Warning, ..Draft::about("RolloutHalted", object, text) }
        }
        Phase::Done => Draft::about("RolloutDone", object, text),
        Phase::Running | Phase::Paused | Phase::Aborted if after.progress.wave > before.progress.wave => {
            let wave = format!("wave {} of {}: {text}", after.progress.wave + 1, after.waves.len());
            Draft::about("RolloutWave", object, wave)
        }
        Phase::Running | Phase::Paused | Phase::Aborted => Draft::about("RolloutStep", object, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_has_no_more_devices_than_its_limit() {
        let mut targets = Vec::new();
        let names = |from: usize, count: usize| (from..from + count).map(|number| format!("mcu-{number}")).collect();
        append(&mut targets, names(0, ROLLOUT_TARGETS_MAX - 1));
        append(&mut targets, names(ROLLOUT_TARGETS_MAX, 3));
        assert_eq!(targets.len(), ROLLOUT_TARGETS_MAX);
        append(&mut targets, names(0, 1));
        assert_eq!(targets.len(), ROLLOUT_TARGETS_MAX);
    }
}
