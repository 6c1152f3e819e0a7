//! What the flasher wrote for this board, from the partition `config`, which is never written here.

use drivers::log;
use drivers::nor::Partition;
use embassy_net::{Config, ConfigV4, DhcpConfig, Ipv4Address, Ipv4Cidr, StaticConfigV4};
use embedded_storage::nor_flash::ReadNorFlash;
use wire::limits::PROVISION_BYTES_MAX;
use wire::provision::{Network, Provision};

/// The record, if there is a good one for this board. What is wrong with it is said on the log; a board without one still
/// brings up its network, so that whoever looks sees that the hardware works.
pub fn read<'a, F: ReadNorFlash>(
    flash: &mut F,
    partitions: &[Partition],
    board: &str,
    buffer: &'a mut [u8; PROVISION_BYTES_MAX],
) -> Option<Provision<'a>> {
    let Some(config) = Partition::named(partitions, "config") else {
        log!("no partition config");
        return None;
    };
    if let Err(error) = flash.read(config.offset, buffer) {
        log!("the provisioning record cannot be read: {error:?}");
        return None;
    }
    match Provision::decode(buffer) {
        Ok(record) if record.board == board => {
            log!("provisioned: {}", if record.name.is_empty() { "the hub gives a name" } else { record.name });
            Some(record)
        }
        Ok(record) => {
            log!("the provisioning record is for {}: flash this board again, as {board}", record.board);
            None
        }
        Err(error) => {
            log!("{error}");
            None
        }
    }
}

/// The network as embassy wants to hear of it.
pub fn of(network: &Network) -> Config {
    let mut config = Config::default();
    config.ipv4 = match network {
        Network::Dhcp => ConfigV4::Dhcp(DhcpConfig::default()),
        Network::Static(given) => {
            let mut dns_servers = heapless::Vec::new();
            // There is room for three, and this is one.
            let _ = given.dns.map(|dns| dns_servers.push(Ipv4Address::from(dns)));
            ConfigV4::Static(StaticConfigV4 {
                address: Ipv4Cidr::new(Ipv4Address::from(given.address), given.prefix),
                gateway: given.gateway.map(Ipv4Address::from),
                dns_servers,
            })
        }
    };
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::provision::StaticAddress;

    #[test]
    fn a_given_address_is_taken_as_it_is() {
        let given =
            StaticAddress { address: [10, 1, 2, 3], prefix: 16, gateway: Some([10, 1, 0, 1]), dns: Some([9, 9, 9, 9]) };
        let ConfigV4::Static(config) = of(&Network::Static(given)).ipv4 else { panic!("it is static") };
        assert_eq!(config.address, Ipv4Cidr::new(Ipv4Address::new(10, 1, 2, 3), 16));
        assert_eq!(config.gateway, Some(Ipv4Address::new(10, 1, 0, 1)));
        assert_eq!(config.dns_servers.as_slice(), [Ipv4Address::new(9, 9, 9, 9)]);
    }

    #[test]
    fn without_a_record_addresses_are_asked_for() {
        assert!(matches!(of(&Network::Dhcp).ipv4, ConfigV4::Dhcp(_)));
    }
}
