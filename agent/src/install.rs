//! `fulmar-agent install`: the unit for systemd and a first configuration, where a Debian system looks for them.
//!
//! Must never replace a configuration, nor start anything.
use crate::config::{CONFIG_DEFAULT, Sources};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The unit as it is in the source, for a program in /usr/bin.
pub const UNIT: &str = include_str!("../systemd/fulmar-agent.service");
const UNIT_PATH: &str = "/etc/systemd/system/fulmar-agent.service";
const PROGRAM: &str = "/usr/bin/fulmar-agent";

/// What could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}. Run it as root, or with --root and another directory")]
pub struct InstallError {
    path: PathBuf,
    source: io::Error,
}

/// Files that were written, in order. `root`: `/`, or a directory that an image is made of.
pub fn install(root: &Path, program: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let unit = UNIT.replace(PROGRAM, &program.display().to_string());
    let mut written = Vec::new();
    for (name, text) in [(UNIT_PATH, unit), (CONFIG_DEFAULT, first_configuration())] {
        let path = root.join(name.trim_start_matches('/'));
        if name == CONFIG_DEFAULT && path.exists() {
            continue;
        }
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(root))?;
            fs::write(&path, text)
        };
        write().map_err(|source| InstallError { path: path.clone(), source })?;
        written.push(path);
    }
    Ok(written)
}

/// Every key with its default, commented out: what is left out follows the defaults of later versions.
fn first_configuration() -> String {
    let defaults = Sources::defaults().show().replace("  # default", "");
    let comment = |line: &str| {
        let is_value = !line.is_empty() && !line.starts_with(['[', '#']);
        format!("{}{line}\n", if is_value { "# " } else { "" })
    };
    let head = "# Configuration of the Fulmar agent; docs/reference/agent-config.md describes the keys.\n";
    head.to_owned() + &defaults.lines().map(comment).collect::<String>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::File;

    #[test]
    fn an_installed_configuration_is_good_and_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let written = install(root.path(), Path::new("/opt/fulmar-agent")).unwrap();
        assert_eq!(written.len(), 2);
        let (unit, config) = (&written[0], &written[1]);
        assert!(fs::read_to_string(unit).unwrap().contains("\nExecStart=/opt/fulmar-agent run\n"));
        let sources = Sources::gather(&File::Given(config.clone()), &[], |_| None).unwrap();
        assert_eq!(sources.check(), Sources::defaults().check());
        fs::write(config, "log = \"warn\"\n").unwrap();
        assert_eq!(install(root.path(), Path::new("/opt/fulmar-agent")).unwrap().len(), 1);
        assert_eq!(fs::read_to_string(config).unwrap(), "log = \"warn\"\n");
    }
}
