//! The table of keys, what beats what, and every mistake with its place.
#![allow(clippy::unwrap_used)]
use super::*;

fn gather(text: &str, flags: &[(&'static str, &str)], variables: &[(&str, &str)]) -> Result<Sources, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    let flags: Vec<(&'static str, String)> = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let environment = |name: &str| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
    Sources::gather(&File::Given(path), &flags, environment)
}

/// Line, column, what and next of each mistake.
fn problems(text: &str) -> Vec<String> {
    let error = gather(text, &[], &[]).and_then(|sources| sources.check()).unwrap_err();
    let line = |problem: &Problem| {
        let place = problem.place.split_once("agent.toml:").map_or(problem.place.as_str(), |(_, place)| place);
        format!("{place} {} / {}", problem.what, problem.next)
    };
    error.0.iter().map(line).collect()
}

#[test]
fn defaults_stand_without_a_file() {
    let config = gather("", &[], &[]).unwrap().check().unwrap();
    assert_eq!(config.data, Path::new("/var/lib/fulmar-agent"));
    assert_eq!((config.function_memory_bytes, config.artifact_bytes_max), (64 << 20, 1 << 30));
    assert_eq!(config.position, PositionSource::Joined);
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let file = "data = \"/file\"\nlog = \"warn\"\n[functions]\nmemory = \"1MiB\"\n";
    let variables = [("FULMAR_AGENT_DATA", "/variable"), ("FULMAR_LOG", "debug")];
    let sources = gather(file, &[("--data", "/flag")], &variables).unwrap();
    let config = sources.check().unwrap();
    assert_eq!((config.data.as_path(), config.log), (Path::new("/flag"), Level::DEBUG));
    assert_eq!(config.function_memory_bytes, 1 << 20);
    let shown = sources.show();
    assert!(shown.contains("data = \"/flag\"  # --data\n"), "{shown}");
    assert!(shown.contains("log = \"debug\"  # FULMAR_LOG\n"), "{shown}");
    assert!(shown.contains("[functions]\nmemory = \"1MiB\"  # "), "{shown}");
    assert!(shown.contains("# broker: not set\n"), "{shown}");
    // What is shown is a configuration.
    assert_eq!(gather(&shown, &[], &[]).unwrap().check().unwrap(), config);
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let told =
        problems("dota = \"/x\"\nlog = \"loud\"\n\n[position]\nsource = \"91,8\"\nstale_s = \"5\"\nmoved_n = 4\n");
    assert_eq!(
        told,
        [
            "1:1 \"dota\" is not a key / did you mean data?",
            "6:11 position.stale_s is of the wrong type: string / position.stale_s takes seconds from 5 to 86400, without quotes",
            "7:1 \"position.moved_n\" is not a key / did you mean position.moved_m?",
            "2:7 log = \"loud\": it is not a level / log takes error, warn, info, debug or trace",
            "5:10 position.source = \"91,8\": it is not a position / position.source takes joined, none, gpsd, or LAT,LON[,UNCERTAINTY_M]",
        ]
    );
}

#[test]
fn broken_toml_is_told_with_its_line() {
    let told = problems("log = \n[position\n");
    assert!(
        told.iter().any(|line| line.starts_with("1:")) && told.iter().any(|line| line.starts_with("2:")),
        "{told:?}"
    );
}

#[test]
fn hostile_files_are_refused_without_harm() {
    let nested = format!("x = {}", "[".repeat(30_000));
    for text in [nested.as_str(), "position = 3", "[data]\nx = 1", "\u{0}", "[[position]]\n", "data.x.y = 1"] {
        assert!(!problems(text).is_empty(), "{text:.20}");
    }
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("long");
    std::fs::write(&long, vec![b'#'; usize::try_from(CONFIG_BYTES_MAX).unwrap() + 1]).unwrap();
    let latin = directory.path().join("latin");
    std::fs::write(&latin, b"log = \"\xe4\"").unwrap();
    for path in [long, latin, directory.path().join("none"), directory.path().to_owned()] {
        assert!(Sources::gather(&File::Given(path.clone()), &[], |_| None).is_err(), "{path:?}");
    }
}

#[test]
fn a_position_is_read_without_rounding() {
    let position = position_parse("-33.8688001, 151.2093,25").unwrap();
    assert_eq!((position.latitude_e7, position.longitude_e7), (-338_688_001, 1_512_093_000));
    assert_eq!(position.uncertainty_m, 25);
    assert_eq!(position_parse("90,-180").unwrap().longitude_e7, -1_800_000_000);
    for text in ["", "1", "91,0", "0,181", "1.00000001,2", "a,b", "1,2,-3", "1,2,3,4", "+1,2", "1.,2"] {
        assert!(position_parse(text).is_none(), "{text}");
    }
}

#[test]
fn values_at_their_limits_are_taken_and_beyond_refused() {
    let cases = [
        ("functions.memory", ["64KiB", "2GiB"], ["65535", "2049MiB"]),
        ("artifacts.limit", ["64KiB", "1TiB"], ["63KiB", "18446744073709551615TiB"]),
        ("stop_timeout_s", ["1", "3600"], ["0", "3601"]),
        ("position.stale_s", ["5", "86400"], ["4", "86401"]),
        ("position.moved_m", ["0", "1000000"], ["-1", "1000001"]),
        ("position.pause_s", ["1", "86400"], ["0", "1.5"]),
        ("position.gpsd", ["127.0.0.1:1", "[::1]:65535"], ["localhost:2947", "127.0.0.1"]),
        ("broker", ["mqtt://a", "mqtts://[::1]:9"], ["http://a", ""]),
    ];
    for (name, good, bad) in cases {
        let key = KEYS.iter().find(|key| key.name == name).unwrap();
        let set = |text: &str| (key.set)(&mut key::empty(), text);
        assert!(good.iter().all(|text| set(text).is_ok()), "{name}");
        assert!(bad.iter().all(|text| set(text).is_err()), "{name}");
    }
}

/// `docs/reference/agent-config.md` is made from the table; `UPDATE_GOLDEN=1` rewrites it.
#[test]
fn the_reference_is_what_the_table_says() {
    let mut text = "# Configuration of the agent\n\nMade from the code; do not edit.\n\n".to_owned();
    text.push_str(&format!(
        "`fulmar-agent` reads `{CONFIG_DEFAULT}` if it is there, or the file that `--config` names. A flag beats the\n\
         environment, the environment beats the file, the file beats the default. Unknown keys are refused.\n\
         `fulmar-agent config check` judges a file, `fulmar-agent config show` prints what is in force and where it came from.\n\n"
    ));
    text.push_str("| key | takes | default | flag | environment | meaning |\n|---|---|---|---|---|---|\n");
    for key in KEYS {
        let flags = key.flags.iter().map(|flag| format!("`{flag}`")).collect::<Vec<_>>().join(", ");
        let default = key.default.map(|default| format!("`{default}`")).unwrap_or_default();
        let line = [key.name.to_owned(), key.form.to_owned(), default, flags, variable(key), key.meaning.to_owned()];
        let [name, form, default, flags, variable, meaning] = line.map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| `{name}` | {form} | {default} | {flags} | `{variable}` | {meaning} |\n"));
    }
    text.push_str("\nThe defaults as a file:\n\n```toml\n");
    text.push_str(&Sources::defaults().show().replace("  # default", ""));
    text.push_str("```\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/agent-config.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, text, "run with UPDATE_GOLDEN=1 and read the difference");
}
