//! Deliveries: what goes into one, where it lies, and how it is sealed. The commands say when.

mod contents;
mod place;
mod seal;

pub(crate) use contents::{Contents, Stoppable, Wanted, collect};
pub(crate) use place::{BUNDLE, BUNDLE_TAR, MANIFEST, broken, contradiction, find, open, read_manifest};
pub(crate) use seal::{Order, seal, threads};
