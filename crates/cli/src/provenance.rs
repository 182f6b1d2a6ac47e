//! The provenance of a build: written with the build, and once more when FractalOps has verified the run.

use jiff::Timestamp;
use protected_evidence::{
    provenance::{self, BUILD_TYPE, Build, Byproduct, Run},
    sbom::Graph,
    statement::{PAYLOAD_TYPE, Subject},
};
use protected_harden::Hardened;
use protected_model::{
    api::evidence::Document,
    build::{BuildManifest, PipelineStep, StepStatus},
    digest::Sha256,
    identity::RunIdentity,
    integrity::canonical,
};
use serde_json::json;

use crate::document::document;

/// Its file in a build's evidence.
pub(crate) const FILE: &str = "provenance.intoto.json";

/// What it is called in a build's record.
pub(crate) const KIND: &str = "provenance";

/// What is told of a build beside its manifest.
#[derive(Clone)]
pub(crate) struct Circumstances {
    /// What the CI platform says about the run, unproven.
    pub(crate) unverified_identity: Option<RunIdentity>,
    pub(crate) started: Timestamp,
    finished: Timestamp,
    lock: Option<(String, Sha256)>,
    byproducts: Vec<Byproduct>,
}

impl Circumstances {
    /// Begins with what is known before the build.
    pub(crate) fn new(unverified_identity: Option<RunIdentity>) -> Self {
        let now = Timestamp::now();
        Self { unverified_identity, started: now, finished: now, lock: None, byproducts: Vec::new() }
    }

    /// Notes the end, the lock file that the SBOM is of, and the documents that came out under their file names.
    pub(crate) fn finish<'a>(
        &mut self,
        graph: &Graph,
        documents: impl Iterator<Item = (&'a Document, &'a str)>,
    ) {
        self.finished = Timestamp::now();
        self.lock = graph.lock_file().map(|(path, sha256)| (path.to_owned(), sha256));
        let byproduct = |(document, name): (&Document, &str)| Byproduct {
            name: name.to_owned(),
            media_type: document.media_type.clone(),
            sha256: document.sha256,
        };
        self.byproducts = documents.map(byproduct).collect();
    }

    /// Says how the build went, as far as anybody knows who `run` was.
    pub(crate) fn say(&self, manifest: &BuildManifest, verified: Option<&RunIdentity>) -> Document {
        let run = match (verified, &self.unverified_identity) {
            (Some(run), _) => Run::Verified(run),
            (None, Some(run)) => Run::Unverified(run),
            (None, None) => Run::Local,
        };
        let artifact = &manifest.artifact;
        let subject =
            Subject::npm(&manifest.package_name, &manifest.version, &artifact.sha256, &artifact.integrity);
        let build = Build {
            manifest,
            run,
            started: self.started,
            finished: self.finished,
            lock: self.lock.as_ref().map(|(path, sha256)| (path.as_str(), *sha256)),
            byproducts: &self.byproducts,
        };
        document(KIND, PAYLOAD_TYPE, &provenance::provenance(subject, &build))
    }
}

/// Returns the step of the pipeline.
pub(crate) fn step(hardened: &Hardened) -> PipelineStep {
    let parameters = json!({ "build_type": BUILD_TYPE });
    let tree = hardened.pipeline.last().map_or(hardened.source_tree_sha256, |step| step.output_tree_sha256);
    PipelineStep {
        step: KIND.to_owned(),
        tool: "protected-registry".to_owned(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        config_sha256: Sha256::of(canonical(&parameters)),
        parameters,
        status: StepStatus::Completed,
        files: 1,
        input_tree_sha256: tree,
        output_tree_sha256: tree,
        duration_ms: None,
    }
}
