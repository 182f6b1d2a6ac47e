//! Signs in-toto statements: one key and one certificate for all statements of a run.
//!
//! A [`Signer`] is made before there is anything to sign, so that its certificate is asked for while the package is
//! built. Signing then costs one round trip however many statements there are: each is logged and timestamped at the
//! same time. What comes back is a Sigstore bundle v0.3, verified before it leaves.
//!
//! The requests go through `protected_http` and not through the clients of the `sigstore-*` crates, which read
//! answers of any size, follow redirects with the token in the body, and repeat a server's words unseen. The formats
//! and the cryptography are those of the crates.

mod authority;
mod error;
mod log;
mod session;
mod timestamp;

pub use authority::{Services, TransparencyLog};
pub use error::{Service, SignError};
pub use log::LogVersion;
pub use session::{KeyFailure, Signed, SignedLog, Signer, StatementKey, StatementToSign};
