//! Pins and buses of a board for functions: the handles of its table over the drivers of its chip. A handle that the table does
//! not have is not there, whatever the chip could do with it.

use agent_nostd::shell::port::{Output, PeripheralError, Peripherals};
use drivers::pins::AnalogInput;
use embedded_hal::digital::{InputPin, OutputPin, StatefulOutputPin};
use embedded_hal::i2c::{I2c, Operation};
use embedded_hal::pwm::SetDutyCycle;
use wire::record::CapabilitySet;

/// What a handle is, and for an output where it rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Input,
    Output { safe: bool },
    Analog,
    Pwm { safe: u16 },
    I2c,
}

/// One row of the board's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    pub handle: u16,
    pub kind: Kind,
    /// As the chip counts those of this kind.
    pub line: u8,
}

/// Where the drivers come from. `None`: the chip has no such line. What it has none of is `drivers::pins::NoPin`.
pub trait Chip {
    type Input<'a>: InputPin
    where
        Self: 'a;
    type Output<'a>: StatefulOutputPin
    where
        Self: 'a;
    type Analog<'a>: AnalogInput
    where
        Self: 'a;
    type Pwm<'a>: SetDutyCycle
    where
        Self: 'a;
    type I2c<'a>: I2c
    where
        Self: 'a;

    fn input(&mut self, line: u8) -> Option<Self::Input<'_>>;
    fn output(&mut self, line: u8) -> Option<Self::Output<'_>>;
    fn analog(&mut self, line: u8) -> Option<Self::Analog<'_>>;
    fn pwm(&mut self, line: u8) -> Option<Self::Pwm<'_>>;
    fn i2c(&mut self, line: u8) -> Option<Self::I2c<'_>>;
}

/// The table and the chip.
#[derive(Debug)]
pub struct Pins<C> {
    pub chip: C,
    pub table: &'static [Pin],
}

/// Every output into its safe state, with a chip that is made for this.
pub fn rest<C: Chip>(chip: C, table: &'static [Pin]) {
    Pins { chip, table }.rest();
}

type Answer<T> = Result<T, PeripheralError>;

fn there<T>(driver: Option<T>) -> Answer<T> {
    driver.ok_or(PeripheralError::NoHandle)
}

fn worked<T, E>(result: Result<T, E>) -> Answer<T> {
    result.map_err(|_| PeripheralError::Hardware)
}

impl<C: Chip> Pins<C> {
    fn pin(&self, handle: u16) -> Answer<Pin> {
        there(self.table.iter().find(|pin| pin.handle == handle).copied())
    }

    fn set(&mut self, line: u8, is_high: bool) -> Answer<()> {
        let mut pin = there(self.chip.output(line))?;
        worked(if is_high { pin.set_high() } else { pin.set_low() })
    }

    /// A chip may count in other steps.
    fn set_duty(&mut self, line: u8, duty: u16) -> Answer<()> {
        worked(there(self.chip.pwm(line))?.set_duty_cycle_fraction(duty, u16::MAX))
    }

    fn rest_pin(&mut self, pin: Pin) {
        let result = match pin.kind {
            Kind::Output { safe } => self.set(pin.line, safe),
            Kind::Pwm { safe } => self.set_duty(pin.line, safe),
            Kind::Input | Kind::Analog | Kind::I2c => Ok(()),
        };
        if let Err(error) = result {
            drivers::log!("output {} does not go to its safe state: {error:?}", pin.handle);
        }
    }
}

impl<C: Chip> Peripherals for Pins<C> {
    fn gpio_read(&mut self, handle: u16) -> Answer<bool> {
        let pin = self.pin(handle)?;
        match pin.kind {
            Kind::Input => worked(there(self.chip.input(pin.line))?.is_high()),
            Kind::Output { .. } => worked(there(self.chip.output(pin.line))?.is_set_high()),
            Kind::Analog | Kind::Pwm { .. } | Kind::I2c => Err(PeripheralError::NoHandle),
        }
    }

    fn gpio_write(&mut self, handle: u16, is_high: bool) -> Answer<()> {
        match self.pin(handle)? {
            Pin { kind: Kind::Output { .. }, line, .. } => self.set(line, is_high),
            _ => Err(PeripheralError::NoHandle),
        }
    }

    fn adc_read(&mut self, handle: u16) -> Answer<u16> {
        match self.pin(handle)? {
            Pin { kind: Kind::Analog, line, .. } => worked(there(self.chip.analog(line))?.read()),
            _ => Err(PeripheralError::NoHandle),
        }
    }

    fn pwm_set(&mut self, handle: u16, duty: u16) -> Answer<()> {
        match self.pin(handle)? {
            Pin { kind: Kind::Pwm { .. }, line, .. } => self.set_duty(line, duty),
            _ => Err(PeripheralError::NoHandle),
        }
    }

    fn i2c_transfer(&mut self, handle: u16, address: u8, out: &[u8], into: &mut [u8]) -> Answer<()> {
        let Pin { kind: Kind::I2c, line, .. } = self.pin(handle)? else { return Err(PeripheralError::NoHandle) };
        let mut bus = there(self.chip.i2c(line))?;
        worked(match (out.is_empty(), into.is_empty()) {
            (false, false) => bus.write_read(address, out, into),
            (true, false) => bus.read(address, into),
            // Also of nothing: whether somebody is there.
            (_, true) => bus.transaction(address, &mut [Operation::Write(out)]),
        })
    }

    fn interfaces(&self) -> CapabilitySet {
        let interface = |pin: &Pin| match pin.kind {
            Kind::Input | Kind::Output { .. } => CapabilitySet::GPIO,
            Kind::Analog => CapabilitySet::ADC,
            Kind::Pwm { .. } => CapabilitySet::PWM,
            Kind::I2c => CapabilitySet::I2C,
        };
        self.table.iter().map(interface).fold(CapabilitySet::default(), CapabilitySet::union)
    }

    fn release(&mut self, output: Output) {
        let (Output::Gpio(handle) | Output::Pwm(handle)) = output;
        if let Ok(pin) = self.pin(handle) {
            self.rest_pin(pin);
        }
    }

    fn rest(&mut self) {
        for pin in self.table {
            self.rest_pin(*pin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::convert::Infallible;
    use drivers::pins::NoPin;
    use embedded_hal::i2c::ErrorKind;
    use embedded_hal::{digital, i2c, pwm};

    const TABLE: [Pin; 5] = [
        Pin { handle: 0, kind: Kind::Output { safe: true }, line: 0 },
        Pin { handle: 1, kind: Kind::Output { safe: false }, line: 1 },
        Pin { handle: 9, kind: Kind::Pwm { safe: 0x8000 }, line: 0 },
        Pin { handle: 12, kind: Kind::I2c, line: 0 },
        Pin { handle: 13, kind: Kind::Output { safe: false }, line: 2 },
    ];

    /// Two outputs, one duty in steps of a hundredth, a bus with one device. The last output of the table is not there.
    #[derive(Default)]
    struct Fake {
        levels: [bool; 2],
        percent: u16,
    }

    struct Level<'a>(&'a mut bool);

    impl digital::ErrorType for Level<'_> {
        type Error = Infallible;
    }

    impl OutputPin for Level<'_> {
        fn set_low(&mut self) -> Result<(), Infallible> {
            *self.0 = false;
            Ok(())
        }

        fn set_high(&mut self) -> Result<(), Infallible> {
            *self.0 = true;
            Ok(())
        }
    }

    impl StatefulOutputPin for Level<'_> {
        fn is_set_high(&mut self) -> Result<bool, Infallible> {
            Ok(*self.0)
        }

        fn is_set_low(&mut self) -> Result<bool, Infallible> {
            Ok(!*self.0)
        }
    }

    struct Percent<'a>(&'a mut u16);

    impl pwm::ErrorType for Percent<'_> {
        type Error = Infallible;
    }

    impl SetDutyCycle for Percent<'_> {
        fn max_duty_cycle(&self) -> u16 {
            100
        }

        fn set_duty_cycle(&mut self, duty: u16) -> Result<(), Infallible> {
            *self.0 = duty;
            Ok(())
        }
    }

    struct Bus;

    impl i2c::ErrorType for Bus {
        type Error = ErrorKind;
    }

    impl I2c for Bus {
        fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
            for operation in operations {
                if let Operation::Read(bytes) = operation {
                    bytes.fill(address);
                }
            }
            if address == 0x48 { Ok(()) } else { Err(ErrorKind::Other) }
        }
    }

    impl Chip for Fake {
        type Input<'a> = NoPin;
        type Output<'a> = Level<'a>;
        type Analog<'a> = NoPin;
        type Pwm<'a> = Percent<'a>;
        type I2c<'a> = Bus;

        fn input(&mut self, _: u8) -> Option<NoPin> {
            None
        }

        fn output(&mut self, line: u8) -> Option<Level<'_>> {
            self.levels.get_mut(usize::from(line)).map(Level)
        }

        fn analog(&mut self, _: u8) -> Option<NoPin> {
            None
        }

        fn pwm(&mut self, _: u8) -> Option<Percent<'_>> {
            Some(Percent(&mut self.percent))
        }

        fn i2c(&mut self, _: u8) -> Option<Bus> {
            Some(Bus)
        }
    }

    fn pins() -> Pins<Fake> {
        Pins { chip: Fake::default(), table: &TABLE }
    }

    #[test]
    fn every_output_rests_where_the_table_says() {
        let mut pins = pins();
        pins.rest();
        assert_eq!((pins.chip.levels, pins.chip.percent), ([true, false], 50));
        assert_eq!(pins.gpio_write(0, false), Ok(()));
        assert_eq!(pins.gpio_write(1, true), Ok(()));
        assert_eq!(pins.pwm_set(9, u16::MAX), Ok(()));
        assert_eq!((pins.chip.levels, pins.chip.percent), ([false, true], 100));
        pins.release(Output::Gpio(0));
        assert_eq!((pins.chip.levels, pins.chip.percent), ([true, true], 100));
        pins.release(Output::Pwm(9));
        pins.release(Output::Gpio(1));
        assert_eq!((pins.chip.levels, pins.chip.percent), ([true, false], 50));
    }

    #[test]
    fn a_handle_is_good_for_its_own_kind_alone() {
        let mut pins = pins();
        let absent = PeripheralError::NoHandle;
        assert_eq!((pins.gpio_read(0), pins.gpio_read(1)), (Ok(false), Ok(false)));
        assert_eq!((pins.gpio_read(9), pins.gpio_write(9, true)), (Err(absent), Err(absent)));
        assert_eq!((pins.adc_read(0), pins.pwm_set(0, 1), pins.gpio_read(2)), (Err(absent), Err(absent), Err(absent)));
        assert_eq!(pins.gpio_write(13, true), Err(absent), "in the table, and not on the chip");
        assert_eq!(pins.i2c_transfer(0, 0x48, &[1], &mut []), Err(absent));
    }

    #[test]
    fn a_transfer_reaches_its_device_or_fails() {
        let mut pins = pins();
        let mut into = [0; 2];
        assert_eq!(pins.i2c_transfer(12, 0x48, &[1], &mut into), Ok(()));
        assert_eq!(into, [0x48; 2]);
        assert_eq!(pins.i2c_transfer(12, 0x48, &[], &mut into), Ok(()));
        assert_eq!(pins.i2c_transfer(12, 0x48, &[], &mut []), Ok(()));
        assert_eq!(pins.i2c_transfer(12, 0x49, &[], &mut []), Err(PeripheralError::Hardware));
    }

    #[test]
    fn the_interfaces_are_those_of_the_table() {
        let expected = CapabilitySet::GPIO.union(CapabilitySet::PWM).union(CapabilitySet::I2C);
        assert_eq!(pins().interfaces(), expected);
    }
}
