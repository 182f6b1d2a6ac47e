//! Fuzz targets of the evidence crate. What they check stands in `checks.rs`, which the tests run as well.

pub mod checks;
#[path = "../tests/bundles/vectors.rs"]
mod vectors;
