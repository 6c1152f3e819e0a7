//! `token`: bearer tokens for people and programs. The hub shows one once, in the answer that makes it.

use crate::args::{Global, Token};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{line, say, whole};
use crate::show::text;
use crate::target::Target;
use hub::model::{API_VERSION, Kind};
use serde_json::json;

pub fn run(global: &Global, verb: &Token) -> Result<(), Failure> {
    match verb {
        Token::Create { name, role, expires } => {
            let mut document = json!({
                "apiVersion": API_VERSION, "kind": Kind::Token.name(), "metadata": {"name": name}, "spec": {"role": role.name()},
            });
            if let Some(expires) = expires {
                document["spec"]["expiresIn"] = json!(expires);
            }
            let answer = Client::connect(global)?.post("/v1/tokens", &document)?;
            if whole(global.output, &answer)? {
                return Ok(());
            }
            line(&text(&answer, "/status/token"))?;
            let end = match text(&answer, "/spec/expiresAt") {
                end if end.is_empty() => "until it is deleted".to_owned(),
                end => format!("until {end}"),
            };
            say(&format!("token/{name} with the role {} is good {end}; it is not shown again", role.name()));
            say("Next:  fulmar login URL    (where it is to be used; the token on standard input)");
            Ok(())
        }
        Token::List => crate::get::run(global, &crate::args::Get::of(Kind::Token.plural())),
        Token::Delete { name } => {
            let target = Target::new(Kind::Token, "", name);
            Client::connect(global)?.delete(&target.path())?;
            line(&format!("{target} deleted"))
        }
    }
}
