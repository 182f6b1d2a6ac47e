//! Fuzz targets of the bundle crate. What they check stands in `checks.rs`, which the tests run as well.

pub mod checks;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/bundle/sample.rs"]
mod sample;
