//! The network of boards that have one: TCP/IP over a driver for Ethernet, and what it says on the log.

use crate::port::{Buffers, Tcp};
use crate::{STACK_PERIOD, config, tell_stack};
use agent_nostd::shell::Never;
use drivers::log;
use embassy_net::driver::Driver;
use embassy_net::{Runner, Stack, StackResources};
use embassy_time::Timer;
use static_cell::{ConstStaticCell, StaticCell};
use wire::provision::Network;

/// Sockets at the same time: DHCP, names, the broker, and one to spare while a lost connection goes.
const SOCKETS: usize = 4;

/// The network of a board. Once. A call of its own: its sockets pass through the stack, and what that takes is free afterwards.
#[inline(never)]
pub fn connect<D: Driver>(ethernet: D, network: &Network, seed: u64) -> (Stack<'static>, Runner<'static, D>) {
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    embassy_net::new(ethernet, config::of(network), RESOURCES.init(StackResources::new()), seed)
}

/// Connections over it. Once.
pub fn network(stack: Stack<'static>) -> Tcp<'static> {
    static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::new());
    Tcp { stack, buffers: BUFFERS.take() }
}

/// Says when the network came and went, and how deep the stack was.
pub async fn watch(stack: Stack<'static>) -> Never {
    let mut deepest = 0;
    loop {
        stack.wait_config_up().await;
        if let Some(config) = stack.config_v4() {
            log!("network: {}, router {:?}", config.address, config.gateway);
        }
        while stack.is_config_up() {
            deepest = tell_stack(deepest);
            Timer::after(STACK_PERIOD).await;
        }
        log!("network: down");
    }
}
