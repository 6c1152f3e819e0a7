//! Which accounts there should be, which there are, and the next request that brings both together. No I/O.
//!
//! It looks at states, not at changes: whatever was asked for before a connection broke is found again by reading the
//! broker's list. Requests are small and one at a time, because the plugin writes all its accounts to disk at every
//! command and the broker does nothing else meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::account::{Owner, fingerprint, mark};

/// Accounts that one request changes.
pub const ACCOUNTS_PER_REQUEST_MAX: usize = 4;
/// Accounts that one request lists: some 300 bytes each.
pub const ACCOUNTS_PER_LIST_MAX: usize = 500;

const EXISTS: &str = "already exists";
const NOT_FOUND: &str = "not found";

/// How soon an account is brought in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// It changed just now: somebody may be waiting.
    Now,
    /// It should not be there any more.
    Gone,
    /// It is missing or old.
    Later,
}

/// What is being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Defaults,
    SetDefaults,
    List { offset: u64 },
    Change(Vec<Step>),
}

/// One account in a request, with the number of its commands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    owner: Owner,
    commands: usize,
    /// Removed first: nothing of the same name can be in the way.
    is_replaced: bool,
    /// What the broker will say of it; `None`: it is removed.
    becomes: Option<String>,
}

/// One answer to one command.
#[derive(Debug, Deserialize)]
pub(super) struct Response {
    #[serde(default)]
    pub command: String,
    #[serde(default, rename = "correlationData")]
    pub correlation: String,
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub data: Value,
}

/// The payload of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Responses {
    pub responses: Vec<Response>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    username: String,
    #[serde(default)]
    clientid: String,
    #[serde(default)]
    textname: String,
    #[serde(default)]
    textdescription: String,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    roles: Vec<ListedRole>,
}

#[derive(Debug, Deserialize)]
struct ListedRole {
    rolename: String,
}

/// What an answer meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It was for somebody else, or too late.
    Nothing,
    Progress,
    /// A command did not do what it should; the account is left alone until the next connection.
    Rejected {
        what: String,
        error: String,
    },
}

/// What whoever has no rule may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defaults {
    Unknown,
    /// More than nothing.
    Loose,
    Strict,
}

/// The accounts of one fleet.
#[derive(Debug)]
pub(super) struct Ledger {
    fleet: String,
    wanted: BTreeMap<Owner, Box<str>>,
    /// Fingerprints of those that the broker has; an empty one for an account that is not in order.
    seen: BTreeMap<Owner, String>,
    /// `seen` is complete.
    is_listed: bool,
    defaults: Defaults,
    next_list: u64,
    dirty: BTreeSet<(Urgency, Owner)>,
    /// Changes that somebody may wait for.
    open: BTreeMap<u64, Owner>,
    numbers: BTreeMap<Owner, u64>,
    last_number: u64,
    asked: Option<(u64, Asked)>,
    last_request: u64,
    /// The hub's own account was as it should be, at this broker or another.
    was_ours: bool,
    /// Another hub has made it its own: nothing is changed at the broker any more.
    is_taken: bool,
}

impl Ledger {
    pub fn new(fleet: &str, accounts: impl IntoIterator<Item = (Owner, String)>) -> Self {
        Self {
            fleet: fleet.to_owned(),
            wanted: accounts.into_iter().map(|(owner, password)| (owner, password.into())).collect(),
            seen: BTreeMap::new(),
            is_listed: false,
            defaults: Defaults::Unknown,
            next_list: 0,
            dirty: BTreeSet::new(),
            open: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last_number: 0,
            asked: None,
            last_request: 0,
            was_ours: false,
            is_taken: false,
        }
    }

    /// Enters an account or changes its password. Returns what `settled` has to reach until it can be used.
    pub fn put(&mut self, owner: Owner, password: String) -> u64 {
        if owner == Owner::Hub && std::mem::take(&mut self.is_taken) {
            // By an operator's word. What else the other hub has changed is found by reading everything again.
            self.was_ours = false;
            self.forget();
        }
        let is_same = self.wanted.get(&owner).is_some_and(|known| **known == *password);
        if is_same {
            if let Some(number) = self.numbers.get(&owner) {
                return *number;
            }
            if self.is_in_order(owner) {
                return 0;
            }
        } else {
            self.wanted.insert(owner, password.into());
        }
        self.changed(owner)
    }

    /// Takes an account away, and ends its connections.
    pub fn remove(&mut self, owner: Owner) -> u64 {
        self.wanted.remove(&owner);
        self.changed(owner)
    }

    fn changed(&mut self, owner: Owner) -> u64 {
        self.last_number += 1;
        if let Some(old) = self.numbers.insert(owner, self.last_number) {
            self.open.remove(&old);
        }
        self.open.insert(self.last_number, owner);
        if self.is_listed {
            self.mark(owner, Urgency::Now);
        }
        self.last_number
    }

    fn mark(&mut self, owner: Owner, urgency: Urgency) {
        for other in [Urgency::Now, Urgency::Gone, Urgency::Later] {
            self.dirty.remove(&(other, owner));
        }
        self.dirty.insert((urgency, owner));
    }

    /// All changes up to this number are at the broker, or were rejected by it.
    pub fn settled(&self) -> u64 {
        self.open.first_key_value().map_or(self.last_number, |(first, _)| first - 1)
    }

    /// The broker has this account as it should be.
    pub fn is_in_order(&self, owner: Owner) -> bool {
        let wanted = self.wanted.get(&owner).map(|password| fingerprint(password));
        self.is_listed && self.seen.get(&owner) == wanted.as_ref()
    }

    /// Accounts that are not as they should be; before the list was read, all of them.
    pub fn behind(&self) -> usize {
        let under_way = match &self.asked {
            Some((_, Asked::Change(steps))) => steps.len(),
            Some((_, Asked::Defaults | Asked::SetDefaults | Asked::List { .. })) | None => 0,
        };
        if self.is_listed { self.dirty.len() + under_way } else { self.wanted.len() }
    }

    /// Another hub runs with this hub's account.
    pub fn is_taken(&self) -> bool {
        self.is_taken
    }

    /// It is known what the broker has.
    pub fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// A new connection: nothing is known of this broker.
    pub fn forget(&mut self) {
        self.seen.clear();
        self.dirty.clear();
        self.asked = None;
        self.is_listed = false;
        self.defaults = Defaults::Unknown;
        self.next_list = 0;
    }

    /// The answer does not come: everything is read again. False if nothing was asked.
    pub fn give_up(&mut self) -> bool {
        let was_asked = self.asked.is_some();
        self.forget();
        was_asked
    }

    /// The next request, unless one is under way or nothing is to be done.
    pub fn next_request(&mut self) -> Option<Value> {
        if self.asked.is_some() {
            return None;
        }
        let (asked, commands) = match self.defaults {
            Defaults::Unknown => (Asked::Defaults, vec![json!({"command": "getDefaultACLAccess"})]),
            Defaults::Loose => (Asked::SetDefaults, vec![strict_defaults()]),
            // Two hubs that put everything right for themselves would never end.
            Defaults::Strict if self.is_listed && self.is_taken => return None,
            Defaults::Strict if self.is_listed => self.changes()?,
            Defaults::Strict => {
                let (offset, count) = (self.next_list, ACCOUNTS_PER_LIST_MAX);
                let list = json!({"command": "listClients", "verbose": true, "count": count, "offset": offset});
                (Asked::List { offset }, vec![list])
            }
        };
        Some(self.ask(asked, commands))
    }

    fn ask(&mut self, asked: Asked, mut commands: Vec<Value>) -> Value {
        self.last_request += 1;
        for (at, command) in commands.iter_mut().enumerate() {
            command["correlationData"] = json!(format!("{}.{at}", self.last_request));
        }
        self.asked = Some((self.last_request, asked));
        json!({"commands": commands})
    }

    fn changes(&mut self) -> Option<(Asked, Vec<Value>)> {
        let mut steps = Vec::new();
        let mut commands = Vec::new();
        while steps.len() < ACCOUNTS_PER_REQUEST_MAX
            && let Some((_, owner)) = self.dirty.pop_first()
        {
            if self.is_in_order(owner) {
                self.close(owner);
                continue;
            }
            let (step, own) = self.step(owner);
            steps.push(step);
            commands.extend(own);
        }
        (!steps.is_empty()).then_some((Asked::Change(steps), commands))
    }

    fn step(&self, owner: Owner) -> (Step, Vec<Value>) {
        let (user, role) = (owner.user(&self.fleet), owner.role(&self.fleet));
        let is_replaced = self.seen.contains_key(&owner);
        let password = self.wanted.get(&owner);
        let mut commands = Vec::new();
        if is_replaced || password.is_none() {
            // Ends its connections too.
            commands.push(json!({"command": "deleteClient", "username": user}));
        }
        match password {
            Some(password) => {
                let roles = owner.roles(&self.fleet);
                let names: Vec<Value> = roles.iter().map(|(name, _)| json!({"rolename": name})).collect();
                let create = |(name, rules)| json!({"command": "createRole", "rolename": name, "acls": rules});
                // One that is there already costs the broker nothing.
                commands.extend(roles.into_iter().map(create));
                commands.push(json!({
                    "command": "createClient", "username": user, "password": password, "clientid": user,
                    "textname": mark(&self.fleet), "textdescription": fingerprint(password),
                    "roles": names,
                }));
            }
            None => commands.push(json!({"command": "deleteRole", "rolename": role})),
        }
        let becomes = password.map(|password| fingerprint(password));
        (Step { owner, commands: commands.len(), is_replaced, becomes }, commands)
    }

    fn close(&mut self, owner: Owner) {
        if let Some(number) = self.numbers.remove(&owner) {
            self.open.remove(&number);
        }
    }

    /// Takes an answer in. Other administrators of the broker get theirs on the same topic.
    pub fn answer(&mut self, responses: &[Response]) -> Heard {
        let is_ours = |(number, _): &mut (u64, Asked)| {
            let prefix = format!("{number}.");
            responses.first().is_some_and(|response| response.correlation.starts_with(&prefix))
        };
        let Some((_, asked)) = self.asked.take_if(is_ours) else { return Heard::Nothing };
        let Some(first) = responses.first() else { return Heard::Nothing };
        if let Asked::Change(steps) = asked {
            return self.changed_by(steps, responses);
        }
        if let Some(error) = &first.error {
            return Heard::Rejected { what: first.command.clone(), error: error.clone() };
        }
        match asked {
            Asked::Defaults => self.defaults = if are_strict(&first.data) { Defaults::Strict } else { Defaults::Loose },
            Asked::SetDefaults => self.defaults = Defaults::Strict,
            Asked::List { offset } => self.listed(offset, &first.data),
            Asked::Change(_) => {}
        }
        Heard::Progress
    }

    fn listed(&mut self, offset: u64, data: &Value) {
        let clients = data.get("clients").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let total = data.get("totalCount").and_then(Value::as_u64).unwrap_or(0);
        for client in clients {
            if let Ok(listed) = Listed::deserialize(client) {
                self.list(&listed);
            }
        }
        self.next_list = offset.saturating_add(u64::try_from(clients.len()).unwrap_or(u64::MAX));
        if self.next_list < total && !clients.is_empty() {
            return;
        }
        self.is_listed = true;
        // One that was changed by hand has no fingerprint of another password, and one that is gone was lost by the broker.
        let is_foreign =
            self.seen.get(&Owner::Hub).is_some_and(|seen| !seen.is_empty() && !self.is_in_order(Owner::Hub));
        self.is_taken |= is_foreign && self.was_ours;
        self.was_ours |= self.is_in_order(Owner::Hub);
        let owners: BTreeSet<Owner> = self.wanted.keys().chain(self.seen.keys()).copied().collect();
        for owner in owners.into_iter().chain(self.numbers.clone().into_keys()) {
            if self.is_in_order(owner) {
                self.close(owner);
                continue;
            }
            let is_wanted = self.wanted.contains_key(&owner);
            let urgency = match owner {
                _ if self.numbers.contains_key(&owner) => Urgency::Now,
                Owner::Hub => Urgency::Now,
                Owner::Join(_) | Owner::Device(_) if is_wanted => Urgency::Later,
                Owner::Join(_) | Owner::Device(_) => Urgency::Gone,
            };
            self.mark(owner, urgency);
        }
    }

    fn list(&mut self, listed: &Listed) {
        let Some(owner) = Owner::of_user(&listed.username, &self.fleet) else { return };
        let is_ours = listed.textname == mark(&self.fleet);
        if !is_ours && !self.wanted.contains_key(&owner) {
            // Of another fleet, or made by hand.
            return;
        }
        let wanted: BTreeSet<String> = owner.roles(&self.fleet).into_iter().map(|(name, _)| name).collect();
        let roles: BTreeSet<String> = listed.roles.iter().map(|role| role.rolename.clone()).collect();
        let is_whole = is_ours && !listed.disabled && listed.clientid == listed.username && roles == wanted;
        let fingerprint = if is_whole { listed.textdescription.clone() } else { String::new() };
        self.seen.insert(owner, fingerprint);
    }

    fn changed_by(&mut self, steps: Vec<Step>, responses: &[Response]) -> Heard {
        let mut rest = responses;
        let mut rejection = None;
        for step in steps {
            let (own, others) = rest.split_at_checked(step.commands).unwrap_or((rest, &[]));
            rest = others;
            let error = if own.len() == step.commands { own.iter().find_map(real_error) } else { Some("no answer") };
            match (error, step.becomes) {
                (None, Some(fingerprint)) => drop(self.seen.insert(step.owner, fingerprint)),
                (None, None) => drop(self.seen.remove(&step.owner)),
                // Somebody made it since the list was read.
                (Some(error), Some(_)) if error.contains(EXISTS) && !step.is_replaced => {
                    self.seen.insert(step.owner, String::new());
                }
                (Some(error), _) => {
                    self.close(step.owner);
                    rejection = Some(Heard::Rejected { what: step.owner.user(&self.fleet), error: error.to_owned() });
                    continue;
                }
            }
            if self.is_in_order(step.owner) {
                self.was_ours |= step.owner == Owner::Hub;
                self.close(step.owner);
            } else {
                self.mark(step.owner, Urgency::Now);
            }
        }
        rejection.unwrap_or(Heard::Progress)
    }
}

/// A role of the same name has the same rules, and what is gone need not be removed.
fn real_error(response: &Response) -> Option<&str> {
    let error = response.error.as_deref()?;
    let is_expected = match response.command.as_str() {
        "createRole" => error.contains(EXISTS),
        "deleteClient" | "deleteRole" => error.contains(NOT_FOUND),
        _ => false,
    };
    (!is_expected).then_some(error)
}

fn strict_defaults() -> Value {
    let denied = ["publishClientSend", "subscribe"].map(|kind| json!({"acltype": kind, "allow": false}));
    json!({"command": "setDefaultACLAccess", "acls": denied})
}

/// Nobody may publish or subscribe without a rule.
fn are_strict(data: &Value) -> bool {
    let acls = data.get("acls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let denies = |kind: &str| acls.iter().any(|acl| acl["acltype"] == kind && acl["allow"] == false);
    denies("publishClientSend") && denies("subscribe")
}

#[cfg(test)]
mod tests;
