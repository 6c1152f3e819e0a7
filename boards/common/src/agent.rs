//! The agent on a board: its flash, its seed and its memory, put together for the shell's loop.

use crate::port::{BoardClock, Console};
use crate::update::Update;
use agent_nostd::shell::dalek::Dalek;
use agent_nostd::shell::port::{BootSeed, Enrolment, Network, Parts, Peripherals, Platform};
use agent_nostd::shell::{self, limits};
use agent_nostd::store::{Flash, Partition as Part, Retained, Seed};
use core::cell::RefCell;
use core::marker::PhantomData;
use drivers::nor::Partition;
use drivers::watchdog::Watchdog;
use embedded_storage::nor_flash::NorFlash;
use static_cell::ConstStaticCell;
use wire::Digest;
use wire::provision::Provision;

#[cfg(not(feature = "functions"))]
use limits::{SmallMemory as Memory, small::SLOTS};
#[cfg(feature = "functions")]
use limits::{StandardMemory as Memory, standard::SLOTS};

/// Journal and artifacts of a board.
pub type Store<'a, F> = Flash<Part<'a, F>, Part<'a, F>>;

struct On<'a, N, F, W, P>(PhantomData<(N, &'a F, W, P)>);

impl<'a, N: Network, F: NorFlash, W: Watchdog + 'a, P: Peripherals> Platform for On<'a, N, F, W, P> {
    type Clock = BoardClock;
    type Network = N;
    type Board = Console<W>;
    type Store = Store<'a, F>;
    type Crypto = Dalek;
    type Peripherals = P;
    type Updates = Update<'a, F, W>;
}

/// Opens the partitions of the device's own, where they stay. `None`: the table has not both. A call of its own: what it takes of
/// the stack is free afterwards.
#[inline(never)]
pub fn open<'a, F: NorFlash>(place: &mut Option<Store<'a, F>>, flash: &'a RefCell<F>, partitions: &[Partition]) {
    let part = |name| {
        let partition = Partition::named(partitions, name)?;
        Part::new(flash, partition.offset, partition.bytes)
    };
    *place = part("journal").zip(part("artifacts")).map(|(journal, artifacts)| Flash::open(journal, artifacts));
}

/// The seed of this boot, and a number from it for the network, from which nobody finds the seed.
pub fn seed<F: NorFlash>(
    store: &mut Store<'_, F>,
    kept: &mut Retained,
    provision: &Provision<'_>,
    entropy: &[u8],
) -> (BootSeed, u64) {
    let Seed { bytes, is_unique } = Seed::draw(store.journal(), kept, &provision.seed.0, entropy);
    let [a, b, c, d, e, f, g, h, ..] = Digest::of_parts(&[b"network", &bytes]).0;
    (BootSeed { bytes, is_unique, is_own: !entropy.is_empty() }, u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

/// Runs the agent for ever. Once.
pub async fn run<'a, N: Network, F: NorFlash, W: Watchdog, P: Peripherals>(
    network: &mut N,
    console: &Console<W>,
    store: &mut Store<'a, F>,
    (peripherals, updates): (&mut P, &mut Update<'a, F, W>),
    provision: &Provision<'_>,
    seed: BootSeed,
    (function_bytes, erase_ms): (u32, u32),
) -> shell::Never {
    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let enrolment = Enrolment {
        token: provision.token,
        name: provision.name,
        position: provision.position,
        seed: &provision.seed.0,
    };
    let parts: Parts<'_, On<'a, N, F, W, P>> = Parts {
        clock: &BoardClock,
        network,
        board: console,
        store,
        crypto: &Dalek,
        peripherals,
        updates,
        enrolment,
        seed,
        function_bytes,
        erase: core::time::Duration::from_millis(u64::from(erase_ms)),
    };
    shell::run::<_, SLOTS>(parts, MEMORY.take().borrow()).await
}
