//! The format once more, as its specification has it, with a salt that the test chooses: for what an attacker who has
//! the key would forge, and for answers that are known.

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead as _, KeyInit as _},
};
use hmac::{Hmac, Mac as _};
use protected_bundle::CHUNK;
use sha2::Sha512;

pub(crate) struct Reference {
    salt: [u8; 24],
    pub(crate) key: [u8; 32],
    base_nonce: [u8; 12],
    pub(crate) commitment: [u8; 32],
}

impl Reference {
    pub(crate) fn new(key: &[u8; 32], salt: &[u8; 24], context: &[u8]) -> Self {
        let label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM".as_slice();
        let info = [label, &[0], salt, context].concat();
        let block = |input: &[u8]| {
            let mac = <Hmac<Sha512> as hmac::KeyInit>::new_from_slice(key).expect("key");
            mac.chain_update(input).finalize().into_bytes().to_vec()
        };
        let first = block(&[&info[..], &[1]].concat());
        let second = block(&[&first[..], &info, &[2]].concat());
        let expanded = [first, second].concat();
        let part = |range: std::ops::Range<usize>| expanded[range].to_vec();
        Self {
            salt: *salt,
            key: part(0..32).try_into().expect("32 bytes"),
            base_nonce: part(32..44).try_into().expect("12 bytes"),
            commitment: part(44..76).try_into().expect("32 bytes"),
        }
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        [&self.salt[..], &self.commitment].concat()
    }

    pub(crate) fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new_from_slice(&self.key).expect("key")
    }

    pub(crate) fn nonce(&self, number: u64) -> [u8; 12] {
        let mut counter = [0; 12];
        counter[4..].copy_from_slice(&number.to_be_bytes());
        std::array::from_fn(|at| self.base_nonce[at] ^ counter[at])
    }

    pub(crate) fn chunk(&self, number: u64, plain: &[u8]) -> Vec<u8> {
        self.cipher().encrypt(&Nonce::from(self.nonce(number)), plain).expect("seal")
    }

    /// A message of these chunks, whatever their lengths.
    pub(crate) fn of_chunks(&self, chunks: &[&[u8]]) -> Vec<u8> {
        let mut sealed = self.header();
        (0..).zip(chunks).for_each(|(number, chunk)| sealed.extend(self.chunk(number, chunk)));
        sealed
    }

    pub(crate) fn whole(&self, plain: &[u8]) -> Vec<u8> {
        let mut chunks: Vec<&[u8]> = plain.chunks(CHUNK).collect();
        if plain.len().is_multiple_of(CHUNK) {
            chunks.push(&[]);
        }
        self.of_chunks(&chunks)
    }
}
