//! How our numbers lie in columns of 64 signed bits: the same bits, so that nothing is ever out of range.

/// For a column.
pub(super) fn integer(value: u64) -> i64 {
    value.cast_signed()
}

/// From a column.
pub(super) fn number(value: i64) -> u64 {
    value.cast_unsigned()
}
