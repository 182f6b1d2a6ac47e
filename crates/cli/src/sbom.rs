//! The SBOM of a build: read while it is hardened, written when the tarball is there.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::Timestamp;
use protected_evidence::sbom::{self, About, Graph, SpecVersion};
use protected_harden::Hardened;
use protected_model::{
    api::evidence::Document,
    build::{PipelineStep, Source, StepStatus},
    digest::Sha256,
    environment::Environment,
    integrity::{ArtifactDigest, canonical},
    time::whole_seconds,
};
use protected_npm::pack::Packed;

use crate::{
    config_file::CyclonedxVersion,
    console::Console,
    error::{CommandError, Kind},
    settings::{self, Settings},
};

/// The step's name in the build manifest.
const STEP: &str = "sbom";

/// The documents' names below `evidence/`.
pub(crate) const FILES: [&str; 2] = ["sbom.cdx.json", "sbom.spdx.json"];

/// How the SBOM of one build is made.
#[derive(Clone)]
pub(crate) struct Plan {
    version: SpecVersion,
    created: Timestamp,
    root: PathBuf,
}

impl Plan {
    /// Settles it for the package in `folder`.
    ///
    /// # Errors
    /// When SOURCE_DATE_EPOCH is no time.
    pub(crate) fn new(settings: &Settings, folder: &Path) -> Result<Self, CommandError> {
        let version = match settings.file.sbom.cyclonedx.unwrap_or_default() {
            CyclonedxVersion::V1_6 => SpecVersion::V1_6,
            CyclonedxVersion::V1_7 => SpecVersion::V1_7,
        };
        let root = settings::repository(folder).to_owned();
        Ok(Self { version, created: created(&settings.environment, folder)?, root })
    }

    /// Reads what the package needs.
    ///
    /// # Errors
    /// When its lock file cannot be read for certain.
    pub(crate) fn collect(&self, folder: &Path) -> Result<Graph, CommandError> {
        sbom::collect(folder, &self.root).map_err(|error| {
            CommandError::from_error(Kind::BadInput, "making the SBOM", &error).hint(error.hint())
        })
    }

    /// Writes both documents, and the step that the build manifest tells of them.
    pub(crate) fn write(
        &self,
        graph: &Graph,
        packed: &Packed,
        hardened: &Hardened,
        source: &Source,
    ) -> (Vec<Document>, PipelineStep) {
        let artifact = ArtifactDigest {
            filename: packed.filename.clone(),
            size: packed.size,
            sha256: packed.sha256,
            integrity: packed.integrity,
        };
        let source = Source { tree_sha256: Some(hardened.source_tree_sha256), ..source.clone() };
        let about = About {
            created: self.created,
            tool_version: env!("CARGO_PKG_VERSION"),
            source: &source,
            artifact: Some(&artifact),
            files: &packed.files,
            sha1: &packed.sha1,
            modules: &hardened.modules,
            shaken: &hardened.shaken,
            pipeline: &hardened.pipeline,
        };
        let contents = [
            (sbom::CYCLONEDX_MEDIA_TYPE, graph.cyclonedx(&about, self.version)),
            (sbom::SPDX_MEDIA_TYPE, graph.spdx(&about)),
        ];
        let documents = contents.map(|(media_type, bytes)| {
            let inline = String::from_utf8_lossy(&bytes).into_owned();
            let sha256 = Sha256::of(&inline);
            Document { kind: STEP.to_owned(), media_type: media_type.to_owned(), sha256, inline }
        });
        let parameters = serde_json::json!({ "cyclonedx": self.version.as_str(), "spdx": "2.3" });
        let tree =
            hardened.pipeline.last().map_or(hardened.source_tree_sha256, |step| step.output_tree_sha256);
        let step = PipelineStep {
            step: STEP.to_owned(),
            tool: "protected-registry".to_owned(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            config_sha256: Sha256::of(canonical(&parameters)),
            parameters,
            status: StepStatus::Completed,
            files: documents.len() as u64,
            // The documents stand beside the artifact, which stays as it is.
            input_tree_sha256: tree,
            output_tree_sha256: tree,
            duration_ms: None,
        };
        (documents.into(), step)
    }
}

/// Says what is in the SBOM, and why something is not.
pub(crate) fn say(console: &Console, graph: &Graph) {
    let counts = graph.counts();
    let from = graph.lock_format().unwrap_or("package.json alone");
    console.say(format!(
        "  sbom      {} components, {} dependencies between them, {} with a digest, {} with a licence; from {from}",
        counts.components, counts.edges, counts.hashed, counts.licensed
    ));
    for name in graph.ignored_locks() {
        console.say(format!(
            "  note      `{name}` stands there too and was not read: `packageManager` in package.json chooses"
        ));
    }
    let gaps = graph.gaps();
    for gap in gaps.iter().take(MOST_GAPS) {
        console.say(format!(
            "  note      the SBOM says that it is not complete: {}",
            crate::console::one_line(gap)
        ));
    }
    if gaps.len() > MOST_GAPS {
        console.say(format!("  note      and {} more, which the SBOM lists", gaps.len() - MOST_GAPS));
    }
}

/// How many reasons are said.
const MOST_GAPS: usize = 5;

/// Returns the time that the documents bear: SOURCE_DATE_EPOCH, else that of the commit, else now.
fn created(environment: &Environment, folder: &Path) -> Result<Timestamp, CommandError> {
    if let Some(text) = environment.get("SOURCE_DATE_EPOCH") {
        let time = text.trim().parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        return time.ok_or_else(|| {
            CommandError::usage(format!("SOURCE_DATE_EPOCH is `{text}`, expected seconds since 1970"))
        });
    }
    Ok(commit_time(environment, folder).unwrap_or_else(|| whole_seconds(Timestamp::now())))
}

/// Returns when the checked-out commit was made, as git says; nothing where there is no git or no commit.
fn commit_time(environment: &Environment, folder: &Path) -> Option<Timestamp> {
    let mut git = Command::new("git");
    // A signature is checked by a program that the repository's settings name.
    git.args(["-c", "log.showSignature=false", "-c", "core.fsmonitor=false", "log", "-1", "--format=%ct"]);
    git.current_dir(folder).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    for name in ["PATH", "HOME", "USERPROFILE", "SystemRoot"] {
        if let Some(value) = environment.get(name) {
            git.env(name, value);
        }
    }
    let output = git.output().ok().filter(|output| output.status.success())?;
    let seconds = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
    Timestamp::from_second(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_given() {
        let folder = tempfile::tempdir().expect("folder");
        let environment: Environment = [("SOURCE_DATE_EPOCH", "1700000000")].into_iter().collect();
        assert_eq!(created(&environment, folder.path()).expect("time").to_string(), "2023-11-14T22:13:20Z");
        for bad in ["yesterday", "99999999999999999999", "1.5"] {
            let environment: Environment = [("SOURCE_DATE_EPOCH", bad)].into_iter().collect();
            assert!(created(&environment, folder.path()).is_err(), "{bad}");
        }
        assert_eq!(commit_time(&Environment::default(), folder.path()), None);
    }
}
