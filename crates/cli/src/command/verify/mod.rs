//! `verify`: holds a package against its build manifest, and against what its source gives when it is built again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use protected_harden::Options;
use protected_model::{
    build::{BuildManifest, PipelineStep},
    integrity::{self, IntegrityManifest, tree_sha256},
    name::DeliveryLabel,
};
use protected_npm::pack::Packed;
use serde::Serialize;
use serde_json::json;

use crate::{
    args::Verify,
    build::{self, Built, DELIVERY, Delivery, Work},
    console::one_line,
    context::Context,
    error::{CommandError, Kind},
    hardening::{self, Unprotected},
};

/// Every check, in the order in which the results stand.
const CHECKS: &[Check] = &[
    Check { name: "package", run: package },
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
}

/// The package as its source gives it.
struct Rebuilt {
    built: Built,
    contents: BTreeMap<String, Vec<u8>>,
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

/// A file that is not the one that the source gives.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    path: String,
    #[serde(flatten)]
    kind: DifferenceKind,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "difference", rename_all = "lowercase")]
enum DifferenceKind {
    /// It is in the package alone.
    Added,
    /// It is not in the package.
    Missing,
    /// Its permission bits.
    Mode { expected: String, found: String },
    /// Its bytes, from this one on, counted from 0.
    Content {
        first_byte: usize,
        line: usize,
        expected: String,
        found: String,
        expected_bytes: usize,
        found_bytes: usize,
    },
}

/// Runs every check that can be run.
///
/// # Errors
/// When the package, its manifest or its source cannot be read or built, and [`Kind::NotProven`] when a check failed.
pub(crate) async fn run(context: &Context, arguments: Verify) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("verify")?;
    let given = settings.value(arguments.artifact, "ARTIFACT", None)?.ok_or_else(|| {
        CommandError::usage("nothing to verify is named")
            .advise("name a tarball, or the folder of a build: protected-registry verify <artifact>")
    })?;
    let given = settings.working_directory.join(given);
    let place = find(&given)?;
    let named = settings.value(arguments.manifest, "MANIFEST", None)?;
    let manifest = read_manifest(&place, named.map(|path| settings.working_directory.join(path)))?;
    let rebuild = settings.value(arguments.rebuild, "REBUILD", None)?;
    let mark = settings.value(arguments.mark, "MARK", None)?;
    let packed = Packed::from_tarball(&place.tarball).map_err(|error| reading(&place.tarball, &error))?;
    let contents = packed.contents().map_err(|error| reading(&place.tarball, &error))?;
    if manifest.is_none() && rebuild.is_none() {
        let message = format!("there is nothing to hold `{}` against", place.tarball.display());
        return Err(CommandError::usage(message)
            .advise("give its build manifest with --manifest, or the folder of its source with --rebuild"));
    }
    // Gone on drop, the rebuilt package with it.
    let scratch = tempfile::tempdir().map_err(|error| {
        CommandError::new(Kind::Failed, format!("cannot make a folder to build in: {error}"))
    })?;
    let rebuilt = match rebuild {
        None => None,
        Some(folder) => {
            let folder = settings.source(Some(folder))?;
            let out = scratch.path().join("rebuilt");
            Some(again(context, &folder, out, manifest.as_ref(), &place, mark).await?)
        }
    };
    report(context, &Subject { packed, contents, manifest, rebuilt })
}

/// A tarball and the folder that it stands in.
struct Place {
    tarball: PathBuf,
    folder: PathBuf,
}

fn find(given: &Path) -> Result<Place, CommandError> {
    let refuse = |why: &str| CommandError::usage(format!("`{}` {why}", given.display()));
    if given.is_file() {
        let folder = given.parent().unwrap_or(Path::new(".")).to_owned();
        return Ok(Place { tarball: given.to_owned(), folder });
    }
    if !given.is_dir() {
        return Err(refuse("is not there: expected a tarball, or the folder of a build"));
    }
    let entries = fs::read_dir(given).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let tarballs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .collect();
    match tarballs.as_slice() {
        [tarball] => Ok(Place { tarball: tarball.clone(), folder: given.to_owned() }),
        found => Err(refuse(&format!("holds {} tarballs, and the folder of a build holds one", found.len()))),
    }
}

fn read_manifest(place: &Place, named: Option<PathBuf>) -> Result<Option<BuildManifest>, CommandError> {
    let beside = place.folder.join(build::MANIFEST);
    let path = match named {
        Some(path) => path,
        None if beside.is_file() => beside,
        None => return Ok(None),
    };
    let refuse = |why: String| {
        CommandError::new(Kind::BadInput, format!("the build manifest `{}` {why}", path.display()))
    };
    let json = fs::read(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    serde_json::from_slice(&json).map(Some).map_err(|error| refuse(format!("is not one: {error}")))
}

/// Builds the source as the manifest says, or as the configuration does where there is none.
async fn again(
    context: &Context,
    folder: &Path,
    out: PathBuf,
    manifest: Option<&BuildManifest>,
    place: &Place,
    mark: Option<DeliveryLabel>,
) -> Result<Rebuilt, CommandError> {
    let package = build::look_at(folder, None, None)?;
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
            None => delivery(&place.folder)?.ok_or_else(|| {
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

/// Returns which delivery the build in `folder` is marked for, if any.
///
/// # Errors
/// When the file is there and says nothing.
pub(super) fn delivery(folder: &Path) -> Result<Option<DeliveryLabel>, CommandError> {
    let file = folder.join(DELIVERY);
    if !file.exists() {
        return Ok(None);
    }
    let refuse = |why: String| CommandError::new(Kind::BadInput, format!("`{}` {why}", file.display()));
    let json = fs::read(&file).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let found: Delivery =
        serde_json::from_slice(&json).map_err(|error| refuse(format!("names no delivery: {error}")))?;
    Ok(Some(found.delivery))
}

fn report(context: &Context, subject: &Subject) -> Result<(), CommandError> {
    let found: Vec<(&str, Finding)> =
        CHECKS.iter().filter_map(|check| Some((check.name, (check.run)(subject)?))).collect();
    for (name, finding) in &found {
        say(context, name, finding);
    }
    let document = json!({
        "package": subject.packed.name,
        "version": subject.packed.version,
        "integrity": subject.packed.integrity,
        "checks": found.iter().map(|(name, finding)| json!({
            "check": name,
            "outcome": finding.outcome,
            "expected": finding.expected,
            "found": finding.found,
            "differences": finding.differences,
        })).collect::<Vec<_>>(),
    });
    let about = format!("{}@{}", subject.packed.name, subject.packed.version);
    let failed: Vec<&str> = found
        .iter()
        .filter(|(_, finding)| finding.outcome == Outcome::Failed)
        .map(|(name, _)| *name)
        .collect();
    if failed.is_empty() {
        let how = match &subject.rebuilt {
            Some(rebuilt) => {
                format!("is what the source gives: {} files, the same in every byte", rebuilt.contents.len())
            }
            None => "is what its build manifest says; its source was not asked".to_owned(),
        };
        context.console.result(&format!("{about} {how}\n{}", subject.packed.integrity), &document);
        return Ok(());
    }
    let error = CommandError::new(Kind::NotProven, format!("{about} is not verified: {}", failed.join(", ")));
    Err(error.hint(advice(&found).map(protected_model::hint::Hint::new)).with_details(document))
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
    let word = match finding.outcome {
        Outcome::Ok => "ok",
        Outcome::Note => "note",
        Outcome::Failed => "FAILED",
    };
    let text = if finding.outcome == Outcome::Ok {
        finding.found.clone()
    } else {
        format!("expected {}, found {}", finding.expected, finding.found)
    };
    context.console.say(format!("  {word:<8} {name:<10} {}", one_line(&text)));
    for difference in finding.differences.iter().take(SHOWN) {
        context.console.say(format!("  {:<8} {:<10} {}", "", "", one_line(&difference.to_string())));
    }
    let more = finding.differences.len().saturating_sub(SHOWN);
    if more > 0 {
        context.console.say(format!("  {:<8} {:<10} and {more} more", "", ""));
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = &self.path;
        match &self.kind {
            DifferenceKind::Added => write!(f, "`{path}` is in the package, and the source does not give it"),
            DifferenceKind::Missing => write!(f, "`{path}` is not in the package, and the source gives it"),
            DifferenceKind::Mode { expected, found } => {
                write!(f, "`{path}` has the permissions {found}, expected {expected}")
            }
            DifferenceKind::Content { first_byte, line, expected, found, expected_bytes, found_bytes } => {
                write!(
                    f,
                    "`{path}` differs from byte {first_byte} on (line {line}): expected `{expected}`, found `{found}`; {expected_bytes} and {found_bytes} bytes"
                )
            }
        }
    }
}

impl Finding {
    /// Ok where both sides are the same, else `otherwise`.
    fn compare(expected: impl Into<String>, found: impl Into<String>, otherwise: Outcome) -> Option<Self> {
        let (expected, found) = (expected.into(), found.into());
        let outcome = if expected == found { Outcome::Ok } else { otherwise };
        Some(Self { outcome, expected, found, differences: Vec::new() })
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

/// The files: those that the package's own `integrity.json` lists.
fn integrity(subject: &Subject) -> Option<Finding> {
    let listed = subject.contents.get(integrity::FILE_NAME)?;
    let files = subject.packed.files.iter().filter(|file| file.path != integrity::FILE_NAME).cloned();
    let found = format!("tree {}", tree_sha256(&files.collect::<Vec<_>>()));
    let expected = match serde_json::from_slice::<IntegrityManifest>(listed) {
        Ok(list) => format!("tree {}", tree_sha256(&list.files)),
        Err(error) => format!("a list of files in {}: {error}", integrity::FILE_NAME),
    };
    Finding::compare(expected, found, Outcome::Failed)
}

/// What built it: another version may build otherwise.
fn tools(subject: &Subject) -> Option<Finding> {
    let (manifest, rebuilt) = (subject.manifest.as_ref()?, subject.rebuilt.as_ref()?);
    let names = |pipeline: &[PipelineStep]| {
        let tools: BTreeSet<String> =
            pipeline.iter().map(|step| format!("{} {}", step.tool, step.tool_version)).collect();
        tools.into_iter().collect::<Vec<_>>().join(", ")
    };
    Finding::compare(names(&manifest.pipeline), names(&rebuilt.built.manifest.pipeline), Outcome::Note)
}

/// What went in.
fn source(subject: &Subject) -> Option<Finding> {
    let (manifest, rebuilt) = (subject.manifest.as_ref()?, subject.rebuilt.as_ref()?);
    let expected = manifest.source.tree_sha256?;
    let found = rebuilt.built.manifest.source.tree_sha256?;
    Finding::compare(format!("tree {expected}"), format!("tree {found}"), Outcome::Failed)
}

/// What the choices follow from: the source, and the build secret.
fn seed(subject: &Subject) -> Option<Finding> {
    let (manifest, rebuilt) = (subject.manifest.as_ref()?, subject.rebuilt.as_ref()?);
    let commitment = |manifest: &BuildManifest| {
        manifest.hardening.as_ref().map(|hardening| format!("commitment {}", hardening.seed_commitment))
    };
    Finding::compare(commitment(manifest)?, commitment(&rebuilt.built.manifest)?, Outcome::Failed)
}

/// What was done, with which parameters.
fn steps(subject: &Subject) -> Option<Finding> {
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
fn files(subject: &Subject) -> Option<Finding> {
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
fn tarball(subject: &Subject) -> Option<Finding> {
    let rebuilt = subject.rebuilt.as_ref()?;
    let expected = rebuilt.built.packed.integrity.to_string();
    Finding::compare(expected, subject.packed.integrity.to_string(), Outcome::Note)
}

type Unpacked<'a> = (&'a Packed, &'a BTreeMap<String, Vec<u8>>);

fn differences(expected: Unpacked<'_>, found: Unpacked<'_>) -> Vec<Difference> {
    let paths: BTreeSet<&String> = expected.1.keys().chain(found.1.keys()).collect();
    let mut differences = Vec::new();
    for path in paths {
        let mut add = |kind| differences.push(Difference { path: path.clone(), kind });
        match (expected.1.get(path), found.1.get(path)) {
            (None, _) => add(DifferenceKind::Added),
            (_, None) => add(DifferenceKind::Missing),
            (Some(a), Some(b)) if a != b => add(content(a, b)),
            (Some(_), Some(_)) => {
                let mode = |packed: &Packed| {
                    packed.files.iter().find(|file| file.path == *path).map(|file| file.mode.clone())
                };
                if let (Some(expected), Some(found)) = (mode(expected.0), mode(found.0))
                    && expected != found
                {
                    add(DifferenceKind::Mode { expected, found });
                }
            }
        }
    }
    differences
}

/// Describes two contents that differ.
fn content(expected: &[u8], found: &[u8]) -> DifferenceKind {
    let first_byte = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let shown = |bytes: &[u8]| {
        let rest = bytes.get(first_byte..).unwrap_or_default();
        String::from_utf8_lossy(&rest[..rest.len().min(24)]).replace('`', "'")
    };
    DifferenceKind::Content {
        first_byte,
        line: 1 + expected[..first_byte].iter().filter(|byte| **byte == b'\n').count(),
        expected: shown(expected),
        found: shown(found),
        expected_bytes: expected.len(),
        found_bytes: found.len(),
    }
}

fn reading(path: &Path, error: &protected_npm::pack::PackError) -> CommandError {
    CommandError::from_error(Kind::BadInput, &format!("reading `{}`", path.display()), error)
}
