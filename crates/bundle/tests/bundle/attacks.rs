//! What an attacker does to a sealed message, to the documents round it and to what is opened.
//!
//! Each group of attacks, and the tests that repeat it. They expect a typed error, nothing at the place that was
//! asked for, and no byte but those of chunks that were authentic. `model` is `crates/model/src`, `keys` is
//! `crates/keys`, the rest is here.
//!
//! | | attack | tests |
//! |---|---|---|
//! | 1 | flipped bits | `every_bit_counts`, `message::refuses_every_flipped_bit_of_the_header_and_of_a_short_message` |
//! | 2 | cuts | `message::refuses_every_cut`, `made_up::a_changed_message_is_refused` |
//! | 3 | something added | `message::refuses_what_was_added_moved_doubled_or_taken_from_another`, `a_chunk_behind_the_last_is_refused_although_it_was_sealed` |
//! | 4 | chunks moved, doubled, dropped, of another message | `message::refuses_what_was_added_moved_doubled_or_taken_from_another` |
//! | 5 | a last chunk that is full | `a_full_chunk_is_never_the_last` |
//! | 6 | one text under two keys | `one_bundle_is_not_two_under_two_keys` |
//! | 7 | another key | `no_other_key_opens`, `src/key.rs`: `a_key_has_32_bytes_and_is_not_printed` |
//! | 8 | another suite, media types swapped | `model/delivery.rs`: `a_descriptor_in_any_other_writing_is_refused`; `delivery::a_manifest_that_says_anything_else_is_refused` |
//! | 9 | another descriptor, other writings of it | `delivery::a_descriptor_is_not_swapped`, `model/delivery.rs`: `a_descriptor_in_any_other_writing_is_refused`, `made_up::a_descriptor`, `made_up::a_delivery_in_a_tar_file` |
//! | 10 | other keys documents | `delivery::the_keys_of_another_bundle_are_refused`, `delivery::a_manifest_that_says_anything_else_is_refused`, `model/delivery.rs`: `keys_belong_to_their_descriptor`, `made_up::a_keys_document`, `signatures::one_that_is_of_something_else_is_refused`. An older one of the same bundle, with its older signature, wraps the same data key: the key service says whether it still unwraps it |
//! | 11 | signed one, served another | `delivery::the_content_is_the_one_of_its_manifest`, `delivery::a_layout_that_was_changed_is_refused`, `signatures::one_that_is_of_something_else_is_refused`, `signatures::there_are_two_at_most_and_each_is_small`; who signed and what, `tests/end_to_end/delivery_signing.rs` |
//! | 12 | a key in a document | `model/delivery.rs`: `a_manifest_agrees_with_itself_and_holds_no_key`, `keys_belong_to_their_descriptor`, `a_descriptor_in_any_other_writing_is_refused`; `model/key_ref.rs` |
//! | 13 to 15 | key references | `model/key_ref.rs`: `refuses_whatever_is_a_little_different`; `made_up::a_key_reference` |
//! | 16 to 18 | addresses, answers and grants of key services | `keys` |
//! | 19 | a key that leaks | `src/key.rs`: `a_key_has_32_bytes_and_is_not_printed`; `delivery::a_delivery_is_written_read_and_mailed_as_one_file`; `crash::what_is_killed_leaves_nothing_half` |
//! | 20 | nonces and random numbers | `message::no_two_messages_are_alike`, `no_two_processes_and_no_two_keys_are_alike`, `src/seal.rs`: `nothing_starts_without_random_numbers`, `a_writer_that_fails_once_never_gets_clear_text`, `what_failed_once_is_not_written_to_again` |
//! | 21 | archives that write elsewhere | `delivery::every_name_that_may_be_is_extracted`, `delivery::an_archive_that_is_anything_else_is_refused_and_leaves_nothing`, `delivery::nothing_that_is_there_is_written_over`, `model/delivery.rs`: `paths_are_the_same_file_everywhere`, `made_up::an_archive`, `made_up::a_path` |
//! | 22 | bombs | `delivery::an_archive_that_is_anything_else_is_refused_and_leaves_nothing`, `delivery::the_largest_document_has_eight_mebibytes`, `model/delivery.rs`: `a_descriptor_in_any_other_writing_is_refused` |
//! | 23 | reading from the middle | `message::reads_from_any_place`, `a_message_of_64_gibibytes_is_read_from_any_place` |
//! | 24 | memory, a full disk, `kill -9` | `tests/memory.rs`, `crash::*`, `message::a_writer_that_fails_is_named_wherever_it_does`; `cargo xtask bench deliver` |
//! | 25 | OCI | `delivery::a_manifest_that_says_anything_else_is_refused`, `delivery::a_layout_that_was_changed_is_refused`, `delivery::the_keys_of_another_bundle_are_refused` |

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufWriter, Cursor, Read, Seek, SeekFrom, Write},
    process::Command,
    sync::{Arc, Mutex},
};

use aes_gcm::{
    Nonce,
    aead::Aead as _,
    aes::{
        Aes256,
        cipher::{BlockCipherEncrypt as _, KeyInit as _},
    },
};
use protected_bundle::{
    CHUNK, DataKey, HEADER, OpenError, Opener, ParallelSealer, Sealer, SeekOpener, TAG, open, seal,
    sealed_size,
};
use sha2::Digest as _;

use crate::{
    message::{key, opened, pattern, refused, sealed},
    reference::Reference,
};

const SALT: [u8; 24] = *b"0123456789abcdefghijklmn";

fn reference(key: u8) -> Reference {
    Reference::new(&[key; 32], &SALT, b"context")
}

/// Sizes at the edges, and the SHA-256 of the message under [`SALT`], as pyca/cryptography seals and opens it. The
/// second byte of a chunk's number changes at 4 MiB.
const KNOWN: &[(usize, &str)] = &[
    (0, "925e1218c1d88ecd6c158bc7277e7cc54d727da2d329c775cd197064ba0dbd35"),
    (1, "c48db3f92ad0f273b301ee6463f10efc9f1ad8e448a5aeeb05f92092504a94fd"),
    (CHUNK - 1, "add1fb7384ca344e1c05c914a03428ec3c5e0d7b8246546365dcfeca3ba6365e"),
    (CHUNK, "925beb3040d66f07f7d25eea2d336832b34963f8db3b2c99743abd76a0354ca7"),
    (CHUNK + 1, "3431004cfcc4c492e2f0a2166a09be47271f238ec75cc17b208efd33a5e9a0e3"),
    (2 * CHUNK, "d0412a4714ddf5efce3e33064f70bf5b2848b78c32c91ba24795dc6a037634dc"),
    (256 * CHUNK + 1, "2b959f32fa75aaf5918698878c76599e2610d2697a23d7c1d0952ce4e525f887"),
];

#[test]
fn the_answers_are_known() {
    for (size, expected) in KNOWN {
        let plain = pattern(*size);
        let message = reference(1).whole(&plain);
        assert_eq!(hex::encode(sha2::Sha256::digest(&message)), *expected, "{size}");
        assert_eq!(Some(message.len() as u64), sealed_size(*size as u64));
        let (result, released) = opened(&key(1), b"context", &message);
        assert_eq!(result.expect("open"), *size as u64);
        assert!(released == plain, "{size}");
        // Ours is byte for byte the one of its salt.
        let ours = sealed(&plain);
        let salt = ours[..24].try_into().expect("salt");
        assert!(Reference::new(&[1; 32], &salt, b"context").whole(&plain) == ours, "{size}");
    }
}

#[test]
fn every_bit_counts() {
    let plain = pattern(2 * CHUNK + 40);
    let good = sealed(&plain);
    // The chunk that is read, so that the others need not be opened each time.
    let refused_at = |bad: &[u8], number: usize| {
        let Ok(mut opener) = SeekOpener::new(&key(1), b"context", Cursor::new(bad)) else {
            return number == 2;
        };
        opener.seek(SeekFrom::Start((number * CHUNK) as u64)).expect("seek");
        let error = opener.read(&mut [0; 1]).expect_err("read");
        error.get_ref().is_some_and(|error| error.is::<OpenError>())
    };
    let mut bad = good.clone();
    for at in HEADER..good.len() {
        let (number, within) = ((at - HEADER) / (CHUNK + TAG), (at - HEADER) % (CHUNK + TAG));
        // Every bit of the tags, of the last chunk and of both ends of the others; between them every 25th.
        let whole = number == 2 || !(32..CHUNK - 32).contains(&within);
        for bit in (0..8).filter(|bit| whole || (at * 8 + bit) % 25 == 0) {
            bad[at] ^= 1 << bit;
            assert!(refused_at(&bad, number), "byte {at} bit {bit}");
            bad[at] = good[at];
        }
    }
    for at in [HEADER, HEADER + CHUNK, HEADER + CHUNK + TAG, good.len() - TAG - 1, good.len() - 1] {
        bad[at] ^= 1;
        refused(&bad, &plain);
        bad[at] = good[at];
    }
}

/// The number of full chunks is also that of a batch of the openers on several cores, and one more and fewer.
#[test]
fn a_full_chunk_is_never_the_last() {
    for count in [1, 2, 63, 64, 65, 128] {
        let plain = pattern(count * CHUNK);
        let chunks: Vec<&[u8]> = plain.chunks(CHUNK).collect();
        let forged = reference(1).of_chunks(&chunks);
        assert!(matches!(refused(&forged, &plain), OpenError::Truncated(found) if found == count as u64));
    }
    // Longer than any chunk.
    let plain = pattern(CHUNK + 1);
    refused(&reference(1).of_chunks(&[&plain]), &plain);
}

#[test]
fn a_chunk_behind_the_last_is_refused_although_it_was_sealed() {
    let (full, short) = (pattern(CHUNK), pattern(100));
    for chunks in [
        &[&short[..], &short][..],
        &[&short, &full, &short],
        &[&full, &short, &short],
        &[&[], &[]],
        &[&[], &full, &[]],
    ] {
        let forged = reference(1).of_chunks(chunks);
        refused(&forged, &[&full[..], &full].concat());
    }
}

#[test]
fn no_other_key_opens() {
    let good = sealed(b"text");
    let another = DataKey::generate().expect("key");
    let mut flipped = [1; 32];
    flipped[31] ^= 0x80;
    for key in [[0; 32], *another.reveal(), flipped] {
        let key = DataKey::try_from(key.as_slice()).expect("key");
        let (result, released) = opened(&key, b"context", &good);
        assert!(matches!(result, Err(OpenError::Key)) && released.is_empty());
    }
}

/// Multiplication in the field of GHASH (NIST SP 800-38D, 6.3).
fn times(x: u128, y: u128) -> u128 {
    let (mut product, mut shifted) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= shifted;
        }
        shifted = shifted >> 1 ^ if shifted & 1 == 1 { 0xe1 << 120 } else { 0 };
    }
    product
}

fn power(x: u128, mut exponent: u128) -> u128 {
    let (mut result, mut square) = (1 << 127, x);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, square);
        }
        square = times(square, square);
        exponent >>= 1;
    }
    result
}

/// The tag of `sealed` under one key: GHASH of it and its length, and the mask that is the tag of nothing.
fn tag(hash: u128, mask: u128, sealed: &[u8]) -> u128 {
    let blocks = sealed.chunks_exact(16).map(|block| u128::from_be_bytes(block.try_into().expect("block")));
    let blocks = blocks.chain([sealed.len() as u128 * 8]);
    blocks.fold(0, |sum, block| times(sum ^ block, hash)) ^ mask
}

/// Attack: AES-GCM opens one sealed text under two keys, to two texts (Dodis, Grubbs, Ristenpart, Woodage: "Fast
/// message franking", 2018), so that two customers are shown different content under one digest.
///
/// One block of the sealed text is free: the tags under both keys are equal when it is the solution of one linear
/// equation in the field of GHASH.
#[test]
fn one_bundle_is_not_two_under_two_keys() {
    const LENGTH: usize = CHUNK - 16;
    let sides = [reference(1), reference(2)];
    let [one, two] = [[0; LENGTH]; 2].map(|zeros| zeros.to_vec());
    // What masks each text: zeros sealed are the key stream. Each shall read its own half.
    let streams: Vec<Vec<u8>> = sides.iter().map(|side| side.chunk(0, &one)[..LENGTH].to_vec()).collect();
    let mut chunk = two;
    for (at, byte) in chunk.iter_mut().enumerate().take(LENGTH - 16) {
        let (text, stream) = if at < LENGTH / 2 { (b'A', &streams[0]) } else { (b'B', &streams[1]) };
        *byte = text ^ stream[at];
    }
    let hashes = sides.each_ref().map(|side| {
        let mut zero = Default::default();
        Aes256::new(&side.key.into()).encrypt_block(&mut zero);
        u128::from_be_bytes(zero.into())
    });
    let masks = sides
        .each_ref()
        .map(|side| u128::from_be_bytes(side.chunk(0, &[]).try_into().expect("the tag of nothing")));
    // The last block is multiplied by the square of each hash key.
    let difference = tag(hashes[0], masks[0], &chunk) ^ tag(hashes[1], masks[1], &chunk);
    let factor = power(hashes[0], 2) ^ power(hashes[1], 2);
    let free = times(difference, power(factor, u128::MAX - 1));
    chunk[LENGTH - 16..].copy_from_slice(&free.to_be_bytes());
    let common = tag(hashes[0], masks[0], &chunk);
    assert_eq!(common, tag(hashes[1], masks[1], &chunk));
    chunk.extend(common.to_be_bytes());

    // AES-GCM alone takes it under either key.
    let texts = sides.each_ref().map(|side| {
        side.cipher().decrypt(&Nonce::from(side.nonce(0)), &chunk[..]).expect("raw AES-GCM takes it")
    });
    assert!(texts[0].starts_with(b"AAAA") && texts[1][LENGTH / 2..].starts_with(b"BBBB"));
    assert_ne!(texts[0], texts[1]);

    // Here nothing but the commitment keeps them apart.
    for (side, other, text) in [(0, 2, &texts[0]), (1, 1, &texts[1])] {
        let message = [sides[side].header(), chunk.clone()].concat();
        let (result, released) = opened(&key(3 - other), b"context", &message);
        assert!(result.is_ok() && released == *text);
        let (result, released) = opened(&key(other), b"context", &message);
        assert!(matches!(result, Err(OpenError::Key)) && released.is_empty());
    }
}

/// A message that is too long to be held: its header, some chunks at their places, and zeros.
struct Sparse {
    length: u64,
    parts: BTreeMap<u64, Vec<u8>>,
    at: u64,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.at) as usize;
        let room = buffer.len().min(left);
        let part = self.parts.range(..=self.at).next_back();
        let rest =
            part.and_then(|(start, bytes)| bytes.get((self.at - start) as usize..)).unwrap_or_default();
        let count = if rest.is_empty() {
            let next = self.parts.range(self.at + 1..).next().map_or(u64::MAX, |(start, _)| *start);
            let count = room.min((next - self.at) as usize);
            buffer[..count].fill(0);
            count
        } else {
            let count = room.min(rest.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            count
        };
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(offset) => self.length.checked_add_signed(offset).expect("place"),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset).expect("place"),
        };
        Ok(self.at)
    }
}

#[test]
fn a_message_of_64_gibibytes_is_read_from_any_place() {
    const SIZE: u64 = (64 << 30) + 5;
    const LAST: u64 = SIZE / CHUNK as u64;
    let reference = reference(1);
    let place = |number: u64| HEADER as u64 + number * (CHUNK + TAG) as u64;
    assert_eq!(LAST, 1 << 22);
    assert_eq!(sealed_size(SIZE), Some(SIZE + 16 * (LAST + 1) + 56));
    // The chunk of 4 GiB, the last whole one, and the last.
    let whole = [1 << 18, LAST - 1];
    let mut parts = BTreeMap::from([(0, reference.header()), (place(LAST), reference.chunk(LAST, b"right"))]);
    parts.extend(whole.map(|number| (place(number), reference.chunk(number, &pattern(CHUNK)))));
    let message = |length| Sparse { length, parts: parts.clone(), at: 0 };
    let length = sealed_size(SIZE).expect("length");
    let mut opener = SeekOpener::new(&key(1), b"context", message(length)).expect("opener");
    assert_eq!(opener.size(), SIZE);
    // From the last whole chunk into the last one, and no further.
    opener.seek(SeekFrom::End(-8)).expect("seek");
    let mut end = Vec::new();
    opener.read_to_end(&mut end).expect("read");
    assert_eq!(end, [&pattern(CHUNK)[CHUNK - 3..], b"right"].concat());
    opener.seek(SeekFrom::Start((4 << 30) + 7)).expect("seek");
    let mut some = [0; 20];
    opener.read_exact(&mut some).expect("read");
    assert_eq!(some, pattern(CHUNK)[7..27]);
    for behind in [SIZE, SIZE + 1, u64::MAX] {
        opener.seek(SeekFrom::Start(behind)).expect("seek");
        assert_eq!(opener.read(&mut some).expect("behind the end"), 0);
    }
    opener.seek(SeekFrom::Start(CHUNK as u64)).expect("seek");
    assert!(opener.read(&mut some).is_err(), "zeros were never sealed");
    // The beginning of it is not a message, although each chunk that is left is authentic.
    for cut in [1, 21, 22, 22 + CHUNK as u64 + 16] {
        assert!(SeekOpener::new(&key(1), b"context", message(length - cut)).is_err(), "{cut}");
    }
}

/// A key or a salt that comes twice gives two messages the same nonces.
#[test]
fn no_two_processes_and_no_two_keys_are_alike() {
    let keys: BTreeSet<[u8; 32]> = (0..10_000).map(|_| *DataKey::generate().expect("key").reveal()).collect();
    assert_eq!(keys.len(), 10_000);
    // Copies of one process at one moment, as a machine that is cloned has them.
    let folder = tempfile::tempdir().expect("folder");
    let exe = std::env::current_exe().expect("exe");
    let children: Vec<_> = (0..8)
        .map(|child| {
            let place = folder.path().join(child.to_string());
            std::fs::create_dir(&place).expect("folder");
            let mut command = Command::new(&exe);
            command.args(["--ignored", "--exact", "attacks::seals_once"]).current_dir(&place);
            command.stdout(std::process::Stdio::null()).spawn().expect("child")
        })
        .collect();
    let mut salts = BTreeSet::new();
    for (number, mut child) in children.into_iter().enumerate() {
        assert!(child.wait().expect("child").success());
        let message = std::fs::read(folder.path().join(number.to_string()).join("sealed")).expect("sealed");
        salts.insert(message[..24].to_vec());
    }
    assert_eq!(salts.len(), 8);
}

#[test]
#[ignore = "a process of its own for no_two_processes_and_no_two_keys_are_alike, in the current folder"]
fn seals_once() {
    std::fs::write("sealed", sealed(b"same")).expect("write");
}

/// A writer that fails at one byte, once, and takes all that comes after.
struct Hiccup {
    taken: Vec<u8>,
    left: usize,
    kind: io::ErrorKind,
}

impl Write for Hiccup {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.left = usize::MAX;
            return Err(self.kind.into());
        }
        let count = bytes.len().min(self.left);
        self.left = self.left.saturating_sub(count);
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Attack: a chunk that is sealed in its place is clear again when it is sealed once more.
#[test]
fn a_writer_that_fails_once_never_gets_clear_text() {
    let plain = pattern(3 * CHUNK);
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::WouldBlock] {
        for left in [HEADER, HEADER + 1, HEADER + CHUNK, HEADER + CHUNK + TAG, HEADER + CHUNK + TAG + 100] {
            let mut taken = Hiccup { taken: Vec::new(), left, kind };
            let mut sealer = Sealer::new(&key(1), b"context", &mut taken).expect("sealer");
            let error = sealer.write_all(&plain).expect_err("it failed");
            assert_eq!(error.kind(), kind);
            // As whoever buffers does, who still has what was not taken.
            let mut buffered = BufWriter::with_capacity(2 * CHUNK, sealer);
            assert!(buffered.write_all(&plain[..CHUNK]).and_then(|()| buffered.flush()).is_err());
            let (sealer, _) = buffered.into_parts();
            assert!(sealer.finish().is_err(), "what failed has no end");
            for piece in taken.taken.windows(64) {
                assert!(!plain[..CHUNK].windows(64).step_by(16).any(|clear| clear == piece), "clear text");
            }
            let (result, released) = opened(&key(1), b"context", &taken.taken);
            assert!(result.is_err() && plain.starts_with(&released));
        }
    }
}

/// Attack: the same on several cores, which have more on its way when the writer fails.
#[test]
fn what_failed_once_is_not_written_to_again() {
    #[derive(Clone)]
    struct Shared(Arc<Mutex<Hiccup>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let plain = pattern(700 * CHUNK);
    for threads in [1, 2, 4] {
        for left in [HEADER, HEADER + 100 * (CHUNK + TAG), HEADER + 500 * (CHUNK + TAG) + 1] {
            let kind = io::ErrorKind::StorageFull;
            let writer = Shared(Arc::new(Mutex::new(Hiccup { taken: Vec::new(), left, kind })));
            let mut sealer =
                ParallelSealer::new(&key(1), b"context", writer.clone(), threads).expect("sealer");
            let written = sealer.write_all(&plain);
            let more = sealer.write_all(&plain);
            assert!(written.is_err() || more.is_err(), "{threads} threads, room for {left}");
            assert!(sealer.finish().is_err(), "what failed has no end");
            assert_eq!(writer.0.lock().expect("lock").taken.len(), left, "{threads} threads");
        }
    }
}

/// Whoever reads by bytes and by chunks in turn gets no byte of a chunk that was not authentic.
#[test]
fn reading_in_two_ways_releases_nothing_else() {
    let plain = pattern(2 * CHUNK);
    let mut bad = sealed(&plain);
    bad[HEADER + CHUNK + TAG + 50] ^= 1;
    let mut opener = Opener::new(&key(1), b"context", &bad[..]).expect("opener");
    opener.read_exact(&mut [0; 10]).expect("read");
    assert!(matches!(opener.chunk(), Err(OpenError::Chunk(1))));
    assert!(opener.read(&mut [0; 100]).is_err(), "sealed bytes were released");
    let good = sealed(&plain);
    let mut opener = Opener::new(&key(1), b"context", &good[..]).expect("opener");
    opener.read_exact(&mut [0; 10]).expect("read");
    assert!(opener.chunk().expect("chunk").expect("the second") == &plain[CHUNK..]);
    let mut rest = Vec::new();
    opener.read_to_end(&mut rest).expect("read");
    assert!(rest.is_empty());
}

/// The caller's sink fails: that is said, and not that the message is bad.
#[test]
fn a_sink_that_fails_is_not_taken_for_an_attack() {
    let good = sealed(&pattern(2 * CHUNK));
    let mut sink = Hiccup { taken: Vec::new(), left: 10, kind: io::ErrorKind::StorageFull };
    assert!(matches!(open(&key(1), b"context", &good[..], &mut sink), Err(OpenError::Write(_))));
    let mut sink = Hiccup { taken: Vec::new(), left: 10, kind: io::ErrorKind::StorageFull };
    assert!(seal(&key(1), b"context", &b"text"[..], &mut sink).is_err());
}
