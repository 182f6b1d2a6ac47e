//! The steps of a hardened build, one file each, in the order they run.

mod bundle;
mod compile;
mod declarations;
pub(crate) mod escrow;
mod integrity;
mod minify;
mod obfuscate;
mod strip_source_maps;

use std::time::Instant;

use protected_model::{
    build::{Escrow, PipelineStep, StepStatus},
    digest::Sha256,
    integrity::canonical,
    name::PackageName,
    version::PackageVersion,
};

use crate::{HardenError, Options, Request, Seed, tree::Tree, workers::Workers};

/// Every step, in its order.
const STEPS: &[Step] = &[
    compile::STEP,
    bundle::STEP,
    declarations::STEP,
    minify::STEP,
    obfuscate::STEP,
    strip_source_maps::STEP,
    escrow::STEP,
    integrity::STEP,
];

/// The step after which a package may be called obfuscated.
pub(crate) const OBFUSCATE: &str = obfuscate::STEP.name;

/// Other steps that an option asks for.
pub(crate) const MINIFY: &str = minify::STEP.name;
pub(crate) const DECLARATIONS: &str = declarations::STEP.name;
pub(crate) const STRIP_SOURCE_MAPS: &str = strip_source_maps::STEP.name;
pub(crate) const ESCROW: &str = escrow::STEP.name;

/// The compiler behind the steps that say `swc`, by the version of its crate.
const SWC: Tool = Tool { name: "swc", version: "83.0.0" };

/// This crate.
const OURS: Tool = Tool { name: "protected-registry", version: env!("CARGO_PKG_VERSION") };

/// One step.
struct Step {
    /// Its name in the build manifest.
    name: &'static str,
    tool: Tool,
    /// Whether the options ask for it, or the sources do.
    wanted: fn(&Options, &Tree) -> bool,
    /// Everything that decides its output beside the tree and the seed, for the build manifest: no secret, no mark.
    config: fn(&Context<'_>) -> Result<serde_json::Value, HardenError>,
    /// Changes the tree and returns how many files it changed or made.
    run: fn(&mut Context<'_>, &mut Tree) -> Result<u64, HardenError>,
}

#[derive(Clone, Copy)]
struct Tool {
    name: &'static str,
    version: &'static str,
}

/// What a step works with.
pub(crate) struct Context<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) workers: &'a Workers<'a>,
    pub(crate) package: PackageName,
    pub(crate) version: PackageVersion,
    /// What every choice of this build follows from.
    pub(crate) seed: Seed,
    /// What the escrow step made.
    pub(crate) escrow: Option<Escrow>,
}

/// Runs the steps and returns the record of those that ran.
pub(crate) fn run(context: &mut Context<'_>, tree: &mut Tree) -> Result<Vec<PipelineStep>, HardenError> {
    let mut pipeline = Vec::new();
    for step in STEPS {
        if !(step.wanted)(context.request.options, tree) {
            continue;
        }
        let started = Instant::now();
        let parameters = (step.config)(context)?;
        let input = tree.sha256();
        let files = (step.run)(context, tree)?;
        let duration = started.elapsed();
        tracing::debug!(step = step.name, files, ?duration, "hardening step");
        pipeline.push(PipelineStep {
            step: step.name.to_owned(),
            tool: step.tool.name.to_owned(),
            tool_version: step.tool.version.to_owned(),
            config_sha256: Sha256::of(canonical(&parameters)),
            parameters,
            status: if files == 0 { StepStatus::NothingToDo } else { StepStatus::Completed },
            files,
            input_tree_sha256: input,
            output_tree_sha256: tree.sha256(),
            duration_ms: Some(duration.as_millis() as u64),
        });
    }
    Ok(pipeline)
}

#[cfg(test)]
mod tests {
    use super::SWC;

    #[test]
    fn names_the_compiler_that_is_locked() {
        let lock = include_str!("../../../../Cargo.lock");
        let entry = format!("name = \"swc_core\"\nversion = \"{}\"\n", SWC.version);
        assert!(
            lock.replace("\r\n", "\n").contains(&entry),
            "Cargo.lock has another swc_core than {}",
            SWC.version
        );
    }
}
