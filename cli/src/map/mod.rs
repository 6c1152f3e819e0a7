//! `map`: where devices and regions are, by state; once as text, or followed on the terminal.

mod draw;
mod frame;
mod live;
mod news;
mod scene;

use crate::args::{Global, Map, Output};
use crate::client::Client;
use crate::failure::Failure;
use crate::list;
use crate::output::{line, no_geojson, print};
use crate::target::collection;
use crate::watch::Change;
use draw::Size;
use hub::model::Kind;
use news::{Devices, News};
use ratatui::crossterm::terminal;
use scene::{Scene, State};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// Of a map that nobody gave a size.
const SIZE: Size = Size { columns: 100, rows: 28 };
/// Lines of a terminal that the map leaves for what is typed next.
const ROWS_LEFT: u16 = 6;
/// A followed map that is not on a terminal is written again after so long, if something changed.
const AGAIN: Duration = Duration::from_secs(1);
/// Nothing is due: any long time does.
const IDLE: Duration = Duration::from_secs(3600);

pub fn run(global: &Global, args: &Map) -> Result<(), Failure> {
    let client = Client::connect(global)?;
    let regions = regions(&client)?;
    if args.watch && global.output == Output::Table && std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
    {
        return live::run(global, args, regions);
    }
    if args.watch {
        return follow(global, args, &regions);
    }
    let parameters = list::parameters(&args.selection);
    let devices = list::list(&client, &collection(Kind::Device, None), &parameters, None, None)?.items;
    show(global, args, &Scene::new(&devices, &regions, args.selection.within.as_deref()))
}

/// Regions as features, which have rings where circles have a centre.
fn regions(client: &Client) -> Result<Vec<Value>, Failure> {
    let parameters = vec![("format", Some("geojson".to_owned()))];
    list::list(client, &collection(Kind::Region, None), &parameters, None, None).map(|listed| listed.items)
}

fn size(args: &Map) -> Size {
    let (columns, rows) = match terminal::size() {
        Ok((columns, rows)) if std::io::stdout().is_terminal() => (columns, rows.saturating_sub(ROWS_LEFT)),
        Ok(_) | Err(_) => (SIZE.columns, SIZE.rows),
    };
    Size { columns: args.width.unwrap_or(columns), rows: args.height.unwrap_or(rows) }.bounded()
}

fn show(global: &Global, args: &Map, scene: &Scene) -> Result<(), Failure> {
    match global.output {
        Output::Json | Output::Yaml | Output::JsonPath(_) => {
            crate::output::whole(global.output, &counts(scene)).map(|_| ())
        }
        Output::GeoJson => Err(no_geojson()),
        Output::Name => scene.names().try_for_each(|name| line(&format!("device/{name}"))),
        Output::Table | Output::Wide => print(&draw::text(scene, &scene.frame(args.world), size(args))),
    }
}

/// What the map says, for programs.
fn counts(scene: &Scene) -> Value {
    let states = State::ALL.map(|state| (state.name(), json!(scene.count(state))));
    let states: serde_json::Map<String, Value> =
        states.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    json!({"devices": scene.len(), "withoutPosition": scene.without_position, "states": states})
}

/// Written again when something changed, not more often than once a second; the last change is never left out.
fn follow(global: &Global, args: &Map, regions: &[Value]) -> Result<(), Failure> {
    if global.output == Output::GeoJson {
        return Err(no_geojson());
    }
    let news = news::follow(global, args)?;
    let mut devices = Devices::default();
    let (mut is_settled, mut due, mut shown) = (false, None::<Instant>, None::<Scene>);
    loop {
        let wait = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        match news.recv_timeout(wait) {
            Ok(News::Change(change)) => {
                is_settled |= change == Change::Settled;
                devices.take(change);
                let now = Instant::now();
                due = is_settled.then(|| due.unwrap_or(if shown.is_none() { now } else { now + AGAIN }));
            }
            Ok(News::End(failure)) => return Err(failure),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if due.is_some_and(|due| due <= Instant::now()) {
            let scene = Scene::new(&devices.all(), regions, args.selection.within.as_deref());
            if shown.as_ref() != Some(&scene) {
                if shown.is_some() && matches!(global.output, Output::Table | Output::Wide) {
                    line("")?;
                }
                show(global, args, &scene)?;
                shown = Some(scene);
            }
            due = None;
        }
    }
}
