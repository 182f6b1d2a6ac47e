//! `kill -9` and a full disk: nothing appears half, nothing clear stays, and the next run works.
//!
//! The work is done by a process of its own, in the current folder, which says on standard output how far it is.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use protected_bundle::{
    ParallelOpener, ParallelSealer,
    archive::{self, ArchiveError},
    layout::{Delivery, LayoutError, Writer},
    staging::Staging,
};
use protected_model::{delivery::Descriptor, digest::Sha256};

use crate::sample::{descriptor, files, key, keys, opened, tree, written};

/// Where the work may stop, and waits to be killed.
const STEPS: &[&str] = &["started", "in the middle", "read to the end", "made"];

/// How often it is killed at any moment.
const KILLS: u64 = 24;

/// How many files a folder has that is killed while it is removed, so that this takes a while.
const CLEAR: usize = 500;

/// The names in the folder that the work is done in.
const SEALED: &str = "delivery";
const OPENED: &str = "opened";

/// Says that a step is reached, and waits where the parent asks for it.
fn step(name: &str) {
    // Not by `println!`, which a test captures.
    let _ = writeln!(io::stdout(), "reached {name}");
    if fs::read_to_string("stop").is_ok_and(|stop| stop == name) {
        thread::sleep(Duration::from_secs(600));
    }
}

/// A file that says when half of it was read.
struct Halfway<R> {
    file: R,
    left: usize,
}

impl<R: Read> Read for Halfway<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(4096);
        let read = self.file.read(&mut buffer[..length])?;
        if self.left > 0 && self.left <= read {
            step("in the middle");
        }
        self.left = self.left.saturating_sub(read);
        Ok(read)
    }
}

fn seal_here() -> Result<(), LayoutError> {
    let files = files();
    let descriptor = descriptor(&files);
    let writer = Writer::new(Path::new(SEALED))?;
    let failed = |error: &dyn std::fmt::Display| LayoutError::Form(error.to_string());
    let file = writer.content()?;
    step("started");
    let mut sealer =
        ParallelSealer::new(&key(), &descriptor.binding(), file, 2).map_err(|error| failed(&error))?;
    let open = |path: &protected_model::delivery::ContentPath| {
        let file = &files[path.as_str()][..];
        Ok(Halfway { file, left: if file.len() > 50_000 { 50_000 } else { 0 } })
    };
    archive::pack(&descriptor.contents, open, &mut sealer).map_err(|error| failed(&error))?;
    step("read to the end");
    let (_, whole) = sealer.finish().map_err(|error| failed(&error))?;
    step("made");
    let content = (Sha256::from_bytes(whole.sha256), whole.sealed_bytes);
    writer.end(&descriptor, &keys(&descriptor, "local-file://globex"), content).map(drop)
}

fn open_here(descriptor: &Descriptor, content: impl Read + Send + 'static) -> Result<(), ArchiveError> {
    step("started");
    let opener = ParallelOpener::new(&key(), &descriptor.binding(), content, 2);
    let mut opener = Halfway { file: opener.expect("opener"), left: 50_000 };
    let staged = archive::extract(descriptor, &mut opener, Path::new(OPENED))?;
    step("read to the end");
    opener.file.finish().expect("finish");
    step("made");
    staged.appear()
}

#[test]
#[ignore = "a process of its own for the tests of this file, which is killed"]
fn seals() {
    if let Err(error) = seal_here() {
        let _ = writeln!(io::stdout(), "failed {error}");
        panic!("{error}");
    }
}

#[test]
#[ignore = "a process of its own for the tests of this file, which is killed"]
fn opens() {
    let delivery = Delivery::open(Path::new(SEALED)).expect("delivery");
    let content = delivery.unverified_content().expect("content");
    if let Err(error) = open_here(delivery.descriptor(), content) {
        let _ = writeln!(io::stdout(), "failed {error}");
        panic!("{error}");
    }
}

#[test]
#[ignore = "a process of its own for the tests of this file, which is watched"]
fn rewraps() {
    let mut delivery = Delivery::open(Path::new(SEALED)).expect("delivery");
    let new = keys(delivery.descriptor(), "local-file://new");
    delivery.set_keys(new, Some(b"{}"), &Default::default()).expect("keys");
}

fn write_clear(folder: &Path) {
    for number in 0..CLEAR {
        fs::write(folder.join(number.to_string()), "clear").expect("write");
    }
}

#[test]
#[ignore = "a process of its own for the tests of this file, which is killed"]
fn gives_up() {
    let staging = Staging::beside(Path::new(OPENED)).expect("staging");
    write_clear(&staging.folder());
    step("made");
    drop(staging);
}

#[test]
#[ignore = "a process of its own for the tests of this file, which is killed"]
fn sweeps() {
    step("made");
    drop(Staging::beside(Path::new(OPENED)).expect("staging"));
}

/// A process that is killed when this goes.
struct Killed(Child, BufReader<ChildStdout>);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one of the tests above in `folder`, behind a shell that runs `before`.
fn started(folder: &Path, work: &str, before: &str) -> Killed {
    let mut child = Command::new("sh")
        .args(["-c", &format!("{before}; exec \"$@\""), "sh"])
        .arg(std::env::current_exe().expect("exe"))
        .args(["--ignored", "--exact", "--nocapture", &format!("crash::{work}")])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("child");
    let stdout = BufReader::new(child.stdout.take().expect("stdout"));
    Killed(child, stdout)
}

impl Killed {
    /// Waits for a line that holds `text`; gives nothing when the process ended without it.
    fn line(&mut self, text: &str) -> Option<String> {
        let lines = self.1.by_ref().lines().map(|line| line.expect("line"));
        lines.into_iter().find(|line| line.contains(text))
    }
}

/// What stands in a folder but for the private ones that work is done in, and for what the test put there.
fn visible(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().expect("name")).collect();
    names.retain(|name| !name.starts_with(".protected-registry-") && name != "stop");
    names.sort();
    names
}

fn private(folder: &Path) -> usize {
    let names = fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").file_name());
    names.filter(|name| name.as_encoded_bytes().starts_with(b".protected-registry-")).count()
}

/// Runs the work to its end, after it was killed, and looks at what it made.
fn works_again(folder: &Path, work: &str) {
    let _ = fs::remove_file(folder.join("stop"));
    let mut child = started(folder, work, ":");
    assert!(child.line("test result: ok").is_some(), "it does not work again");
    assert_eq!(private(folder), 0, "what was left was not swept away");
    if work == "seals" {
        opened(&folder.join(SEALED), &folder.join(OPENED));
    }
    let expected = files().into_iter().map(|(path, bytes)| (path.to_owned(), Some(bytes)));
    assert_eq!(tree(&folder.join(OPENED)), expected.collect());
}

#[test]
fn what_is_killed_leaves_nothing_half() {
    for work in ["seals", "opens"] {
        let before: &[&str] = if work == "opens" { &[SEALED] } else { &[] };
        for stop in STEPS {
            let folder = tempfile::tempdir().expect("folder");
            if work == "opens" {
                written(&folder.path().join(SEALED));
            }
            fs::write(folder.path().join("stop"), stop).expect("write");
            let mut child = started(folder.path(), work, ":");
            assert!(child.line(&format!("reached {stop}")).is_some(), "{work} never reached `{stop}`");
            assert_eq!(visible(folder.path()), before, "{work} at `{stop}`");
            // Another run beside it leaves it alone.
            assert!(stop == &"started" && work == "opens" || private(folder.path()) == 1);
            drop(child);
            assert_eq!(visible(folder.path()), before, "{work} killed at `{stop}`");
            works_again(folder.path(), work);
        }
    }
}

/// Lets it work to its end, and returns how long that takes.
fn finishes_in(mut child: Killed) -> Duration {
    let start = Instant::now();
    child.line("test result: ok").expect("it works");
    start.elapsed()
}

/// At any moment, and so between the steps as well: what is there is whole.
#[test]
fn what_is_killed_at_any_moment_is_there_whole_or_not_at_all() {
    for work in ["seals", "opens"] {
        let folder = tempfile::tempdir().expect("folder");
        let started_in = |number: u64| {
            let place = folder.path().join(number.to_string());
            fs::create_dir(&place).expect("folder");
            if work == "opens" {
                written(&place.join(SEALED));
            }
            let mut child = started(&place, work, ":");
            child.line("reached made").expect("made");
            (place, child)
        };
        // What is left then takes as long as `fsync` does.
        let left = finishes_in(started_in(KILLS).1);
        for kill in 0..KILLS {
            let (place, child) = started_in(kill);
            thread::sleep(left * kill as u32 / KILLS as u32);
            drop(child);
            let made = place.join(if work == "opens" { OPENED } else { SEALED });
            if made.exists() {
                if work == "seals" {
                    opened(&place.join(SEALED), &place.join(OPENED));
                }
                let expected = files().into_iter().map(|(path, bytes)| (path.to_owned(), Some(bytes)));
                assert_eq!(tree(&place.join(OPENED)), expected.collect());
            } else {
                works_again(&place, work);
            }
        }
    }
}

/// What is clear goes before the lock: who is killed between the two leaves nothing that nobody takes for left over.
#[test]
fn what_is_killed_while_it_is_removed_is_swept() {
    for work in ["gives_up", "sweeps"] {
        let folder = tempfile::tempdir().expect("folder");
        let started_in = |number: u64| {
            let place = folder.path().join(number.to_string());
            fs::create_dir(&place).expect("folder");
            if work == "sweeps" {
                let new = place.join(".protected-registry-dead/new");
                fs::create_dir_all(&new).expect("folder");
                fs::write(new.with_file_name("lock"), "").expect("write");
                write_clear(&new);
            }
            let mut child = started(&place, work, ":");
            child.line("reached made").expect("made");
            (place, child)
        };
        let takes = finishes_in(started_in(KILLS).1);
        let mut cut_off = 0;
        for kill in 0..KILLS {
            let (place, child) = started_in(kill);
            thread::sleep(takes * kill as u32 / KILLS as u32);
            drop(child);
            for entry in fs::read_dir(&place).expect("folder") {
                let left = entry.expect("entry").path();
                let is_clear = left.join("new").is_dir();
                cut_off += u64::from(is_clear);
                assert!(!is_clear || left.join("lock").is_file(), "{work}: the lock went first");
            }
            drop(Staging::beside(&place.join(OPENED)).expect("staging"));
            assert_eq!(private(&place), 0, "{work}: what was left was not swept away");
        }
        assert!(cut_off > 0, "{work}: never killed before all was gone");
    }
}

/// The disk is full after so many blocks of 512 bytes; the process hears of it as an error.
#[test]
fn a_full_disk_leaves_nothing() {
    for (work, rooms) in [("seals", [0, 1, 8, 100]), ("opens", [0, 1, 8, 100])] {
        for blocks in rooms {
            let folder = tempfile::tempdir().expect("folder");
            let before: &[&str] = if work == "opens" { &[SEALED] } else { &[] };
            if work == "opens" {
                written(&folder.path().join(SEALED));
            }
            let mut child = started(folder.path(), work, &format!("trap '' XFSZ; ulimit -f {blocks}"));
            let failed = child.line("failed ");
            let failed = failed.unwrap_or_else(|| panic!("{work} did it all in {blocks} blocks"));
            assert!(
                failed.contains("cannot be written") || failed.contains("could not be written"),
                "{failed}"
            );
            assert!(!child.0.wait().expect("child").success());
            assert_eq!(visible(folder.path()), before, "{work} in {blocks} blocks");
            assert_eq!(private(folder.path()), 0, "{work} in {blocks} blocks");
            works_again(folder.path(), work);
        }
    }
}

/// What is to be there after a power cut: each file is written through before it has its name, and each name before
/// another one, by which somebody finds it. The calls of the process say so.
#[test]
#[cfg(target_os = "linux")]
fn what_is_there_is_there_after_a_power_cut() {
    for (work, before) in
        [("seals", None), ("opens", Some(false)), ("rewraps", Some(false)), ("rewraps", Some(true))]
    {
        let folder = tempfile::tempdir().expect("folder");
        let folder = fs::canonicalize(folder.path()).expect("folder");
        if let Some(one_file) = before {
            let place = folder.join(if one_file { "layout" } else { SEALED });
            written(&place);
            if one_file {
                let delivery = Delivery::open(&place).expect("delivery");
                delivery.to_tar(&folder.join(SEALED), &Default::default()).expect("tar");
            }
        }
        let trace = "set -- strace -f -y -s 4096 -e trace=fsync,rename,renameat,renameat2 -o trace \"$@\"";
        let mut child = started(&folder, work, trace);
        let ended = child.line("test result: ok");
        assert!(ended.is_some(), "{work} under strace: run `apt-get install strace`");
        child.0.wait().expect("child");
        // The files that are written through, and the folders in which a name is not.
        let (mut synced, mut pending) = (BTreeSet::<PathBuf>::new(), BTreeSet::<PathBuf>::new());
        let mut names = 0;
        for call in fs::read_to_string(folder.join("trace")).expect("trace").lines() {
            // Without the `.` that may be in it.
            let path = |text: &str| folder.join(text).components().collect::<PathBuf>();
            if call.contains(" fsync(") {
                let (_, rest) = call.split_once('<').expect("path");
                let done = path(rest.split_once('>').expect("path").0);
                pending.remove(&done);
                synced.insert(done);
            } else if call.contains(" rename") {
                let texts: Vec<&str> = call.split('"').collect();
                let (from, to) = (path(texts[1]), path(texts[3]));
                assert!(synced.contains(&from), "{work}: not written through: {call}");
                let is_private = to
                    .components()
                    .any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".protected-"));
                if !is_private && !to.starts_with(folder.join(SEALED).join("blobs")) {
                    assert!(pending.is_empty(), "{work}: {pending:?} before: {call}");
                    names += 1;
                }
                for paths in [&mut synced, &mut pending] {
                    let moved = |path: &PathBuf| path.strip_prefix(&from).ok().map(|rest| to.join(rest));
                    let moved: Vec<PathBuf> = paths.iter().filter_map(moved).collect();
                    paths.extend(moved);
                }
                pending.retain(|path| !path.starts_with(&from));
                pending.insert(to.parent().expect("folder").to_owned());
            }
        }
        assert!(pending.is_empty() && names > 0, "{work}: {pending:?} at the end");
        let made = folder.join(if work == "opens" { OPENED } else { SEALED });
        if work != "rewraps" {
            for name in tree(&made).into_keys() {
                for place in made.join(&name).ancestors().take_while(|place| *place != folder) {
                    assert!(synced.contains(place), "{work}: {} is not written through", place.display());
                }
            }
        }
    }
}
