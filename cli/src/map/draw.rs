//! A scene in characters: coasts and regions in Braille dots, devices as glyphs with their number. The same scene gives the
//! same text, so that it can be compared.

use super::frame::Frame;
use super::scene::{Scene, State};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::symbols::Marker;
use ratatui::widgets::Widget;
use ratatui::widgets::canvas::{Canvas, Line, Map, MapResolution};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Characters in front of the map: a latitude.
const GUTTER: u16 = 6;
/// Columns that share one glyph: its number needs room.
const BLOCK: u16 = 4;
/// Rows between two latitudes.
const LATITUDE_ROWS: u16 = 6;
const COLUMNS: (u16, u16) = (24, 400);
const ROWS: (u16, u16) = (6, 200);
const BRAILLE: u32 = 0x2800;

/// Of the whole drawing, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub columns: u16,
    pub rows: u16,
}

impl Size {
    /// A size that can be drawn.
    pub fn bounded(self) -> Self {
        Self { columns: self.columns.clamp(COLUMNS.0, COLUMNS.1), rows: self.rows.clamp(ROWS.0, ROWS.1) }
    }
}

/// One character, and whose state it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub glyph: char,
    pub state: Option<State>,
}

/// Rows of the map with the latitudes in front.
pub fn cells(scene: &Scene, frame: &Frame, size: Size) -> Vec<Vec<Cell>> {
    let (columns, rows) = (size.columns.saturating_sub(GUTTER), size.rows);
    let frame = frame.fitted(columns, rows);
    let mut cells = background(scene, &frame, columns, rows);
    for ((row, block), (count, state)) in blocks(scene, &frame, columns, rows) {
        let label = match count {
            1 => state.glyph().to_string(),
            2..=999 => format!("{}{count}", state.glyph()),
            _ => format!("{}{}k", state.glyph(), count / 1000),
        };
        for (offset, glyph) in (0usize..).zip(label.chars()) {
            let place = cells.get_mut(usize::from(row)).and_then(|row| row.get_mut(usize::from(block) + offset));
            if let Some(cell) = place {
                *cell = Cell { glyph, state: Some(state) };
            }
        }
    }
    let labelled = (0u16..).zip(cells).map(|(row, cells)| gutter(&frame, row, rows).into_iter().chain(cells).collect());
    labelled.collect()
}

fn gutter(frame: &Frame, row: u16, rows: u16) -> Vec<Cell> {
    let text = if row.is_multiple_of(LATITUDE_ROWS) {
        let latitude = frame.north - (f64::from(row) + 0.5) / f64::from(rows) * (frame.north - frame.south);
        let digits = usize::from(frame.north - frame.south < 10.0);
        format!("{:>4.digits$}{}|", latitude.abs(), if latitude < 0.0 { 'S' } else { 'N' })
    } else {
        "     |".to_owned()
    };
    text.chars().map(|glyph| Cell { glyph, state: None }).collect()
}

/// Devices by row and first column of their block: how many, and the worst state.
fn blocks(scene: &Scene, frame: &Frame, columns: u16, rows: u16) -> BTreeMap<(u16, u16), (usize, State)> {
    let mut blocks: BTreeMap<(u16, u16), (usize, State, u16)> = BTreeMap::new();
    for mark in &scene.marks {
        if let Some((column, row)) = frame.place(mark.at, columns, rows) {
            let found = blocks.entry((row, column / BLOCK)).or_insert((0, State::Ok, column));
            found.0 += 1;
            found.1 = found.1.max(mark.state);
            found.2 = found.2.min(column);
        }
    }
    // One alone stands where it is; several begin where their block does, so that none is written over.
    blocks
        .into_iter()
        .map(|((row, block), (count, state, column))| {
            ((row, if count == 1 { column } else { block * BLOCK }), (count, state))
        })
        .collect()
}

fn background(scene: &Scene, frame: &Frame, columns: u16, rows: u16) -> Vec<Vec<Cell>> {
    let area = Rect::new(0, 0, columns, rows);
    let mut merged = vec![vec![BRAILLE; usize::from(columns)]; usize::from(rows)];
    // A map across the antimeridian has its coasts on two turns of the globe.
    for turn in [-360.0, 0.0, 360.0] {
        let mut buffer = Buffer::empty(area);
        Canvas::default()
            .marker(Marker::Braille)
            .x_bounds([frame.west + turn, frame.east + turn])
            .y_bounds([frame.south, frame.north])
            .paint(|context| {
                context.draw(&Map { resolution: MapResolution::High, color: Color::DarkGray });
                for ring in &scene.rings {
                    for (from, to) in ring.iter().zip(ring.iter().skip(1)) {
                        // A side that goes the long way round crosses the antimeridian, which has no width here.
                        if (from.0 - to.0).abs() <= 180.0 {
                            context.draw(&Line::new(from.0, from.1, to.0, to.1, Color::Gray));
                        }
                    }
                }
            })
            .render(area, &mut buffer);
        for (row, cells) in (0u16..).zip(&mut merged) {
            for (column, dots) in (0u16..).zip(cells) {
                let glyph = buffer.cell((column, row)).and_then(|cell| cell.symbol().chars().next());
                *dots |= glyph.map(u32::from).filter(|code| (BRAILLE..BRAILLE + 256).contains(code)).unwrap_or(BRAILLE);
            }
        }
    }
    let cell = |dots: u32| match char::from_u32(dots) {
        Some(glyph) if dots != BRAILLE => Cell { glyph, state: None },
        Some(_) | None => Cell { glyph: ' ', state: None },
    };
    merged.into_iter().map(|row| row.into_iter().map(cell).collect()).collect()
}

/// What the glyphs mean, with the number of devices of each.
pub fn legend(scene: &Scene) -> String {
    let mut out = format!("{} devices", scene.len());
    for state in State::ALL {
        let count = scene.count(state);
        if count > 0 || state == State::Ok {
            let _ = write!(out, "   {} {} {count}", state.glyph(), state.name());
        }
    }
    if scene.without_position > 0 {
        let _ = write!(out, "   ({} without a position)", scene.without_position);
    }
    out
}

pub fn text(scene: &Scene, frame: &Frame, size: Size) -> String {
    let mut out = String::new();
    for row in cells(scene, frame, size) {
        let line: String = row.into_iter().map(|cell| cell.glyph).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let shown = frame.fitted(size.columns.saturating_sub(GUTTER), size.rows);
    let degrees = |longitude: f64| {
        let longitude = (longitude + 540.0).rem_euclid(360.0) - 180.0;
        format!("{:.1}{}", longitude.abs(), if longitude < 0.0 { 'W' } else { 'E' })
    };
    let (west, east) = (degrees(shown.west), degrees(shown.east));
    let gap = usize::from(size.columns.saturating_sub(GUTTER)).saturating_sub(west.len() + east.len());
    let _ = writeln!(out, "      {west}{}{east}", " ".repeat(gap));
    let _ = writeln!(out, "{}", legend(scene));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn device(name: &str, at: (f64, f64), online: &str) -> Value {
        json!({
            "metadata": {"name": name}, "spec": {"approved": true},
            "status": {"online": {"state": online}, "workloads": [], "revision": {}, "position": {"point": [at.0, at.1]}},
        })
    }

    fn drawn(devices: &[Value]) -> String {
        let scene = Scene::new(devices, &[], None);
        text(&scene, &scene.frame(false), Size { columns: 46, rows: 8 })
    }

    #[test]
    fn devices_are_glyphs_with_their_number_and_the_worst_state() {
        let devices = [
            device("a", (8.68, 50.11), "Online"),
            device("b", (8.69, 50.12), "Unknown"),
            device("c", (2.35, 48.86), "Online"),
        ];
        let shown = drawn(&devices);
        assert!(shown.contains("?2"), "{shown}");
        assert!(shown.ends_with("3 devices   o ok 2   ? unknown 1\n"), "{shown}");
        assert_eq!(shown.lines().filter(|line| line.chars().nth(5) == Some('|')).count(), 8, "{shown}");
        assert_eq!(shown, drawn(&devices));
        let rows = shown.lines().filter(|line| line.chars().nth(5) == Some('|'));
        assert_eq!(rows.flat_map(str::chars).filter(|glyph| *glyph == 'o').count(), 1, "Paris: {shown}");
    }

    #[test]
    fn the_whole_world_has_coasts_and_a_far_east_beside_a_far_west() {
        let scene = Scene::default();
        let world = text(&scene, &scene.frame(true), Size { columns: 106, rows: 20 });
        let dots = world.chars().filter(|glyph| (BRAILLE..BRAILLE + 256).contains(&u32::from(*glyph))).count();
        assert!(dots > 300, "{dots}: {world}");
        assert!(world.contains("180.0W") && world.ends_with("0 devices   o ok 0\n"), "{world}");
        let across = drawn(&[device("a", (178.0, -17.0), "Online"), device("b", (-178.0, -17.0), "Online")]);
        assert!(across.contains("E  ") && across.contains('W'), "{across}");
    }

    #[test]
    fn no_size_is_too_small_or_too_large() {
        let scene = Scene::new(&[device("a", (0.0, 0.0), "Online")], &[], None);
        for (columns, rows) in [(0, 0), (u16::MAX, u16::MAX)] {
            let size = Size { columns, rows }.bounded();
            assert!(text(&scene, &scene.frame(false), size).contains('o'));
        }
    }
}
