//! What is on a map: devices with a place and a state, and the outlines of regions. Pure.

use super::frame::{Frame, WORLD};
use crate::show::{flag, list, text};
use serde_json::Value;

/// What a glyph says, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Ok,
    /// Something is on its way to it.
    Placing,
    /// It has not been heard of since the hub started, or is not approved.
    Absent,
    /// It was heard of, and is not now. What it runs goes on running.
    Unknown,
    /// Something on it fails and is tried again.
    Degraded,
    /// Something on it has given up.
    Failed,
}

impl State {
    pub const ALL: [Self; 6] = [Self::Ok, Self::Placing, Self::Absent, Self::Unknown, Self::Degraded, Self::Failed];

    /// One for each, so that no colour is needed.
    pub const fn glyph(self) -> char {
        match self {
            Self::Ok => 'o',
            Self::Placing => '+',
            Self::Absent => '-',
            Self::Unknown => '?',
            Self::Degraded => '!',
            Self::Failed => 'x',
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Placing => "placing",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }

    pub fn of(device: &Value) -> Self {
        match text(device, "/status/online/state").as_str() {
            _ if !flag(device, "/spec/approved") => return Self::Absent,
            "Online" => {}
            "Unknown" => return Self::Unknown,
            _ => return Self::Absent,
        }
        let workloads =
            list(device, "/status/workloads").iter().map(|workload| match text(workload, "/state").as_str() {
                "Running" | "Completed" => Self::Ok,
                "Failed" | "Refused" => Self::Failed,
                "BackOff" | "Unknown" => Self::Degraded,
                _ => Self::Placing,
            });
        let synced = if flag(device, "/status/revision/synced") { Self::Ok } else { Self::Placing };
        // A device that was never given anything has nothing to be in step with.
        let synced = if text(device, "/status/revision/desired").is_empty() { Self::Ok } else { synced };
        workloads.chain([synced]).max().unwrap_or(Self::Ok)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub name: String,
    pub at: (f64, f64),
    pub state: State,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    pub marks: Vec<Mark>,
    /// Rings of regions, holes included.
    pub rings: Vec<Vec<(f64, f64)>>,
    pub without_position: usize,
    /// States of devices without a position.
    others: Vec<(String, State)>,
    /// What the map is about, if that is a region.
    focus: Vec<(f64, f64)>,
}

impl Scene {
    pub fn new(devices: &[Value], regions: &[Value], within: Option<&str>) -> Self {
        let mut scene = Self::default();
        for device in devices {
            let (name, state) = (text(device, "/metadata/name"), State::of(device));
            match position(list(device, "/status/position/point")) {
                Some(at) => scene.marks.push(Mark { name, at, state }),
                None => scene.others.push((name, state)),
            }
        }
        scene.without_position = scene.others.len();
        for region in regions {
            let rings = rings(region.get("geometry").unwrap_or(&Value::Null));
            if within.is_some_and(|name| text(region, "/properties/name") == name) {
                scene.focus.extend(rings.iter().flatten());
            }
            scene.rings.extend(rings);
        }
        scene
    }

    pub fn len(&self) -> usize {
        self.marks.len() + self.others.len()
    }

    pub fn count(&self, state: State) -> usize {
        let placed = self.marks.iter().map(|mark| mark.state);
        placed.chain(self.others.iter().map(|(_, state)| *state)).filter(|found| *found == state).count()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.marks.iter().map(|mark| mark.name.as_str()).chain(self.others.iter().map(|(name, _)| name.as_str()))
    }

    /// Around the region, else around the devices, else around all regions.
    pub fn frame(&self, is_world: bool) -> Frame {
        let devices: Vec<(f64, f64)> = self.marks.iter().map(|mark| mark.at).collect();
        let regions = || self.rings.iter().flatten().copied().collect::<Vec<(f64, f64)>>();
        match (is_world, self.focus.is_empty(), devices.is_empty()) {
            (true, _, _) => WORLD,
            (false, false, _) => Frame::around(&self.focus),
            (false, true, false) => Frame::around(&devices),
            (false, true, true) => Frame::around(&regions()),
        }
    }
}

fn position(point: &[Value]) -> Option<(f64, f64)> {
    match point {
        [longitude, latitude, ..] => Some((longitude.as_f64()?, latitude.as_f64()?)),
        _ => None,
    }
}

/// The rings of a Polygon or MultiPolygon.
fn rings(geometry: &Value) -> Vec<Vec<(f64, f64)>> {
    let coordinates = list(geometry, "/coordinates");
    let ring = |ring: &Value| -> Vec<(f64, f64)> {
        let points = ring.as_array().map(Vec::as_slice).unwrap_or_default();
        points.iter().filter_map(|point| position(point.as_array()?)).collect()
    };
    let polygon = |polygon: &Value| polygon.as_array().map(Vec::as_slice).unwrap_or_default().to_vec();
    match text(geometry, "/type").as_str() {
        "Polygon" => coordinates.iter().map(ring).collect(),
        "MultiPolygon" => coordinates.iter().flat_map(polygon).map(|inner| ring(&inner)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub fn device(name: &str, at: Option<(f64, f64)>, online: &str, workload: &str) -> Value {
        let mut device = json!({
            "metadata": {"name": name}, "spec": {"approved": true},
            "status": {"online": {"state": online}, "workloads": [{"state": workload}], "revision": {"desired": "1.1", "synced": true}},
        });
        if let Some((longitude, latitude)) = at {
            device["status"]["position"] = json!({"point": [longitude, latitude]});
        }
        device
    }

    #[test]
    fn the_worst_thing_about_a_device_is_its_state() {
        let state = |online: &str, workload: &str| State::of(&device("a", None, online, workload));
        assert_eq!(state("Online", "Running"), State::Ok);
        assert_eq!(state("Online", "Fetching"), State::Placing);
        assert_eq!(state("Online", "BackOff"), State::Degraded);
        assert_eq!(state("Online", "Failed"), State::Failed);
        assert_eq!(state("Unknown", "Failed"), State::Unknown);
        assert_eq!(state("Never", "Running"), State::Absent);
        assert_eq!(State::of(&json!({})), State::Absent);
    }

    #[test]
    fn devices_without_a_place_are_counted_and_not_drawn() {
        let devices = [device("a", Some((8.0, 50.0)), "Online", "Running"), device("b", None, "Unknown", "Running")];
        let scene = Scene::new(&devices, &[], None);
        assert_eq!((scene.len(), scene.marks.len(), scene.without_position), (2, 1, 1));
        assert_eq!((scene.count(State::Ok), scene.count(State::Unknown)), (1, 1));
    }

    #[test]
    fn a_map_of_a_region_is_as_large_as_the_region() {
        let ring = json!([[8.0, 49.0], [10.0, 49.0], [10.0, 51.0], [8.0, 49.0]]);
        let region = json!({"properties": {"name": "r"}, "geometry": {"type": "Polygon", "coordinates": [ring]}});
        let scene = Scene::new(&[device("a", Some((100.0, 0.0)), "Online", "Running")], &[region], Some("r"));
        let frame = scene.frame(false);
        assert!(frame.west > 7.0 && frame.east < 11.0, "{frame:?}");
        assert_eq!(scene.frame(true), WORLD);
    }
}
