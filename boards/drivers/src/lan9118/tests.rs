//! The LAN9118 driver against a chip that is played by the data sheet.

use super::*;
use crate::registers::fake::{Device, Fake};
use std::collections::VecDeque;
use std::vec::Vec;

#[derive(Default)]
struct Chip {
    absent: bool,
    stuck: bool,
    hw_cfg: u32,
    int_en: u32,
    int_sts: u32,
    mac: [u32; 16],
    csr_data: u32,
    link_down: bool,
    rx_status: VecDeque<u32>,
    rx_data: VecDeque<u32>,
    tx: Vec<u32>,
    tx_status: u32,
    tx_free: u32,
}

impl Chip {
    fn arrive(&mut self, frame: &[u8], is_bad: bool) {
        let with_checksum = frame.len() + 4;
        self.rx_status.push_back(((with_checksum as u32) << 16) | (u32::from(is_bad) << 15));
        let mut bytes = frame.to_vec();
        bytes.extend([0xcc; 4]);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.rx_data.extend(bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))));
        self.int_sts |= INT_RX_STATUS_LEVEL;
    }

    fn interrupts(&self) -> bool {
        self.int_en & self.int_sts != 0
    }
}

impl Device for Chip {
    fn read(&mut self, offset: usize) -> u32 {
        match offset {
            BYTE_TEST => {
                if self.absent {
                    0
                } else {
                    BYTE_TEST_VALUE
                }
            }
            HW_CFG => self.hw_cfg,
            CSR_CMD => 0,
            CSR_DATA => self.csr_data,
            RX_FIFO_INF => ((self.rx_status.len() as u32) << 16) | (self.rx_data.len() as u32 * 4),
            RX_STATUS => self.rx_status.pop_front().expect("a status is read only if one is there"),
            RX_DATA => self.rx_data.pop_front().expect("a word is read only if one is there"),
            TX_FIFO_INF => (self.tx_status << 16) | self.tx_free,
            TX_STATUS => {
                self.tx_status -= 1;
                0
            }
            other => panic!("read of {other:#x}"),
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        match offset {
            // Reset ends at once in this chip.
            HW_CFG => self.hw_cfg = if self.stuck { value } else { value & !1 },
            INT_EN => self.int_en = value,
            INT_STS => self.int_sts &= !value,
            CSR_DATA => self.csr_data = value,
            CSR_CMD => {
                let register = (value & 0xf) as usize;
                if value & CSR_IS_READ != 0 {
                    self.csr_data = self.mac[register];
                } else {
                    self.mac[register] = self.csr_data;
                    if value & 0xf == MAC_MII_ACCESS {
                        self.mac[MAC_MII_DATA as usize] = if self.link_down { 0 } else { MII_LINK_UP };
                    }
                }
            }
            TX_DATA => self.tx.push(value),
            IRQ_CFG | FIFO_INT | RX_CFG | TX_CFG => {}
            other => panic!("write of {other:#x}"),
        }
    }
}

fn started(change: impl FnOnce(&mut Chip)) -> (Lan9118<Fake<Chip>>, Fake<Chip>) {
    let mut chip = Chip { tx_free: 4608, ..Chip::default() };
    chip.mac[MAC_ADDRESS_LOW as usize] = 0x0000_0002;
    chip.mac[MAC_ADDRESS_HIGH as usize] = 0x0000_2a00;
    change(&mut chip);
    let fake = Fake::new(chip);
    (Lan9118::start(fake.clone()).expect("the chip is there"), fake)
}

#[test]
fn it_starts_with_its_address_and_without_interrupts() {
    let (nic, fake) = started(|_| ());
    assert_eq!(nic.address(), [2, 0, 0, 0, 0, 0x2a]);
    let chip = fake.0.borrow();
    assert_eq!(chip.mac[MAC_CR as usize], MAC_CR_ON);
    assert_eq!(chip.hw_cfg, 5 << 16);
    assert_eq!(chip.int_en, 0);
}

#[test]
fn an_empty_bus_and_an_endless_reset_are_told_apart() {
    let absent = Fake::new(Chip { absent: true, ..Chip::default() });
    assert_eq!(Lan9118::start(absent).err(), Some(StartError::Missing(0)));
    let stuck = Fake::new(Chip { stuck: true, ..Chip::default() });
    assert_eq!(Lan9118::start(stuck).err(), Some(StartError::Stuck));
}

#[test]
fn a_frame_is_received_without_its_check_sum() {
    let (mut nic, fake) = started(|_| ());
    let sent: Vec<u8> = (0..61).collect();
    fake.0.borrow_mut().arrive(&sent, false);
    let mut frame = [0; FRAME_BUFFER_BYTES];
    assert_eq!(nic.receive(&mut frame), Some(61));
    assert_eq!(frame[..61], sent[..]);
    assert_eq!(nic.receive(&mut frame), None);
    assert!(fake.0.borrow().rx_data.is_empty());
}

#[test]
fn bad_and_overlong_frames_are_read_away_and_the_next_one_is_given() {
    let (mut nic, fake) = started(|_| ());
    fake.0.borrow_mut().arrive(&[1; 64], true);
    fake.0.borrow_mut().arrive(&[2; FRAME_BYTES_MAX + 1], false);
    fake.0.borrow_mut().arrive(&[3; FRAME_BYTES_MAX], false);
    let mut frame = [0; FRAME_BUFFER_BYTES];
    assert_eq!(nic.receive(&mut frame), Some(FRAME_BYTES_MAX));
    assert_eq!(frame[..FRAME_BYTES_MAX], [3; FRAME_BYTES_MAX]);
    assert!(fake.0.borrow().rx_data.is_empty());
}

#[test]
fn a_frame_is_sent_with_its_commands_and_padding() {
    let (mut nic, fake) = started(|_| ());
    assert!(nic.can_send());
    nic.send(&[1, 2, 3, 4, 5]);
    assert_eq!(fake.0.borrow().tx, [(1 << 13) | (1 << 12) | 5, 5, 0x0403_0201, 0x0000_0005]);
}

#[test]
fn a_full_queue_refuses_and_statuses_are_drained() {
    let (mut nic, fake) = started(|chip| {
        chip.tx_free = FRAME_BUFFER_BYTES as u32 + TX_COMMAND_BYTES - 1;
        chip.tx_status = 3;
    });
    assert!(!nic.can_send());
    assert_eq!(fake.0.borrow().tx_status, 0);
}

#[test]
fn only_a_frame_after_listening_interrupts() {
    let (mut nic, fake) = started(|_| ());
    fake.0.borrow_mut().arrive(&[1; 60], false);
    let mut frame = [0; FRAME_BUFFER_BYTES];
    nic.receive(&mut frame);
    nic.listen();
    assert!(!fake.0.borrow().interrupts(), "the frame was taken already");
    fake.0.borrow_mut().arrive(&[1; 60], false);
    assert!(fake.0.borrow().interrupts());
    Lan9118::quiet(&fake);
    assert!(!fake.0.borrow().interrupts());
}

#[test]
fn the_link_is_that_of_the_phy() {
    let (nic, fake) = started(|_| ());
    assert!(nic.link_is_up());
    fake.0.borrow_mut().link_down = true;
    assert!(!nic.link_is_up());
}
