//! From stored sets to goals: what each slot should run, given what was accepted, what was good, and what was given up.
//!
//! A pure function of state, run whenever that state changed. What the accepted set does not list never gets a goal.
use super::Agent;
use super::session::{FRESH_EVERY_MAX, FRESH_EVERY_MIN};
use super::set::{Records, print_of, refusal};
use super::slot::{From, Goal, Slot, Trial};
use super::time::Duration;
use core::fmt::Write as _;
use wire::WorkloadId;
use wire::hello::Capabilities;
use wire::record::Record;
use wire::status::Reason;

/// What holds for all components of a workload.
#[derive(Clone, Copy)]
enum Verdict {
    Run,
    Refuse {
        reason: Reason,
        clause: Option<u16>,
    },
    RollBack,
    /// Some version was given up and there is nothing to go back to.
    RunWithoutSuspects,
}

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    pub(crate) fn assign(&mut self) {
        loop {
            self.list();
            self.set_goals();
            let before = self.slots.len();
            self.slots.retain(|slot| slot.is_listed || slot.live.is_some());
            // Again while that made room for records which had none.
            if !self.has_unassigned || self.slots.len() == before {
                break;
            }
        }
        self.set_terms();
        self.report.changed();
    }

    /// Whether anything here runs under terms, and how often the hub is to be heard for them.
    fn set_terms(&mut self) {
        let of_goals = self.slots.iter().filter_map(|slot| slot.goal.map(|goal| goal.limits));
        let of_live = self.slots.iter().filter_map(|slot| slot.live.map(|live| live.limits));
        self.has_terms = false;
        self.fresh_every = FRESH_EVERY_MAX;
        for every in of_goals.chain(of_live).filter_map(|limits| limits.ask_every()) {
            self.has_terms = true;
            self.fresh_every = self.fresh_every.min(every.max(FRESH_EVERY_MIN));
        }
    }

    /// Which slots the accepted set lists, each with its version and the last good one.
    fn list(&mut self) {
        for slot in &mut self.slots {
            slot.is_listed = false;
            slot.good = None;
        }
        self.has_unassigned = false;
        let mut good = self.last_good.records().peekable();
        for (_, record) in self.current.records() {
            while good.next_if(|(_, earlier)| earlier.key() < record.key()).is_some() {}
            let Some(slot) = find_or_insert(&mut self.slots, &record) else {
                self.has_unassigned = true;
                continue;
            };
            slot.is_listed = true;
            slot.accepted_generation = record.core.generation;
            slot.good =
                good.peek().filter(|(_, other)| other.key() == record.key()).map(|(at, other)| (*at, print_of(other)));
            let print = print_of(&record);
            if slot.trial.print != print {
                slot.trial = Trial { print, ..Trial::default() };
            }
        }
    }

    fn set_goals(&mut self) {
        let mut verdict: Option<(WorkloadId, Verdict)> = None;
        let mut records = self.current.records();
        loop {
            let group = records.clone();
            let Some((offset, record)) = records.next() else { break };
            let workload = record.core.workload;
            let found = match verdict {
                Some((of, found)) if of == workload => found,
                _ => judge(group, workload, &self.slots, &self.config.capabilities, self.config.stop_latency),
            };
            verdict = Some((workload, found));
            let Some(slot) = self.slots.iter_mut().find(|slot| slot.key() == record.key()) else { continue };
            let is_new = slot.good.is_none_or(|(_, print)| print != slot.trial.print);
            let own = Goal::of(&record, From::Current, offset, slot.trial.print, is_new);
            slot.is_rolled_back = false;
            match found {
                Verdict::Run => slot.set_goal(Some(own), None),
                Verdict::RunWithoutSuspects if slot.trial.is_given_up => slot.set_goal(None, Some(Reason::SAFE_MODE)),
                Verdict::RunWithoutSuspects => slot.set_goal(Some(own), None),
                Verdict::Refuse { reason, clause } => {
                    slot.set_goal(None, Some(reason));
                    slot.detail.clear();
                    if let Some(number) = clause {
                        let _ = write!(slot.detail, "clause {number} cannot be honoured by this agent");
                    }
                }
                Verdict::RollBack => {
                    let back = slot.good.and_then(|(at, print)| {
                        self.last_good.record_at(at).map(|record| Goal::of(&record, From::LastGood, at, print, false))
                    });
                    slot.is_rolled_back = true;
                    let held = back.is_none().then_some(Reason::ROLLED_BACK);
                    // What was wrong with the version that was given up stays worth knowing.
                    let detail = slot.detail.clone();
                    slot.set_goal(back, held);
                    slot.detail = detail;
                }
            }
        }
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_listed) {
            slot.set_goal(None, None);
            slot.trial = Trial::default();
            slot.is_rolled_back = false;
        }
    }

    /// Whether giving up the version of this slot leads anywhere.
    pub(crate) fn can_roll_back(&self, workload: WorkloadId, at: usize) -> bool {
        let is_older =
            self.slots.get(at).is_some_and(|slot| slot.good.is_none_or(|(_, print)| print != slot.trial.print));
        is_older && has_good(&self.slots, workload)
    }
}

fn has_good(slots: &[Slot], workload: WorkloadId) -> bool {
    slots.iter().any(|slot| slot.workload == workload && slot.is_listed && slot.good.is_some())
}

/// `group` begins at the first record of the workload.
fn judge(
    group: Records<'_>,
    workload: WorkloadId,
    slots: &[Slot],
    capabilities: &Capabilities<'_>,
    stop_latency: Duration,
) -> Verdict {
    let mut of_workload = group.map(|(_, record)| record).take_while(|record| record.core.workload == workload);
    if let Some((reason, clause)) = of_workload.find_map(|record| refusal(&record, capabilities, stop_latency)) {
        return Verdict::Refuse { reason, clause };
    }
    let mut given_up =
        slots.iter().filter(|slot| slot.workload == workload && slot.is_listed && slot.trial.is_given_up);
    let (mut any, mut all_older) = (false, true);
    for slot in &mut given_up {
        any = true;
        all_older &= slot.good.is_none_or(|(_, print)| print != slot.trial.print);
    }
    match (any, all_older && has_good(slots, workload)) {
        (false, _) => Verdict::Run,
        (true, true) => Verdict::RollBack,
        (true, false) => Verdict::RunWithoutSuspects,
    }
}

/// Slots are ascending by key, as records are. `None`: all are taken; stopping ones will free theirs.
fn find_or_insert<'s, const SLOTS: usize>(
    slots: &'s mut heapless::Vec<Slot, SLOTS>,
    record: &Record<'_>,
) -> Option<&'s mut Slot> {
    let key = record.key();
    let at = match slots.binary_search_by_key(&key, Slot::key) {
        Ok(at) => at,
        Err(at) => {
            slots.insert(at, Slot::new(key.0, key.1)).ok()?;
            at
        }
    };
    slots.get_mut(at)
}
