//! The imports where there is no host: in unit tests of the parts that need none.
//!
//! Every call answers that nothing is known. It must never grow into a second host: the real one is tested with the modules.

/// `ERR_UNKNOWN` of the ABI.
const ERR_UNKNOWN: i32 = -1;

/// Ends the test.
pub(crate) fn abort() -> ! {
    #[allow(clippy::panic)]
    {
        panic!("the function would trap here");
    }
}

pub(crate) fn log(_level: i32, _text: &[u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn emit(_topic: &[u8], _payload: &[u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn input_len() -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn input_read(_offset: usize, _out: &mut [u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn input_topic_len() -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn input_topic_read(_offset: usize, _out: &mut [u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn config_len() -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn config_read(_offset: usize, _out: &mut [u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn state_get(_key: &[u8], _out: &mut [u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn state_set(_key: &[u8], _value: &[u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn state_delete(_key: &[u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn time_monotonic_us() -> i64 {
    i64::from(ERR_UNKNOWN)
}

pub(crate) fn time_wall_ms() -> i64 {
    i64::from(ERR_UNKNOWN)
}

pub(crate) fn random(_out: &mut [u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn fence() -> i64 {
    0
}

pub(crate) fn freshness() -> i64 {
    i64::from(ERR_UNKNOWN)
}

pub(crate) fn degraded() -> i32 {
    0
}

pub(crate) fn alarm(_key: &[u8], _text: &[u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn report(_key: &[u8], _text: &[u8]) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn measure(_key: &[u8], _value: i64, _scale: i32) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn gpio_read(_handle: u16) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn gpio_write(_handle: u16, _level: i32) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn adc_read(_handle: u16) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn pwm_set(_handle: u16, _duty: u16) -> i32 {
    ERR_UNKNOWN
}

pub(crate) fn i2c_write_read(_handle: u16, _address: u8, _out: &[u8], _into: &mut [u8]) -> i32 {
    ERR_UNKNOWN
}
