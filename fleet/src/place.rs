//! Where simulated devices stand and what they are: a table of cities, and a rule that is the same on every machine.
//!
//! The device of a number never changes, so that a fleet of fifty is the first fifty of a fleet of a hundred.
use wire::hello::DeviceClass;
use wire::position::Position;

/// Devices of one process: each has about ten open files and sockets, and room in memory for its machine.
pub const DEVICES_MAX: usize = 250;
/// Of a simulated receiver.
const UNCERTAINTY_M: u32 = 25;
/// Steps from the centre of a city for its first, second... device, in 1e-7 degrees north and east: some kilometres each.
const STEPS_E7: [(i32, i32); 8] = [
    (0, 0),
    (220_000, 310_000),
    (-190_000, 260_000),
    (-240_000, -330_000),
    (170_000, -280_000),
    (390_000, 40_000),
    (-370_000, -60_000),
    (30_000, 560_000),
];

/// A city: code of its airport, country, and its centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct City {
    pub code: &'static str,
    pub name: &'static str,
    pub country: &'static str,
    pub latitude_e7: i32,
    pub longitude_e7: i32,
}

const fn city(
    code: &'static str,
    name: &'static str,
    country: &'static str,
    latitude_e4: i32,
    longitude_e4: i32,
) -> City {
    City { code, name, country, latitude_e7: latitude_e4 * 1000, longitude_e7: longitude_e4 * 1000 }
}

/// Latitude and longitude in 1e-4 degrees. Appended to only: the order decides which device is where.
pub const CITIES: [City; 41] = [
    city("fra", "Frankfurt", "de", 501_109, 86_821),
    city("mnz", "Mainz", "de", 499_929, 82_473),
    city("muc", "Munich", "de", 481_371, 115_754),
    city("ber", "Berlin", "de", 525_200, 134_050),
    city("ham", "Hamburg", "de", 535_511, 99_937),
    city("cgn", "Cologne", "de", 509_375, 69_603),
    city("str", "Stuttgart", "de", 487_758, 91_829),
    city("par", "Paris", "fr", 488_566, 23_522),
    city("sxb", "Strasbourg", "fr", 485_734, 77_521),
    city("lys", "Lyon", "fr", 457_640, 48_357),
    city("mrs", "Marseille", "fr", 432_965, 53_698),
    city("lon", "London", "gb", 515_074, -1_278),
    city("man", "Manchester", "gb", 534_808, -22_426),
    city("edi", "Edinburgh", "gb", 559_533, -31_883),
    city("dub", "Dublin", "ie", 533_498, -62_603),
    city("ams", "Amsterdam", "nl", 523_676, 49_041),
    city("bru", "Brussels", "be", 508_503, 43_517),
    city("zrh", "Zurich", "ch", 473_769, 85_417),
    city("vie", "Vienna", "at", 482_082, 163_738),
    city("prg", "Prague", "cz", 500_755, 144_378),
    city("waw", "Warsaw", "pl", 522_297, 210_122),
    city("bud", "Budapest", "hu", 474_979, 190_402),
    city("mil", "Milan", "it", 454_642, 91_900),
    city("rom", "Rome", "it", 419_028, 124_964),
    city("mad", "Madrid", "es", 404_168, -37_038),
    city("bcn", "Barcelona", "es", 413_874, 21_686),
    city("lis", "Lisbon", "pt", 387_223, -91_393),
    city("cph", "Copenhagen", "dk", 556_761, 125_683),
    city("osl", "Oslo", "no", 599_139, 107_522),
    city("sto", "Stockholm", "se", 593_293, 180_686),
    city("hel", "Helsinki", "fi", 601_699, 249_384),
    city("ath", "Athens", "gr", 379_838, 237_275),
    city("kef", "Reykjavik", "is", 641_466, -219_426),
    city("nyc", "New York", "us", 407_128, -740_060),
    city("sfo", "San Francisco", "us", 377_749, -1_224_194),
    city("gru", "Sao Paulo", "br", -235_505, -466_333),
    city("nbo", "Nairobi", "ke", -12_921, 368_219),
    city("sin", "Singapore", "sg", 13_521, 1_038_198),
    city("tyo", "Tokyo", "jp", 356_762, 1_396_503),
    city("syd", "Sydney", "au", -338_688, 1_512_093),
    city("akl", "Auckland", "nz", -368_485, 1_747_633),
];

/// One simulated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `sim-<city>-<number in that city>`
    pub name: String,
    pub city: &'static City,
    pub class: DeviceClass,
    pub position: Position,
    /// Whether it measures fine dust.
    pub has_sensor: bool,
}

impl Place {
    /// Number `index` of the fleet.
    fn of(index: usize) -> Option<Self> {
        let (round, number) = (index / CITIES.len(), index % CITIES.len());
        let city = CITIES.get(number)?;
        let (north, east) = STEPS_E7.get(round % STEPS_E7.len())?;
        // Alternating in a city too.
        let class = if (number + round).is_multiple_of(2) { DeviceClass::Gateway } else { DeviceClass::Mcu };
        let position = Position {
            latitude_e7: city.latitude_e7 + north,
            longitude_e7: city.longitude_e7 + east,
            uncertainty_m: UNCERTAINTY_M,
        };
        let has_sensor = match class {
            DeviceClass::Mcu => true,
            DeviceClass::Gateway => number.is_multiple_of(4),
        };
        Some(Self { name: format!("sim-{}-{:02}", city.code, round + 1), city, class, position, has_sensor })
    }

    /// The place of a device's name.
    pub fn of_name(name: &str) -> Option<Self> {
        places(DEVICES_MAX).into_iter().find(|place| place.name == name)
    }

    /// What a fleet's operator would write on it.
    pub fn labels(&self) -> Vec<(&'static str, &'static str)> {
        let mut labels =
            vec![("demo", "true"), ("simulated", "true"), ("site", self.city.code), ("country", self.city.country)];
        if self.has_sensor {
            labels.push(("sensor", "pm25"));
        }
        labels
    }
}

/// The first `count` devices, at most `DEVICES_MAX`.
pub fn places(count: usize) -> Vec<Place> {
    (0..count.min(DEVICES_MAX)).filter_map(Place::of).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_device_has_its_own_name_and_its_own_place_on_earth() {
        let all = places(DEVICES_MAX);
        assert_eq!(all.len(), DEVICES_MAX);
        let names: BTreeSet<&str> = all.iter().map(|place| place.name.as_str()).collect();
        let points: BTreeSet<(i32, i32)> =
            all.iter().map(|place| (place.position.latitude_e7, place.position.longitude_e7)).collect();
        assert_eq!((names.len(), points.len()), (DEVICES_MAX, DEVICES_MAX));
        for place in &all {
            assert!(place.position.is_valid(), "{}", place.name);
            assert!(wire::topic::is_label(&place.name, wire::limits::NAME_BYTES_MAX), "{}", place.name);
            assert_eq!(Place::of_name(&place.name).as_ref(), Some(place));
        }
    }

    #[test]
    fn a_small_fleet_is_the_beginning_of_a_large_one() {
        assert_eq!(places(50)[..12], places(12)[..]);
        assert_eq!(places(1_000_000).len(), DEVICES_MAX);
        assert_eq!(places(0), []);
    }

    #[test]
    fn both_classes_and_a_sensor_are_in_every_small_fleet() {
        let few = places(12);
        assert_eq!(few.iter().filter(|place| place.class == DeviceClass::Mcu).count(), 6);
        assert!(few.iter().any(|place| place.has_sensor) && few.iter().any(|place| !place.has_sensor));
        assert_eq!(few[0].name, "sim-fra-01");
    }
}
