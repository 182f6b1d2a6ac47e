//! Checkpoints: what a log says that it holds, as a signed note (transparency.dev's `checkpoint` format).

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{error::AuthorityError, merkle::Hash};
use crate::x509::{Key, PublicKey};

/// How many bytes of a key's id stand before its signature.
const HINT_BYTES: usize = 4;

/// The size of a log and the root of its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) root: Hash,
}

impl Head {
    fn note(&self, origin: &str) -> String {
        format!("{origin}\n{}\n{}\n", self.size, STANDARD.encode(self.root))
    }

    /// Signs it: the note, an empty line, and one signature line.
    pub(super) fn sign(&self, origin: &str, key: &Key) -> Result<String, AuthorityError> {
        let note = self.note(origin);
        let signature = key.sign(note.as_bytes())?;
        let hint = &key.public().id().as_bytes()[..HINT_BYTES].to_vec();
        let line = STANDARD.encode([hint.as_slice(), signature.as_slice()].concat());
        Ok(format!("{note}\n\u{2014} {origin} {line}\n"))
    }

    /// Returns which of `keys` signed a checkpoint of exactly this head and origin.
    pub(super) fn signer<'a>(
        &self,
        origin: &str,
        signed: &str,
        keys: &'a [PublicKey],
    ) -> Option<&'a PublicKey> {
        let note = self.note(origin);
        let line = signed.strip_prefix(&note)?.strip_prefix("\n\u{2014} ")?.strip_prefix(origin)?;
        let bytes = STANDARD.decode(line.strip_prefix(' ')?.strip_suffix('\n')?).ok()?;
        let (hint, signature) = bytes.split_at_checked(HINT_BYTES)?;
        keys.iter()
            .find(|key| key.id().as_bytes().starts_with(hint) && key.verifies(note.as_bytes(), signature))
    }
}

#[cfg(test)]
mod tests {
    use sigstore_types::Checkpoint;

    use super::*;

    #[test]
    fn is_read_by_others_and_bound_to_all_it_says() {
        let (key, other) = (Key::generate().expect("key"), Key::generate().expect("key"));
        let head = Head { size: 7, root: [9; 32] };
        let signed = head.sign("log.example/sigstore", &key).expect("signed");
        let read = Checkpoint::from_text(&signed).expect("a checkpoint");
        assert_eq!((read.origin(), read.tree_size()), ("log.example/sigstore", 7));
        assert_eq!(read.root_hash().as_bytes(), &[9; 32]);
        assert_eq!(read.signatures()[0].key_id.as_bytes(), &key.public().id().as_bytes()[..4]);

        let keys = [other.public().clone(), key.public().clone()];
        assert!(head.signer("log.example/sigstore", &signed, &keys) == Some(&keys[1]));
        assert!(head.signer("log.example/sigstore", &signed, &keys[..1]).is_none());
        assert!(head.signer("log.example/other", &signed, &keys).is_none());
        assert!(Head { size: 8, ..head }.signer("log.example/sigstore", &signed, &keys).is_none());
        assert!(Head { root: [8; 32], ..head }.signer("log.example/sigstore", &signed, &keys).is_none());
        for cut in 0..signed.len() {
            let Some(part) = signed.get(..cut) else { continue };
            assert!(head.signer("log.example/sigstore", part, &keys).is_none(), "{part}");
        }
    }
}
