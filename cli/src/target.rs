//! How objects are named on the command line, and where they are in the API.

use crate::failure::Failure;
use hub::model::Kind;
use std::fmt::Write as _;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

/// `kind/name` as people write and read it.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.singular(), self.name)
    }
}

/// The names of a kind: singular, plural, short ones.
pub const fn aliases(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Namespace => &["namespace", "namespaces", "ns"],
        Kind::Device => &["device", "devices", "dev", "d"],
        Kind::Workload => &["workload", "workloads", "wl", "w"],
        Kind::Region => &["region", "regions", "reg"],
        Kind::Artifact => &["artifact", "artifacts", "art"],
        Kind::Placement => &["placement", "placements", "pl"],
        Kind::Token => &["token", "tokens"],
    }
}

pub fn parse_kind(text: &str) -> Result<Kind, Failure> {
    let lower = text.to_ascii_lowercase();
    Kind::ALL.into_iter().find(|kind| aliases(*kind).contains(&lower.as_str())).ok_or_else(|| {
        let known: Vec<String> = Kind::ALL
            .iter()
            .map(|kind| {
                let short: Vec<&str> = aliases(*kind).iter().skip(2).copied().collect();
                format!("{} ({})", kind.singular(), short.join(", "))
            })
            .collect();
        Failure::usage(format!("there is no kind {text:?}")).why(format!("known kinds: {}", known.join(", ")))
    })
}

/// `kind name`, `kind/name` or `kind` alone, which has no name.
pub fn parse(kind: &str, name: Option<&str>) -> Result<(Kind, Option<String>), Failure> {
    match (kind.split_once('/'), name) {
        (Some((kind, name)), None) if !name.is_empty() && !name.contains('/') => {
            Ok((parse_kind(kind)?, Some(name.to_owned())))
        }
        (None, name) => Ok((parse_kind(kind)?, name.map(str::to_owned))),
        (Some(_), _) => {
            Err(Failure::usage(format!("{kind:?} is not a kind, or kind/name")).next("fulmar get workload/hello"))
        }
    }
}

/// `kind name name`, or `kind/name kind/name`.
pub fn parse_many(kind: &str, names: &[String], namespace: &str) -> Result<Vec<Target>, Failure> {
    if kind.contains('/') {
        let all = std::iter::once(kind).chain(names.iter().map(String::as_str));
        return all.map(|text| parse_one(text, None, namespace)).collect();
    }
    if names.is_empty() {
        return parse_one(kind, None, namespace).map(|target| vec![target]);
    }
    names.iter().map(|name| parse_one(kind, Some(name), namespace)).collect()
}

/// Exactly one object.
pub fn parse_one(kind: &str, name: Option<&str>, namespace: &str) -> Result<Target, Failure> {
    let (kind, name) = parse(kind, name)?;
    let name = name.ok_or_else(|| {
        Failure::usage(format!("the name of the {} is missing", kind.singular()))
            .next(format!("fulmar get {}", kind.plural()))
    })?;
    Ok(Target::new(kind, namespace, &name))
}

/// A workload: `NAME`, `workload/NAME`, `wl/NAME`.
pub fn parse_workload(text: &str, namespace: &str) -> Result<Target, Failure> {
    let target = match text.split_once('/') {
        Some(_) => parse_one(text, None, namespace)?,
        None => Target::new(Kind::Workload, namespace, text),
    };
    match target.kind {
        Kind::Workload => Ok(target),
        Kind::Namespace | Kind::Region | Kind::Device | Kind::Artifact | Kind::Placement | Kind::Token => {
            Err(Failure::usage(format!("{text} is a {}, and a workload is needed", target.kind.singular())))
        }
    }
}

/// A device, by its name or as `device/NAME`.
pub fn parse_device(text: &str) -> Result<Target, Failure> {
    let target = match text.split_once('/') {
        Some(_) => parse_one(text, None, "")?,
        None => Target::new(Kind::Device, "", text),
    };
    match target.kind {
        Kind::Device => Ok(target),
        Kind::Namespace | Kind::Region | Kind::Workload | Kind::Artifact | Kind::Placement | Kind::Token => {
            Err(Failure::usage(format!("{text} is a {}, and a device is needed", target.kind.singular())))
        }
    }
}

impl Target {
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.is_namespaced() { namespace.to_owned() } else { String::new() };
        Self { kind, namespace, name: name.to_owned() }
    }

    pub fn path(&self) -> String {
        format!("{}/{}", collection(self.kind, Some(&self.namespace)), encode(&self.name))
    }

    /// As the hub's events name it.
    pub fn key(&self) -> String {
        match self.kind.is_namespaced() {
            true => format!("{}/{}/{}", self.kind.singular(), self.namespace, self.name),
            false => self.to_string(),
        }
    }
}

/// The path of all objects of a kind; of all namespaces with `None`.
pub fn collection(kind: Kind, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) if kind.is_namespaced() => format!("/v1/namespaces/{}/{}", encode(namespace), kind.plural()),
        Some(_) | None => format!("/v1/{}", kind.plural()),
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// A path with the query parameters that are given.
pub fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given: Vec<String> = parameters
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", encode(value))))
        .collect();
    if given.is_empty() { path.to_owned() } else { format!("{path}?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kinds_have_short_names_and_a_slash_form() {
        assert_eq!(parse("wl/hello", None).unwrap(), (Kind::Workload, Some("hello".to_owned())));
        assert_eq!(parse("d", None).unwrap(), (Kind::Device, None));
        assert_eq!(parse("reg", Some("x")).unwrap(), (Kind::Region, Some("x".to_owned())));
        assert_eq!(parse("ns", Some("lab")).unwrap(), (Kind::Namespace, Some("lab".to_owned())));
        assert_eq!(parse("ART", None).unwrap().0, Kind::Artifact);
        assert!(parse("pod", None).unwrap_err().why[0].contains("workload (wl, w)"));
        assert!(parse("wl/", None).is_err() && parse("wl/a", Some("b")).is_err());
        assert!(parse_workload("region/a", "default").is_err());
        assert_eq!(parse_workload("hello", "lab").unwrap().key(), "workload/lab/hello");
    }

    #[test]
    fn paths_are_those_of_the_api_and_names_cannot_leave_their_place() {
        let target = Target::new(Kind::Workload, "default", "../x?y");
        assert_eq!(target.path(), "/v1/namespaces/default/workloads/..%2Fx%3Fy");
        assert_eq!(Target::new(Kind::Device, "default", "gw-1").path(), "/v1/devices/gw-1");
        assert_eq!(with_query("/a", &[("b", Some("c=d,!e".to_owned())), ("f", None)]), "/a?b=c%3Dd%2C%21e");
    }
}
