//! Fuzz targets of the bundle crate. What they check stands in `checks.rs`, which the tests run as well.

pub mod checks;
#[path = "../tests/bundle/sample.rs"]
mod sample;
