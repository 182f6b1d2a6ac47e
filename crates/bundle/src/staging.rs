//! What appears whole or not at all: a private folder beside its place, where it is made.
//!
//! A process that is killed leaves its folder, with what it held in clear; the next one beside it sweeps it away. A
//! lock says whether its maker is alive.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// How the folders are called; nothing else is swept.
const PREFIX: &str = ".protected-registry-";

/// In the folder: the file that is locked while its maker is alive.
const LOCK: &str = "lock";

/// In the folder: what appears, with the permissions of any new folder, for nobody can enter the one around it.
const INNER: &str = "new";

/// How often a folder is made anew when another process swept it before it was locked.
const TRIES: usize = 5;

/// How long another may hold the lock of a file that is replaced, and how often it is tried.
const LOCKED: Duration = Duration::from_secs(10);
const RETRY_LOCK: Duration = Duration::from_millis(20);

/// A private folder, which goes when this does.
#[derive(Debug)]
pub struct Private {
    _lock: File,
    outer: tempfile::TempDir,
}

/// A folder that is being filled, and goes when this does, until it [appears](Self::appear).
#[derive(Debug)]
pub struct Staging {
    private: Private,
    to: PathBuf,
}

/// Why something did not appear at its place.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Something is there.
    #[error("`{}` is there already", .0.display())]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("`{}` cannot be written: {error}", .0.display(), error = .1)]
    Write(PathBuf, io::Error),
}

impl Private {
    /// Makes one in `parent`, and sweeps away what killed processes left there.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn within(parent: &Path) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            match make(parent) {
                Ok((lock, outer)) => {
                    sweep(parent, outer.path());
                    return Ok(Self { _lock: lock, outer });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the folder to write into.
    pub fn folder(&self) -> PathBuf {
        self.outer.path().join(INNER)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        remove(self.outer.path());
    }
}

impl Staging {
    /// Makes the private folder beside `to`, where nothing may be.
    ///
    /// # Errors
    /// When something is there, or nothing can be written beside it.
    pub fn beside(to: &Path) -> Result<Self, StagingError> {
        vacant(to)?;
        Self::to_replace(to)
    }

    /// Makes the private folder beside the file `to`, whose place another one takes.
    ///
    /// # Errors
    /// When nothing can be written beside it.
    pub fn to_replace(to: &Path) -> Result<Self, StagingError> {
        let private = Private::within(parent(to));
        let private = private.map_err(|error| StagingError::Write(to.to_owned(), error))?;
        Ok(Self { private, to: to.to_owned() })
    }

    /// Returns the folder that appears.
    pub fn folder(&self) -> PathBuf {
        self.private.folder()
    }

    /// Moves the folder to its place, all at once, and as it will be after a power cut.
    ///
    /// # Errors
    /// When something came to be there, or it cannot be moved.
    pub fn appear(self) -> Result<(), StagingError> {
        vacant(&self.to)?;
        let (folder, failed) = (self.folder(), |error| StagingError::Write(self.to.clone(), error));
        sync_folders(&folder).map_err(failed)?;
        if let Err(error) = fs::rename(&folder, &self.to) {
            // Another one was faster: each system has another error for that.
            vacant(&self.to)?;
            return Err(failed(error));
        }
        sync_folder(parent(&self.to)).map_err(failed)
    }

    /// Moves a file of the folder to the place of the one that is there, with the permissions that this one has, all at
    /// once, and as it will be after a power cut. The file itself is written through already.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn replace(self, file: &Path) -> Result<(), StagingError> {
        fs::metadata(&self.to)
            .and_then(|found| fs::set_permissions(file, found.permissions()))
            .and_then(|()| fs::rename(file, &self.to))
            .and_then(|()| sync_folder(parent(&self.to)))
            .map_err(|error| StagingError::Write(self.to, error))
    }
}

/// Locks a file, once no other process is at work on what it stands for.
///
/// Attack: whoever may read the file holds its lock for ever.
///
/// # Errors
/// When another holds it for long, or nothing can be locked there.
pub fn lock(file: &File) -> io::Result<()> {
    let since = Instant::now();
    while let Err(error) = file.try_lock() {
        match error {
            TryLockError::WouldBlock if since.elapsed() < LOCKED => thread::sleep(RETRY_LOCK),
            TryLockError::WouldBlock => return Err(io::Error::other("another holds its lock")),
            TryLockError::Error(error) => return Err(error),
        }
    }
    Ok(())
}

/// The folder that `place` is in.
pub(crate) fn parent(place: &Path) -> &Path {
    place.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

fn vacant(to: &Path) -> Result<(), StagingError> {
    if to.symlink_metadata().is_ok() { Err(StagingError::Exists(to.to_owned())) } else { Ok(()) }
}

/// Makes a locked folder. `NotFound` when it was swept away meanwhile.
fn make(parent: &Path) -> io::Result<(File, tempfile::TempDir)> {
    let mut outer = tempfile::Builder::new();
    outer.prefix(PREFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Else it is as open as any folder, while what is in it is clear and not yet proven.
        outer.permissions(fs::Permissions::from_mode(0o700));
    }
    let outer = outer.tempdir_in(parent)?;
    let lock = File::create_new(outer.path().join(LOCK))?;
    lock.lock()?;
    // Whoever swept it meanwhile held the lock until this was gone.
    fs::symlink_metadata(outer.path().join(LOCK))?;
    fs::create_dir(outer.path().join(INNER))?;
    Ok((lock, outer))
}

/// Removes what killed processes left beside `own`. What cannot be looked at or removed stays.
fn sweep(parent: &Path, own: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let ours = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
            && path != own
            && same_owner(&path, own);
        if !ours {
            continue;
        }
        // Looked for first: whoever is alive has a lock from before this is there until it is gone.
        let is_filled = fs::symlink_metadata(path.join(INNER)).is_ok();
        match File::options().read(true).write(true).open(path.join(LOCK)) {
            Ok(lock) if lock.try_lock().is_ok() => remove(&path),
            Ok(_) => {}
            Err(error) if is_filled && error.kind() == io::ErrorKind::NotFound => remove(&path),
            // Killed before it was locked, or just being made: only what is empty goes.
            Err(_) => drop(fs::remove_dir(&path)),
        }
    }
}

/// Removes a private folder: what may be clear first, and the lock after it.
///
/// Attack: none is needed. Who is killed on the way leaves what the next one takes for left over, and never something clear
/// that seems to be just being made.
fn remove(outer: &Path) {
    drop(fs::remove_dir_all(outer.join(INNER)));
    drop(fs::remove_dir_all(outer));
}

/// Whether both are folders of one user.
///
/// Attack: in a folder that all may write to, somebody else's folder under such a name.
#[cfg(unix)]
fn same_owner(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owner = |path: &Path| fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir).map(|it| it.uid());
    owner(one).is_some_and(|owner_of_one| owner(other) == Some(owner_of_one))
}

#[cfg(not(unix))]
fn same_owner(one: &Path, _: &Path) -> bool {
    fs::symlink_metadata(one).is_ok_and(|it| it.is_dir())
}

/// Makes the entries of a folder and of those in it lasting. Their files are already.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// Makes sure that what was renamed in a folder is there after a loss of power.
///
/// # Errors
/// When the folder cannot be read.
#[cfg(unix)]
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if folder == Path::new("") {
        return Ok(());
    }
    fs::File::open(folder)?.sync_all()
}

/// Does nothing: a folder cannot be opened to be written through.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_somebody_else_has_is_not_ours() {
        use std::os::unix::fs::{MetadataExt, chown, symlink};
        let folder = tempfile::tempdir().expect("folder");
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        for path in [&own, &other] {
            fs::create_dir(path).expect("folder");
        }
        symlink(&own, folder.path().join("link")).expect("link");
        assert!(same_owner(&other, &own) && !same_owner(&folder.path().join("link"), &own));
        // Root gives a folder away; whoever is not has that of root.
        let is_root = fs::metadata(&own).expect("metadata").uid() == 0;
        if is_root {
            chown(&other, Some(65534), None).expect("owner");
        }
        assert!(!same_owner(if is_root { &other } else { Path::new("/") }, &own));
    }
}
