//! The hardened build: the files of a package in, an artifact and a private escrow of source maps out.
//!
//! One file per step in `step/`; each works on the whole tree and is recorded with the digests of the tree
//! before and after it. The compiler (swc) is spoken to in `js/` and in the steps, nowhere else.

mod bundle;
mod cpu_profile;
mod css;
mod entry_points;
mod error;
mod format;
mod js;
mod json;
mod obfuscate;
mod pattern;
mod recorded;
mod request;
pub mod retrace;
mod source_map;
mod step;
mod trace;
mod tree;
mod tsconfig;
mod workers;

pub use cpu_profile::{CpuProfileError, hot_functions};
pub use error::{CodeFrame, HardenError};
pub use obfuscate::{Mark, Seed};
pub use pattern::{PathPattern, PathPatternError};
pub use recorded::RecordError;
pub use request::{
    Declarations, EcmaVersion, Hardened, LegalComments, Obfuscation, Options, Profile, Request, SourceFile,
    SourcePlace,
};

pub use trace::{MAX_FALSE_MATCH_LOG10, Match, Numbers};

use protected_model::{
    build::{Hardening, Protection, SourceMaps, StepStatus},
    digest::Sha256,
    integrity::canonical,
    secret::Secret,
};

use crate::{step::Context, tree::Tree, workers::Workers};

/// Hardens a package: fills `request.artifact` with what is published and `request.escrow` with the source maps.
///
/// On an error both folders hold anything or nothing: the caller removes them.
pub fn harden(request: &Request<'_>) -> Result<Hardened, HardenError> {
    let (package, version) = identity(request.package_json)?;
    let workers = Workers::start(request.options.threads, request.cancelled)?;
    let mut tree = Tree::gather(request, &workers)?;
    let source_tree_sha256 = tree.sha256();
    let secret = request.options.obfuscation.secret.as_ref().map(|secret| secret.reveal().as_bytes());
    // Not the tree's own digest, which the build manifest tells.
    let source = Sha256::of(canonical(&("protected-registry/source/v1", tree.digests())));
    let seed = Seed::derive(secret, &source);
    let obfuscation = &request.options.obfuscation;
    let hardening = Hardening {
        profile: obfuscation.profile.name().to_owned(),
        seed_commitment: seed.commitment(),
        secret: obfuscation.secret.is_some(),
        marked: obfuscation.mark.is_some(),
    };
    let mut context = Context { request, workers: &workers, package, version, seed, escrow: None };
    let pipeline = step::run(&mut context, &mut tree)?;
    if !request.options.escrow {
        tree.drop_maps()?;
    }
    let escrow = context.escrow;
    let modules = tree.modules();
    // Minification shortens names and is undone by reading: it is not called obfuscation here.
    let obfuscated =
        pipeline.iter().any(|step| step.step == step::OBFUSCATE && step.status == StepStatus::Completed);
    Ok(Hardened {
        pipeline,
        protection: Protection { obfuscated, encrypted: false, source_maps: SourceMaps::Withheld },
        hardening,
        escrow,
        source_tree_sha256,
        artifact: tree.digests(),
        package_json: tree.read("package.json")?,
        unprotected: tree.unprotected,
        kept_apart: tree.kept_apart,
        modules,
        shaken: tree.shaken,
    })
}

fn identity(
    package_json: &str,
) -> Result<(protected_model::name::PackageName, protected_model::version::PackageVersion), HardenError> {
    let refuse = |reason: String| HardenError::Manifest(reason);
    let value: serde_json::Value =
        serde_json::from_str(package_json).map_err(|error| refuse(format!("not JSON: {error}")))?;
    let text = |key: &str| {
        value.get(key).and_then(serde_json::Value::as_str).ok_or_else(|| refuse(format!("has no `{key}`")))
    };
    let name = text("name")?.parse().map_err(|error| refuse(format!("`name`: {error}")))?;
    let version = text("version")?.parse().map_err(|error| refuse(format!("`version`: {error}")))?;
    Ok((name, version))
}
