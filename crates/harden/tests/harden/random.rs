//! Random programs print the same after hardening: a few here, as many as one likes by
//! `cargo xtask conformance programs`.

use std::path::Path;

use protected_harden::{Obfuscation, Options, Profile};

use crate::{
    behaviour::differences,
    support::{Package, node},
};

/// The first program's seed. Its successors follow.
const SEED: u32 = 20_251_125;
const PROGRAMS: u32 = 60;

fn programs() -> Package {
    let folder = tempfile::tempdir().expect("folder");
    let generator = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/random_programs.mjs");
    let (seed, count) = (SEED.to_string(), PROGRAMS.to_string());
    let arguments = [generator.to_str().expect("path"), &seed, &count, folder.path().to_str().expect("path")];
    node(folder.path(), &arguments);
    Package::copy_of(folder.path())
}

fn compare(options: &Options) {
    let broken = differences(&programs(), options);
    assert!(
        broken.is_empty(),
        "seed {SEED}: {} of {PROGRAMS} programs changed\n{}",
        broken.len(),
        broken.join("\n")
    );
}

#[test]
fn random_programs_behave_the_same() {
    compare(&Options::default());
}

#[test]
fn random_programs_behave_the_same_obfuscated() {
    for profile in [Profile::Standard, Profile::Strong] {
        compare(&Options {
            obfuscation: Obfuscation { profile, ..Obfuscation::default() },
            ..Options::default()
        });
    }
}
