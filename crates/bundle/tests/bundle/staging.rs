//! The private folders that work is done in: what is left of them, and several at once.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
};

use protected_bundle::staging::{Staging, StagingError};

/// The names in a private folder.
const LOCK: &str = "lock";
const INNER: &str = "new";

/// How often something is done by several at once, and by how many.
const ROUNDS: usize = 100;
const AT_ONCE: usize = 4;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("name")).collect();
    names.sort();
    names
}

/// Makes a folder with something clear in it.
fn left(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.join(INNER)).expect("folder");
    fs::write(path.join(INNER).join("clear"), "text").expect("write");
    path
}

#[test]
fn what_a_killed_process_left_is_swept_and_nothing_else() {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(left(folder.path(), ".protected-registry-dead").join(LOCK), "").expect("write");
    // Killed by a sweeper, or by its own end, which took the lock away before what was clear.
    left(folder.path(), ".protected-registry-unlocked");
    fs::create_dir(folder.path().join(".protected-registry-empty")).expect("folder");
    let other = left(folder.path(), "protected-registry-other");
    fs::write(other.join(LOCK), "").expect("write");
    let foreign = folder.path().join(".protected-registry-foreign");
    fs::create_dir_all(foreign.join("something")).expect("folder");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&other, folder.path().join(".protected-registry-link")).expect("link");
    let alive = Staging::beside(&folder.path().join("one")).expect("staging");
    let second = Staging::beside(&folder.path().join("two")).expect("staging");
    assert!(alive.folder().is_dir() && second.folder().is_dir(), "one that is alive was swept");
    assert!(other.join(INNER).join("clear").is_file());
    drop((alive, second));
    let mut expected =
        vec![".protected-registry-foreign", ".protected-registry-link", "protected-registry-other"];
    if cfg!(not(unix)) {
        expected.remove(1);
    }
    assert_eq!(names(folder.path()), expected);
}

#[cfg(unix)]
#[test]
fn nobody_else_enters_before_it_appears() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    let folder = tempfile::tempdir().expect("folder");
    let to = folder.path().join("to");
    let staging = Staging::beside(&to).expect("staging");
    assert_eq!(mode(staging.folder().parent().expect("parent")), 0o700);
    staging.appear().expect("appear");
    let probe = folder.path().join("probe");
    fs::create_dir(&probe).expect("folder");
    assert_eq!(mode(&to), mode(&probe));
    assert_eq!(names(folder.path()), ["probe", "to"]);
}

#[test]
fn of_several_at_once_one_appears_and_the_others_hear_that_it_is_there() {
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("folder");
        let (to, together) = (folder.path().join("to"), Barrier::new(AT_ONCE));
        let appear = |number: usize| {
            let staging = Staging::beside(&to).expect("staging");
            fs::write(staging.folder().join("who"), number.to_string()).expect("write");
            together.wait();
            match staging.appear() {
                Ok(()) => true,
                Err(StagingError::Exists(place)) if place == to => false,
                Err(other) => panic!("{other}, in round {round}"),
            }
        };
        let appeared: Vec<bool> = thread::scope(|scope| {
            let appear = &appear;
            let started: Vec<_> = (0..AT_ONCE).map(|number| scope.spawn(move || appear(number))).collect();
            started.into_iter().map(|one| one.join().expect("thread")).collect()
        });
        let won: Vec<usize> = (0..AT_ONCE).filter(|number| appeared[*number]).collect();
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(fs::read_to_string(to.join("who")).expect("file"), won[0].to_string());
        assert_eq!(names(folder.path()), ["to"]);
    }
}

/// What stands at the place is not always a folder with something in it.
#[test]
fn what_came_to_be_there_meanwhile_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let to = folder.path().join("to");
    let staging = Staging::beside(&to).expect("staging");
    fs::write(&to, "mine").expect("write");
    assert!(matches!(staging.appear(), Err(StagingError::Exists(place)) if place == to));
    assert_eq!(fs::read_to_string(&to).expect("file"), "mine");
    assert_eq!(names(folder.path()), ["to"]);
}
