//! A road between two programs that the test owns: it can be cut, slowed, stalled and opened again, and it counts what passes.
//!
//! The machine's kernel offers no delay or loss of its own everywhere, so the road ends each connection and begins another.
//! What a test judges by is what the road did, at the moment when it did it: never what one of its ends believes.

use super::PATIENCE;
use smol::Async;
use smol::channel::{Receiver, bounded};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Bytes of one read; each keeps the moment at which it came.
const CHUNK_BYTES: usize = 2048;
/// Chunks on the road, each way and connection; then the sender has to wait.
const CHUNKS_MAX: usize = 64;
/// How soon a connection notices that the rules have changed.
const TICK: Duration = Duration::from_millis(5);

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As if the other end's machine knew nothing of it.
    Reset,
    /// As if the other end's program had closed it.
    Close,
}

/// What happens to who comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    #[default]
    Open,
    /// Reset at once.
    Refuse,
    /// Let in, and never answered.
    Swallow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who connected.
    Up,
    Down,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lane {
    pub delay: Duration,
    /// Of all connections together.
    pub bytes_per_s: Option<u64>,
    /// Nothing moves, and nobody is told.
    pub is_stalled: bool,
    /// Every publication that wants an answer comes twice. Counts for connections that begin.
    pub repeats: bool,
}

/// Finds whole MQTT packets in a stream, and repeats publications.
#[derive(Default)]
struct Repeater(Vec<u8>);

impl Repeater {
    /// Bytes of the first packet, if all of it is there.
    fn first_length(&self) -> Option<usize> {
        let mut length = 0;
        for (index, byte) in self.0.iter().skip(1).take(4).enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                let whole = 2 + index + length;
                return (self.0.len() >= whole).then_some(whole);
            }
        }
        None
    }

    fn feed(&mut self, chunk: &[u8]) -> Vec<u8> {
        const PUBLISH: u8 = 0x30;
        const DUPLICATE: u8 = 0x08;
        const QOS: u8 = 0x06;
        self.0.extend(chunk);
        let mut out = Vec::new();
        while let Some(length) = self.first_length() {
            let packet: Vec<u8> = self.0.drain(..length).collect();
            out.extend(&packet);
            if packet[0] & 0xf0 == PUBLISH && packet[0] & QOS != 0 {
                out.push(packet[0] | DUPLICATE);
                out.extend(&packet[1..]);
            }
        }
        out
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    pub door: Door,
    pub up: Lane,
    pub down: Lane,
}

impl Rules {
    /// Nothing passes either way, without a word.
    pub fn silent() -> Self {
        let lane = Lane { is_stalled: true, ..Lane::default() };
        Self { door: Door::Swallow, up: lane, down: lane }
    }

    fn lane(&self, way: Way) -> Lane {
        match way {
            Way::Up => self.up,
            Way::Down => self.down,
        }
    }
}

/// The end of one connection that is planned when it begins.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// After so many bytes have passed this way.
    Bytes(Way, u64, Cut),
    /// So long after it began.
    Age(Duration, Cut),
}

/// What became of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    pub begun: Instant,
    /// When who connected had closed it, or gone; what is still on the road may be there longer.
    pub left: Option<Instant>,
    /// `None`: it is open.
    pub ended: Option<Instant>,
    /// Bytes that were let through.
    pub up: u64,
    pub down: u64,
    /// Whether the road ended it, and neither of its ends did.
    pub was_cut: bool,
}

struct Open {
    near: Arc<Async<TcpStream>>,
    far: Option<Arc<Async<TcpStream>>>,
    /// A router on the way forgot it: what is sent goes nowhere.
    is_forgotten: Arc<AtomicBool>,
}

#[derive(Default)]
struct Tables {
    rules: Rules,
    open: BTreeMap<usize, Open>,
    passages: Vec<Passage>,
    /// For those that come next, in order.
    fates: std::collections::VecDeque<Option<Fate>>,
    /// When the last byte that was let through has left, by way.
    free_at: [Option<Instant>; 2],
    target: Option<SocketAddr>,
    refused: usize,
}

struct Shared {
    tables: Mutex<Tables>,
    up: AtomicU64,
    down: AtomicU64,
}

/// The road. Dropping it closes it.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: smol::Task<()>,
}

fn reset(stream: &TcpStream) {
    // The kernel sends RST for a connection that is dissolved.
    let _ = rustix::net::connect_unspec(stream);
}

fn end(stream: &Async<TcpStream>, cut: Cut) {
    match cut {
        Cut::Reset => reset(stream.get_ref()),
        Cut::Close => {
            let _ = stream.get_ref().shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap()
    }

    fn cut(&self, number: usize, cut: Cut) {
        let mut tables = self.lock();
        let Some(open) = tables.open.remove(&number) else { return };
        let passage = &mut tables.passages[number];
        passage.was_cut = true;
        passage.ended.get_or_insert_with(Instant::now);
        passage.left.get_or_insert_with(Instant::now);
        drop(tables);
        end(&open.near, cut);
        open.far.iter().for_each(|far| end(far, cut));
    }

    fn ended(&self, number: usize) {
        let mut tables = self.lock();
        tables.open.remove(&number);
        let passage = &mut tables.passages[number];
        passage.ended.get_or_insert_with(Instant::now);
        passage.left.get_or_insert_with(Instant::now);
    }

    /// Waits until these bytes may pass. False: the connection is over.
    async fn may_pass(&self, number: usize, way: Way, bytes: usize, came: Instant, forgotten: &AtomicBool) -> bool {
        loop {
            let wait = {
                let mut tables = self.lock();
                if !tables.open.contains_key(&number) {
                    return false;
                }
                let lane = tables.rules.lane(way);
                let now = Instant::now();
                let due = came + lane.delay;
                if lane.is_stalled || forgotten.load(Ordering::Relaxed) {
                    TICK
                } else if due > now {
                    TICK.min(due - now)
                } else if let Some(rate) = lane.bytes_per_s {
                    let free_at = &mut tables.free_at[way as usize];
                    let begin = free_at.unwrap_or(now).max(now);
                    if begin > now {
                        TICK.min(begin - now)
                    } else {
                        *free_at = Some(begin + Duration::from_secs_f64(bytes as f64 / rate as f64));
                        return true;
                    }
                } else {
                    return true;
                }
            };
            smol::Timer::after(wait).await;
        }
    }

    fn count(&self, number: usize, way: Way, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        let (all, mut tables) = match way {
            Way::Up => (&self.up, self.lock()),
            Way::Down => (&self.down, self.lock()),
        };
        all.fetch_add(bytes, Ordering::Relaxed);
        let passage = &mut tables.passages[number];
        let own = match way {
            Way::Up => &mut passage.up,
            Way::Down => &mut passage.down,
        };
        *own += bytes;
        *own
    }
}

/// One direction of one connection.
struct Pump {
    shared: Arc<Shared>,
    number: usize,
    way: Way,
    fate: Option<Fate>,
    is_forgotten: Arc<AtomicBool>,
}

impl Pump {
    /// Until its end; a closed sending half is closed further on.
    async fn run(self, from: Arc<Async<TcpStream>>, to: Arc<Async<TcpStream>>) {
        let (chunks, coming) = bounded(CHUNKS_MAX);
        let read = async {
            let mut buffer = [0; CHUNK_BYTES];
            while let Ok(count @ 1..) = (&*from).read(&mut buffer).await {
                if chunks.send((Instant::now(), buffer[..count].to_vec())).await.is_err() {
                    return;
                }
            }
            if self.way == Way::Up {
                self.shared.lock().passages[self.number].left.get_or_insert_with(Instant::now);
            }
            chunks.close();
        };
        smol::future::zip(read, self.write(coming, &to)).await;
        let _ = to.get_ref().shutdown(Shutdown::Write);
    }

    async fn write(&self, coming: Receiver<(Instant, Vec<u8>)>, to: &Async<TcpStream>) {
        let mut passed = 0;
        let mut repeater = self.shared.lock().rules.lane(self.way).repeats.then(Repeater::default);
        while let Ok((came, mut chunk)) = coming.recv().await {
            if let Some(repeater) = &mut repeater {
                chunk = repeater.feed(&chunk);
            }
            let mut cut = None;
            if let Some(Fate::Bytes(way, bytes, how)) = self.fate
                && way == self.way
                && passed + chunk.len() as u64 >= bytes
            {
                chunk.truncate(usize::try_from(bytes - passed).unwrap());
                cut = Some(how);
            }
            let is_open = self.shared.may_pass(self.number, self.way, chunk.len(), came, &self.is_forgotten).await;
            if is_open {
                passed = self.shared.count(self.number, self.way, chunk.len());
            }
            if !is_open || { to }.write_all(&chunk).await.is_err() {
                coming.close();
                return;
            }
            if let Some(how) = cut {
                self.shared.cut(self.number, how);
                return;
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, near: Async<TcpStream>) {
    let near = Arc::new(near);
    let is_forgotten = Arc::new(AtomicBool::new(false));
    let (number, door, fate, target) = {
        let mut tables = shared.lock();
        let (door, target) = (tables.rules.door, tables.target);
        if door == Door::Refuse {
            tables.refused += 1;
            reset(near.get_ref());
            return;
        }
        let number = tables.passages.len();
        tables.passages.push(Passage {
            begun: Instant::now(),
            left: None,
            ended: None,
            up: 0,
            down: 0,
            was_cut: false,
        });
        let fate = tables.fates.pop_front().flatten();
        let open = Open { near: Arc::clone(&near), far: None, is_forgotten: Arc::clone(&is_forgotten) };
        tables.open.insert(number, open);
        (number, door, fate, target)
    };
    if let Some(Fate::Age(age, how)) = fate {
        let shared = Arc::clone(&shared);
        let timer = async move {
            smol::Timer::after(age).await;
            shared.cut(number, how);
        };
        smol::spawn(timer).detach();
    }
    if door == Door::Swallow {
        // Held until it is cut or given up: nobody reads.
        let mut nothing = [0; 1];
        while near.peek(&mut nothing).await.is_ok_and(|count| count > 0) && shared.lock().open.contains_key(&number) {
            smol::Timer::after(TICK).await;
        }
        return shared.ended(number);
    }
    let far = match target {
        Some(target) => Async::<TcpStream>::connect(target).await,
        None => Err(std::io::ErrorKind::NotConnected.into()),
    };
    let Ok(far) = far else {
        reset(near.get_ref());
        return shared.ended(number);
    };
    let _ = (near.get_ref().set_nodelay(true), far.get_ref().set_nodelay(true));
    let far = Arc::new(far);
    match shared.lock().open.get_mut(&number) {
        Some(open) => open.far = Some(Arc::clone(&far)),
        // Cut in the meantime.
        None => return,
    }
    let pump = |way| Pump { shared: Arc::clone(&shared), number, way, fate, is_forgotten: Arc::clone(&is_forgotten) };
    let up = pump(Way::Up).run(Arc::clone(&near), Arc::clone(&far));
    let down = pump(Way::Down).run(far, near);
    smol::future::zip(up, down).await;
    shared.ended(number);
}

impl Proxy {
    /// To a port of this machine.
    pub fn to_port(port: u16) -> Self {
        Self::to(([127, 0, 0, 1], port).into())
    }

    pub fn to(target: SocketAddr) -> Self {
        let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let address = listener.get_ref().local_addr().unwrap();
        let tables = Mutex::new(Tables { target: Some(target), ..Tables::default() });
        let shared = Arc::new(Shared { tables, up: AtomicU64::new(0), down: AtomicU64::new(0) });
        let of_task = Arc::clone(&shared);
        let accepting = smol::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                smol::spawn(serve(Arc::clone(&of_task), near)).detach();
            }
        });
        Self { address, shared, _accepting: accepting }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of the broker behind it.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    pub fn set(&self, rules: Rules) {
        self.shared.lock().rules = rules;
    }

    pub fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.shared.lock().rules);
    }

    /// Open again, for those that are still there and for who comes.
    pub fn heal(&self) {
        self.set(Rules::default());
    }

    /// Ends every connection; who comes back is let in, if the door is open.
    pub fn cut(&self, how: Cut) {
        let numbers: Vec<usize> = self.shared.lock().open.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.shared.cut(number, how));
    }

    /// Both ends are told, and nobody gets in.
    pub fn partition(&self, how: Cut) {
        self.change(|rules| rules.door = Door::Refuse);
        self.cut(how);
    }

    /// A router lost its table: the connections of now lead nowhere, without a word; new ones pass.
    pub fn forget(&self) {
        self.shared.lock().open.values().for_each(|open| open.is_forgotten.store(true, Ordering::Relaxed));
    }

    /// Fates of the connections that come next, in order; `None`: it is left alone.
    pub fn plan(&self, fates: impl IntoIterator<Item = Option<Fate>>) {
        self.shared.lock().fates.extend(fates);
    }

    pub fn planned(&self) -> usize {
        self.shared.lock().fates.len()
    }

    /// Every connection that was let in, in order.
    pub fn passages(&self) -> Vec<Passage> {
        self.shared.lock().passages.clone()
    }

    /// How many came to a closed door.
    pub fn refused(&self) -> usize {
        self.shared.lock().refused
    }

    /// Bytes that were let through, up and down.
    pub fn bytes(&self) -> (u64, u64) {
        (self.shared.up.load(Ordering::Relaxed), self.shared.down.load(Ordering::Relaxed))
    }

    /// Follows these steps, one after the other; the moments at which they were made come out.
    pub fn follow(&self, steps: Vec<Step>) -> Followed {
        let shared = Arc::clone(&self.shared);
        let (sender, done) = std::sync::mpsc::channel();
        smol::spawn(async move {
            let mut made = Vec::new();
            for step in steps {
                shared.lock().rules = step.rules;
                if let Some(how) = step.cut {
                    let numbers: Vec<usize> = shared.lock().open.keys().copied().collect();
                    numbers.into_iter().for_each(|number| shared.cut(number, how));
                }
                made.push((Instant::now(), step.rules.door == Door::Open && !step.rules.up.is_stalled));
                smol::Timer::after(step.lasts).await;
            }
            // The test may have failed already.
            let _ = sender.send(made);
        })
        .detach();
        Followed(done)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut(Cut::Reset);
    }
}

/// One state of a road, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub lasts: Duration,
    pub rules: Rules,
    /// What happens to the connections at its beginning.
    pub cut: Option<Cut>,
}

impl Step {
    pub fn up(lasts: Duration) -> Self {
        Self { lasts, rules: Rules::default(), cut: None }
    }

    pub fn down(lasts: Duration, cut: Cut) -> Self {
        let rules = Rules { door: Door::Refuse, ..Rules::default() };
        Self { lasts, rules, cut: Some(cut) }
    }
}

/// Steps that are being made.
pub struct Followed(std::sync::mpsc::Receiver<Vec<(Instant, bool)>>);

impl Followed {
    /// Waits for the last one: when each began, and whether the road was open then.
    pub fn done(self, longest: Duration) -> Vec<(Instant, bool)> {
        self.0.recv_timeout(longest + PATIENCE).expect("the steps were made")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};

    /// Sends back what it is sent.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut { stream }));
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn says(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        stream.write_all(text).unwrap();
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    fn ending(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).map_err(|error| error.kind())
    }

    #[test]
    fn bytes_pass_and_are_counted_and_both_ends_of_a_cut_hear_how_it_was_made() {
        let proxy = Proxy::to(echo());
        let mut stream = connect(&proxy);
        assert_eq!(says(&mut stream, b"hello"), b"hello");
        assert_eq!(proxy.bytes(), (5, 5));
        proxy.cut(Cut::Reset);
        assert_eq!(ending(&mut stream), Err(ErrorKind::ConnectionReset));
        let mut stream = connect(&proxy);
        says(&mut stream, b"again");
        proxy.cut(Cut::Close);
        assert_eq!(ending(&mut stream), Ok(0));
        let passages = proxy.passages();
        assert_eq!(passages.len(), 2);
        assert!(passages.iter().all(|passage| passage.was_cut && passage.ended.is_some() && passage.up == 5));
    }

    #[test]
    fn a_closed_door_resets_and_an_open_one_lets_in_again() {
        let proxy = Proxy::to(echo());
        proxy.partition(Cut::Reset);
        assert_eq!(ending(&mut connect(&proxy)), Err(ErrorKind::ConnectionReset));
        proxy.heal();
        assert_eq!(says(&mut connect(&proxy), b"in"), b"in");
        assert_eq!(proxy.passages().len(), 1, "who was refused did not pass");
    }

    #[test]
    fn a_stalled_lane_holds_its_bytes_and_loses_none() {
        let proxy = Proxy::to(echo());
        let mut stream = connect(&proxy);
        says(&mut stream, b"before");
        proxy.set(Rules::silent());
        stream.write_all(b"held").unwrap();
        let mut newcomer = connect(&proxy);
        newcomer.write_all(b"swallowed").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        proxy.heal();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"held");
        assert_eq!(proxy.bytes(), (10, 10), "nothing of who was swallowed");
    }

    #[test]
    fn a_forgotten_connection_leads_nowhere_and_a_new_one_passes() {
        let proxy = Proxy::to(echo());
        let mut stream = connect(&proxy);
        says(&mut stream, b"known");
        proxy.forget();
        stream.write_all(b"lost").unwrap();
        assert_eq!(says(&mut connect(&proxy), b"new"), b"new");
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn delay_and_rate_are_what_was_asked_for() {
        let proxy = Proxy::to(echo());
        let lane = Lane { delay: Duration::from_millis(50), ..Lane::default() };
        proxy.set(Rules { up: lane, down: lane, ..Rules::default() });
        let mut stream = connect(&proxy);
        let begin = Instant::now();
        says(&mut stream, b"there and back");
        assert!(begin.elapsed() >= Duration::from_millis(100));
        let lane = Lane { bytes_per_s: Some(40_000), ..Lane::default() };
        proxy.set(Rules { up: lane, ..Rules::default() });
        let begin = Instant::now();
        says(&mut stream, &[7; 10_000]);
        // The last chunk need not wait for itself.
        assert!(begin.elapsed() >= Duration::from_millis(190), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_planned_end_comes_at_its_byte_and_only_once() {
        let proxy = Proxy::to(echo());
        proxy.plan([Some(Fate::Bytes(Way::Up, 7, Cut::Reset)), None]);
        let mut stream = connect(&proxy);
        assert_eq!(says(&mut stream, b"three"), b"three");
        let _ = stream.write_all(b"more");
        assert!(ending(&mut stream).is_err());
        assert_eq!(proxy.passages()[0].up, 7);
        assert_eq!(says(&mut connect(&proxy), b"longer than seven"), b"longer than seven");
        proxy.plan([Some(Fate::Age(Duration::from_millis(20), Cut::Close))]);
        assert_eq!(ending(&mut connect(&proxy)), Ok(0));
    }

    #[test]
    fn publications_are_repeated_whole_wherever_the_stream_is_cut() {
        let ping = [0xc0, 0];
        let quiet = [0x30, 3, 0, 1, b'a'];
        let asked = [0x32, 6, 0, 1, b'a', 0, 7, 0];
        let stream = [&ping[..], &asked, &quiet, &asked].concat();
        let again = [0x3a, 6, 0, 1, b'a', 0, 7, 0];
        let whole = [&ping[..], &asked, &again, &quiet, &asked, &again].concat();
        for at in 0..stream.len() {
            let mut repeater = Repeater::default();
            let halves = [repeater.feed(&stream[..at]), repeater.feed(&stream[at..])];
            assert_eq!(halves.concat(), whole, "cut at {at}");
        }
    }

    #[test]
    fn steps_are_made_in_their_order_and_time() {
        let proxy = Proxy::to(echo());
        let length = Duration::from_millis(30);
        let steps = vec![Step::down(length, Cut::Reset), Step::up(length), Step::down(length, Cut::Reset)];
        let made = proxy.follow(steps).done(length);
        assert_eq!(made.iter().map(|(_, is_open)| *is_open).collect::<Vec<_>>(), [false, true, false]);
        assert!(made.windows(2).all(|two| two[1].0 - two[0].0 >= length));
    }
}
