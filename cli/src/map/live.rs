//! The followed map on a terminal: redrawn when something changes, moved and scaled with keys. Leaves the terminal as it was.

use super::draw::{self, Cell, Size};
use super::frame::Frame;
use super::news::{self, Devices, News};
use super::scene::{Scene, State};
use crate::args::{Global, Map};
use crate::failure::{Failure, system};
use crate::output::silence;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span, Text};
use serde_json::Value;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How long keys are waited for before changes are looked at.
const TICK: Duration = Duration::from_millis(100);
const STEP: f64 = 0.2;
const ZOOM: f64 = 0.7;
const KEYS: &str = "arrows move   + - zoom   0 all   w world   q leave";

/// What a key asks for.
enum Wish {
    Leave,
    Nothing,
}

struct View {
    devices: Devices,
    regions: Vec<Value>,
    within: Option<String>,
    /// `None`: around everything.
    frame: Option<Frame>,
    is_plain: bool,
}

pub fn run(global: &Global, args: &Map, regions: Vec<Value>) -> Result<(), Failure> {
    let news = news::follow(global, args)?;
    let mut view = View {
        devices: Devices::default(),
        regions,
        within: args.selection.within.clone(),
        frame: args.world.then_some(super::frame::WORLD),
        is_plain: global.no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
    };
    // Messages would be written over the map.
    silence();
    let mut terminal = ratatui::try_init().map_err(|error| system("cannot use this terminal", &error))?;
    let result = view.show(&mut terminal, &news);
    ratatui::restore();
    result
}

impl View {
    fn show(&mut self, terminal: &mut ratatui::DefaultTerminal, news: &Receiver<News>) -> Result<(), Failure> {
        let broken = |error: std::io::Error| system("cannot use this terminal", &error);
        let mut is_new = true;
        loop {
            loop {
                match news.try_recv() {
                    Ok(News::Change(change)) => self.devices.take(change),
                    Ok(News::End(failure)) => return Err(failure),
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                }
                is_new = true;
            }
            if is_new {
                terminal
                    .draw(|frame| frame.render_widget(self.text(frame.area().as_size()), frame.area()))
                    .map_err(broken)?;
                is_new = false;
            }
            if event::poll(TICK).map_err(broken)? {
                match event::read().map_err(broken)? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => {
                        let is_interrupt =
                            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                        if is_interrupt || matches!(self.press(key.code), Wish::Leave) {
                            return Ok(());
                        }
                        is_new = true;
                    }
                    Event::Resize(_, _) => is_new = true,
                    _ => {}
                }
            }
        }
    }

    fn scene(&self) -> Scene {
        Scene::new(&self.devices.all(), &self.regions, self.within.as_deref())
    }

    fn press(&mut self, key: KeyCode) -> Wish {
        let frame = self.frame.unwrap_or_else(|| self.scene().frame(false));
        self.frame = match key {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Leave,
            KeyCode::Left => Some(frame.moved(-STEP, 0.0)),
            KeyCode::Right => Some(frame.moved(STEP, 0.0)),
            KeyCode::Up => Some(frame.moved(0.0, STEP)),
            KeyCode::Down => Some(frame.moved(0.0, -STEP)),
            KeyCode::Char('+' | '=') => Some(frame.scaled(ZOOM)),
            KeyCode::Char('-') => Some(frame.scaled(1.0 / ZOOM)),
            KeyCode::Char('0') => None,
            KeyCode::Char('w') => Some(super::frame::WORLD),
            _ => self.frame,
        };
        Wish::Nothing
    }

    fn text(&self, size: ratatui::layout::Size) -> Text<'static> {
        let scene = self.scene();
        let frame = self.frame.unwrap_or_else(|| scene.frame(false));
        let rows = Size { columns: size.width, rows: size.height.saturating_sub(2) }.bounded();
        let mut lines: Vec<Line<'static>> =
            draw::cells(&scene, &frame, rows).into_iter().map(|row| self.line(row)).collect();
        lines.push(Line::raw(draw::legend(&scene)));
        lines.push(Line::raw(KEYS));
        Text::from(lines)
    }

    fn line(&self, row: Vec<Cell>) -> Line<'static> {
        let styled = |cell: Cell| {
            let style = match cell.state {
                Some(state) if !self.is_plain => Style::new().fg(colour(state)),
                Some(_) | None => Style::new(),
            };
            Span::styled(cell.glyph.to_string(), style)
        };
        Line::from(row.into_iter().map(styled).collect::<Vec<Span<'static>>>())
    }
}

/// Beside the glyph, never instead of it.
const fn colour(state: State) -> Color {
    match state {
        State::Ok => Color::Green,
        State::Placing => Color::Cyan,
        State::Absent => Color::Gray,
        State::Unknown => Color::Yellow,
        State::Degraded => Color::Magenta,
        State::Failed => Color::Red,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_the_map_and_one_brings_everything_back() {
        let mut view =
            View { devices: Devices::default(), regions: Vec::new(), within: None, frame: None, is_plain: true };
        assert!(matches!(view.press(KeyCode::Char('+')), Wish::Nothing));
        let near = view.frame;
        assert!(near.is_some_and(|frame| frame.east - frame.west < 360.0));
        view.press(KeyCode::Right);
        assert_ne!(view.frame, near);
        view.press(KeyCode::Char('0'));
        assert_eq!(view.frame, None);
        assert!(matches!(view.press(KeyCode::Char('q')), Wish::Leave));
        let text = view.text(ratatui::layout::Size::new(60, 12));
        assert_eq!(text.lines.len(), 12);
    }
}
