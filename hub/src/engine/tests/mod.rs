//! The engine against a writer and devices on a virtual clock.
