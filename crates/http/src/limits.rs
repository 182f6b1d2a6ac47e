//! How long and how much, where nothing else is said.

use std::time::Duration;

/// How long a connection may take to be made, all addresses of the host and TLS included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one attempt may take when nothing else is said.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);
/// How much of an answer is read when nothing else is said: without a cap, a server could fill our memory.
pub(crate) const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// How many redirects are followed, where any are.
pub(crate) const MAX_REDIRECTS: usize = 5;
