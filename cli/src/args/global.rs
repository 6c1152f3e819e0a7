//! Options of every command: which hub, which form of the answer, and how much is said.

use crate::complete;
use crate::config::Context;
use crate::jsonpath::Template;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Address of the hub; otherwise the one that runs on the data directory
    #[arg(long, global = true, value_name = "URL", env = "FULMAR_SERVER", help_heading = "Global options")]
    pub server: Option<String>,
    /// Context to use instead of the current one; FULMAR_CONTEXT says the same
    #[arg(long, global = true, value_name = "NAME", env = "FULMAR_CONTEXT", add = ArgValueCompleter::new(complete::contexts), help_heading = "Global options")]
    pub context: Option<String>,
    /// PEM file of the authority that vouches for the hub, instead of the one that the data directory or context names
    #[arg(long, global = true, value_name = "FILE", env = "FULMAR_CA", help_heading = "Global options")]
    pub ca: Option<PathBuf>,
    /// Data directory of the hub on this machine
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "FULMAR_DATA",
        default_value = "./fulmar-data",
        help_heading = "Global options"
    )]
    pub data: PathBuf,
    /// Form of the answer: table, wide, json, yaml, name, geojson or jsonpath=TEMPLATE; with json, errors are JSON too
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORM",
        default_value = "table",
        value_parser = Output::parse,
        help_heading = "Global options"
    )]
    pub output: Output,
    /// Namespace of what has one
    #[arg(short, long, global = true, value_name = "NAME", default_value = "default", add = ArgValueCompleter::new(complete::namespaces), help_heading = "Global options")]
    pub namespace: String,
    /// Give up after this time: 500ms, 30s, 5m; each command has a default of its own
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, help_heading = "Global options")]
    pub timeout: Option<Duration>,
    /// Refuse everything that changes something
    #[arg(long, global = true, env = "FULMAR_READONLY", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Global options")]
    pub readonly: bool,
    /// Say nothing but data, warnings and errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// No colour and no line that is updated in place, as with NO_COLOR
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_color: bool,
    /// Ask nothing and open nothing: fail where somebody would have to answer
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_input: bool,
    /// Say on standard error what the hub is asked, what it answers, and how long that takes
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,
    /// `data` is not the default.
    #[arg(skip)]
    pub is_data_given: bool,
    /// `namespace` is not the default.
    #[arg(skip)]
    pub is_namespace_given: bool,
    /// The context that counts, if one does.
    #[arg(skip)]
    pub chosen: Option<(String, Context)>,
}

#[cfg(test)]
impl Global {
    /// What the command line without options means, with another data directory.
    pub fn of(data: &std::path::Path) -> Self {
        Self {
            server: None,
            context: None,
            ca: None,
            data: data.to_owned(),
            output: Output::Table,
            namespace: "default".to_owned(),
            timeout: None,
            readonly: false,
            quiet: false,
            no_color: false,
            no_input: false,
            verbose: false,
            is_data_given: true,
            is_namespace_given: false,
            chosen: None,
        }
    }
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
    GeoJson,
    /// Parsed once for the life of the process.
    JsonPath(&'static Template),
}

impl Output {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            "geojson" => Ok(Self::GeoJson),
            _ => match text.strip_prefix("jsonpath=") {
                Some(template) => Template::parse(template).map(|template| Self::JsonPath(Box::leak(template.into()))),
                None => Err("one of table, wide, json, yaml, name, geojson, jsonpath=TEMPLATE".to_owned()),
            },
        }
    }
}

/// `30s`, `5m`; a day at most.
fn duration(text: &str) -> Result<Duration, String> {
    let span = hub::model::Span::parse(text).map_err(|error| error.to_string())?;
    Ok(span.duration().min(TIMEOUT_MAX))
}

const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
