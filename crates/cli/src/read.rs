//! Reading what somebody named, which is not always a file.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long what is no file, such as a pipe, has to give all its bytes.
const GIVEN: Duration = Duration::from_secs(10);

/// Reads at most `most` bytes, and one more where there are more.
///
/// Attack: none is needed. A pipe that nobody writes to is waited for, and no signal ends that. Pipes are read all the same,
/// for a shell gives them where a command names what it prints; this thread waits for them, and that one may wait for ever.
///
/// # Errors
/// When it cannot be read, or does not end in time.
pub(crate) fn at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let read = move |path: &Path| {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    if fs::metadata(path)?.is_file() {
        return read(path);
    }
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    thread::spawn(move || drop(sender.send(read(&path))));
    receiver.recv_timeout(GIVEN).unwrap_or_else(|_| {
        Err(io::Error::other(format!("it is no file, and did not end within {} s", GIVEN.as_secs())))
    })
}

/// Reads all of it.
///
/// # Errors
/// As [`at_most`].
pub(crate) fn whole(path: &Path) -> io::Result<Vec<u8>> {
    at_most(path, u64::MAX)
}
