//! The ledger against a double of the plugin: what it is told, and what it ends up with.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use wire::DeviceId;
use wire::topic::TokenId;

use super::*;

/// As the plugin keeps it: accounts by user, roles by name.
#[derive(Default)]
struct Plugin {
    clients: BTreeMap<String, Value>,
    roles: BTreeMap<String, Value>,
    is_loose: bool,
    /// Commands that changed something, as the plugin writes its file for each.
    writes: u32,
    /// Fails whatever concerns this user.
    broken: Option<String>,
}

impl Plugin {
    fn run(&mut self, command: &Value) -> Result<Value, &'static str> {
        let text = |key: &str| command[key].as_str().unwrap_or_default().to_owned();
        if self.broken.as_ref().is_some_and(|user| *user == text("username")) {
            return Err("Internal error");
        }
        match command["command"].as_str().unwrap() {
            "getDefaultACLAccess" => {
                let acl = |kind: &str| json!({"acltype": kind, "allow": self.is_loose});
                return Ok(json!({"acls": [acl("publishClientSend"), acl("subscribe")]}));
            }
            "listClients" => {
                let (count, offset) = (command["count"].as_u64().unwrap(), command["offset"].as_u64().unwrap());
                let (count, offset) = (usize::try_from(count).unwrap(), usize::try_from(offset).unwrap());
                let page: Vec<_> = self.clients.values().skip(offset).take(count).collect();
                return Ok(json!({"totalCount": self.clients.len(), "clients": page}));
            }
            "setDefaultACLAccess" => self.is_loose = false,
            "createRole" => {
                if self.roles.contains_key(&text("rolename")) {
                    return Err("Role already exists");
                }
                self.roles.insert(text("rolename"), command["acls"].clone());
            }
            "createClient" => {
                if self.clients.contains_key(&text("username")) {
                    return Err("Client already exists");
                }
                self.clients.insert(text("username"), command.clone());
            }
            "deleteClient" => drop(self.clients.remove(&text("username")).ok_or("Client not found")?),
            "deleteRole" => drop(self.roles.remove(&text("rolename")).ok_or("Role not found")?),
            other => panic!("{other}"),
        }
        self.writes += 1;
        Ok(Value::Null)
    }

    fn answer(&mut self, request: &Value) -> Vec<Response> {
        let mut answer = |command: &Value| {
            let (data, error) = match self.run(command) {
                Ok(data) => (data, None),
                Err(error) => (Value::Null, Some(error.to_owned())),
            };
            let text = |key: &str| command[key].as_str().unwrap().to_owned();
            Response { command: text("command"), correlation: text("correlationData"), error, data }
        };
        request["commands"].as_array().unwrap().iter().map(&mut answer).collect()
    }

    /// Until nothing is left to do; returns what was rejected.
    fn serve(&mut self, ledger: &mut Ledger) -> Vec<String> {
        let mut rejected = Vec::new();
        for _ in 0..10_000 {
            let Some(request) = ledger.next_request() else { return rejected };
            assert!(ledger.next_request().is_none(), "one at a time");
            match ledger.answer(&self.answer(&request)) {
                Heard::Progress => {}
                Heard::Rejected { what, .. } => rejected.push(what),
                Heard::Nothing => panic!("its own answer"),
            }
        }
        panic!("it never comes to an end");
    }

    fn password(&self, user: &str) -> Option<&str> {
        self.clients.get(user)?["password"].as_str()
    }
}

fn device(seed: u16) -> Owner {
    let [a, b] = seed.to_be_bytes();
    Owner::Device(DeviceId([a, b, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]))
}

const TOKEN: Owner = Owner::Join(TokenId([5; 8]));

fn ledger(devices: u16) -> Ledger {
    let devices = (0..devices).map(|seed| (device(seed), format!("secret {seed}")));
    Ledger::new("north", devices.chain([(Owner::Hub, "hub's".to_owned()), (TOKEN, "token's".to_owned())]))
}

#[test]
fn an_empty_broker_gets_the_hub_first_then_everything_and_nothing_twice() {
    let (mut plugin, mut ledger) = (Plugin { is_loose: true, ..Plugin::default() }, ledger(30));
    while !ledger.is_in_order(Owner::Hub) {
        let request = ledger.next_request().unwrap();
        assert_eq!(ledger.answer(&plugin.answer(&request)), Heard::Progress);
    }
    assert!(!plugin.is_loose && plugin.clients.len() <= ACCOUNTS_PER_REQUEST_MAX);
    assert!(plugin.clients.contains_key(&TOKEN.user("north")), "who joins waits");
    assert!(plugin.serve(&mut ledger).is_empty());
    assert_eq!((plugin.clients.len(), plugin.roles.len()), (32, 33), "and the one that devices share");
    assert_eq!(plugin.password(&device(7).user("north")), Some("secret 7"));
    assert_eq!(ledger.behind(), 0);
    // A new connection reads, and writes nothing.
    let writes = plugin.writes;
    ledger.forget();
    assert_eq!(ledger.behind(), 32);
    assert!(plugin.serve(&mut ledger).is_empty());
    assert_eq!((plugin.writes, ledger.behind()), (writes, 0));
}

#[test]
fn a_list_of_many_pages_is_read_to_its_end() {
    let count = u16::try_from(2 * ACCOUNTS_PER_LIST_MAX + 7).unwrap();
    let (mut plugin, mut first) = (Plugin::default(), ledger(count));
    plugin.serve(&mut first);
    let writes = plugin.writes;
    // A hub that knows all but one.
    let mut again = ledger(count - 1);
    plugin.serve(&mut again);
    assert_eq!(plugin.writes, writes + 2, "one account and its role");
    assert!(plugin.password(&device(count - 1).user("north")).is_none());
}

#[test]
fn a_changed_password_replaces_the_account_and_settles() {
    let (mut plugin, mut ledger) = (Plugin::default(), ledger(1));
    assert_eq!(ledger.settled(), 0);
    plugin.serve(&mut ledger);
    assert_eq!(ledger.put(device(0), "secret 0".to_owned()), 0, "nothing to wait for");
    let number = ledger.put(device(0), "another".to_owned());
    assert_eq!(ledger.put(device(0), "another".to_owned()), number, "asked again");
    assert!(ledger.settled() < number);
    plugin.serve(&mut ledger);
    assert!(ledger.settled() >= number);
    assert_eq!(plugin.password(&device(0).user("north")), Some("another"));
    let number = ledger.remove(device(0));
    plugin.serve(&mut ledger);
    assert!(ledger.settled() >= number && plugin.clients.len() == 2 && plugin.roles.len() == 3);
}

#[test]
fn what_changed_while_the_broker_was_away_settles_after_the_list() {
    let (mut plugin, mut ledger) = (Plugin::default(), ledger(40));
    plugin.serve(&mut ledger);
    ledger.forget();
    let removed = ledger.remove(device(3));
    let joined = ledger.put(device(99), "new".to_owned());
    let known = ledger.put(device(5), "secret 5".to_owned());
    assert!(ledger.settled() < removed);
    plugin.serve(&mut ledger);
    assert!(ledger.settled() >= removed.max(joined).max(known));
    assert!(plugin.password(&device(3).user("north")).is_none());
    assert_eq!(plugin.password(&device(99).user("north")), Some("new"));
}

#[test]
fn what_changes_again_while_it_is_being_changed_is_changed_again() {
    let (mut plugin, mut ledger) = (Plugin::default(), ledger(0));
    plugin.serve(&mut ledger);
    ledger.put(device(1), "first".to_owned());
    let request = ledger.next_request().unwrap();
    let number = ledger.put(device(1), "second".to_owned());
    assert_eq!(ledger.answer(&plugin.answer(&request)), Heard::Progress);
    assert!(ledger.settled() < number, "the broker has the first");
    plugin.serve(&mut ledger);
    assert_eq!(plugin.password(&device(1).user("north")), Some("second"));
    assert!(ledger.settled() >= number);
}

#[test]
fn accounts_of_others_are_left_alone_and_damaged_ones_of_ours_are_mended() {
    let (mut plugin, mut ledger) = (Plugin::default(), ledger(2));
    for user in ["admin", &device(50).user("north")] {
        plugin.clients.insert(user.to_owned(), json!({"username": user, "textname": "made by hand"}));
    }
    plugin.serve(&mut ledger);
    assert_eq!(plugin.clients.len(), 6);
    // Somebody took roles away, disabled an account, and made one of the user names that are ours.
    let role = device(0).role("north");
    plugin.roles.remove(&role);
    plugin.roles.remove("fulmar-1-north-devices");
    plugin.clients.get_mut(&device(0).user("north")).unwrap()["roles"] = json!([]);
    plugin.clients.get_mut(&device(1).user("north")).unwrap()["disabled"] = json!(true);
    ledger.forget();
    plugin.serve(&mut ledger);
    assert!(plugin.roles.contains_key(&role) && plugin.roles.contains_key("fulmar-1-north-devices"));
    assert_eq!(plugin.clients[&device(0).user("north")]["roles"][0]["rolename"], role);
    assert!(plugin.clients[&device(1).user("north")].get("disabled").is_none());
    assert_eq!(plugin.clients[&device(50).user("north")]["textname"], "made by hand");
    ledger.put(device(50), "ours now".to_owned());
    assert!(plugin.serve(&mut ledger).is_empty());
    assert_eq!(plugin.password(&device(50).user("north")), Some("ours now"));
}

#[test]
fn an_account_that_the_broker_rejects_holds_nobody_up() {
    let (mut plugin, mut ledger) = (Plugin::default(), ledger(0));
    plugin.serve(&mut ledger);
    plugin.broken = Some(device(1).user("north"));
    ledger.put(device(1), "x".to_owned());
    let number = ledger.put(device(2), "y".to_owned());
    assert_eq!(plugin.serve(&mut ledger), [device(1).user("north")]);
    assert!(ledger.settled() >= number);
    assert!(plugin.password(&device(2).user("north")).is_some());
    // The next connection tries again.
    plugin.broken = None;
    ledger.forget();
    assert!(plugin.serve(&mut ledger).is_empty());
    assert!(ledger.is_in_order(device(1)));
}

#[test]
fn answers_to_others_and_late_ones_mean_nothing() {
    let (mut plugin, mut ledger) = (Plugin::default(), ledger(1));
    let old = ledger.next_request().unwrap();
    let late = plugin.answer(&old);
    assert!(ledger.give_up());
    let now = ledger.next_request().unwrap();
    assert_eq!(ledger.answer(&late), Heard::Nothing);
    let other = Response { command: "listClients".into(), correlation: String::new(), error: None, data: Value::Null };
    assert_eq!(ledger.answer(&[other]), Heard::Nothing);
    assert_eq!(ledger.answer(&[]), Heard::Nothing);
    assert_eq!(ledger.answer(&plugin.answer(&now)), Heard::Progress);
    plugin.serve(&mut ledger);
    assert!(!ledger.give_up(), "nothing was asked");
}

#[test]
fn c12_an_account_that_another_hub_has_made_its_own_is_left_to_it_until_an_operator_says_so() {
    let (mut plugin, mut first) = (Plugin::default(), ledger(3));
    plugin.serve(&mut first);
    // A second hub on a copy starts: its account has another password, and it knows one device less.
    let mut second = Ledger::new("north", [(Owner::Hub, "the other hub's".to_owned())]);
    plugin.serve(&mut second);
    assert!(!second.is_taken(), "whoever starts takes the account");
    assert_eq!(plugin.clients.len(), 1);
    first.forget();
    let writes = plugin.writes;
    assert!(plugin.serve(&mut first).is_empty() && first.is_taken());
    first.put(device(9), "new".to_owned());
    plugin.serve(&mut first);
    first.forget();
    plugin.serve(&mut first);
    assert_eq!(plugin.writes, writes, "nothing is put right against another hub");
    first.put(Owner::Hub, "hub's".to_owned());
    plugin.serve(&mut first);
    assert!(!first.is_taken() && first.is_in_order(Owner::Hub));
    assert_eq!((plugin.password("fulmar-hub-north"), plugin.clients.len()), (Some("hub's"), 6));
    // A broker that has lost everything was taken by nobody.
    plugin = Plugin::default();
    first.forget();
    plugin.serve(&mut first);
    assert!(!first.is_taken() && plugin.clients.len() == 6);
}
