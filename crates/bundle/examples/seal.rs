//! Seals and opens one file, or packs a folder: what the benchmark measures.
//!
//! `seal seal|open|pack <threads> <from> <to>`

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use protected_bundle::{DataKey, ParallelOpener, ParallelSealer, archive};
use protected_model::{
    delivery::{Content, ContentPath},
    digest::Sha256,
};
use sha2::Digest as _;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[expect(clippy::print_stderr, reason = "a program of its own")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let [what, threads, from, to] = arguments else {
        return Err("seal seal|open|pack <threads> <from> <to>".into());
    };
    // One key for all: sealing and opening are processes of their own.
    let (key, threads) = (DataKey::try_from([7; 32].as_slice())?, threads.parse()?);
    let to = fs::File::options().write(true).create(true).truncate(true).open(to)?;
    match what.as_str() {
        "seal" => {
            let mut sealer = ParallelSealer::new(&key, b"benchmark", to, threads)?;
            copy(&mut fs::File::open(from)?, &mut sealer)?;
            sealer.finish()?;
        }
        "open" => {
            let mut opener = ParallelOpener::new(&key, b"benchmark", fs::File::open(from)?, threads)?;
            copy(&mut opener, &mut &to)?;
            opener.finish()?;
        }
        "pack" => {
            let sources = list(Path::new(from))?;
            let contents =
                sources.iter().map(|(path, source)| content(path, source)).collect::<Result<Vec<_>>>()?;
            let mut sealer = ParallelSealer::new(&key, b"benchmark", to, threads)?;
            let open = |path: &ContentPath| match sources.get(path) {
                Some(source) => fs::File::open(source),
                None => Err(io::ErrorKind::NotFound.into()),
            };
            archive::pack(&contents, open, &mut sealer)?;
            sealer.finish()?;
        }
        other => return Err(format!("no `{other}`").into()),
    }
    Ok(())
}

/// Copies in pieces of the size that [`archive::pack`] reads.
fn copy(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return to.flush(),
            read => to.write_all(&buffer[..read])?,
        }
    }
}

/// The files below a folder whose paths a delivery can have.
fn list(folder: &Path) -> Result<BTreeMap<ContentPath, PathBuf>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(below)? {
            let (entry, kind) = entry.and_then(|entry| entry.file_type().map(|kind| (entry, kind)))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let name = entry.path().strip_prefix(folder)?.to_string_lossy().into_owned();
                found.extend(name.parse().ok().map(|path| (path, entry.path())));
            }
        }
    }
    Ok(found)
}

fn content(path: &ContentPath, source: &Path) -> Result<Content> {
    let (mut file, mut digest, mut size) = (fs::File::open(source)?, sha2::Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = io::Read::read(&mut file, &mut buffer)?;
        if read == 0 {
            return Ok(Content {
                path: path.clone(),
                sha256: Sha256::from_bytes(digest.finalize().into()),
                size,
            });
        }
        digest.update(&buffer[..read]);
        size += read as u64;
    }
}
