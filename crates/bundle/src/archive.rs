//! The archive that is sealed: tar, compressed with Zstandard, and exactly what its descriptor says.
//!
//! Reading needs no parser of tar: each header is the one that the descriptor's entry gives, byte for byte, or the
//! archive is refused. So there are no links, no devices, no second names, no sizes but those of the descriptor, and
//! what stands in a header decides nothing. Any tar reads such an archive.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, Sender},
    thread,
};

use protected_model::{
    delivery::{Content, ContentPath, Descriptor, RECORD},
    digest::Sha256,
};
use sha2::Digest as _;

use crate::staging::{Staging, StagingError};

/// Level 3: a fifth of the time of level 9, for a seventh more bytes.
const LEVEL: i32 = 3;

/// The largest window that is opened, as a power of two: 8 MiB. Level 3 uses 2 MiB.
///
/// Attack: a frame that asks for a window of gigabytes.
const MAX_WINDOW: u32 = 23;

/// Why an archive was not made or not extracted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file that is to go in is not the one that was listed.
    #[error("`{0}` changed while it was packed")]
    Changed(ContentPath),
    /// A file that is to go in cannot be read.
    #[error("`{0}` cannot be read: {1}")]
    Source(ContentPath, io::Error),
    /// The archive cannot be written.
    #[error("the archive cannot be written: {0}")]
    Write(io::Error),
    /// What was opened cannot be read.
    #[error("the archive cannot be read: {0}")]
    Read(io::Error),
    /// The archive is not what its descriptor says.
    #[error("the archive is not what its descriptor says: {0}")]
    Other(String),
    /// Something is there already.
    #[error("`{}` is there already", .0.display())]
    Exists(PathBuf),
    /// An extracted file cannot be written.
    #[error("`{}` cannot be written: {error}", .0.display(), error = .1)]
    Extract(PathBuf, io::Error),
}

/// The header of a file: its path and size, and nothing of the machine that it comes from (POSIX.1-1988, ustar).
fn header(content: &Content) -> [u8; RECORD as usize] {
    let mut header = tar::Header::new_ustar();
    // Both fit: a content's path is made for it.
    let set = header.set_path(content.path.as_str());
    debug_assert!(set.is_ok(), "{set:?}");
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.size);
    header.set_cksum();
    *header.as_bytes()
}

/// How much goes at once from the thread that reads to the one that compresses, and how often before that is waited for.
const PIECE: usize = 1 << 17;
const PIECES: usize = 4;

/// Packs the files of a descriptor, in its order, and holds each against it.
///
/// A thread of its own reads and digests them, so that compressing, which is one chain, does not wait for that.
///
/// # Errors
/// When a file cannot be read or is not the one that was listed, or the archive cannot be written.
pub fn pack<R: Read>(
    contents: &[Content],
    open: impl FnMut(&ContentPath) -> io::Result<R> + Send,
    archive: impl Write,
) -> Result<(), ArchiveError> {
    let (full, filled) = mpsc::channel();
    let (empty, emptied) = mpsc::sync_channel(PIECES);
    let mut tar = Pieces { filling: Vec::with_capacity(PIECE), full, emptied };
    // What ends here is dropped before the thread is waited for, which ends with it.
    thread::scope(move |scope| {
        let reading = scope.spawn(move || read(contents, open, &mut tar));
        let mut out = zstd::Encoder::new(archive, LEVEL).map_err(ArchiveError::Write)?;
        for _ in 1..PIECES {
            let _ = empty.send(Vec::with_capacity(PIECE));
        }
        for mut piece in filled {
            out.write_all(&piece).map_err(ArchiveError::Write)?;
            piece.clear();
            // The last are taken by nobody.
            let _ = empty.send(piece);
        }
        // What ends early is no archive.
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        out.finish().and_then(|mut archive| archive.flush()).map_err(ArchiveError::Write)
    })
}

/// Bytes on their way to another thread.
struct Pieces {
    filling: Vec<u8>,
    full: Sender<Vec<u8>>,
    emptied: Receiver<Vec<u8>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.filling.len());
        self.filling.extend_from_slice(&bytes[..count]);
        if self.filling.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Nobody takes it any more, and says himself why.
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let next = self.emptied.recv().map_err(|_| gone())?;
        self.full.send(std::mem::replace(&mut self.filling, next)).map_err(|_| gone())
    }
}

/// Reads what is packed, as tar.
fn read<R: Read>(
    contents: &[Content],
    mut open: impl FnMut(&ContentPath) -> io::Result<R>,
    out: &mut impl Write,
) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; 1 << 16];
    for content in contents {
        let source = |error| ArchiveError::Source(content.path.clone(), error);
        out.write_all(&header(content)).map_err(ArchiveError::Write)?;
        // One byte more than there may be, so that a file that grew is seen.
        let mut file = open(&content.path).map_err(source)?.take(content.size.saturating_add(1));
        let (mut size, mut digest) = (0, sha2::Sha256::new());
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(source(error)),
            };
            size += read as u64;
            digest.update(&buffer[..read]);
            out.write_all(&buffer[..read]).map_err(ArchiveError::Write)?;
        }
        if size != content.size || Sha256::from_bytes(digest.finalize().into()) != content.sha256 {
            return Err(ArchiveError::Changed(content.path.clone()));
        }
        out.write_all(&[0; RECORD as usize][..padding(size)]).map_err(ArchiveError::Write)?;
    }
    out.write_all(&[0; 2 * RECORD as usize]).and_then(|()| out.flush()).map_err(ArchiveError::Write)
}

/// How many bytes fill the last record of a file.
fn padding(size: u64) -> usize {
    (size.next_multiple_of(RECORD) - size) as usize
}

/// The files of an archive in a private folder, which goes when this does, until they [appear](Self::appear).
#[derive(Debug)]
pub struct Staged(Staging);

impl Staged {
    /// Returns the folder that appears, for whoever looks at the files before that.
    pub fn folder(&self) -> std::path::PathBuf {
        self.0.folder()
    }

    /// Moves the files to their place, all at once.
    ///
    /// # Errors
    /// When something is there, or came to be there meanwhile.
    pub fn appear(self) -> Result<(), ArchiveError> {
        self.0.appear().map_err(ArchiveError::from)
    }
}

impl From<StagingError> for ArchiveError {
    fn from(error: StagingError) -> Self {
        match error {
            StagingError::Exists(place) => Self::Exists(place),
            StagingError::Write(place, error) => Self::Extract(place, error),
        }
    }
}

/// Extracts an archive into a private folder beside `to`, where it is to appear.
///
/// The archive is read to its end, which has to come where the descriptor says.
///
/// # Errors
/// When `to` is there already, and when the archive is not exactly what the descriptor says.
pub fn extract(descriptor: &Descriptor, archive: impl Read, to: &Path) -> Result<Staged, ArchiveError> {
    let staging = Staging::beside(to)?;
    unpack(descriptor, archive, &staging.folder())?;
    Ok(Staged(staging))
}

fn unpack(descriptor: &Descriptor, archive: impl Read, into: &Path) -> Result<(), ArchiveError> {
    let mut decoder = zstd::Decoder::new(archive).map_err(ArchiveError::Read)?.single_frame();
    decoder.window_log_max(MAX_WINDOW).map_err(ArchiveError::Read)?;
    let mut found = [0; 2 * RECORD as usize];
    for content in &descriptor.contents {
        let path = &content.path;
        let record = &mut found[..RECORD as usize];
        exactly(&mut decoder, record, || format!("it ends before `{path}`"))?;
        if *record != header(content) {
            return Err(ArchiveError::Other(format!(
                "`{path}` was expected, and something else is in its place"
            )));
        }
        let place = into.join(path.as_str());
        write(&mut decoder, content, &place)?;
        let fill = &mut found[..padding(content.size)];
        exactly(&mut decoder, fill, || format!("it ends in `{path}`"))?;
        if fill.iter().any(|byte| *byte != 0) {
            return Err(ArchiveError::Other(format!("something stands behind `{path}`")));
        }
    }
    exactly(&mut decoder, &mut found, || "its end is missing".to_owned())?;
    if found.iter().any(|byte| *byte != 0) {
        return Err(ArchiveError::Other("there are more files in it".to_owned()));
    }
    let behind = || ArchiveError::Other("something stands behind its end".to_owned());
    if decoder.read(&mut [0]).map_err(ArchiveError::Read)? != 0 {
        return Err(behind());
    }
    // What is behind the frame, read so that whoever authenticates sees the end.
    let mut rest = decoder.finish();
    match io::copy(&mut (&mut rest).take(1), &mut io::sink()).map_err(ArchiveError::Read)? {
        0 => Ok(()),
        _ => Err(behind()),
    }
}

/// Reads as much as there is room for.
fn exactly(
    from: &mut impl Read,
    room: &mut [u8],
    short: impl FnOnce() -> String,
) -> Result<(), ArchiveError> {
    from.read_exact(room).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Other(short()),
        _ => ArchiveError::Read(error),
    })
}

/// Writes a file of the size that its descriptor says, and holds it against its digest.
fn write(archive: &mut impl Read, content: &Content, place: &Path) -> Result<(), ArchiveError> {
    let failed = |error| ArchiveError::Extract(place.to_owned(), error);
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = fs::File::create_new(place).map_err(failed)?;
    let (mut left, mut digest) = (content.size, sha2::Sha256::new());
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        exactly(archive, &mut buffer[..room], || format!("it ends in `{}`", content.path))?;
        digest.update(&buffer[..room]);
        file.write_all(&buffer[..room]).map_err(failed)?;
        left -= room as u64;
    }
    if Sha256::from_bytes(digest.finalize().into()) != content.sha256 {
        return Err(ArchiveError::Other(format!("the bytes of `{}` are others", content.path)));
    }
    file.sync_all().map_err(failed)
}
