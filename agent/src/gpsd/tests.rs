//! True-looking and hostile lines, what is worth a report, and a receiver that comes and goes.
#![allow(clippy::unwrap_used)]
use super::*;
use std::io::{BufRead, Write};
use std::net::TcpListener;

const RULES: Rules = Rules { moved_m: 50, pause: Duration::from_secs(10), stale_after: Duration::from_secs(300) };

/// As gpsd 3.22 writes it.
const TPV: &str = r#"{"class":"TPV","device":"/dev/ttyACM0","status":2,"mode":3,"time":"2026-11-25T10:00:00.000Z","leapseconds":18,"ept":0.005,"lat":50.110912345,"lon":8.682123456,"altHAE":160.1,"epx":3.1,"epy":4.2,"epv":9.0,"eph":7.4,"track":0.0,"speed":0.01}"#;
const VERSION: &str = r#"{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}"#;

fn at(metres_north: i32, uncertainty_m: u32) -> Position {
    Position { longitude_e7: 86_821_235, latitude_e7: 501_109_123 + metres_north * 90, uncertainty_m }
}

fn seconds(seconds: u64) -> Instant {
    Instant::from_ms(seconds * 1000)
}

#[test]
fn a_fix_is_read_with_its_uncertainty_rounded_up() {
    assert_eq!(
        fix(TPV.as_bytes()),
        Some(Position { longitude_e7: 86_821_235, latitude_e7: 501_109_123, uncertainty_m: 8 })
    );
    let of = |text: &str| fix(text.as_bytes()).map(|position| position.uncertainty_m);
    assert_eq!(of(r#"{"class":"TPV","mode":2,"lat":1,"lon":2}"#), Some(UNCERTAINTY_2D_M));
    assert_eq!(of(r#"{"class":"TPV","mode":3,"lat":1,"lon":2}"#), Some(UNCERTAINTY_3D_M));
    assert_eq!(of(r#"{"class":"TPV","mode":3,"lat":1,"lon":2,"epx":3,"epy":4}"#), Some(5));
}

#[test]
fn what_is_no_fix_is_no_position() {
    let deep = "[".repeat(LINE_BYTES_MAX);
    let lines = [
        "",
        "{",
        "null",
        "[]",
        "TPV",
        VERSION,
        &deep,
        "\u{0}\u{1}",
        r#"{"class":"TPV","mode":0,"lat":1,"lon":2}"#,
        r#"{"class":"TPV","mode":1,"lat":1,"lon":2}"#,
        r#"{"class":"TPV","mode":3,"lat":1}"#,
        r#"{"class":"TPV","mode":3,"lat":90.1,"lon":2}"#,
        r#"{"class":"TPV","mode":3,"lat":1,"lon":-180.1}"#,
        r#"{"class":"TPV","mode":3,"lat":1e308,"lon":2}"#,
        r#"{"class":"TPV","mode":3,"lat":"1","lon":2}"#,
        r#"{"class":"TPV","mode":3,"lat":1,"lon":2,"eph":-1}"#,
        r#"{"class":"TPV","mode":3,"lat":1,"lon":2,"eph":1e300}"#,
        r#"{"class":"TPV","mode":3,"lat":1,"lon":2,"ept":86400}"#,
        r#"{"class":"TPV","mode":300,"lat":1,"lon":2}"#,
    ];
    for line in lines {
        assert_eq!(fix(line.as_bytes()), None, "{line:.60}");
    }
    assert_eq!(fix(b"\xff\xfe{\"class\":\"TPV\"}"), None);
}

#[test]
fn only_a_move_beyond_threshold_and_uncertainty_is_told_and_not_too_often() {
    let mut track = Track::new(RULES);
    assert_eq!((track.poll(seconds(0)), track.due()), (None, None));
    track.hear(seconds(1), at(0, 8));
    assert_eq!(track.poll(seconds(1)), Some(Some(at(0, 8))));
    track.hear(seconds(20), at(45, 8));
    assert_eq!(track.poll(seconds(20)), None);
    // Far, and soon after that further: told once the pause is over, as it is then.
    track.hear(seconds(21), at(60, 8));
    assert_eq!(track.poll(seconds(21)), Some(Some(at(60, 8))));
    track.hear(seconds(22), at(500, 8));
    assert_eq!((track.poll(seconds(22)), track.due()), (None, Some(seconds(31))));
    track.hear(seconds(30), at(600, 8));
    assert_eq!(track.poll(seconds(31)), Some(Some(at(600, 8))));
    // A bad fix is told as such, and within its uncertainty nothing is a move.
    track.hear(seconds(60), at(600, 400));
    assert_eq!(track.poll(seconds(60)), Some(Some(at(600, 400))));
    track.hear(seconds(80), at(900, 390));
    assert_eq!(track.poll(seconds(80)), None);
    track.hear(seconds(90), at(900, 10));
    assert_eq!(track.poll(seconds(90)), Some(Some(at(900, 10))));
}

#[test]
fn a_position_that_is_not_renewed_is_forgotten_once() {
    let mut track = Track::new(RULES);
    track.hear(seconds(1), at(0, 8));
    track.poll(seconds(1));
    assert_eq!(track.due(), Some(seconds(301)));
    assert_eq!(track.poll(seconds(300)), None);
    assert_eq!(track.poll(seconds(301)), Some(None));
    assert_eq!((track.poll(seconds(302)), track.due()), (None, None));
    track.hear(seconds(303), at(0, 8));
    assert_eq!(track.poll(seconds(311)), Some(Some(at(0, 8))));
}

#[test]
fn the_antimeridian_is_no_move() {
    let east = Position { longitude_e7: 1_799_999_999, latitude_e7: 0, uncertainty_m: 1 };
    let west = Position { longitude_e7: -1_799_999_999, ..east };
    assert!(metres(east, west) < 1.0);
}

#[test]
fn a_receiver_that_lies_and_goes_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        // First it sends a line without an end, then it is a receiver.
        let (mut liar, _) = listener.accept().unwrap();
        let _ = liar.write_all(&vec![b'{'; 2 * LINE_BYTES_MAX]);
        let (mut honest, _) = listener.accept().unwrap();
        drop(liar);
        let mut asked = String::new();
        std::io::BufReader::new(honest.try_clone().unwrap()).read_line(&mut asked).unwrap();
        honest.write_all(format!("{VERSION}\r\nnonsense\n{TPV}\r\n").as_bytes()).unwrap();
        asked
    });
    let (fixes, heard) = async_channel::bounded(4);
    let position = smol::block_on(async {
        let listening = async {
            listen(address, fixes).await;
            None
        };
        async { heard.recv().await.ok() }.or(listening).await
    });
    assert_eq!(position, fix(TPV.as_bytes()));
    assert_eq!(server.join().unwrap().as_bytes(), WATCH);
}
