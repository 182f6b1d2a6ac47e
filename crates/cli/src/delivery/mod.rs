//! Deliveries: what goes into one, where it lies, and how it is sealed. The commands say when.

mod contents;
mod place;
mod seal;
mod sign;
pub(crate) mod storage;

pub(crate) use contents::{Contents, Stoppable, Wanted, collect, digest};
pub(crate) use place::{
    Found, MANIFEST, at, broken, check_content, contradiction, find, is_manifest, open, read_manifest,
    save_manifest,
};
pub(crate) use seal::{Order, manifest, seal, threads, wrapped_data_key};
pub(crate) use sign::{Judged, check_own, is_signed, judge, keys_statement, sign, signed, statement};
