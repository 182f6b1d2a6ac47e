//! The sealed container: bytes in, bytes out. With it the [archive] of a delivery, and the OCI [layout] round it.
//!
//! The format is C2SP chunked encryption in its 256 bit form, "Cobblestone-256": AES-256-GCM over chunks of 16 KiB,
//! keys by HKDF-Expand over SHA-512, and a commitment to the key in the header. It is none of our own, so that a
//! customer can open a bundle with other people's tools.
//!
//! ```text
//! salt (24) | key commitment (32) | chunk 0 + tag (16 400) | chunk 1 + tag | ... | last chunk (0 to 16 383) + tag (16)
//! ```
//!
//! The last chunk is always shorter than the others, so that a cut is seen wherever it is made. Memory holds one
//! chunk, whatever the size; where several cores work on what is large, a mebibyte for each of them and for three more.

pub mod archive;
mod cipher;
mod key;
pub mod layout;
mod open;
mod parallel;
mod seal;
mod seek;
pub mod staging;

pub use key::{DataKey, KeyLength};
pub use open::{OpenError, Opener, open};
pub use parallel::{ParallelOpener, ParallelSealer, Whole};
pub use seal::{SealError, Sealer, seal};
pub use seek::SeekOpener;

/// How many bytes of plain text a chunk holds; the last one holds fewer.
pub const CHUNK: usize = 16 * 1024;

/// How many bytes a chunk grows by.
pub const TAG: usize = 16;

/// How many bytes stand before the first chunk.
pub const HEADER: usize = SALT + COMMITMENT;

const SALT: usize = 24;
const COMMITMENT: usize = 32;

/// Returns how long `plain` bytes are when they are sealed, or nothing where that is no number of 64 bits.
pub fn sealed_size(plain: u64) -> Option<u64> {
    let chunks = plain / CHUNK as u64 + 1;
    plain.checked_add(chunks.checked_mul(TAG as u64)?)?.checked_add(HEADER as u64)
}
