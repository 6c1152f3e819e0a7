//! Where the hub is: named by the operator, or the one that runs on the data directory.
//!
//! A token is never printed, and never sent to another hub than the one it belongs to.

use crate::args::Global;
use crate::code::Code;
use crate::config::{self, Context};
use crate::failure::Failure;
use hub::hub::Endpoints;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const TOKEN_VARIABLE: &str = "FULMAR_TOKEN";

/// A hub, and the right to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host:port` or `https://host:port` without a slash at the end.
    pub server: String,
    pub token: Option<String>,
    /// PEM file of the authority that vouches for it.
    pub ca: Option<PathBuf>,
    /// How it was found, for messages.
    pub origin: String,
}

/// `None`: no hub has run here.
pub fn read_file(data: &Path) -> Result<Option<Endpoints>, Failure> {
    let path = Endpoints::path(data);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(unreadable(&path, &error.to_string())),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| unreadable(&path, &error.to_string()))
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::new(Code::Endpoints, format!("cannot read {}", path.display()))
        .why(why)
        .next("run as the user who started the hub, or give --server and FULMAR_TOKEN")
}

/// The hub may have been started with a relative path from another directory.
fn beside(path: &Path, data: &Path) -> PathBuf {
    if path.is_absolute() { path.to_owned() } else { data.join("run").join(path.file_name().unwrap_or_default()) }
}

fn read_token(file: &Endpoints, data: &Path) -> Result<String, Failure> {
    let path = beside(&file.token_file, data);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(unreadable(&path, &error.to_string())),
    }
}

/// An address of a hub, without a slash at the end.
pub fn check_server(server: &str) -> Result<String, Failure> {
    let server = server.trim_end_matches('/').to_owned();
    if !["http://", "https://"].iter().any(|scheme| server.starts_with(scheme)) {
        return Err(Failure::usage(format!("{server:?} is not the address of a hub"))
            .why("it starts with https://, or with http:// for a hub on this machine")
            .next("fulmar --server https://hub.example.org:7443 status"));
    }
    Ok(server)
}

/// Where the parts of the choice came from. The command line counts more than the environment, and what is said for this
/// one command more than the current context of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    Nowhere,
    Environment,
    CommandLine,
}

/// Settles which of address, data directory and context counts, and takes over what the context says.
pub fn settle(global: &mut Global, server: Said, data: Said, context: Said) -> Result<(), Failure> {
    let direct = server.max(data);
    if context > direct || context == Said::CommandLine {
        if direct == Said::CommandLine {
            return Err(Failure::usage("--context goes with neither --server nor --data"));
        }
        (global.server, global.is_data_given) = (None, false);
    } else if direct > Said::Nowhere {
        global.context = None;
        return Ok(());
    }
    let config = config::load()?;
    let name = global.context.clone().or_else(|| config.current.clone()).filter(|name| name != config::LOCAL);
    let Some(name) = name else { return Ok(()) };
    let context = config::find(&config, &name)?;
    global.readonly |= context.readonly;
    if let (Some(namespace), false) = (&context.namespace, global.is_namespace_given) {
        global.namespace.clone_from(namespace);
    }
    global.chosen = Some((name, context));
    Ok(())
}

/// Finds the hub, or says what to start.
pub fn find(global: &Global) -> Result<Endpoint, Failure> {
    let variable =
        std::env::var(TOKEN_VARIABLE).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    find_with(global, variable)
}

fn find_with(global: &Global, variable: Option<String>) -> Result<Endpoint, Failure> {
    let data = &global.data;
    if let Some(server) = &global.server {
        let server = check_server(server)?;
        // What is in the data directory belongs to the hub of that directory only.
        let file = read_file(data)?.filter(|file| file.api.trim_end_matches('/') == server);
        let token = match (variable, &file) {
            (Some(token), _) => Some(token),
            (None, Some(file)) => Some(read_token(file, data)?),
            (None, None) => None,
        };
        let ca = global.ca.clone().or_else(|| ca_of(file.as_ref()?, data));
        return Ok(Endpoint { server, token, ca, origin: "--server or FULMAR_SERVER".to_owned() });
    }
    let mut endpoint = match &global.chosen {
        Some((name, context)) => in_context(name, context, variable)?,
        None => of_directory(data, variable)?,
    };
    endpoint.ca = global.ca.clone().or(endpoint.ca);
    Ok(endpoint)
}

/// The authority of a hub on this machine.
fn ca_of(file: &Endpoints, data: &Path) -> Option<PathBuf> {
    file.ca_file.as_ref().map(|path| beside(path, data))
}

fn in_context(name: &str, context: &Context, variable: Option<String>) -> Result<Endpoint, Failure> {
    let origin = format!("the context {name}");
    if let Some(server) = &context.server {
        let (server, token) = (check_server(server)?, variable.or_else(|| context.token.clone()));
        return Ok(Endpoint { server, token, ca: context.ca.clone(), origin });
    }
    let data = context.data.clone().unwrap_or_default();
    let mut endpoint = of_directory(&data, variable.or_else(|| context.token.clone()))?;
    endpoint.origin = format!("{origin}, {}", endpoint.origin);
    endpoint.ca = context.ca.clone().or(endpoint.ca);
    Ok(endpoint)
}

/// The hub that runs on a data directory.
fn of_directory(data: &Path, token: Option<String>) -> Result<Endpoint, Failure> {
    let Some(file) = read_file(data)? else {
        return Err(Failure::new(Code::NoHub, "no hub is running here")
            .why(format!(
                "{} does not exist, no hub of this user runs on this machine, and neither --server, --context nor FULMAR_SERVER is given",
                Endpoints::path(data).display()
            ))
            .next("fulmar up")
            .next("or name the data directory of a running hub: --data DIR or FULMAR_DATA"));
    };
    let token = match token {
        Some(token) => token,
        None => read_token(&file, data)?,
    };
    let origin = format!("{} (process {})", Endpoints::path(data).display(), file.pid);
    let ca = ca_of(&file, data);
    Ok(Endpoint { server: file.api.trim_end_matches('/').to_owned(), token: Some(token), ca, origin })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exit::Exit;

    fn global(data: &Path, server: Option<&str>) -> Global {
        Global { server: server.map(str::to_owned), ..Global::of(data) }
    }

    fn hub(data: &Path) {
        std::fs::create_dir_all(data.join("run")).unwrap();
        let file = r#"{"api": "http://127.0.0.1:1", "broker": "mqtt://127.0.0.1:2", "pid": 3, "token_file": "elsewhere/run/admin.token"}"#;
        std::fs::write(Endpoints::path(data), file).unwrap();
        std::fs::write(data.join("run/admin.token"), "secret\n").unwrap();
    }

    #[test]
    fn without_a_hub_the_message_says_how_to_start_one() {
        let data = tempfile::tempdir().unwrap();
        let failure = find_with(&global(data.path(), None), None).unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Failure, "NO_HUB"));
        assert_eq!(failure.next[0], "fulmar up");
    }

    #[test]
    fn the_running_hub_is_found_with_its_token() {
        let data = tempfile::tempdir().unwrap();
        hub(data.path());
        let found = find_with(&global(data.path(), None), None).unwrap();
        assert_eq!((found.server.as_str(), found.token.as_deref()), ("http://127.0.0.1:1", Some("secret")));
        let found = find_with(&global(data.path(), None), Some("other".to_owned())).unwrap();
        assert_eq!(found.token.as_deref(), Some("other"));
    }

    #[test]
    fn a_token_does_not_go_to_another_hub() {
        let data = tempfile::tempdir().unwrap();
        hub(data.path());
        let same = find_with(&global(data.path(), Some("http://127.0.0.1:1/")), None).unwrap();
        assert_eq!(same.token.as_deref(), Some("secret"));
        let other = find_with(&global(data.path(), Some("http://127.0.0.1:9")), None).unwrap();
        assert_eq!(other.token, None);
        let secure = find_with(&global(data.path(), Some("https://hub:7443")), None).unwrap();
        assert_eq!((secure.server.as_str(), secure.token, secure.ca), ("https://hub:7443", None, None));
        assert_eq!(find_with(&global(data.path(), Some("hub:7443")), None).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn the_authority_is_the_one_that_is_said_then_that_of_the_data_directory() {
        let data = tempfile::tempdir().unwrap();
        hub(data.path());
        let file = r#"{"api": "https://127.0.0.1:1", "broker": "mqtts://127.0.0.1:2", "pid": 3, "token_file": "x/run/admin.token", "ca_file": "x/run/ca.pem"}"#;
        std::fs::write(Endpoints::path(data.path()), file).unwrap();
        let found = |global: &Global| find_with(global, None).unwrap().ca;
        assert_eq!(found(&global(data.path(), None)), Some(data.path().join("run/ca.pem")));
        assert_eq!(found(&global(data.path(), Some("https://127.0.0.1:1"))), Some(data.path().join("run/ca.pem")));
        assert_eq!(found(&global(data.path(), Some("https://other:1"))), None);
        let said = Global { ca: Some("said.pem".into()), ..global(data.path(), None) };
        assert_eq!(found(&said), Some("said.pem".into()));
    }

    #[test]
    fn a_context_says_where_the_hub_is_and_with_which_token() {
        let data = tempfile::tempdir().unwrap();
        hub(data.path());
        let context =
            Context { server: Some("http://far:1/".to_owned()), token: Some("t".to_owned()), ..Context::default() };
        let global = Global { chosen: Some(("lab".to_owned(), context)), ..Global::of(data.path()) };
        let found = find_with(&global, None).unwrap();
        assert_eq!((found.server.as_str(), found.token.as_deref()), ("http://far:1", Some("t")));
        assert_eq!(found.origin, "the context lab");
        let context = Context { data: Some(data.path().to_owned()), ..Context::default() };
        let global = Global { chosen: Some(("here".to_owned(), context)), ..Global::of(Path::new("nowhere")) };
        assert_eq!(find_with(&global, None).unwrap().token.as_deref(), Some("secret"));
    }

    #[test]
    fn what_is_said_on_the_command_line_wins() {
        let data = tempfile::tempdir().unwrap();
        let mut with = global(data.path(), Some("http://a"));
        with.context = Some("lab".to_owned());
        settle(&mut with, Said::CommandLine, Said::Nowhere, Said::Environment).unwrap();
        assert_eq!((with.server.as_deref(), with.context), (Some("http://a"), None));
        let mut both = global(data.path(), Some("http://a"));
        both.context = Some("lab".to_owned());
        assert_eq!(settle(&mut both, Said::CommandLine, Said::Nowhere, Said::CommandLine).unwrap_err().code, "USAGE");
        let mut local = global(data.path(), Some("http://a"));
        local.context = Some("local".to_owned());
        settle(&mut local, Said::Environment, Said::Nowhere, Said::CommandLine).unwrap();
        assert_eq!((local.server, local.chosen), (None, None));
    }
}
