//! Other people's tools open what is sealed here, and the other way round.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use protected_bundle::{CHUNK, DataKey, open, seal};

use crate::reference::Reference;

const KEY: [u8; 32] = [0x5a; 32];
const CONTEXT: &[u8] = b"protected-registry/escrow/v1\0digest";
const SIZES: &[usize] = &[0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 256 * CHUNK + 1];

fn key() -> DataKey {
    DataKey::try_from(KEY.as_slice()).expect("key")
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 253) as u8).collect()
}

fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    seal(&key(), CONTEXT, plain, &mut sealed).expect("seal");
    sealed
}

/// Runs a program with `input`; returns what it wrote, or nothing when it failed.
fn run(program: &Path, arguments: &[&str], context: &[u8], input: &[u8]) -> Option<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundle");
    let mut child = Command::new(program)
        .current_dir(folder)
        .args(arguments)
        .args([hex::encode(KEY), hex::encode(context)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask tools`", program.display()));
    let mut stdin = child.stdin.take().expect("stdin");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("output");
    // A program that refuses may not have read to the end.
    let _ = writer.join();
    output.status.success().then_some(output.stdout)
}

#[test]
fn node_opens_what_is_sealed() {
    let node = |context: &[u8], input: &[u8]| run(Path::new("node"), &["open.mjs"], context, input);
    for &size in SIZES {
        let plain = pattern(size);
        assert!(node(CONTEXT, &sealed(&plain)).expect("opened") == plain, "{size}");
    }
    assert_eq!(node(b"another", &sealed(b"text")), None);
}

#[test]
fn pyca_opens_what_is_sealed_and_its_own_is_opened() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/python/bin/python");
    let pyca = |verb, context: &[u8], input: &[u8]| run(&python, &["cobblestone.py", verb], context, input);
    for &size in SIZES {
        let plain = pattern(size);
        assert!(pyca("open", CONTEXT, &sealed(&plain)).expect("opened") == plain, "{size}");
        let theirs = pyca("seal", CONTEXT, &plain).expect("sealed");
        let salt = theirs[..24].try_into().expect("salt");
        assert!(Reference::new(&KEY, &salt, CONTEXT).whole(&plain) == theirs, "{size}: byte for byte");
        let mut opened = Vec::new();
        assert_eq!(open(&key(), CONTEXT, &theirs[..], &mut opened).expect("opened"), size as u64);
        assert!(opened == plain, "{size}");
    }
    let mut bad = sealed(b"text");
    assert_eq!(pyca("open", b"another", &bad), None);
    *bad.last_mut().expect("byte") ^= 1;
    assert_eq!(pyca("open", CONTEXT, &bad), None);
}
