//! The package as its source gives it, and the checks against that.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use protected_harden::Options;
use protected_model::{
    build::{BuildManifest, PipelineStep},
    name::DeliveryLabel,
};

use super::{
    Finding, Outcome, Subject,
    difference::differences,
    place::{Place, marked_for},
    reading,
};
use crate::{
    build::{self, Built, Work},
    context::Context,
    error::{CommandError, Kind},
    hardening::{self, Unprotected},
    package,
};

/// The package as its source gives it.
pub(super) struct Rebuilt {
    pub(super) built: Built,
    pub(super) contents: BTreeMap<String, Vec<u8>>,
}

/// Builds the source as the manifest says, or as the configuration does where there is none.
pub(super) async fn again(
    context: &Context,
    folder: &Path,
    out: PathBuf,
    manifest: Option<&BuildManifest>,
    place: &Place,
    mark: Option<DeliveryLabel>,
) -> Result<Rebuilt, CommandError> {
    let package = package::look_at(folder, None, None)?;
    let options = match manifest {
        Some(manifest) => recorded(context, manifest, place, mark)?,
        None => hardening::options(context, &package, None, mark.as_ref())?,
    };
    // What the build left unprotected is what it was: the point is whether it is the same.
    let unprotected = Unprotected::allowed();
    let work = Work { package, out: Some(out), options, mark: None, unprotected, sealing: None };
    let built = build::build(context, work, context.cancel.shared_flag()).await;
    context.cancel.check()?;
    let built = built?;
    let contents = built.packed.contents().map_err(|error| reading(&built.folder, &error))?;
    Ok(Rebuilt { built, contents })
}

/// Returns the options of the build that a manifest records.
fn recorded(
    context: &Context,
    manifest: &BuildManifest,
    place: &Place,
    mark: Option<DeliveryLabel>,
) -> Result<Options, CommandError> {
    let about = format!("{}@{}", manifest.package_name, manifest.version);
    let refuse = |why: String| {
        CommandError::new(Kind::BadInput, format!("the build manifest of {about} cannot be followed: {why}"))
    };
    let mut options = Options::recorded(&manifest.pipeline).map_err(|error| {
        refuse(error.to_string()).advise("it is of an earlier version, or of another tool; without it, the build is compared with the configuration as it is now")
    })?;
    let Some(hardening) = &manifest.hardening else {
        return Err(refuse("it does not say what the build's choices follow from".to_owned()));
    };
    // A secret that the build did not have would make it another one.
    let secret = hardening::secret(context)?.filter(|_| hardening.secret);
    if hardening.secret && secret.is_none() {
        let message = format!("the build of {about} follows from a build secret, and none is set");
        return Err(CommandError::usage(message).advise(format!(
            "set {} or {} to the secret of that build",
            hardening::SECRET,
            hardening::SECRET_FILE
        )));
    }
    if hardening.marked {
        let label = match mark {
            Some(label) => label,
            None => marked_for(&place.folder)?.ok_or_else(|| {
                CommandError::usage(format!(
                    "the copy of {about} is marked, and nothing says for which delivery"
                ))
                .advise("give its label with --mark")
            })?,
        };
        options.obfuscation.mark = Some(hardening::mark(&label, secret.as_ref())?);
    } else if let Some(label) = mark {
        let message = format!("the build of {about} has no mark, so it is not that of `{label}`");
        return Err(CommandError::usage(message));
    }
    options.obfuscation.secret = secret;
    Ok(options)
}

/// What built it: another version may build otherwise.
pub(super) fn tools(subject: &Subject) -> Option<Finding> {
    let (manifest, rebuilt) = (subject.manifest.as_ref()?, subject.rebuilt.as_ref()?);
    let names = |pipeline: &[PipelineStep]| {
        let tools: BTreeSet<String> =
            pipeline.iter().map(|step| format!("{} {}", step.tool, step.tool_version)).collect();
        tools.into_iter().collect::<Vec<_>>().join(", ")
    };
    Finding::compare(names(&manifest.pipeline), names(&rebuilt.built.manifest.pipeline), Outcome::Note)
}

/// What went in.
pub(super) fn source(subject: &Subject) -> Option<Finding> {
    let (manifest, rebuilt) = (subject.manifest.as_ref()?, subject.rebuilt.as_ref()?);
    let expected = manifest.source.tree_sha256?;
    let found = rebuilt.built.manifest.source.tree_sha256?;
    Finding::compare(format!("tree {expected}"), format!("tree {found}"), Outcome::Failed)
}

/// What the choices follow from: the source, and the build secret.
pub(super) fn seed(subject: &Subject) -> Option<Finding> {
    let (manifest, rebuilt) = (subject.manifest.as_ref()?, subject.rebuilt.as_ref()?);
    let commitment = |manifest: &BuildManifest| {
        manifest.hardening.as_ref().map(|hardening| format!("commitment {}", hardening.seed_commitment))
    };
    Finding::compare(commitment(manifest)?, commitment(&rebuilt.built.manifest)?, Outcome::Failed)
}

/// What was done, with which parameters.
pub(super) fn steps(subject: &Subject) -> Option<Finding> {
    let (manifest, rebuilt) = (subject.manifest.as_ref()?, subject.rebuilt.as_ref()?);
    let (expected, found) = (&manifest.pipeline, &rebuilt.built.manifest.pipeline);
    let names = |pipeline: &[PipelineStep]| {
        pipeline.iter().map(|step| step.step.as_str()).collect::<Vec<_>>().join(", ")
    };
    if let Some(step) = expected.iter().find(|step| !step.has_its_parameters()) {
        let parameters = format!("`{}` with parameters of SHA-256 {}", step.step, step.config_sha256);
        return Finding::compare(parameters, step.parameters.to_string(), Outcome::Failed);
    }
    let differs = expected.iter().zip(found).find(|(a, b)| a.step == b.step && a.parameters != b.parameters);
    match differs {
        Some((expected, found)) => Finding::compare(
            format!("`{}` with {}", expected.step, expected.parameters),
            found.parameters.to_string(),
            Outcome::Failed,
        ),
        None => Finding::compare(names(expected), names(found), Outcome::Failed),
    }
}

/// Every file, byte for byte.
pub(super) fn files(subject: &Subject) -> Option<Finding> {
    let rebuilt = subject.rebuilt.as_ref()?;
    let differences =
        differences((&rebuilt.built.packed, &rebuilt.contents), (&subject.packed, &subject.contents));
    let expected = format!("{} files as the source gives them", rebuilt.contents.len());
    let (outcome, found) = if differences.is_empty() {
        (Outcome::Ok, format!("{} files, the same in every byte", subject.contents.len()))
    } else {
        (Outcome::Failed, format!("{} that differ", differences.len()))
    };
    Some(Finding { outcome, expected, found, differences })
}

/// The tarball itself: other bytes with the same files are another packer's.
pub(super) fn tarball(subject: &Subject) -> Option<Finding> {
    let rebuilt = subject.rebuilt.as_ref()?;
    let expected = rebuilt.built.packed.integrity.to_string();
    Finding::compare(expected, subject.packed.integrity.to_string(), Outcome::Note)
}
