//! The command line as operators use it, with the real hub and agent: forms of output, selectors, watches, manifests, contexts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::process::Command;
use tests::harness::site::{FRANKFURT, Following, PARIS, Site, agents, finish, names};
use tests::harness::{Agent, Workload, program, wait_until};

#[test]
fn lists_are_selected_sorted_cut_and_shown_in_every_form() {
    let site = Site::new();
    let _agents = agents(&site);
    site.region("rhine-main", FRANKFURT);
    site.region("ile-de-france", PARIS);
    let run = |arguments: &[&str]| site.run(arguments).only();

    assert_eq!(run(&["get", "devices", "--within", "rhine-main", "-o", "name"]), "device/gw-fra\n");
    assert_eq!(run(&["get", "d", "--near", "2.35,48.85,50", "-o", "name"]), "device/gw-par\n");
    assert_eq!(run(&["get", "d", "--field-selector", "metadata.name!=gw-fra", "-o", "name"]), "device/gw-par\n");
    assert_eq!(run(&["get", "reg", "-l", "river=no", "-o", "name"]), "");
    assert_eq!(
        run(&["get", "reg", "--sort-by", "-metadata.name", "-o", "name"]),
        "region/rhine-main\nregion/ile-de-france\n"
    );
    assert_eq!(
        run(&["get", "reg", "-o", "jsonpath={range .items[*]}{.metadata.name}={.spec.circle.radiusKm};{end}"]),
        "ile-de-france=20.0;rhine-main=20.0;\n"
    );
    assert_eq!(run(&["get", "reg/rhine-main", "-o", "jsonpath={.spec.circle.center}"]), "[8.6821,50.1109]\n");
    assert_eq!(run(&["get", "reg", "--no-headers"]).lines().count(), 2);
    assert!(run(&["get", "devices", "-o", "wide"]).lines().next().unwrap().ends_with("LABELS"));

    let map: Value = serde_json::from_str(&run(&["get", "devices", "-o", "geojson"])).unwrap();
    assert_eq!((&map["type"], map["features"].as_array().unwrap().len()), (&json!("FeatureCollection"), 2));
    let one: Value = serde_json::from_str(&run(&["get", "device/gw-fra", "-o", "geojson"])).unwrap();
    assert_eq!(one["features"][0]["geometry"]["coordinates"], json!([8.6821, 50.1109]));

    let first = site.run(&["get", "devices", "--limit", "1", "-o", "json"]);
    assert_eq!(names(&first.json()), ["gw-fra"]);
    let place = first.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    assert!(first.err.contains(&format!("--limit 1 --continue {place}")), "{first:?}");
    let second = site.run(&["get", "devices", "--limit", "1", "--continue", &place, "-o", "json"]);
    assert_eq!((names(&second.json()), second.err.as_str()), (vec!["gw-par"], ""));

    let all = run(&["get", "all"]);
    assert!(all.contains("device/gw-fra") && all.contains("region/rhine-main"), "{all}");
    assert!(all.contains("\n\nNAME") && !all.contains('\u{1b}'), "{all}");
    assert_eq!(run(&["get", "reg,d", "-o", "name"]).lines().count(), 4);
    assert_eq!(run(&["get", "device", "gw-par", "gw-fra", "-o", "name"]), "device/gw-par\ndevice/gw-fra\n");
    let events = run(&["get", "events", "--field-selector", "object=device/gw-fra"]);
    assert!(events.starts_with("TIME ") && !events.contains("gw-par"), "{events}");

    for (arguments, code) in [
        (vec!["get", "devices", "gw-fra", "-l", "a=b"], 2),
        (vec!["get", "devices", "--near", "here"], 2),
        (vec!["get", "device/gone"], 8),
        (vec!["get", "pods"], 2),
        (vec!["get", "reg", "-o", "jsonpath={.a"], 2),
        (vec!["get", "workloads", "-o", "geojson"], 2),
    ] {
        let done = site.run(&arguments);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{arguments:?}: {done:?}");
        assert!(!done.err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_watch_goes_on_over_a_restart_of_the_hub_and_tells_nothing_twice() {
    let mut site = Site::new();
    site.region("first", FRANKFURT);
    let watch = Following::start(site.command(&["get", "regions", "-w", "-o", "json"]));
    let change = watch.json();
    assert_eq!((&change["type"], &change["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("first")));
    site.region("second", PARIS);
    assert_eq!(watch.json()["object"]["metadata"]["name"], "second");
    site.hub.kill();
    site.hub.run();
    site.hub.delete("/v1/regions/first");
    let change = watch.json();
    assert_eq!((&change["type"], &change["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("first")));
    assert_eq!(change["object"]["spec"]["circle"]["radiusKm"], 20.0, "as it was last seen");
}

#[test]
fn a_watched_table_has_its_headings_once_and_ends_after_its_time() {
    let site = Site::new();
    site.region("first", FRANKFURT);
    let watch = Following::start(site.command(&["get", "regions", "-w", "-l", "river=yes"]));
    assert!(watch.line().starts_with("EVENT   NAME    SHAPE"));
    assert!(watch.line().starts_with("ADDED   first   circle 20"));
    site.hub.delete("/v1/regions/first");
    assert!(watch.line().starts_with("DELETED   first   circle 20"));
    let events = Following::start(site.command(&["get", "events", "-w", "--no-headers"]));
    site.region("second", PARIS);
    site.hub.delete("/v1/regions/second");
    wait_until("an event is told", || if events.line().contains("region/") { Ok(()) } else { Err("another one") });
    assert_eq!(site.run(&["get", "regions", "-w", "--timeout", "100ms", "-o", "name"]).only(), "");
}

#[test]
fn contexts_and_tokens_lead_to_the_hub_without_its_data_directory() {
    let site = Site::new();
    // The hub answers a moment before it tells others where it is.
    let path = site.hub.data().join("run/endpoints.json");
    let api = wait_until("the hub tells where it is", || std::fs::read_to_string(&path));
    let api: Value = serde_json::from_str(&api).unwrap();
    let server = api["api"].as_str().unwrap().to_owned();
    let bare = |arguments: &[&str], input: &str| finish(site.bare(arguments), input);

    let made = site.run(&["token", "create", "reader", "--role", "viewer", "--expires", "1d"]);
    assert!(made.code == 0 && made.out.starts_with("fulmar_") && !made.err.contains(made.out.trim()), "{made:?}");
    let token = made.out.clone();
    let shown = site.run(&["token", "list"]).only();
    assert!(shown.contains("reader   viewer") && !shown.contains(token.trim()), "{shown}");

    assert_eq!(
        bare(&["login", &server, "--name", "lab"], "wrong\n").code,
        1,
        "a token that the hub does not take is not kept"
    );
    let done = bare(&["login", &server, "--name", "lab", "-n", "field"], &token);
    assert!(done.code == 0 && done.out == "context lab added, and used from now on\n", "{done:?}");
    assert!(done.err.contains("knows you as token/reader with the role viewer"), "{done:?}");
    let file = site.path("config/fulmar/config.toml");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let who = bare(&["whoami", "-o", "json"], "").json();
    assert_eq!((&who["name"], &who["role"]), (&json!("token/reader"), &json!("viewer")));
    assert_eq!(bare(&["whoami", "--can", "get", "devices"], "").code, 0);
    assert_eq!(bare(&["whoami", "--can", "delete", "devices"], "").code, 9);
    let refused = bare(&["delete", "region/x"], "");
    assert!(refused.code == 9 && refused.err.contains("FORBIDDEN"), "{refused:?}");
    let shown = bare(&["ctx", "show", "-o", "json"], "").json();
    assert_eq!((&shown["hasToken"], &shown["namespace"]), (&json!(true), &json!("field")));
    let missing = bare(&["get", "workloads"], "");
    assert!(missing.code == 8 && missing.err.contains("there is no namespace \"field\""), "{missing:?}");

    let data = site.hub.data().display().to_string();
    let done = bare(&["ctx", "add", "admin", "--data", &data, "--readonly"], "");
    assert_eq!((done.code, done.out.as_str()), (0, "context admin added\n"), "{done:?}");
    let refused = bare(&["delete", "region/x", "--context", "admin"], "");
    assert!(refused.code == 9 && refused.err.contains("error[READONLY]"), "{refused:?}");
    let mut by_variable = site.bare(&["whoami", "-o", "jsonpath={.role}"]);
    by_variable.env("FULMAR_CONTEXT", "admin");
    assert_eq!(finish(by_variable, "").only(), "admin\n");
    assert_eq!(bare(&["ctx", "use", "gone"], "").code, 8);
    assert_eq!(bare(&["ctx", "list", "-o", "name"], "").only(), "local\nadmin\nlab\n");
    assert_eq!(bare(&["ctx", "remove", "lab"], "").code, 0);
    let none = bare(&["get", "devices"], "");
    assert!(none.code == 1 && none.err.contains("NO_HUB"), "{none:?}");

    assert_eq!(site.run(&["token", "delete", "reader"]).only(), "token/reader deleted\n");
    let mut void = site.bare(&["whoami", "--server", &server]);
    void.env("FULMAR_TOKEN", token.trim());
    assert!(finish(void, "").err.contains("error[UNAUTHENTICATED]"));
}

const MANIFEST: &str = "\
apiVersion: fulmar/v1
kind: Region
metadata: {name: rhine-main, labels: {river: rhine}}
spec: {circle: {center: [8.6821, 50.1109], radiusKm: 20}}
";

#[test]
fn applied_fields_have_an_owner_and_differences_are_shown_before() {
    let site = Site::new();
    site.write("a.yaml", MANIFEST);
    let diff = site.run(&["diff", "-f", "a.yaml", "--exit-code"]);
    assert_eq!(diff.code, 3, "{diff:?}");
    assert!(diff.out.starts_with("+ region/rhine-main\n  + metadata.labels.river"), "{diff:?}");
    assert_eq!(
        site.run(&["apply", "-f", "a.yaml", "--dry-run"]).only(),
        "region/rhine-main created (generation 1) (dry run)\n"
    );
    assert_eq!(site.run(&["apply", "-f", "a.yaml"]).only(), "region/rhine-main created (generation 1)\n");
    assert_eq!(site.run(&["apply", "-f", "a.yaml"]).only(), "region/rhine-main unchanged (generation 1)\n");
    assert_eq!(site.run(&["diff", "-f", "a.yaml"]).code, 0);
    site.write("a.yaml", &MANIFEST.replace("20", "30"));
    let diff = site.run(&["diff", "-f", "a.yaml"]);
    assert_eq!(
        (diff.code, diff.out.as_str()),
        (0, "~ region/rhine-main   generation 1 -> 2\n  ~ spec.circle.radiusKm   20.0  ->  30.0\n")
    );
    assert_eq!(
        finish(site.command(&["apply", "-f", "-"]), &MANIFEST.replace("20", "30")).only(),
        "region/rhine-main configured (generation 2)\n"
    );

    let other = ["apply", "-f", "a.yaml", "--field-manager", "git"];
    site.write("a.yaml", &MANIFEST.replace("20", "40"));
    let refused = site.run(&other);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(
        refused.err.contains("error[FIELD_CONFLICT]: a.yaml:4:") && refused.err.contains("owned by \"fulmar\""),
        "{refused:?}"
    );
    assert!(refused.err.contains("--force-conflicts") && refused.err.contains("nothing was changed"), "{refused:?}");
    assert_eq!(
        site.run(&[&other[..], &["--force-conflicts"]].concat()).only(),
        "region/rhine-main configured (generation 3)\n"
    );
    let managed = site.run(&["get", "region/rhine-main", "--show-managed-fields", "-o", "json"]).json();
    assert!(
        managed["metadata"]["managedFields"].as_array().unwrap().iter().any(|entry| entry["manager"] == "git"),
        "{managed:#}"
    );
    assert_eq!(site.run(&["delete", "-f", "a.yaml"]).only(), "region/rhine-main deleted\n");
}

#[test]
fn all_mistakes_of_all_manifests_are_told_at_once_with_their_lines() {
    let site = Site::new();
    std::fs::create_dir_all(site.path("all/below")).unwrap();
    let workload = "apiVersion: fulmar/v1\nkind: Workload\nmetadata:\n  name: a\nspec:\n  placement:\n    wihtin: [x]\n    follow: true\n---\nkind: Wrokload\nmetadata: {name: b}\n";
    site.write("all/a.yaml", workload);
    site.write("all/b.yaml", "kind: [\n");
    site.write("all/below/c.yaml", &MANIFEST.replace("[8.6821, 50.1109]", "[8.6821, 150.1109]"));
    let refused = site.run(&["apply", "-R", "-f", "all"]);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{refused:?}");
    for part in [
        "all/a.yaml:7:5  unknown field `wihtin`; did you mean `within`?\n     7 |     wihtin: [x]\n       |     ^^^^^^",
        "all/a.yaml:8:5  `follow` is not built yet",
        "all/a.yaml:10:1  \"Wrokload\" is not a kind; did you mean `Workload`?",
        "all/b.yaml:1:7",
        "all/below/c.yaml:4:",
        "fulmar explain workload.spec.placement",
    ] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    let json = site.run(&["apply", "-R", "-f", "all", "-o", "json"]);
    let error: Value = serde_json::from_str(&json.err).unwrap();
    assert!(error["error"]["errors"].as_array().unwrap().len() >= 5, "{error:#}");
    // Nobody is asked at all.
    let here = finish(site.bare(&["apply", "--dry-run=client", "-f", "-"]), MANIFEST);
    assert_eq!((here.code, here.out.as_str()), (0, "region/rhine-main accepted (dry run of the client)\n"), "{here:?}");
    let field = finish(site.bare(&["explain", "workload.spec.placement.within"]), "").only();
    assert!(field.starts_with("KIND:    Workload\nFIELD:   spec.placement.within   list of string"), "{field}");
}

#[test]
fn a_place_with_swapped_coordinates_is_pointed_out() {
    let site = Site::new();
    let _agents = agents(&site);
    let done = finish(site.command(&["apply", "-f", "-"]), &MANIFEST.replace("[8.6821, 50.1109]", "[50.1109, 8.6821]"));
    assert_eq!((done.code, done.out.as_str()), (0, "region/rhine-main created (generation 1)\n"), "{done:?}");
    assert!(done.err.contains("of [8.6821, 50.1109]: longitude comes first; were they swapped?"), "{done:?}");
    assert_eq!(finish(site.command(&["apply", "-f", "-"]), MANIFEST).err, "");
}

#[test]
fn an_edit_writes_back_what_was_read_and_keeps_a_refused_text() {
    let site = Site::new();
    site.region("rhine-main", FRANKFURT);
    let edit = |script: &str| {
        let mut command = site.command(&["edit", "region/rhine-main"]);
        command.env_remove("VISUAL").env("EDITOR", script).env("TMPDIR", site.directory.path());
        finish(command, "")
    };
    assert_eq!(edit("true").only(), "region/rhine-main unchanged: nothing was edited\n");
    assert_eq!(edit("sed -i s/20.0/25/").only(), "region/rhine-main configured (generation 2)\n");
    let refused = edit("sed -i s/radiusKm/radius/");
    assert_eq!(refused.code, 2, "{refused:?}");
    let path = refused.err.split("your text is in ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    assert!(std::fs::read_to_string(path).unwrap().contains("radius: 25"), "{refused:?}");
    assert_eq!(edit("false").code, 1);
    assert_eq!(site.run(&["get", "region/rhine-main", "-o", "jsonpath={.spec.circle.radiusKm}"]).only(), "25.0\n");
}

#[test]
fn the_fleet_is_seen_on_a_map_in_sums_and_by_what_is_wrong() {
    let site = Site::new();
    let mut agents = agents(&site);
    site.region("rhine-main", FRANKFURT);
    let run = |arguments: &[&str]| site.run(arguments).only();

    let map = run(&["map", "--width", "60", "--height", "12"]);
    assert_eq!((map.lines().count(), map.contains('\u{1b}')), (14, false), "{map}");
    assert!(map.ends_with("2 devices   o ok 2\n"), "{map}");
    assert_eq!(map, run(&["map", "--width", "60", "--height", "12"]), "the same fleet is the same text");
    assert_eq!(run(&["map", "--within", "rhine-main", "-o", "jsonpath={.states.ok}"]).trim(), "1");
    assert_eq!(run(&["map", "-o", "name"]), "device/gw-fra\ndevice/gw-par\n");
    assert_eq!(site.run(&["map", "-o", "geojson"]).code, 2);

    let regions: Value = serde_json::from_str(&run(&["capacity", "--by", "region", "-o", "json"])).unwrap();
    assert_eq!((&regions["items"][0]["name"], &regions["items"][0]["devices"]), (&json!("rhine-main"), &json!(1)));
    assert!(run(&["capacity"]).starts_with("CLASS"));
    assert_eq!(run(&["top", "--by", "workloads", "--limit", "1", "-o", "name"]), "device/gw-fra\n");

    let checks: Value = serde_json::from_str(&run(&["doctor", "-o", "json"])).unwrap();
    let verdict = |checks: &Value, what: &str| {
        let found = checks["checks"].as_array().unwrap().iter().find(|check| check["check"] == what).cloned();
        found.unwrap_or_else(|| panic!("no {what}: {checks}"))["verdict"].clone()
    };
    for what in ["hub", "reachable", "ready", "clock", "token", "version", "broker", "workloads", "devices", "listener"]
    {
        assert_eq!(verdict(&checks, what), "ok", "{what}: {checks}");
    }

    let watch = Following::start(site.command(&["map", "--watch", "--width", "60", "--height", "12"]));
    wait_until("the map is written", || match watch.line() {
        line if line == "2 devices   o ok 2" => Ok(()),
        line => Err(line),
    });
    agents[1].kill();
    wait_until("the map tells that one is gone", || match watch.line() {
        line if line == "2 devices   o ok 1   ? unknown 1" => Ok(()),
        line => Err(line),
    });
    let checks: Value = serde_json::from_str(&run(&["doctor", "-o", "json"])).unwrap();
    assert_eq!(verdict(&checks, "devices"), "warn", "{checks}");

    let mut asked = site.command(&["--", "fulmar", "describe", "device", "gw-p"]);
    asked.env("COMPLETE", "fish");
    assert_eq!(finish(asked, "").only().trim(), "gw-par");
}

#[test]
fn every_kind_is_described_waited_for_and_missed_in_the_same_way() {
    let site = Site::new();
    let mut agents = agents(&site);
    site.region("rhine-main", FRANKFURT);
    site.hub.wait_online("gw-fra");
    let module = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/hello/hello.wasm")).unwrap();
    site.hub.deploy(&Workload::new("hello").every("1h").placed(json!({"on": ["gw-fra"]})), &module);
    assert!(site.run(&["token", "create", "reader"]).out.starts_with("fulmar_"));
    assert_eq!(site.run(&["wait", "--for", "running", "hello"]).code, 0);
    for object in [
        "device/gw-fra",
        "region/rhine-main",
        "artifact/hello",
        "workload/hello",
        "placement/hello.gw-fra",
        "token/reader",
        "namespace/default",
    ] {
        let (kind, name) = object.split_once('/').unwrap();
        let text = site.run(&["describe", object]).only();
        assert!(text.starts_with(&format!("Name:        {name}\n")) && text.contains("\nEvents:"), "{object}: {text}");
        assert_eq!(site.run(&["describe", kind, name]).only(), site.run(&["describe", object]).only());
        assert_eq!(site.run(&["describe", object, "-o", "name"]).only(), format!("{object}\n"));
        assert_eq!(site.run(&["describe", object, "-o", "json"]).json()["object"]["metadata"]["name"], name);
        let missing = site.run(&["describe", kind, "nobody"]);
        assert!(missing.code == 8 && missing.err.contains("error[NOT_FOUND]"), "{missing:?}");
    }
    for asked in
        [&["map", "--within", "nowhere"][..], &["top", "--within", "nowhere"], &["get", "d", "--within", "nowhere"]]
    {
        let missing = site.run(asked);
        assert!(missing.code == 8 && missing.err.contains("there is no region/nowhere"), "{missing:?}");
    }
    assert_eq!(site.run(&["capacity", "--by", "region", "--within", "nowhere"]).code, 8);
    for verb in ["map", "top", "capacity"] {
        assert_eq!(site.run(&[verb, "-A"]).code, 2, "{verb} has no namespaces");
    }

    assert_eq!(site.run(&["wait", "--for", "online", "device/gw-par"]).only(), "device/gw-par is online\n");
    agents[1].kill();
    wait_until("its loss is known", || {
        match site.run(&["wait", "--for", "online", "d", "gw-par", "--timeout", "1ms"]) {
            done if done.code == 7 && done.err.contains("why: it is") => Ok(()),
            done => Err(done),
        }
    });
    assert_eq!(site.run(&["wait", "--for", "online", "workload/hello"]).code, 2);
    assert_eq!(site.run(&["wait", "--for", "running", "device/gw-fra"]).code, 2);
    assert_eq!(site.run(&["wait", "--for", "online", "device/nobody"]).code, 8);
    site.run(&["delete", "region/rhine-main"]).only();
    assert_eq!(site.run(&["wait", "--for", "deleted", "region/rhine-main"]).only(), "region/rhine-main is deleted\n");

    let versions = site.run(&["version"]).only();
    let version = env!("CARGO_PKG_VERSION");
    assert!(versions.starts_with(&format!("fulmar {version}\nhub    {version}   http://127.0.0.1:")), "{versions}");
    let told = site.run(&["get", "device", "gw-fra", "-o", "name", "-v"]);
    assert!(
        told.err.starts_with("GET http://127.0.0.1:") && told.err.contains("/v1/devices/gw-fra   200 OK   "),
        "{told:?}"
    );
    assert!(!told.err.contains(&site.hub.token()), "no secret is told");
    assert_eq!(told.out, "device/gw-fra\n");
}

#[test]
fn a_hub_that_is_not_there_is_told_by_the_doctor_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("fulmar"));
    command.args(["doctor", "--server", "http://127.0.0.1:9", "--timeout", "5s"]).env("FULMAR_TOKEN", "t");
    command.env_remove("FULMAR_DATA").env_remove("FULMAR_CONTEXT").env_remove("FULMAR_CA");
    command.env("XDG_CONFIG_HOME", directory.path()).env("XDG_STATE_HOME", directory.path());
    command.current_dir(directory.path());
    let done = finish(command, "");
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("FAIL  reachable") && done.out.contains("next: "), "{done:?}");
    assert!(done.err.contains("error[SICK]"), "{done:?}");
}

#[test]
fn devices_are_rejected_relocated_and_decommissioned() {
    let site = Site::new();
    let token = site.hub.join_token(false);
    let stranger = Agent::enrol(site.directory.path(), &token, "stranger", PARIS);
    let _agents = agents(&site);

    assert_eq!(
        site.run(&["device", "reject", stranger.name()]).only(),
        "device/stranger rejected; its key is refused\n"
    );
    assert_eq!(site.run(&["get", "device", "stranger"]).code, 8);
    assert_eq!(site.run(&["device", "reject", "gw-fra"]).code, 6, "it is approved");
    let listed = site.run(&["device", "rejected"]).only();
    let row: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0].len(), row[1], listed.lines().count()), (26, "stranger", 2), "{listed}");
    assert_eq!(site.run(&["device", "rejected", "-o", "name"]).only(), format!("{}\n", row[0]));
    let allowed = site.run(&["device", "allow", "stranger"]);
    assert_eq!((allowed.code, allowed.out), (0, format!("key {} may join again\n", row[0])));
    assert_eq!(site.run(&["device", "allow", row[0]]).code, 8, "it is not rejected any more");
    assert_eq!(site.run(&["device", "rejected", "-o", "json"]).json()["items"], json!([]));

    let moved = ["device", "relocate", "gw-par", "--at", "8.6821,50.1109", "--uncertainty", "30"];
    assert_eq!(site.run(&moved).only(), "device/gw-par relocated\n");
    let near = ["get", "d", "--near", "8.68,50.11,5", "-o", "name"];
    assert_eq!(site.run(&near).only(), "device/gw-fra\ndevice/gw-par\n");
    site.run(&["device", "relocate", "gw-par", "--reset"]).only();
    wait_until("the device is where it says", || match site.run(&near).only() {
        found if found == "device/gw-fra\n" => Ok(()),
        found => Err(found),
    });
    assert_eq!(site.run(&["device", "relocate", "gw-par", "--at", "north"]).code, 2);

    site.run(&["device", "decommission", "gw-par"]).only();
    wait_until("it is gone", || match site.run(&["get", "device", "gw-par"]).code {
        8 => Ok(()),
        code => Err(code),
    });
    assert_eq!(site.run(&["device", "decommission", "gw-fra", "--force"]).only(), "device/gw-fra removed\n");
    assert_eq!(site.run(&["get", "devices", "-o", "name"]).only(), "");
}

#[test]
fn a_plan_is_shown_kept_and_carried_out_exactly_or_not_at_all() {
    let site = Site::new();
    let _agents = agents(&site);
    site.hub.wait_online("gw-fra");
    site.hub.wait_online("gw-par");
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/hello/hello.wasm");
    std::fs::copy(module, site.path("hello.wasm")).unwrap();
    let manifest = |replicas: u32| {
        format!(
            "apiVersion: fulmar/v1\nkind: Workload\nmetadata: {{name: hello}}\nspec:\n  type: function\n  artifact: file:hello.wasm\n  \
             replicas: {replicas}\n  function: {{triggers: {{every: 1h}}, capabilities: [log, state]}}\n  placement: {{labels: {{fleet: test}}}}\n"
        )
    };
    site.write("hello.yaml", &manifest(1).replace("labels: {fleet: test}", "class: [gateway]"));
    let refused = site.run(&["plan", "-f", "hello.yaml"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("hello.yaml:9:"), "what only the hub finds has its line too: {refused:?}");
    site.write("hello.yaml", &manifest(1));
    let plan = site.run(&["plan", "-f", "hello.yaml", "--out", "p.json", "--exit-code"]);
    assert_eq!(plan.code, 3, "{plan:?}");
    assert!(plan.out.starts_with("+ workload/hello\n"), "{plan:?}");
    assert!(plan.out.contains("workload/hello would run on 1 devices\n  + 1 gain it: gw-"), "{plan:?}");
    assert!(plan.err.contains("fulmar apply p.json"), "{plan:?}");
    assert_eq!(site.run(&["get", "workload", "hello"]).code, 8, "nothing is written");

    let applied = site.run(&["apply", "p.json", "--wait", "--timeout", "60s"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(applied.out.starts_with("workload/hello created (generation 1)\n"), "{applied:?}");
    let again = site.run(&["apply", "p.json"]);
    assert_eq!(again.code, 6, "what the plan was made upon has moved: {again:?}");
    assert!(again.err.contains("error[PLAN_STALE]"), "{again:?}");

    site.write("hello.yaml", &manifest(2));
    assert_eq!(site.run(&["--readonly", "plan", "-f", "hello.yaml", "--out", "q.json"]).code, 0, "it changes nothing");
    site.run(&["device", "cordon", "gw-par"]).only();
    let stale = site.run(&["apply", "q.json"]);
    assert_eq!(stale.code, 6, "the devices are others now: {stale:?}");
    assert_eq!(site.hub.workload("hello")["metadata"]["generation"], 1);
    let wrong = site.run(&["apply", "hello.yaml"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("fulmar apply -f hello.yaml"), "{wrong:?}");
}

#[test]
fn a_file_with_a_namespace_and_what_is_in_it_applies_in_one_go() {
    let site = Site::new();
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/hello/hello.wasm");
    std::fs::copy(module, site.path("hello.wasm")).unwrap();
    let manifest = |namespace: &str| {
        format!(
            "apiVersion: fulmar/v1\nkind: Workload\nmetadata: {{name: hello, namespace: {namespace}}}\nspec:\n  type: function\n  \
             artifact: file:hello.wasm\n  function: {{triggers: {{every: 1h}}, capabilities: [log, state]}}\n  \
             placement: {{labels: {{fleet: test}}}}\n---\n\
             apiVersion: fulmar/v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{team: x}}}}\n"
        )
    };
    site.write("lab.yaml", &manifest("lab"));
    let tried = site.run(&["apply", "-f", "lab.yaml", "--dry-run"]).only();
    assert!(tried.starts_with("artifact/hello uploaded") && tried.contains("namespace/lab created"), "{tried}");
    let diff = site.run(&["diff", "-f", "lab.yaml"]).only();
    assert!(diff.starts_with("+ namespace/lab\n") && diff.contains("+ workload/hello\n"), "{diff}");
    assert_eq!(site.run(&["get", "ns", "-o", "name"]).only(), "namespace/default\n", "nothing was written");

    let done = site.run(&["apply", "-f", "lab.yaml"]).only();
    let first: Vec<&str> = done.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(first, ["namespace/lab", "artifact/hello", "workload/hello"], "{done}");
    assert!(site.run(&["apply", "-f", "lab.yaml"]).only().starts_with("namespace/lab unchanged"));
    assert_eq!(site.run(&["get", "workloads", "-n", "lab", "-o", "name"]).only(), "workload/hello\n");
    assert_eq!(
        site.run(&["get", "namespaces", "-l", "team=x", "-o", "jsonpath={.items[*].metadata.name}"]).only(),
        "lab\n"
    );
    let shown = site.run(&["describe", "ns", "lab"]).only();
    assert!(shown.starts_with("Name:        lab\nLabels:      team=x\n"), "{shown}");
    let wide = site.run(&["get", "ns", "-o", "wide"]).only();
    assert!(wide.starts_with("NAME      AGE") && wide.contains("team=x"), "{wide}");

    let missing = site.run(&["get", "workloads", "-n", "moon"]);
    assert!(missing.code == 8 && missing.err.contains("error[NAMESPACE_NOT_FOUND]"), "{missing:?}");
    site.write("moon.yaml", manifest("moon").split("---").next().unwrap());
    let refused = site.run(&["apply", "-f", "moon.yaml"]);
    assert!(refused.code == 8 && refused.err.contains("nothing was changed"), "{refused:?}");
    let paste = refused.err.lines().find_map(|line| Some(line.split_once("echo ")?.1.to_owned())).unwrap();
    let yaml = paste.split('\'').nth(1).unwrap();
    assert_eq!(
        finish(site.command(&["apply", "-f", "-"]), yaml).only(),
        "namespace/moon created (generation 1)\n",
        "what the message says can be pasted"
    );

    site.write("field.yaml", &manifest("field"));
    let plan = site.run(&["plan", "-f", "field.yaml", "--out", "p.json"]);
    assert!(plan.code == 0 && plan.err.contains("namespace/field was made already"), "{plan:?}");
    assert!(plan.out.starts_with("= namespace/field\n+ workload/hello\n"), "{plan:?}");
    let applied = site.run(&["apply", "p.json"]).only();
    assert!(applied.contains("workload/hello created (generation 1)"), "{applied}");

    for (typed, expected) in [("la", "lab"), ("", "default\nfield\nlab\nmoon")] {
        let mut asked = site.command(&["--", "fulmar", "get", "workloads", "-n", typed]);
        asked.env("COMPLETE", "fish");
        assert_eq!(finish(asked, "").only().trim(), expected);
    }

    let used = site.run(&["delete", "ns", "lab"]);
    assert!(used.code == 6 && used.err.contains("error[IN_USE]"), "{used:?}");
    assert!(used.err.contains("fulmar delete workload/hello -n lab"), "{used:?}");
    let kept = site.run(&["delete", "namespace", "default"]);
    assert!(kept.code == 6 && kept.err.contains("error[PROTECTED]"), "{kept:?}");
    assert_eq!(
        site.run(&["delete", "-f", "lab.yaml"]).only(),
        "workload/hello deleted\nartifact/hello deleted\nnamespace/lab deleted\n"
    );
    assert_eq!(site.run(&["get", "ns", "lab"]).code, 8);
}

#[test]
fn placements_are_explained_as_they_would_be_and_nothing_is_changed() {
    let site = Site::new();
    let _agents = agents(&site);
    site.hub.wait_online("gw-fra");
    site.hub.wait_online("gw-par");
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/hello/hello.wasm");
    std::fs::copy(module, site.path("hello.wasm")).unwrap();
    let manifest = "apiVersion: fulmar/v1\nkind: Workload\nmetadata: {name: hello}\nspec:\n  type: function\n  artifact: file:hello.wasm\n  \
         replicas: 1\n  function: {triggers: {every: 1h}, capabilities: [log, state]}\n  \
         placement: {near: {point: [8.6821, 50.1109], maxKm: 50}}\n";
    site.write("hello.yaml", manifest);

    // Before it is there at all.
    let text = site.run(&["explain", "placement", "--what-if", "hello.yaml"]).only();
    assert!(text.starts_with("Supposed: hello.yaml\n1 nearest device to 8.6821,50.1109 (at most 50 km)."), "{text}");
    assert!(text.contains("gw-fra") && text.contains("1 farther than 50 km  ->  1 feasible"), "{text}");
    assert_eq!(site.run(&["get", "workload", "hello"]).code, 8, "nothing is written");
    assert_eq!(site.run(&["apply", "-f", "hello.yaml", "--wait"]).code, 0);

    let chosen = |arguments: &[&str]| {
        let all = [&["explain", "placement", "wl/hello", "-o", "json"], arguments].concat();
        let answer = site.run(&all).json();
        let names =
            answer["chosen"].as_array().unwrap().iter().map(|chosen| chosen["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<String>>()
    };
    assert_eq!(chosen(&[]), ["gw-fra"]);
    assert_eq!(chosen(&["--near", "2.3522,48.8566"]), ["gw-par"]);
    assert_eq!(chosen(&["--near", "2.3522,48.8566,1000", "--what-if", "device/gw-par.position=8.7,50.1"]), ["gw-fra"]);
    assert_eq!(
        chosen(&["--what-if", "d/gw-fra.draining=true", "--what-if", "device/gw-par.position=8.7,50.1"]),
        ["gw-par"]
    );
    let tainted = ["--what-if", "device/gw-fra.taints=wet=yes:NoExecute"];
    assert_eq!(chosen(&tainted), Vec::<String>::new());

    let one = ["explain", "placement", "hello", "--device", "gw-fra", tainted[0], tainted[1]];
    let told = site.run(&one);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.out.contains("x  TAINT  wet=yes:NoExecute is not tolerated"), "{told:?}");
    assert!(told.err.ends_with("--what-if 'device/gw-fra.taints='\n"), "{told:?}");
    for (wrong, part) in [
        (
            "device/gw-fra.colour=red",
            "error[INVALID]: --what-if 'device/gw-fra.colour=red'  not a field that can be supposed",
        ),
        ("device/nobody.class=mcu", "--what-if 'device/nobody.class=mcu'  not device/<name> of a known device"),
        ("device/gw-fra.free.memory=much", "\"much\" is not a size"),
        ("nothing.yaml", "error[FILE]: cannot read nothing.yaml"),
    ] {
        let refused = site.run(&["explain", "placement", "hello", "--what-if", wrong]);
        assert!(refused.code == 2 && refused.err.contains(part), "{refused:?}");
    }
    assert_eq!(
        site.run(&["--readonly", "explain", "placement", "hello", "--near", "2,48"]).code,
        0,
        "it changes nothing"
    );
    assert_eq!(site.hub.workload("hello")["metadata"]["generation"], 1);

    let told = finish(site.bare(&["explain", "error", "plan-stale"]), "").only();
    assert!(told.starts_with("PLAN_STALE   said by the hub, HTTP 409, exit code 6\n"), "{told}");
}
