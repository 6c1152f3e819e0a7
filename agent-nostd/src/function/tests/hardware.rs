//! Pins and buses as a function has them: what reaches the host, and what is refused before it.

use super::super::abi::{ERR_BOUNDS, ERR_INVALID, ERR_NOT_FOUND, ERR_TOO_LONG, ERR_UNKNOWN};
use super::super::limits::I2C_BYTES_MAX;
use super::super::{Capabilities, Limits, LoadError, Module};
use super::common::{Probe, World, module};
use alloc::format;

fn probe(name: &str, params: usize) -> Probe {
    let mut probe = Probe::new(name, params);
    probe.world.pins = [(0, 0), (7, 0x1234)].into();
    probe
}

#[test]
fn a_level_a_value_and_a_duty_reach_the_handle_that_was_named() {
    let mut write = probe("gpio_write", 2);
    assert_eq!(write.call(&[7, 1]), 0);
    assert_eq!(write.world.pins[&7], 1);
    assert_eq!(write.call(&[7, 0]), 0);
    assert_eq!(write.world.pins[&7], 0);
    let mut read = probe("gpio_read", 1);
    assert_eq!((read.call(&[0]), read.call(&[7])), (0, 1));
    assert_eq!(probe("adc_read", 1).call(&[7]), 0x1234);
    let mut set = probe("pwm_set", 2);
    assert_eq!((set.call(&[0, 65_535]), set.world.pins[&0]), (0, 65_535));
}

#[test]
fn what_no_pin_can_be_told_is_refused_and_changes_nothing() {
    for (name, args, code) in [
        ("gpio_write", [7, 2], ERR_INVALID),
        ("gpio_write", [7, -1], ERR_INVALID),
        ("gpio_write", [8, 1], ERR_NOT_FOUND),
        ("gpio_write", [0x1_0007, 1], ERR_NOT_FOUND),
        ("gpio_write", [-1, 1], ERR_NOT_FOUND),
        ("pwm_set", [7, 65_536], ERR_INVALID),
        ("pwm_set", [7, -1], ERR_INVALID),
        ("pwm_set", [8, 1], ERR_NOT_FOUND),
    ] {
        let mut probe = probe(name, 2);
        assert_eq!(probe.call(&args), code, "{name} {args:?}");
        assert_eq!(probe.world.pins, [(0, 0), (7, 0x1234)].into(), "{name} {args:?}");
    }
}

#[test]
fn hardware_that_does_not_answer_is_an_error_and_no_trap() {
    for (name, params) in [("gpio_read", 1), ("gpio_write", 2), ("adc_read", 1), ("pwm_set", 2), ("i2c_write_read", 6)]
    {
        let mut probe = probe(name, params);
        probe.world.is_broken = true;
        assert_eq!(probe.call(&[7, 1, 0, 1, 16, 1]), ERR_UNKNOWN, "{name}");
    }
}

#[test]
fn a_transfer_writes_then_reads_and_both_may_overlap() {
    let mut probe = probe("i2c_write_read", 6);
    assert_eq!(probe.call(&[0, 0x48, 0, 7, 0, 3]), 3);
    assert_eq!(probe.call(&[0, 0x48, 0, 3, 0, 0]), 0);
    let expected = [(0, 0x48, b"keyword".to_vec()), (0, 0x48, [1, 2, 3].to_vec())];
    assert_eq!(probe.world.transfers, expected);
}

#[test]
fn a_transfer_is_bounded_and_lies_inside_of_the_memory() {
    let most = i32::try_from(I2C_BYTES_MAX).unwrap();
    for (args, code) in [
        ([0, 0x48, 0, most, 512, most], most),
        ([0, 0x48, 0, most + 1, 512, 1], ERR_TOO_LONG),
        ([0, 0x48, 0, 1, 512, most + 1], ERR_TOO_LONG),
        ([0, 0x48, 65_536, 1, 0, 1], ERR_BOUNDS),
        ([0, 0x48, 0, 1, 65_536, 1], ERR_BOUNDS),
        ([0, 0x80, 0, 1, 16, 1], ERR_INVALID),
        ([0, -1, 0, 1, 16, 1], ERR_INVALID),
        ([9, 0x48, 0, 1, 16, 1], ERR_NOT_FOUND),
    ] {
        let mut probe = probe("i2c_write_read", 6);
        assert_eq!(probe.call(&args), code, "{args:?}");
        assert_eq!(probe.world.transfers.len(), usize::from(code == most), "{args:?}");
    }
}

#[test]
fn a_device_without_pins_says_so() {
    let mut probe = Probe::new("gpio_read", 1);
    probe.world = World::default();
    assert_eq!(probe.call(&[0]), ERR_NOT_FOUND);
}

#[test]
fn each_interface_is_granted_by_itself() {
    for (name, params, needs) in [
        ("gpio_read", 1, Capabilities::GPIO),
        ("gpio_write", 2, Capabilities::GPIO),
        ("adc_read", 1, Capabilities::ADC),
        ("pwm_set", 2, Capabilities::PWM),
        ("i2c_write_read", 6, Capabilities::I2C),
    ] {
        let bytes = module(&format!(
            "(import \"fulmar\" \"{name}\" (func {} (result i32)))
             (memory (export \"memory\") 1) (func (export \"fulmar_timer\"))",
            "(param i32) ".repeat(params)
        ));
        let all = Capabilities::GPIO | Capabilities::ADC | Capabilities::PWM | Capabilities::I2C;
        let others = Capabilities::from_bits(all.bits() & !needs.bits()) | Capabilities::DEFAULT;
        assert!(Module::load(&bytes, &Limits::LINUX, needs).is_ok(), "{name}");
        let refused = Module::load(&bytes, &Limits::LINUX, others);
        assert!(matches!(refused, Err(LoadError::CapabilityMissing { needs: of, .. }) if of == needs), "{name}");
    }
}
