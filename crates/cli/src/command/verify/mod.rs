//! `verify`: holds a package against its build manifest, its signed documents, its registry, and against what its
//! source gives when it is built again.

mod delivery;
mod difference;
mod document;
mod evidence;
mod opened;
mod place;
mod policy;
mod rebuild;
mod registry;
mod signed;
mod summary;

use std::{collections::BTreeMap, fs, path::PathBuf};

use jiff::Timestamp;
use protected_evidence::{
    statement::Subject as Artifact,
    vsa::{self, Summarised, VERIFIER},
};
use protected_model::{
    build::BuildManifest,
    integrity::{self, IntegrityManifest, tree_sha256},
    name::PackageName,
    version::PackageVersion,
};
use protected_npm::pack::Packed;
use serde::Serialize;
use serde_json::json;

use self::{
    difference::Difference,
    evidence::{Documents, Judged},
    place::{find, read_manifest},
    rebuild::{Rebuilt, again, files, seed, source, steps, tarball, tools},
    registry::{Origin, Served},
    summary::Summary,
};
use crate::{
    args::Verify,
    console::one_line,
    context::Context,
    error::{CommandError, Kind},
};

pub(super) use opened::opened;
pub(super) use place::marked_for;
pub(super) use policy::Policy;
pub(super) use signed::{Asked, Signed, check};

/// Every check of the package itself, in the order in which the results stand. Those of its signed documents follow.
const CHECKS: &[Check] = &[
    Check { name: "package", run: package },
    Check { name: "registry", run: |subject| subject.served.as_ref()?.integrity(&subject.packed) },
    Check { name: "registry key", run: |subject| subject.served.as_ref()?.signature(&subject.packed) },
    Check { name: "artifact", run: artifact },
    Check { name: "integrity", run: integrity },
    Check { name: "tools", run: tools },
    Check { name: "source", run: source },
    Check { name: "seed", run: seed },
    Check { name: "steps", run: steps },
    Check { name: "files", run: files },
    Check { name: "tarball", run: tarball },
];

/// How many differing files are shown to people; programs get them all.
const SHOWN: usize = 10;

/// One check: `None` where there is nothing to hold the package against.
struct Check {
    name: &'static str,
    run: fn(&Subject) -> Option<Finding>,
}

/// What is verified, and what against.
struct Subject {
    packed: Packed,
    contents: BTreeMap<String, Vec<u8>>,
    manifest: Option<BuildManifest>,
    rebuilt: Option<Rebuilt>,
    served: Option<Served>,
}

/// How a check went.
#[derive(Debug, Serialize)]
struct Finding {
    outcome: Outcome,
    expected: String,
    found: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    /// Not what was expected, and no difference in what is delivered.
    Note,
    Failed,
}

/// Runs every check that can be run.
///
/// # Errors
/// When the package, its manifest, its documents or its source cannot be read, fetched or built, and
/// [`Kind::NotProven`] when a check failed.
pub(crate) async fn run(context: &Context, arguments: Verify) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("verify")?;
    let of_build = [&arguments.expect_source, &arguments.expect_builder];
    let policy = Policy::settle(context, &arguments.trust, of_build)?;
    let offline = settings.switch(arguments.offline, "OFFLINE")?;
    let summary = Summary::settle(context, arguments.summary, &arguments.sign, offline)?;
    let given: String = settings.value(arguments.artifact, "ARTIFACT", None)?.ok_or_else(|| {
        CommandError::usage("nothing to verify is named").advise(
            "name a tarball, the folder of a build, a delivery, or a version in a registry: protected-registry verify <artifact>",
        )
    })?;
    // Gone on drop, what was fetched and the rebuilt package with it.
    let scratch = tempfile::tempdir().map_err(|error| {
        CommandError::new(Kind::Failed, format!("cannot make a folder to work in: {error}"))
    })?;
    let download: Option<PathBuf> = settings.value(arguments.download, "DOWNLOAD", None)?;
    let version = version_of(&given);
    let path = match version {
        Some(_) => settings.working_directory.join(&given),
        None => settings.path(&given)?,
    };
    let path = match version.filter(|_| !path.exists()) {
        Some((name, version)) => {
            if offline {
                let message = format!("`{given}` is in a registry, and nothing is fetched offline");
                return Err(CommandError::usage(message).advise("fetch it once with --download <folder>"));
            }
            let folder = match download {
                Some(folder) => empty(settings.working_directory.join(folder))?,
                None => scratch.path().join("fetched"),
            };
            let registry = settings.value(arguments.registry, "REGISTRY", None)?;
            let place = match registry {
                Some(registry) => Origin::Given(registry),
                None => Origin::Known(arguments.project.clone()),
            };
            registry::fetch(context, (&name, &version), place, &folder).await?;
            folder
        }
        None if download.is_some() => {
            let message = format!("`{given}` is no version in a registry: there is nothing to download");
            return Err(CommandError::usage(message));
        }
        None => path,
    };
    let named_manifest: Option<PathBuf> = settings.value(arguments.manifest, "MANIFEST", None)?;
    let rebuild = settings.value(arguments.rebuild, "REBUILD", None)?;
    let mark = settings.value(arguments.mark, "MARK", None)?;
    let named = settings.paths(&arguments.bundle, "BUNDLE")?;
    if let Some(found) = crate::delivery::at(&path)? {
        let held = named_manifest.is_some() || rebuild.is_some() || mark.is_some() || named.len() > 1;
        if policy.names_build {
            let message = "of a sealed delivery can be demanded who signed it, and nothing about its build";
            return Err(CommandError::usage(message).advise(
                "open it with `open-bundle` and a --policy that has it under [build], or verify the folder",
            ));
        }
        if held || summary.is_some() {
            let message = "a sealed delivery can be held against its own digests and signatures alone";
            return Err(
                CommandError::usage(message).advise("open it with `open-bundle`, and verify the folder")
            );
        }
        return delivery::run(context, found, &policy, offline, named.first().map(PathBuf::as_path)).await;
    }
    let place = find(&path)?;
    let manifest = read_manifest(&place, named_manifest.map(|path| settings.working_directory.join(path)))?;
    let packed = Packed::from_tarball(&place.tarball).map_err(|error| reading(&place.tarball, &error))?;
    let contents = packed.contents().map_err(|error| reading(&place.tarball, &error))?;
    let served = Served::read(&place.folder)?;
    let documents = Documents::read(&place, &named)?;
    let undocumented = documents.is_empty() && policy.documents().is_empty();
    if manifest.is_none() && rebuild.is_none() && served.is_none() && undocumented {
        let message = format!("there is nothing to hold `{}` against", place.tarball.display());
        return Err(CommandError::usage(message).advise(
            "give its build manifest with --manifest, its signed documents with --bundle, or the folder of its source with --rebuild",
        ));
    }
    let rebuilt = match rebuild {
        None => None,
        Some(folder) => {
            let folder = settings.source(Some(folder))?;
            let out = scratch.path().join("rebuilt");
            Some(again(context, &folder, out, manifest.as_ref(), &place, mark).await?)
        }
    };
    let believed = match documents.signed.is_empty() {
        true => None,
        false => Some(policy.believed(context, offline).await?),
    };
    let judged = documents.judge(&packed, &policy, believed.as_ref(), served.as_ref())?;
    if let Some(believed) = &believed {
        context.console.say(format!("  {:<8} {:<12} {}", "", "trusted", one_line(&believed.name)));
    }
    let unstated = believed.is_some_and(|believed| !believed.stated);
    report(
        context,
        &Subject { packed, contents, manifest, rebuilt, served },
        judged,
        &policy,
        summary,
        unstated,
    )
    .await
}

/// Reads `<name>@<version>`.
fn version_of(text: &str) -> Option<(PackageName, PackageVersion)> {
    let (name, version) = text.rsplit_once('@')?;
    Some((name.parse().ok()?, version.parse().ok()?))
}

/// Makes a folder, and refuses one that holds anything.
fn empty(folder: PathBuf) -> Result<PathBuf, CommandError> {
    let refuse = |why: String| {
        CommandError::usage(format!("the folder to download into, `{}`, {why}", folder.display()))
    };
    fs::create_dir_all(&folder).map_err(|error| refuse(format!("cannot be made: {error}")))?;
    let mut entries = fs::read_dir(&folder).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if entries.next().is_some() {
        return Err(refuse("is not empty".to_owned()));
    }
    Ok(folder)
}

async fn report(
    context: &Context,
    subject: &Subject,
    judged: Judged,
    policy: &Policy,
    summary: Option<Summary>,
    unstated_trust: bool,
) -> Result<(), CommandError> {
    let mut found: Vec<(&str, Finding)> =
        CHECKS.iter().filter_map(|check| Some((check.name, (check.run)(subject)?))).collect();
    let (build_level, inputs) = (judged.build_level, judged.inputs);
    found.extend(judged.rows);
    for (name, finding) in &found {
        say(context, name, finding);
    }
    let failed: Vec<&str> = found
        .iter()
        .filter(|(_, finding)| finding.outcome == Outcome::Failed)
        .map(|(name, _)| *name)
        .collect();
    let packed = &subject.packed;
    let about = format!("{}@{}", packed.name, packed.version);
    let written = match summary {
        None => Ok(None),
        Some(summary) => {
            let subject = Artifact::npm(&packed.name, &packed.version, &packed.sha256, &packed.integrity);
            let told = Summarised {
                verifier: VERIFIER.to_owned(),
                time: Timestamp::now(),
                policy: vsa::input(&policy.uri, &policy.sha256),
                inputs,
                build_level: failed.is_empty().then_some(build_level),
            };
            summary.write(context, &vsa::summary(subject, told)).await.map(Some)
        }
    };
    let written = match written {
        Ok(written) => written,
        Err(error) if failed.is_empty() => return Err(error),
        // That the package is not verified is what has to be told.
        Err(error) => {
            context.console.warn("Summary not written", &error.message);
            None
        }
    };
    let document = json!({
        "summary": written,
        "package": packed.name,
        "version": packed.version,
        "integrity": packed.integrity,
        "slsa_build_level": build_level,
        "checks": found.iter().map(|(name, finding)| finding.document(name)).collect::<Vec<_>>(),
    });
    context.console.output("verified", if failed.is_empty() { "true" } else { "false" });
    context.console.output("integrity", &packed.integrity.to_string());
    context.console.output("slsa-build-level", &build_level.to_string());
    let rows = found.iter().map(|(name, finding)| (*name, finding.word(), finding.text()));
    context.console.summary(&crate::summary::verified(&about, failed.is_empty(), rows));
    if failed.is_empty() {
        let how = match &subject.rebuilt {
            Some(rebuilt) => {
                format!("is what the source gives: {} files, the same in every byte", rebuilt.contents.len())
            }
            None if subject.manifest.is_some() => {
                "is what its build manifest says; its source was not asked".to_owned()
            }
            None => "is what its documents say; its source was not asked".to_owned(),
        };
        context.console.result(&format!("{about} {how}\n{}", packed.integrity), &document);
        return Ok(());
    }
    let mut failed = failed;
    failed.dedup();
    let error = CommandError::new(Kind::NotProven, format!("{about} is not verified: {}", failed.join(", ")));
    let hint = advice(&found).or(unstated_trust
        .then_some("documents of a private authority need its trusted root: give it with --trusted-root"));
    Err(error.hint(hint.map(protected_model::hint::Hint::new)).with_details(document))
}

/// Says which of several failures explains the others.
fn advice(found: &[(&str, Finding)]) -> Option<&'static str> {
    let is = |name: &str, outcome: Outcome| {
        found.iter().any(|(check, finding)| *check == name && finding.outcome == outcome)
    };
    if is("artifact", Outcome::Failed) || is("package", Outcome::Failed) {
        Some("the build manifest is that of another tarball, or one of the two was changed")
    } else if is("source", Outcome::Failed) {
        Some("this is not the source that was built: check out the commit that the build manifest names")
    } else if is("tools", Outcome::Note) {
        Some("build it again with the versions that the build manifest names")
    } else if is("seed", Outcome::Failed) {
        Some("the source is that of the build, so the build secret is another one")
    } else {
        None
    }
}

fn say(context: &Context, name: &str, finding: &Finding) {
    let (word, text) = (finding.word(), finding.text());
    context.console.say(format!("  {word:<8} {name:<12} {}", one_line(&text)));
    for difference in finding.differences.iter().take(SHOWN) {
        context.console.say(format!("  {:<8} {:<12} {}", "", "", one_line(&difference.to_string())));
    }
    let more = finding.differences.len().saturating_sub(SHOWN);
    if more > 0 {
        context.console.say(format!("  {:<8} {:<12} and {more} more", "", ""));
    }
}

impl Finding {
    /// Ok where both sides are the same, else `otherwise`.
    fn compare(expected: impl Into<String>, found: impl Into<String>, otherwise: Outcome) -> Option<Self> {
        let (expected, found) = (expected.into(), found.into());
        let outcome = if expected == found { Outcome::Ok } else { otherwise };
        Some(Self { outcome, expected, found, differences: Vec::new() })
    }

    /// Returns it as one of a result's checks, for programs.
    fn document(&self, check: &str) -> serde_json::Value {
        json!({
            "check": check,
            "outcome": self.outcome,
            "expected": self.expected,
            "found": self.found,
            "differences": self.differences,
        })
    }

    fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Note => "note",
            Outcome::Failed => "FAILED",
        }
    }

    /// What was found, and beside what was expected where that is something else.
    fn text(&self) -> String {
        match self.outcome {
            Outcome::Ok => self.found.clone(),
            Outcome::Note | Outcome::Failed => format!("expected {}, found {}", self.expected, self.found),
        }
    }
}

/// Name and version: those of the manifest, or of the source.
fn package(subject: &Subject) -> Option<Finding> {
    let manifest = subject.manifest.as_ref().or(subject.rebuilt.as_ref().map(|it| &it.built.manifest))?;
    let Packed { name, version, .. } = &subject.packed;
    let expected = format!("{}@{}", manifest.package_name, manifest.version);
    Finding::compare(expected, format!("{name}@{version}"), Outcome::Failed)
}

/// The tarball's bytes: those that the manifest names.
fn artifact(subject: &Subject) -> Option<Finding> {
    let expected = &subject.manifest.as_ref()?.artifact.integrity;
    Finding::compare(expected.to_string(), subject.packed.integrity.to_string(), Outcome::Failed)
}

/// The files: those that the package's own `integrity.json` lists, and nothing else in that.
fn integrity(subject: &Subject) -> Option<Finding> {
    let listed = subject.contents.get(integrity::FILE_NAME)?;
    let packed = &subject.packed;
    let files = packed.files.iter().filter(|file| file.path != integrity::FILE_NAME).cloned();
    let own = IntegrityManifest::new(packed.name.clone(), packed.version.clone(), files.collect());
    let found = told(&own);
    let expected = match serde_json::from_slice::<IntegrityManifest>(listed) {
        // Attack: a digest of the list that is not of the list, for who compares no more than that.
        Ok(list) if list.tree_sha256 != tree_sha256(&list.files) || list.schema != own.schema => {
            format!("{}, with the digest {} and the schema {}", told(&list), list.tree_sha256, list.schema)
        }
        Ok(list) => told(&list),
        Err(error) => format!("a list of files in {}: {error}", integrity::FILE_NAME),
    };
    Finding::compare(expected, found, Outcome::Failed)
}

fn told(list: &IntegrityManifest) -> String {
    format!("{}@{}, tree {}", list.package_name, list.version, tree_sha256(&list.files))
}

fn reading(path: &std::path::Path, error: &protected_npm::pack::PackError) -> CommandError {
    CommandError::from_error(Kind::BadInput, &format!("reading `{}`", path.display()), error)
}
