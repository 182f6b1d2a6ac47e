//! Writes the SBOM of a package folder alone, without building the package: what the benchmark measures.
//!
//! `sbom <package folder> <file for CycloneDX> <file for SPDX>`

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use protected_evidence::sbom::{About, SpecVersion, collect};
use protected_model::{
    build::Source,
    digest::{Integrity, Sha256},
    integrity::ArtifactDigest,
};

#[expect(clippy::print_stderr, reason = "a program of its own")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, cyclonedx, spdx] = arguments.as_slice() else {
        eprintln!("sbom <package folder> <file for CycloneDX> <file for SPDX>");
        return ExitCode::from(2);
    };
    match write(folder, cyclonedx, spdx) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &str, cyclonedx: &str, spdx: &str) -> Result<(), Box<dyn std::error::Error>> {
    let graph = collect(Path::new(folder), Path::new(folder))?;
    let artifact = ArtifactDigest {
        filename: "package.tgz".to_owned(),
        size: 0,
        sha256: Sha256::of(""),
        integrity: Integrity::of(""),
    };
    let about = About {
        created: jiff::Timestamp::UNIX_EPOCH,
        tool_version: env!("CARGO_PKG_VERSION"),
        source: &Source::default(),
        artifact: Some(&artifact),
        files: &[],
        sha1: &BTreeMap::new(),
        modules: &BTreeMap::new(),
        shaken: &Default::default(),
        pipeline: &[],
    };
    std::fs::write(cyclonedx, graph.cyclonedx(&about, SpecVersion::default()))?;
    std::fs::write(spdx, graph.spdx(&about))?;
    Ok(())
}
