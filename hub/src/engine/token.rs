//! Bearer tokens as objects. The engine knows a hash and never the secret; the edge hears of a token when it is durable.

use super::Engine;
use super::object::{Act, Done};
use super::pending::Release;
use super::port::{AccessChange, Now, Outcome, Problem, Ticket};
use super::problem;
use super::stored::{Body, Spec, TokenBody};
use crate::commit::Loaded;
use crate::grants::Grant;
use crate::model::{Kind, Manifest, ManifestSpec, ObjectKey, TokenSpec};
use serde_json::Value;

/// Bearer tokens that there may be.
pub const API_TOKENS_MAX: usize = 1_024;

impl TokenBody {
    fn grant(&self, name: &str) -> Grant {
        Grant { name: name.to_owned(), role: self.spec.role, expires_ms: self.expires_ms }
    }
}

/// The tokens of a database, for the edge.
pub fn loaded_grants(loaded: &Loaded) -> Vec<([u8; 32], Grant)> {
    let rows = loaded.objects.iter().filter(|row| row.kind == Kind::Token.name());
    let grant = |stored: super::stored::Stored| {
        let Spec::Token(body) = &stored.body.spec else { return None };
        Some((body.sha256, body.grant(&stored.key.name)))
    };
    rows.filter_map(super::stored::Stored::from_row).filter_map(grant).collect()
}

impl Engine {
    pub(super) fn api_token_create(
        &mut self,
        now: Now,
        ticket: Ticket,
        actor: &str,
        document: &Value,
        sha256: [u8; 32],
    ) -> Done {
        let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let key = ObjectKey { kind: Kind::Token, namespace: String::new(), name: name.to_owned() };
        let manifest = match Manifest::read(&key, document) {
            Ok(manifest) => manifest,
            Err(refusal) => return Some(Err(problem::refused(refusal))),
        };
        let ManifestSpec::Token(wanted) = manifest.spec else { return Some(Err(problem::not_found(&key))) };
        if let Err(refused) = self.admit_token(&key) {
            return Some(Err(refused));
        }
        let expires_ms = wanted.expires_in.map(|span| now.wall_ms.saturating_add(span.0));
        let spec = TokenSpec { role: wanted.role, expires_at: expires_ms.map(super::stored::timestamp) };
        let token = TokenBody { spec, expires_ms, sha256 };
        let grant = token.grant(name);
        let body = Body {
            labels: manifest.labels,
            annotations: manifest.annotations,
            spec: Spec::Token(token),
            managed: Vec::new(),
        };
        let act = Act { actor, action: "token-create" };
        self.change(now, ticket, &act, &key, body, Outcome::Created, manifest.warnings);
        self.pipeline.release_last(Release::Access(AccessChange::GrantPut { sha256, grant }));
        None
    }

    fn admit_token(&self, key: &ObjectKey) -> Result<(), Problem> {
        if self.state.objects.contains_key(key) {
            return Err(problem::exists(key));
        }
        if self.keys_after(Kind::Token, None).count() >= API_TOKENS_MAX {
            return Err(problem::limit(format!("there are {API_TOKENS_MAX} tokens, the most there can be")));
        }
        Ok(())
    }
}
