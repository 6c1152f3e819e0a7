//! `hub backup` and `hub restore`: the hub's database as one file, and back. They work on files of this machine and ask no hub.

use crate::args::{Global, Output};
use crate::code::Code;
use crate::failure::{Failure, system};
use crate::output::{is_live, line, may_ask, say, update, whole};
use crate::show::{bytes, now_ms, time_ms};
use hub::store::{self, BackupContent, BackupError, DataDirectory, Progress, StoreError};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};
use std::path::Path;

/// Shows how far it is, where a line may be updated in place.
fn shown() -> impl FnMut(Progress) {
    let is_live = is_live();
    move |Progress { step, done, all }| {
        if is_live {
            update(&format!("{step}: {done} of {all}"));
        }
    }
}

fn ended() {
    if is_live() {
        update("");
    }
}

fn time() -> u64 {
    u64::try_from(now_ms()).unwrap_or_default()
}

pub fn backup(global: &Global, out: &Path, no_artifacts: bool) -> Result<(), Failure> {
    let made = store::backup(&global.data, out, !no_artifacts, time(), &mut shown());
    ended();
    let content = made.map_err(|error| failure("no backup was made", &error))?;
    let length = std::fs::metadata(out).map_err(|error| system("cannot read the backup", &error))?.len();
    let mut answer = described(&content);
    answer["file"] = json!(out.display().to_string());
    answer["bytes"] = json!(length);
    if whole(global.output, &answer)? {
        return Ok(());
    }
    if global.output == Output::Name {
        return line(&out.display().to_string());
    }
    line(&format!("{}   {}   {}", out.display(), bytes(length), words(&content)))?;
    say("Keys are not in it. If there is no copy of them yet, keep one in a safe place:");
    say(&format!("Next:  cp -a {} PLACE", global.data.join("keys").display()));
    Ok(())
}

pub fn restore(global: &Global, from: &Path, yes: bool) -> Result<(), Failure> {
    if global.readonly {
        return Err(Failure::new(Code::Readonly, "--readonly refuses a restore"));
    }
    let wrong = |error: BackupError| failure("nothing was restored", &error);
    let directory = DataDirectory::take(&global.data).map_err(|error| wrong(error.into()))?;
    if !yes && directory.database().exists() {
        confirm(&global.data)?;
    }
    let restored = store::restore(&directory, from, time(), &mut shown());
    ended();
    let restored = restored.map_err(wrong)?;
    let replaced = restored.replaced.as_ref().map(|path| path.display().to_string());
    let mut answer = described(&restored.content);
    answer["artifactsNew"] = json!(restored.artifacts_new);
    answer["replaced"] = json!(replaced);
    if whole(global.output, &answer)? {
        return Ok(());
    }
    line(&format!("restored   {}", words(&restored.content)))?;
    if restored.content.artifacts.is_none() {
        say("The backup was made without artifacts: those in the data directory stay as they are.");
    }
    if let Some(replaced) = replaced {
        say(&format!("What was there is kept in {replaced}"));
    }
    say("When the hub runs, devices that hold newer sets keep them until it is decided: fulmar status says which.");
    say(&format!("Next:  fulmar hub --data {}", global.data.display()));
    Ok(())
}

fn confirm(data: &Path) -> Result<(), Failure> {
    let what = format!("whether the database in {} is to be replaced", data.display());
    may_ask(&what)?;
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{what} cannot be asked here")).next("say it with --yes"));
    }
    say(&format!("Replace the database in {}? What is there is kept aside. [y/N]", data.display()));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| system("cannot read the answer", &error))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(Code::Stopped, "nothing was restored")),
    }
}

fn described(content: &BackupContent) -> Value {
    json!({
        "made": time_ms(content.made_ms),
        "fleet": content.fleet,
        "incarnation": content.incarnation,
        "resourceVersion": content.sequence.to_string(),
        "devices": content.devices,
        "artifacts": content.artifacts,
    })
}

fn words(content: &BackupContent) -> String {
    let artifacts = match content.artifacts {
        Some(count) => format!("{count} artifacts"),
        None => "without artifacts".to_owned(),
    };
    format!(
        "made {}   fleet {}   resource version {}   {} devices   {artifacts}",
        time_ms(content.made_ms),
        content.fleet,
        content.sequence,
        content.devices
    )
}

fn failure(what: &str, error: &BackupError) -> Failure {
    let code = match error {
        BackupError::Store(StoreError::InUse { .. }) => Code::Running,
        BackupError::Torn { .. } | BackupError::Exists { .. } => Code::File,
        BackupError::NoDatabase { .. }
        | BackupError::Artifact { .. }
        | BackupError::NoKeys { .. }
        | BackupError::Keys(_)
        | BackupError::Store(_)
        | BackupError::Audit { .. }
        | BackupError::Artifacts(_)
        | BackupError::File { .. } => Code::Data,
    };
    Failure::new(code, what).why(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_backup_holds_is_said_in_one_line() {
        let content = BackupContent {
            made_ms: 0,
            fleet: "north".to_owned(),
            incarnation: 3,
            sequence: 57,
            devices: 2,
            artifacts: None,
        };
        let text = words(&content);
        assert!(text.contains("fleet north   resource version 57   2 devices   without artifacts"), "{text}");
    }

    #[test]
    fn nobody_is_asked_where_nobody_is() {
        let data = tempfile::tempdir().unwrap();
        let mut global = Global::of(data.path());
        std::fs::write(data.path().join("hub.db"), b"x").unwrap();
        global.no_input = true;
        let failure = restore(&global, Path::new("no-such-file"), false).unwrap_err();
        assert_eq!(failure.code, "USAGE");
    }
}
