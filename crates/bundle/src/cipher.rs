//! AES-256-GCM with a nonce of twelve bytes and a tag behind the text: the `aes-gcm` crate, or AWS-LC where the feature
//! `aws-lc` is on. Both make the same bytes and pass the same tests; `docs/delivery-format.md` says what each costs.

use crate::{TAG, cipher::backend as it};

/// A key of the cipher. It is wiped when it goes.
pub(crate) struct Cipher(it::Key);

/// The cipher refused: beyond its limits when it seals, and what is not authentic when it opens.
pub(crate) struct Refused;

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(it::key(key))
    }

    /// Seals the text in its place, and puts its tag into the last [`TAG`] bytes.
    pub(crate) fn seal(&self, nonce: [u8; 12], data: &[u8], chunk: &mut [u8]) -> Result<(), Refused> {
        let length = chunk.len().checked_sub(TAG).ok_or(Refused)?;
        let (text, place) = chunk.split_at_mut(length);
        place.copy_from_slice(&it::seal(&self.0, nonce, data, text)?);
        Ok(())
    }

    /// Opens the text in its place. On an error there is nothing clear in it.
    pub(crate) fn open(&self, nonce: [u8; 12], data: &[u8], chunk: &mut [u8]) -> Result<(), Refused> {
        it::open(&self.0, nonce, data, chunk)
    }
}

#[cfg(not(feature = "aws-lc"))]
mod backend {
    use aes_gcm::{Aes256Gcm, KeyInit, Tag, aead::AeadInOut};

    use super::{Refused, TAG};

    pub(super) type Key = Aes256Gcm;

    pub(super) fn key(key: &[u8; 32]) -> Key {
        Aes256Gcm::new(key.into())
    }

    pub(super) fn seal(
        key: &Key,
        nonce: [u8; 12],
        data: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG], Refused> {
        key.encrypt_inout_detached(&nonce.into(), data, text.into()).map(Into::into).map_err(|_| Refused)
    }

    pub(super) fn open(key: &Key, nonce: [u8; 12], data: &[u8], chunk: &mut [u8]) -> Result<(), Refused> {
        let length = chunk.len().checked_sub(TAG).ok_or(Refused)?;
        let (text, tag) = chunk.split_at_mut(length);
        let tag = Tag::try_from(&*tag).map_err(|_| Refused)?;
        key.decrypt_inout_detached(&nonce.into(), data, text.into(), &tag).map_err(|_| Refused)
    }
}

#[cfg(feature = "aws-lc")]
mod backend {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    use super::{Refused, TAG};

    pub(super) type Key = LessSafeKey;

    pub(super) fn key(key: &[u8; 32]) -> Key {
        let Ok(key) = UnboundKey::new(&AES_256_GCM, key) else {
            unreachable!("the key of AES-256 has 32 bytes")
        };
        LessSafeKey::new(key)
    }

    pub(super) fn seal(
        key: &Key,
        nonce: [u8; 12],
        data: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG], Refused> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(data), text).map_err(|_| Refused)?;
        tag.as_ref().try_into().map_err(|_| Refused)
    }

    pub(super) fn open(key: &Key, nonce: [u8; 12], data: &[u8], chunk: &mut [u8]) -> Result<(), Refused> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.open_in_place(nonce, Aad::from(data), chunk).map(drop).map_err(|_| Refused)
    }
}
