//! What appears whole or not at all: a private folder beside its place, where it is made.
//!
//! A process that is killed leaves its folder, with what it held in clear; the next one beside it sweeps it away. A
//! lock says whether its maker is alive.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// How the folders are called; nothing else is swept.
const PREFIX: &str = ".protected-registry-";

/// In the folder: the file that is locked while its maker is alive.
const LOCK: &str = "lock";

/// In the folder: what appears, with the permissions of any new folder, for nobody can enter the one around it.
const INNER: &str = "new";

/// How often a folder is made anew when another process swept it before it was locked.
const TRIES: usize = 5;

/// A folder that is being filled, and goes when this does, until it [appears](Self::appear).
#[derive(Debug)]
pub struct Staging {
    _lock: File,
    outer: tempfile::TempDir,
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
        let parent = parent(to);
        let mut tries = 0;
        loop {
            tries += 1;
            match make(parent) {
                Ok((lock, outer)) => {
                    sweep(parent, outer.path());
                    return Ok(Self { _lock: lock, outer, to: to.to_owned() });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
                Err(error) => return Err(StagingError::Write(to.to_owned(), error)),
            }
        }
    }

    /// Returns the folder that appears.
    pub fn folder(&self) -> PathBuf {
        self.outer.path().join(INNER)
    }

    /// Moves the folder to its place, all at once, and as it will be after a power cut.
    ///
    /// # Errors
    /// When something came to be there, or it cannot be moved.
    pub fn appear(self) -> Result<(), StagingError> {
        vacant(&self.to)?;
        let folder = self.folder();
        sync_folders(&folder)
            .and_then(|()| fs::rename(&folder, &self.to))
            .and_then(|()| sync_folder(parent(&self.to)))
            .map_err(|error| StagingError::Write(self.to, error))
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
        match File::options().read(true).write(true).open(path.join(LOCK)) {
            Ok(lock) => match lock.try_lock() {
                Ok(()) => drop(fs::remove_dir_all(&path)),
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
            },
            // Killed before it was locked, or just being made: only what is empty goes.
            Err(_) => drop(fs::remove_dir(&path)),
        }
    }
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

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("entry").file_name().into_string().expect("name")).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().expect("folder");
        let left = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.join(INNER)).expect("folder");
            fs::write(path.join(INNER).join("clear"), "text").expect("write");
            path
        };
        fs::write(left(".protected-registry-dead").join(LOCK), "").expect("write");
        fs::create_dir(folder.path().join(".protected-registry-empty")).expect("folder");
        let stays = [left("protected-registry-other"), left(".protected-registry-unlocked")];
        fs::write(stays[0].join(LOCK), "").expect("write");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&stays[0], folder.path().join(".protected-registry-link")).expect("link");
        let alive = Staging::beside(&folder.path().join("one")).expect("staging");
        let second = Staging::beside(&folder.path().join("two")).expect("staging");
        assert!(alive.folder().is_dir() && second.folder().is_dir(), "one that is alive was swept");
        assert!(stays.iter().all(|path| path.join(INNER).join("clear").is_file()));
        drop((alive, second));
        let mut expected =
            vec![".protected-registry-link", ".protected-registry-unlocked", "protected-registry-other"];
        if cfg!(not(unix)) {
            expected.remove(0);
        }
        assert_eq!(names(folder.path()), expected);
    }

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

    #[cfg(unix)]
    #[test]
    fn nobody_else_enters_before_it_appears() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        let folder = tempfile::tempdir().expect("folder");
        let to = folder.path().join("to");
        let staging = Staging::beside(&to).expect("staging");
        assert_eq!(mode(parent(&staging.folder())), 0o700);
        staging.appear().expect("appear");
        let probe = folder.path().join("probe");
        fs::create_dir(&probe).expect("folder");
        assert_eq!(mode(&to), mode(&probe));
        assert_eq!(names(folder.path()), ["probe", "to"]);
    }
}
