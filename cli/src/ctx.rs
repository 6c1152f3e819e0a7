//! `ctx` and `login`: hubs by name. Tokens come from standard input or a file, never from the command line, and are not shown.

use crate::args::{Ctx, CtxAdd, Global, Login, Output};
use crate::client::Client;
use crate::code::Code;
use crate::config::{self, Config, Context, LOCAL};
use crate::endpoint::{self, Endpoint};
use crate::failure::Failure;
use crate::output::{line, print, print_table, say, whole};
use crate::secret;
use crate::show::text;
use crate::table::Table;
use hub::problem_code::ProblemCode;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub fn run(global: &Global, verb: Option<&Ctx>) -> Result<(), Failure> {
    match verb {
        None | Some(Ctx::List) => list(global),
        Some(Ctx::Use { name }) => take(name),
        Some(Ctx::Add(args)) => add(global, args),
        Some(Ctx::Remove { name }) => remove(name),
        Some(Ctx::Show { name }) => show(global, name.as_deref()),
    }
}

/// A context as it is shown: without its token.
fn shown(name: &str, context: &Context, is_current: bool) -> Value {
    json!({
        "name": name,
        "current": is_current,
        "server": context.server,
        "data": context.data,
        "ca": context.ca,
        "namespace": context.namespace,
        "readonly": context.readonly,
        "hasToken": context.token.is_some(),
    })
}

fn list(global: &Global) -> Result<(), Failure> {
    let config = config::load()?;
    let current = config.current.as_deref().unwrap_or(LOCAL);
    let local = Context::default();
    let all = || {
        let local = std::iter::once((LOCAL, &local));
        local.chain(config.contexts.iter().map(|(name, context)| (name.as_str(), context)))
    };
    let items: Vec<Value> = all().map(|(name, context)| shown(name, context, name == current)).collect();
    if whole(global.output, &json!({"items": items}))? {
        return Ok(());
    }
    if global.output == Output::Name {
        return print(&all().map(|(name, _)| format!("{name}\n")).collect::<String>());
    }
    let mut table = Table::new(&["CURRENT", "NAME", "HUB", "NAMESPACE", "READONLY"]);
    for (name, context) in all() {
        let mark = if name == current { "*" } else { "" };
        let place = if name == LOCAL { "the one that runs on this machine".to_owned() } else { context.place() };
        table.row(vec![
            mark.to_owned(),
            name.to_owned(),
            place,
            context.namespace.clone().unwrap_or_default(),
            if context.readonly { "yes".to_owned() } else { String::new() },
        ]);
    }
    print_table(global.output, &table.text())
}

fn take(name: &str) -> Result<(), Failure> {
    let mut config = config::load()?;
    config.current = match name {
        LOCAL => None,
        name => {
            config::find(&config, name)?;
            Some(name.to_owned())
        }
    };
    config::store(&config)?;
    line(&format!("context {name} is used from now on"))
}

fn remove(name: &str) -> Result<(), Failure> {
    let mut config = config::load()?;
    config::find(&config, name)?;
    config.contexts.remove(name);
    if config.current.as_deref() == Some(name) {
        config.current = None;
        say("it was the current one: from now on it is the hub on this machine");
    }
    config::store(&config)?;
    line(&format!("context {name} removed"))
}

fn show(global: &Global, name: Option<&str>) -> Result<(), Failure> {
    let config = config::load()?;
    let current = config.current.as_deref().unwrap_or(LOCAL);
    let name = name.or(global.context.as_deref()).unwrap_or(current);
    let context = if name == LOCAL { Context::default() } else { config::find(&config, name)? };
    let value = shown(name, &context, name == current);
    if whole(global.output, &value)? {
        return Ok(());
    }
    print(&crate::output::yaml(&value)?)
}

/// A path that means the same in every directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path)
        .map_err(|error| Failure::new(Code::File, format!("cannot read {}", path.display())).why(error.to_string()))
}

fn add(global: &Global, args: &CtxAdd) -> Result<(), Failure> {
    config::check_name(&args.name)?;
    let (server, data) = match (&global.server, global.is_data_given) {
        (Some(server), _) => (Some(endpoint::check_server(server)?), None),
        (None, true) => (None, Some(absolute(&global.data)?)),
        (None, false) => {
            return Err(Failure::usage("a context needs a hub")
                .next(format!("fulmar ctx add {} --server URL", args.name))
                .next(format!("fulmar ctx add {} --data DIR", args.name)));
        }
    };
    let context = Context {
        server,
        data,
        token: args.token_file.as_deref().map(secret::read).transpose()?,
        ca: global.ca.as_deref().map(absolute).transpose()?,
        namespace: global.is_namespace_given.then(|| global.namespace.clone()),
        readonly: global.readonly,
    };
    store(&args.name, context, args.r#use)
}

fn store(name: &str, context: Context, uses: bool) -> Result<(), Failure> {
    let mut config: Config = config::load()?;
    let outcome = if config.contexts.insert(name.to_owned(), context).is_some() { "changed" } else { "added" };
    if uses {
        config.current = Some(name.to_owned());
    }
    let path = config::store(&config)?;
    line(&format!("context {name} {outcome}{}", if uses { ", and used from now on" } else { "" }))?;
    say(&format!("it is in {}", path.display()));
    Ok(())
}

/// Nothing is stored before the hub has taken the token.
pub fn login(global: &Global, args: &Login) -> Result<(), Failure> {
    let server = endpoint::check_server(&args.server)?;
    let host = server.split("//").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    let name = args.name.clone().unwrap_or_else(|| host.to_owned());
    config::check_name(&name)?;
    let ca = global.ca.as_deref().map(absolute).transpose()?;
    let token = secret::read(args.token_file.as_deref().unwrap_or(Path::new("-")))?;
    let origin = "the command line".to_owned();
    let endpoint = Endpoint { server: server.clone(), token: Some(token.clone()), ca: ca.clone(), origin };
    let who = Client::new(endpoint)?.get("/v1/whoami")?;
    say(&format!("{server} knows you as {} with the role {}", text(&who, "/name"), text(&who, "/role")));
    let namespace = global.is_namespace_given.then(|| global.namespace.clone());
    let context =
        Context { server: Some(server), data: None, token: Some(token), ca, namespace, readonly: global.readonly };
    store(&name, context, true)
}

/// Who the hub takes the caller for, and what that is good for.
pub fn whoami(global: &Global, can: Option<&[String]>) -> Result<(), Failure> {
    let client = Client::connect(global)?;
    let question = match can {
        Some([verb, kind]) => vec![("can", Some(verb.clone())), ("kind", Some(kind.clone()))],
        Some(_) | None => Vec::new(),
    };
    let answer = client.get(&crate::target::with_query("/v1/whoami", &question))?;
    if let (Some([verb, kind]), false) = (can, crate::show::flag(&answer, "/allowed")) {
        whole(global.output, &answer)?;
        return Err(Failure::hub(ProblemCode::Forbidden, format!("{} may not {verb} {kind}", text(&answer, "/name")))
            .why(format!("its role is {}", text(&answer, "/role")))
            .next("take a token with another role: fulmar token create NAME --role admin"));
    }
    if whole(global.output, &answer)? {
        return Ok(());
    }
    if let Some([verb, kind]) = can {
        return line(&format!("{} may {verb} {kind}", text(&answer, "/name")));
    }
    let endpoint = client.endpoint();
    print(&format!(
        "Name:    {}\nRole:    {}\nHub:     {}\nFound:   {}\n",
        text(&answer, "/name"),
        text(&answer, "/role"),
        endpoint.server,
        endpoint.origin
    ))
}
