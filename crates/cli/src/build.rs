//! The hardened build of a package folder: list, harden, pack, and the documents about it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use protected_evidence::sbom::Graph;
use protected_harden::{HardenError, Hardened, Mark, Numbers, Options};
use protected_model::{
    api::{build::BuildRecordRequest, evidence::Document},
    build::{BuildManifest, Source},
    identity::RunIdentity,
    integrity::{self, ArtifactDigest, IntegrityManifest},
    name::{DeliveryLabel, ProjectSlug},
};
use protected_npm::pack::{self, Packed};
use serde::{Deserialize, Serialize};

use crate::{
    console::sizes,
    context::{self, Context, Session},
    document::document,
    error::{CommandError, Kind},
    escrow::Sealing,
    hardening::Unprotected,
    package::{Package, packing},
    provenance::{self, Circumstances},
    sbom::{self, Plan},
};

/// Where builds go when nothing else is said, below the working directory.
pub(crate) const DEFAULT_FOLDER: &str = "protected-build";

/// The file by which a folder is known as one of our builds, and so may be replaced.
pub(crate) const MANIFEST: &str = "evidence/build-manifest.json";

/// The file that says which delivery a build is marked for. It stands beside the artifact, never in it.
pub(crate) const DELIVERY: &str = "delivery.json";
const DELIVERY_MEDIA_TYPE: &str = "application/vnd.protected-registry.marked-copy.v1+json";

/// Which delivery a build is marked for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delivery {
    schema: String,
    pub(crate) delivery: DeliveryLabel,
}

/// A build to do.
pub(crate) struct Work {
    pub(crate) package: Package,
    /// [`DEFAULT_FOLDER`] and a folder of its own there when not given.
    pub(crate) out: Option<PathBuf>,
    pub(crate) options: Options,
    pub(crate) mark: Option<DeliveryLabel>,
    /// What becomes of files that a step cannot work on.
    pub(crate) unprotected: Unprotected,
    /// The key that the escrow is sealed under, where one is named.
    pub(crate) sealing: Option<Sealing>,
}

/// A finished build.
pub(crate) struct Built {
    /// `artifact/`, `evidence/`, `private/` and the tarball.
    pub(crate) folder: PathBuf,
    pub(crate) packed: Packed,
    pub(crate) manifest: BuildManifest,
    pub(crate) documents: Vec<Document>,
    /// What its provenance tells beside the manifest.
    pub(crate) circumstances: Circumstances,
    /// What the SBOM is of.
    pub(crate) graph: Graph,
    /// What went in, in bytes.
    pub(crate) source_bytes: u64,
    /// How many numbers of its mark stand in it, where it is marked.
    pub(crate) mark_numbers: Option<usize>,
}

impl Built {
    /// Writes the provenance once more, filled from the claims of a verified ID token.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn verified(&mut self, run: &RunIdentity) -> Result<(), CommandError> {
        let document = self.circumstances.say(&self.manifest, Some(run));
        let file = self.folder.join("evidence").join(provenance::FILE);
        fs::write(&file, &document.inline).map_err(|error| {
            CommandError::new(Kind::Failed, format!("cannot write `{}`: {error}", file.display()))
        })?;
        self.documents.retain(|other| other.kind != provenance::KIND);
        self.documents.push(document);
        Ok(())
    }
}

/// Hardens and packs `package` into `out`, on a thread of its own.
///
/// # Errors
/// When the package cannot be listed, hardened or packed, when `out` holds something else, and when `stop` is
/// raised. Nothing is left behind then.
pub(crate) async fn build(
    context: &Context,
    work: Work,
    stop: Arc<AtomicBool>,
) -> Result<Built, CommandError> {
    let circumstances = Circumstances::new(context.unverified_identity());
    let default = context.settings.working_directory.join(DEFAULT_FOLDER);
    let plan = Plan::new(&context.settings, &work.package.folder)?;
    let started = Instant::now();
    let built = context::compute(move || run(work, &default, circumstances, &plan, &stop)).await?;
    let how = format!(
        "{} files, {}",
        built.packed.files.len(),
        sizes(built.source_bytes, built.packed.unpacked_size)
    );
    context.console.step("harden", how, started);
    sbom::say(&context.console, &built.graph);
    Ok(built)
}

fn run(
    work: Work,
    default: &Path,
    mut circumstances: Circumstances,
    plan: &Plan,
    stop: &AtomicBool,
) -> Result<Built, CommandError> {
    let source = source(circumstances.unverified_identity.clone());
    let Work { package, out, options, mark, unprotected, sealing } = work;
    let is_default = out.is_none();
    let base = package.name.file_base();
    // No version has a `~`: the copies of one version stand beside it.
    let copy = mark.as_ref().map_or_else(String::new, |mark| format!("~{mark}"));
    let out = out.unwrap_or_else(|| default.join(format!("{base}-{}{copy}", package.version)));
    check_replaceable(&out)?;
    check_apart(&package.folder, &out, default)?;
    let parent = out.parent().unwrap_or(Path::new("."));
    let cannot = |doing: &str, path: &Path, error: std::io::Error| {
        CommandError::new(Kind::Failed, format!("cannot {doing} `{}`: {error}", path.display()))
    };
    fs::create_dir_all(parent).map_err(|error| cannot("make the folder", parent, error))?;
    if is_default {
        ignored(default).map_err(|error| cannot("make the folder", default, error))?;
    }
    // In the same folder as the result so that one rename shows it, and gone on drop until then.
    let staging = tempfile::Builder::new()
        .prefix(".protected-build-")
        .tempdir_in(parent)
        .map_err(|error| cannot("make a folder in", parent, error))?;
    let root = staging.path();
    let (artifact, evidence, private) = (root.join("artifact"), root.join("evidence"), root.join("private"));
    for folder in [&artifact, &evidence, &private] {
        fs::create_dir(folder).map_err(|error| cannot("make the folder", folder, error))?;
    }
    restrict(&private).map_err(|error| cannot("restrict", &private, error))?;
    // What is to be sealed lies in clear only until it is, in a folder that nobody else may enter.
    let clear = if sealing.is_some() { root.join("clear") } else { private.clone() };
    if sealing.is_some() {
        fs::create_dir(&clear).map_err(|error| cannot("make the folder", &clear, error))?;
        restrict(&clear).map_err(|error| cannot("restrict", &clear, error))?;
    }

    let outside = [canonical(default), canonical(&out), canonical(root)];
    let listed = pack::list(&package.folder).map_err(|error| packing(&package.folder, &error))?;
    let files: Vec<_> = listed
        .into_iter()
        .filter(|file| !outside.iter().flatten().any(|folder| file.absolute.starts_with(folder)))
        .collect();
    let source_bytes = files.iter().map(|file| file.size).sum();
    let files: Vec<_> = files
        .into_iter()
        .map(|file| protected_harden::SourceFile {
            path: file.path,
            absolute: file.absolute,
            mode: file.mode,
        })
        .collect();
    let manifest_file = package.folder.join("package.json");
    let package_json =
        fs::read_to_string(&manifest_file).map_err(|error| cannot("read", &manifest_file, error))?;
    let tsconfig = Some(package.folder.join("tsconfig.json")).filter(|path| path.is_file());
    let request = protected_harden::Request {
        files: &files,
        package_json: package_json.trim_start_matches('\u{feff}'),
        tsconfig: tsconfig.as_deref(),
        artifact: &artifact,
        escrow: &clear,
        options: &options,
        cancelled: stop,
    };
    let (hardened, graph) = std::thread::scope(|scope| {
        let graph = scope.spawn(|| plan.collect(&package.folder));
        (protected_harden::harden(&request), graph.join())
    });
    let mut hardened = hardened.map_err(|error| hardening(&error))?;
    let graph = graph.unwrap_or_else(|_| {
        Err(CommandError::new(Kind::Failed, "making the SBOM ended unexpectedly".to_owned()))
    })?;
    check_ran(&options, &hardened)?;
    unprotected.check(&package.name, &hardened.unprotected)?;
    let mark_numbers = match (&mark, &options.obfuscation.mark) {
        (Some(label), Some(mark)) => Some(read_back(&artifact, &hardened, label, mark)?),
        _ => None,
    };
    if let Some(sealing) = &sealing {
        if let Some(escrow) = &mut hardened.escrow {
            sealing.seal(&clear, &private, &package.name, &package.version, escrow)?;
            escrow.key_ref = Some(sealing.key_ref().clone());
        }
        fs::remove_dir_all(&clear).map_err(|error| cannot("remove the folder", &clear, error))?;
    }

    let packed =
        pack::pack_exactly(&artifact, &hardened.artifact).map_err(|error| packing(&artifact, &error))?;
    packed.write(root).map_err(|error| packing(root, &error))?;
    let (sboms, step) = plan.write(&graph, &packed, &hardened, &source);
    hardened.pipeline.push(step);
    hardened.pipeline.push(provenance::step(&hardened));
    let (manifest, mut documents) = documents(&package, &packed, hardened, source);
    documents.extend(sboms);
    let names = ["integrity.json", "build-manifest.json", sbom::FILES[0], sbom::FILES[1]];
    circumstances.finish(&graph, documents.iter().zip(names));
    documents.push(circumstances.say(&manifest, None));
    for (document, name) in documents.iter().zip(names.into_iter().chain([provenance::FILE])) {
        let file = evidence.join(name);
        fs::write(&file, &document.inline).map_err(|error| cannot("write", &file, error))?;
    }
    if let Some(mark) = mark {
        let file = root.join(DELIVERY);
        let delivery = Delivery { schema: DELIVERY_MEDIA_TYPE.to_owned(), delivery: mark };
        fs::write(&file, integrity::canonical(&delivery)).map_err(|error| cannot("write", &file, error))?;
    }
    if out.exists() {
        fs::remove_dir_all(&out).map_err(|error| cannot("replace the former build", &out, error))?;
    }
    let staged = staging.keep();
    if let Err(error) = fs::rename(&staged, &out) {
        let _ = fs::remove_dir_all(&staged);
        return Err(cannot("finish the build in", &out, error));
    }
    Ok(Built { folder: out, packed, manifest, documents, circumstances, graph, source_bytes, mark_numbers })
}

/// How many deliveries there may be besides the one that a marked copy is for, so that it is still named.
const MOST_DELIVERIES: usize = 1_000_000;

/// Reads the mark from the finished code, as [`trace`](crate::command) would from a leak, and returns how many of its
/// numbers stand there. A copy that could not be told from others is refused before anybody gets it.
fn read_back(
    artifact: &Path,
    hardened: &Hardened,
    label: &DeliveryLabel,
    mark: &Mark,
) -> Result<usize, CommandError> {
    let mut numbers = Numbers::default();
    for file in &hardened.artifact {
        let path = artifact.join(&file.path);
        let content = fs::read(&path).map_err(|error| {
            CommandError::new(Kind::Failed, format!("cannot read `{}` again: {error}", path.display()))
        })?;
        numbers.extend(&Numbers::of(&String::from_utf8_lossy(&content)));
    }
    let found = numbers.compare(mark, MOST_DELIVERIES);
    if found.is_certain() {
        return Ok(found.hits());
    }
    let message = format!(
        "the package is too small to carry the mark of `{label}`: {} of its numbers stand in the code, and a leak could not be told from chance",
        found.hits()
    );
    Err(CommandError::new(Kind::BadInput, message).advise(
        "obfuscate more of it: a mark stands in the code that the profiles `standard` and `strong` make",
    ))
}

/// Refuses a build in which a step that was asked for is not there.
fn check_ran(options: &Options, hardened: &Hardened) -> Result<(), CommandError> {
    let asked = [
        ("bundle", options.bundle),
        ("minify", options.minify),
        ("obfuscate", options.obfuscation.is_wanted()),
        ("escrow", options.escrow),
    ];
    let ran = |name: &str| hardened.pipeline.iter().any(|step| step.step == name);
    match asked.into_iter().find(|(name, asked)| *asked && !ran(name)) {
        Some((name, _)) => {
            Err(CommandError::new(Kind::Failed, format!("the step `{name}` is configured, and did not run")))
        }
        None => Ok(()),
    }
}

/// Refuses a build that would replace its own source, or leave it out as a former build.
fn check_apart(source: &Path, out: &Path, default: &Path) -> Result<(), CommandError> {
    for folder in [out, default] {
        if canonical(folder).is_some_and(|folder| source.starts_with(folder)) {
            return Err(CommandError::usage(format!(
                "the package's folder `{}` lies in the folder for builds, `{}`",
                source.display(),
                folder.display()
            ))
            .advise("name another folder with --out"));
        }
    }
    Ok(())
}

/// Refuses a folder that is neither empty nor one of our builds: it would be replaced.
fn check_replaceable(out: &Path) -> Result<(), CommandError> {
    if !out.exists() {
        return Ok(());
    }
    let empty = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    let mark = fs::read(out.join(MANIFEST)).ok();
    let build = mark.is_some_and(|json| serde_json::from_slice::<BuildManifest>(&json).is_ok());
    if empty || build {
        return Ok(());
    }
    Err(CommandError::usage(format!(
        "the folder for the build, `{}`, holds something that is not a former build",
        out.display()
    ))
    .advise("name another folder with --out, or empty that one"))
}

fn documents(
    package: &Package,
    packed: &Packed,
    hardened: Hardened,
    source: Source,
) -> (BuildManifest, Vec<Document>) {
    let artifact = ArtifactDigest {
        filename: packed.filename.clone(),
        size: packed.size,
        sha256: packed.sha256,
        integrity: packed.integrity,
    };
    let files = packed.files.iter().filter(|file| file.path != integrity::FILE_NAME).cloned().collect();
    let mut list = IntegrityManifest::new(package.name.clone(), package.version.clone(), files);
    list.artifact = Some(artifact.clone());
    let manifest = BuildManifest {
        schema: protected_model::build::MEDIA_TYPE.to_owned(),
        package_name: package.name.clone(),
        version: package.version.clone(),
        source: Source { tree_sha256: Some(hardened.source_tree_sha256), ..source },
        pipeline: hardened.pipeline,
        protection: hardened.protection,
        hardening: Some(hardened.hardening),
        unprotected: hardened.unprotected,
        kept_apart: hardened.kept_apart,
        shaken: hardened.shaken,
        source_map_escrow: hardened.escrow,
        artifact,
    };
    let documents = vec![
        document("integrity-manifest", integrity::MEDIA_TYPE, &list),
        document("protected-build", protected_model::build::MEDIA_TYPE, &manifest),
    ];
    (manifest, documents)
}

/// Puts a build on record with FractalOps and returns the record's id.
///
/// # Errors
/// When FractalOps refuses, as it does when another build of the same version is on record.
pub(crate) async fn record(
    context: &Context,
    session: &Session,
    project: &ProjectSlug,
    built: &Built,
    dry_run: bool,
) -> Result<String, CommandError> {
    let started = Instant::now();
    let manifest = &built.manifest;
    let request = BuildRecordRequest {
        tenant_id: None,
        project_slug: project.clone(),
        package_name: manifest.package_name.clone(),
        version: manifest.version.clone(),
        source: manifest.source.clone(),
        pipeline: manifest.pipeline.clone(),
        protection: manifest.protection,
        hardening: manifest.hardening.clone(),
        artifact: manifest.artifact.clone(),
        manifests: built.documents.clone(),
        source_map_escrow: manifest.source_map_escrow.clone(),
        dry_run,
    };
    let answer = context.cancel.or(session.fractalops.record_build(&session.token, &request)).await?;
    let recorded = answer.map_err(|error| {
        let doing = format!("recording the build of `{}@{}`", manifest.package_name, manifest.version);
        CommandError::from_fractalops(&doing, error)
    })?;
    let how = if dry_run { "would be recorded".to_owned() } else { format!("build {}", recorded.build_id) };
    context.console.step("record", how, started);
    Ok(recorded.build_id)
}

fn source(unverified_identity: Option<RunIdentity>) -> Source {
    unverified_identity.map_or_else(Source::default, |run| Source {
        repository: run.repository,
        commit: run.sha,
        git_ref: run.git_ref,
        tree_sha256: None,
    })
}

fn hardening(error: &HardenError) -> CommandError {
    CommandError::from_error(Kind::BadInput, "hardening", error).hint(error.hint())
}

fn canonical(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

#[cfg(unix)]
fn restrict(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn restrict(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Makes a folder whose content is never committed by accident, as cargo and venv do.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn ignored(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    // Never through a link that somebody left there.
    match fs::File::create_new(folder.join(".gitignore")).and_then(|mut file| file.write_all(b"*\n")) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
