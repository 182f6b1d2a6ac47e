//! Hardens many programs, or one package, in one process: what `cargo xtask conformance` measures.
//!
//! `transform [options]` reads a line of JSON for each program from standard input, `{"id", "path", "text"}`, and
//! writes a line for each as it is done: `{"id", "code"}`, with `unprotected` where names and structure were kept,
//! or `{"id", "refused"}`. Each program is a package of its own, hardened by the build that users run.
//!
//! `transform [options] --package <folder> <artifact>` hardens a whole folder.
//!
//! Options: `--profile light|standard|strong`, `--keep-names`, `--no-minify`, `--threads <n>`, `--secret <text>`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer command talks on its terminal")]

use std::{
    error::Error,
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
};

use protected_harden::{HardenError, Hardened, Options, Profile, Request, SourceFile, harden};
use protected_model::secret::BuildSecret;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a program is alone in.
const PACKAGE_JSON: &str = r#"{"name":"program","version":"1.0.0"}"#;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut options = Options { escrow: false, ..Options::default() };
    let mut threads = 1;
    let mut package = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--profile" => options.obfuscation.profile = profile(&value()?)?,
            "--keep-names" => options.keep_names = true,
            "--no-minify" => options.minify = false,
            "--bundle" => options.bundle = true,
            "--secret" => options.obfuscation.secret = Some(BuildSecret::new(value()?)),
            "--threads" => threads = value()?.parse()?,
            "--package" => package = Some((PathBuf::from(value()?), PathBuf::from(value()?))),
            _ => return Err(format!("no option `{argument}`").into()),
        }
    }
    match package {
        Some((folder, artifact)) => whole(&folder, &artifact, &Options { threads: Some(threads), ..options }),
        None => programs(threads, &Options { threads: Some(1), ..options }),
    }
}

fn profile(name: &str) -> Result<Profile> {
    [Profile::Light, Profile::Standard, Profile::Strong]
        .into_iter()
        .find(|profile| profile.name() == name)
        .ok_or_else(|| format!("no profile `{name}`").into())
}

/// Hardens each program of standard input.
fn programs(threads: usize, options: &Options) -> Result<()> {
    let lines = Mutex::new(BufReader::new(io::stdin()).lines());
    let next = || lines.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<()> {
        let bench = tempfile::tempdir()?;
        while let Some(line) = next() {
            let program: Value = serde_json::from_str(&line?)?;
            let field =
                |name: &str| program[name].as_str().ok_or_else(|| format!("a program has no `{name}`"));
            let answer = match alone(bench.path(), field("path")?, field("text")?, options)? {
                Ok((code, unprotected)) => {
                    json!({ "id": program["id"], "code": code, "unprotected": unprotected })
                }
                Err(error) => json!({ "id": program["id"], "refused": error.to_string() }),
            };
            writeln!(io::stdout().lock(), "{answer}")?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let results = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|_| Err("a worker of the transformer panicked".into()))
        });
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Hardens one program, and returns its code and why it was left as it is, if it was.
fn alone(
    bench: &Path,
    path: &str,
    text: &str,
    options: &Options,
) -> Result<std::result::Result<(String, Option<String>), HardenError>> {
    let (source, artifact, escrow) = (bench.join("source"), bench.join("artifact"), bench.join("escrow"));
    fs::write(&source, text)?;
    for folder in [&artifact, &escrow] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir(folder)?;
    }
    let files = [SourceFile { path: path.to_owned(), absolute: source, mode: 0o644 }];
    let hardened = build(&files, PACKAGE_JSON, None, &artifact, &escrow, options);
    Ok(match hardened {
        Ok(mut hardened) => Ok((fs::read_to_string(artifact.join(path))?, hardened.unprotected.remove(path))),
        Err(error) => Err(error),
    })
}

/// Hardens the package in `folder`, and says which files are published less protected.
fn whole(folder: &Path, artifact: &Path, options: &Options) -> Result<()> {
    let mut files = Vec::new();
    list(folder, "", &mut files)?;
    let package_json = fs::read_to_string(folder.join("package.json"))?;
    let tsconfig = Some(folder.join("tsconfig.json")).filter(|path| path.exists());
    let escrow = tempfile::tempdir()?;
    fs::create_dir_all(artifact)?;
    let hardened = build(&files, &package_json, tsconfig.as_deref(), artifact, escrow.path(), options)?;
    let steps: Vec<Value> = hardened.pipeline.iter().map(|step| json!([step.step, step.files])).collect();
    let apart = hardened.kept_apart;
    println!("{}", json!({ "unprotected": hardened.unprotected, "kept_apart": apart, "steps": steps }));
    Ok(())
}

fn build(
    files: &[SourceFile],
    package_json: &str,
    tsconfig: Option<&Path>,
    artifact: &Path,
    escrow: &Path,
    options: &Options,
) -> std::result::Result<Hardened, HardenError> {
    let cancelled = &AtomicBool::new(false);
    harden(&Request { files, package_json, tsconfig, artifact, escrow, options, cancelled })
}

/// Lists the files below `folder`, but for what npm never packs.
fn list(folder: &Path, below: &str, files: &mut Vec<SourceFile>) -> Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let name =
            entry.file_name().into_string().map_err(|name| format!("no Unicode: {}", name.display()))?;
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            if name != "node_modules" && name != ".git" {
                list(folder, &path, files)?;
            }
        } else if entry.file_type()?.is_file() {
            files.push(SourceFile { path, absolute: entry.path(), mode: 0o644 });
        }
    }
    Ok(())
}
