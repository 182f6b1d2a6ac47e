//! The client of the control plane: one method for each endpoint, one error for all of them.

mod client;
mod error;

pub use client::{AuditQuery, FractalOps};
pub use error::{FractalOpsError, Oddity};
