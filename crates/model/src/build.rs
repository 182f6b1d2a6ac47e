//! The build manifest: what the hardened build did, step by step.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Sha256,
    integrity::{ArtifactDigest, canonical},
    key_ref::KeyRef,
    name::PackageName,
    version::PackageVersion,
};

/// The media type of a [`BuildManifest`].
pub const MEDIA_TYPE: &str = "application/vnd.protected-registry.build.v1+json";

/// What a hardened build did. It names the steps that ran and claims nothing for those that did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildManifest {
    /// [`MEDIA_TYPE`].
    pub schema: String,
    /// The package.
    pub package_name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// Where the source came from.
    pub source: Source,
    /// The steps in the order they ran.
    pub pipeline: Vec<PipelineStep>,
    /// What the result is.
    pub protection: Protection,
    /// What the choices of the build follow from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardening: Option<Hardening>,
    /// What was published as it was, and why, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unprotected: BTreeMap<String, String>,
    /// What the steps `bundle` and `declarations` left as files of their own, and why, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept_apart: BTreeMap<String, String>,
    /// The files that they left out, because nothing reaches them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shaken: BTreeSet<String>,
    /// The private source maps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_map_escrow: Option<Escrow>,
    /// The result.
    pub artifact: ArtifactDigest,
}

/// Where a build's source came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// The repository as the CI platform names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The full ref.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// Digest of the files that went in, made as in the integrity manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_sha256: Option<Sha256>,
}

/// One step of a hardened build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PipelineStep {
    /// `compile`, `minify`, `strip-source-maps`, `escrow`, `integrity`, ...
    pub step: String,
    /// What did it, such as `swc`.
    pub tool: String,
    /// That tool's version.
    pub tool_version: String,
    /// Digest of the step's parameters as canonical JSON.
    pub config_sha256: Sha256,
    /// The parameters themselves, from which the step can be repeated. No secret is among them.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub parameters: serde_json::Value,
    /// How it went.
    pub status: StepStatus,
    /// How many files it changed or made.
    pub files: u64,
    /// The tree before.
    pub input_tree_sha256: Sha256,
    /// The tree after.
    pub output_tree_sha256: Sha256,
    /// Wall time. Left out of what is hashed or reproduced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// How a step went. There is no third way: a step that fails ends the build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepStatus {
    /// It ran over every file it is for.
    Completed,
    /// There was no file for it.
    NothingToDo,
}

/// What the choices of a hardened build follow from, as far as it may be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hardening {
    /// How far code is obfuscated where nothing else is said: `light`, `standard` or `strong`.
    pub profile: String,
    /// Digest of the seed: whoever has the source and the build secret can check that it was theirs.
    pub seed_commitment: Sha256,
    /// Whether the seed follows from a build secret beside the source.
    pub secret: bool,
    /// Whether the copy is marked as that of one delivery.
    pub marked: bool,
}

impl PipelineStep {
    /// Returns whether the digest of the parameters is that of the parameters.
    pub fn has_its_parameters(&self) -> bool {
        self.parameters.is_null() || Sha256::of(canonical(&self.parameters)) == self.config_sha256
    }
}

/// What a protected package is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Protection {
    /// Whether an obfuscating step ran. Minification is not one.
    pub obfuscated: bool,
    /// Whether the artifact is sealed.
    pub encrypted: bool,
    /// Where the source maps are.
    pub source_maps: SourceMaps,
}

/// Where the source maps of a package are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceMaps {
    /// Not in the artifact.
    Withheld,
    /// In the artifact.
    Published,
}

/// The private source maps of a build, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Escrow {
    /// Digest of the list of maps, made as in the integrity manifest.
    pub sha256: Sha256,
    /// How many.
    pub files: u64,
    /// The key reference they are sealed under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ref: Option<KeyRef>,
}
