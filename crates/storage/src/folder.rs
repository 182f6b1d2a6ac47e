//! A folder, here or on a mounted disk.
//!
//! Written by hand and not by a crate: a file appears by rename once it is on the disk, links are not followed, and
//! what a killed process left is swept.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use protected_bundle::staging::{self, sync_folder};
use protected_model::digest::Sha256;
use tempfile::NamedTempFile;

use crate::{
    AreaRef, StorageError, blocking,
    files::{Files, Pieces, Sent, Version},
    source::Source,
};

/// How much is read and written at once.
const PIECE: usize = 1 << 20;

/// How the files that are being written begin.
const NEW: &str = ".new-";

/// How old what is swept is at least.
const SWEPT_AFTER: Duration = Duration::from_secs(60);

pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Runs something with the path of a file.
    async fn with<T: Send + 'static>(
        &self,
        name: &str,
        run: impl FnOnce(&Place) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let place = Place { root: self.root.clone(), path: self.root.join(name) };
        blocking(move || run(&place)).await
    }
}

/// A file of an area.
struct Place {
    root: PathBuf,
    path: PathBuf,
}

impl Place {
    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> StorageError {
        let path = self.path.clone();
        move |source| StorageError::File { action, path: path.clone(), source }
    }

    /// Opens the file, if it is there.
    fn open(&self) -> Result<Option<File>, StorageError> {
        let failed = self.failed("read");
        self.in_folders()?;
        // Attack: a link to a file elsewhere, or a pipe that never ends.
        match fs::symlink_metadata(&self.path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err(failed(io::Error::other("it is no file"))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        File::open(&self.path).map(Some).map_err(failed)
    }

    /// Refuses an area that is not there, and links between it and the file.
    ///
    /// Attack: whoever may write into the area makes a delivery's folder a link; what is stored would lie elsewhere.
    fn in_folders(&self) -> Result<(), StorageError> {
        // The area itself may be a link: whoever named it knows.
        match fs::metadata(&self.root) {
            Ok(found) if found.is_dir() => {}
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StorageError::File { action: "read", path: self.root.clone(), source: error });
            }
            _ => {
                return Err(StorageError::NoArea {
                    area: AreaRef::Folder(self.root.clone()).into(),
                    said: None,
                });
            }
        }
        for folder in self.folders() {
            match fs::symlink_metadata(&folder) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => {
                    let source = io::Error::other("it is no folder");
                    return Err(StorageError::File { action: "used", path: folder, source });
                }
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(source) => return Err(StorageError::File { action: "used", path: folder, source }),
            }
        }
        Ok(())
    }

    /// Returns the folders between area and file, outermost first.
    fn folders(&self) -> Vec<PathBuf> {
        let below = self.path.ancestors().skip(1).take_while(|folder| *folder != self.root);
        let mut folders: Vec<PathBuf> = below.map(Path::to_owned).collect();
        folders.reverse();
        folders
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.root)
    }

    /// Starts a file that is to appear here.
    fn start(&self) -> Result<NamedTempFile, StorageError> {
        self.in_folders()?;
        for folder in self.folders() {
            match fs::create_dir(&folder) {
                Ok(()) => {
                    sync_folder(folder.parent().unwrap_or(&self.root)).map_err(self.failed("written"))?
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.failed("written")(error)),
            }
        }
        sweep(self.folder());
        let file = tempfile::Builder::new().prefix(NEW).tempfile_in(self.folder());
        let file = file.map_err(self.failed("written"))?;
        // As long as it is locked it is being written. Where nothing can be locked, nothing is swept.
        if let Err(error) = file.as_file().lock() {
            tracing::debug!(%error, "files of the delivery area cannot be locked");
        }
        Ok(file)
    }

    /// Has a file that was started be on the disk, and as public as a new file is.
    fn settle(&self, file: &NamedTempFile) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // A temporary file is its owner's alone. The folder decides who may read what is in it.
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        file.as_file().sync_all()
    }

    fn write(&self, bytes: &[u8]) -> Result<NamedTempFile, StorageError> {
        let mut file = self.start()?;
        let written = file.write_all(bytes).and_then(|()| self.settle(&file));
        written.map_err(self.failed("written"))?;
        Ok(file)
    }

    fn appear(&self, file: NamedTempFile) -> Result<(), StorageError> {
        let failed = self.failed("written");
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        sync_folder(self.folder()).map_err(failed)
    }
}

/// Removes what processes left that were killed while they wrote it.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // Attack: a pipe of that name, which would be waited for.
        let left = entry.file_type().is_ok_and(|kind| kind.is_file())
            && entry.file_name().to_str().is_some_and(|name| name.starts_with(NEW));
        // Whoever writes one holds its lock, from shortly after it is there until it has another name.
        let old = || {
            entry
                .metadata()
                .and_then(|found| found.modified())
                .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > SWEPT_AFTER))
        };
        if left && old() && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let removed = fs::remove_file(entry.path());
            tracing::debug!(path = %entry.path().display(), ?removed, "swept what was left half written");
        }
    }
}

#[async_trait]
impl Files for Folder {
    async fn size(&self, name: &str) -> Result<Option<u64>, StorageError> {
        self.with(name, |place| {
            let Some(file) = place.open()? else { return Ok(None) };
            file.metadata().map(|found| Some(found.len())).map_err(place.failed("read"))
        })
        .await
    }

    async fn read(&self, name: &str, most: u64) -> Result<Option<(Bytes, Version)>, StorageError> {
        self.with(name, move |place| {
            let Some(file) = place.open()? else { return Ok(None) };
            let mut bytes = Vec::new();
            file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(place.failed("read"))?;
            let version = version(&bytes);
            Ok(Some((bytes.into(), version)))
        })
        .await
    }

    async fn open(&self, name: &str) -> Result<Option<Pieces>, StorageError> {
        let Some(file) = self.with(name, Place::open).await? else { return Ok(None) };
        let place = self.root.join(name);
        let pieces = stream::try_unfold((file, BytesMut::new()), move |(mut file, mut buffer)| {
            let path = place.clone();
            async {
                blocking(move || {
                    // Where the piece before is gone, its memory is used again.
                    buffer.reserve(PIECE);
                    buffer.resize(PIECE, 0);
                    let read = file.read(&mut buffer);
                    let read = read.map_err(|source| StorageError::File { action: "read", path, source })?;
                    let piece = buffer.split_to(read).freeze();
                    buffer.clear();
                    Ok((read > 0).then_some((piece, (file, buffer))))
                })
                .await
            }
        });
        Ok(Some(Box::pin(pieces)))
    }

    async fn send(&self, name: &str, mut source: Source, sent: Sent<'_>) -> Result<(), StorageError> {
        let mut file = self.with(name, Place::start).await?;
        let mut done = 0;
        loop {
            let piece = source.next(PIECE).await?;
            if piece.is_empty() {
                break;
            }
            done += piece.len() as u64;
            file = self
                .with(name, move |place| {
                    file.write_all(&piece).map_err(place.failed("written"))?;
                    Ok(file)
                })
                .await?;
            sent(done);
        }
        self.with(name, move |place| {
            place.settle(&file).map_err(place.failed("written"))?;
            place.appear(file)
        })
        .await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, StorageError> {
        self.with(name, move |place| {
            if place.open()?.is_some() {
                return Ok(false);
            }
            match place.write(&bytes)?.persist_noclobber(&place.path) {
                Ok(_) => sync_folder(place.folder()).map(|()| true).map_err(place.failed("written")),
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(place.failed("written")(error.error)),
            }
        })
        .await
    }

    async fn replace(&self, name: &str, bytes: Bytes, read: &Version) -> Result<bool, StorageError> {
        let read = read.clone();
        self.with(name, move |place| {
            let failed = place.failed("written");
            // No rename asks what is there: whoever replaces does so alone, by the lock of a file that stays.
            let lock = Place { root: place.root.clone(), path: place.folder().join("oci-layout") };
            let Some(lock) = lock.open()? else { return Ok(false) };
            staging::lock(&lock).map_err(&failed)?;
            let mut there = Vec::new();
            let Some(mut file) = place.open()? else { return Ok(false) };
            file.read_to_end(&mut there).map_err(&failed)?;
            if version(&there) != read {
                return Ok(false);
            }
            place.appear(place.write(&bytes)?)?;
            Ok(true)
        })
        .await
    }
}

/// A folder knows no versions: what a file holds is its version.
fn version(bytes: &[u8]) -> Version {
    Version { e_tag: Some(Sha256::of(bytes).to_string()), version: None }
}
