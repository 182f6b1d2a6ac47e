//! What holds for any bytes whatever: run on made-up ones by the tests, and by the fuzzer for as long as one likes.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use protected_evidence::verify::{Check, Trust};
use serde_json::{Value, json};

use crate::vectors::{VECTORS, leaves, meaning};

static TRUST: LazyLock<Vec<Trust>> = LazyLock::new(|| VECTORS.iter().map(|it| it.trust()).collect());

/// A bundle that verifies is the one that was signed, and says what it said.
pub fn a_bundle(bytes: &[u8]) {
    for (vector, trust) in VECTORS.iter().zip(TRUST.iter()) {
        let made = made_of(bytes, vector.json);
        match vector.verify(&made, trust) {
            Ok(_) => {
                let made: Value = serde_json::from_slice(&made).expect("what verifies is JSON");
                assert_eq!(meaning(&made), meaning(&vector.value()), "{}", vector.name);
            }
            Err(refused) => {
                assert!(made != vector.json.as_bytes(), "{}: {refused}", vector.name);
                assert!(std::str::from_utf8(&made).is_ok() || refused.check == Check::Format, "{refused}");
            }
        }
    }
}

/// Makes something of `bytes`: themselves, `good` with some of its text changed, or with one of its parts changed.
///
/// What is nearly right comes further than what is made up.
fn made_of(bytes: &[u8], good: &str) -> Vec<u8> {
    let Some((&kind, rest)) = bytes.split_first() else { return Vec::new() };
    match (kind % 8, rest) {
        (0, made_up) => made_up.to_vec(),
        (1, changes) => changed(good.as_bytes(), changes),
        (_, [low, high, changes @ ..]) => {
            with_a_part_changed(good, usize::from(u16::from_le_bytes([*low, *high])), changes)
        }
        _ => good.as_bytes().to_vec(),
    }
}

/// Changes what base64 stands for, or else the text.
fn with_a_part_changed(good: &str, which: usize, changes: &[u8]) -> Vec<u8> {
    let mut bundle: Value = serde_json::from_str(good).expect("JSON");
    let mut pointers = Vec::new();
    leaves(&bundle, String::new(), &mut pointers);
    let leaf = bundle.pointer_mut(&pointers[which % pointers.len()]).expect("leaf");
    let text = leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned);
    *leaf = match STANDARD.decode(&text) {
        Ok(bytes) if text.len() >= 16 => json!(STANDARD.encode(changed(&bytes, changes))),
        _ => json!(String::from_utf8_lossy(&changed(text.as_bytes(), changes))),
    };
    bundle.to_string().into_bytes()
}

fn changed(good: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut made = good.to_vec();
    for change in changes.chunks_exact(4) {
        let [low, high, how, value] = change else { continue };
        let at = usize::from(u16::from_le_bytes([*low, *high])) % (made.len() + 1);
        match how % 4 {
            _ if at == made.len() => made.push(*value),
            0 => made[at] ^= value,
            1 => made.insert(at, *value),
            2 => drop(made.remove(at)),
            _ => made.truncate(at),
        }
    }
    made
}
