//! The client of the control plane: one method for each endpoint, one error for all of them.

mod client;
mod error;

pub use client::{AuditQuery, EvidenceQuery, FractalOps};
pub use error::{FractalOpsError, Oddity};
