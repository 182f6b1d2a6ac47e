//! Opening.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use crate::{CHUNK, DataKey, HEADER, TAG, key::Message};

/// Why something could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The sealed bytes could not be read.
    #[error("the sealed bytes could not be read")]
    Read(#[source] io::Error),
    /// What was opened could not be written.
    #[error("what was opened could not be written")]
    Write(#[source] io::Error),
    /// The commitment in the header is not that of this key and context.
    ///
    /// Attack: AES-GCM alone opens one sealed text under two keys to two texts, so that two customers could be
    /// shown different content under one digest. The commitment is checked before any chunk is looked at.
    #[error("it was sealed under another key or for another purpose")]
    Key,
    /// The end is missing.
    #[error("it is cut off after {0} whole chunks")]
    Truncated(u64),
    /// A chunk is not what was sealed at its place.
    #[error("chunk {0} is not as it was sealed")]
    Chunk(u64),
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Read(error) | OpenError::Write(error) => error,
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// Opens what [`seal`](crate::seal()) made under the same key and context.
///
/// Each chunk is written once it is authentic, so on an error `plain` may have got a true beginning: the caller
/// drops it. Returns how many bytes were written.
///
/// # Errors
/// When either side fails, and when the bytes are not what was sealed.
pub fn open(
    key: &DataKey,
    context: &[u8],
    sealed: impl Read,
    mut plain: impl Write,
) -> Result<u64, OpenError> {
    let mut opener = Opener::new(key, context, sealed)?;
    let mut total = 0;
    while let Some(chunk) = opener.chunk()? {
        plain.write_all(chunk).map_err(OpenError::Write)?;
        total += chunk.len() as u64;
    }
    plain.flush().map_err(OpenError::Write)?;
    Ok(total)
}

/// A reader of what is sealed. It gives no byte of a chunk that is not authentic, and its end only after the
/// last chunk.
pub struct Opener<R: Read> {
    sealed: R,
    message: Message,
    /// The number of the next chunk.
    next: u64,
    /// The chunk with its tag.
    chunk: Zeroizing<Vec<u8>>,
    /// What of the chunk's plain text was not handed out yet.
    rest: std::ops::Range<usize>,
    state: State,
}

/// How far a message was read.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum State {
    /// Up to here all was authentic, and there is more.
    Open,
    /// The last chunk was read.
    Ended,
    /// Something was not authentic: nothing more is given.
    Broken,
}

impl<R: Read> Opener<R> {
    /// Reads the header, and refuses another key than the one that it commits to.
    ///
    /// # Errors
    /// As [`open`].
    pub fn new(key: &DataKey, context: &[u8], mut sealed: R) -> Result<Self, OpenError> {
        let mut header = [0; HEADER];
        if fill(&mut sealed, &mut header)? < HEADER {
            return Err(OpenError::Truncated(0));
        }
        let message = Message::from_header(key, context, &header)?;
        let chunk = Zeroizing::new(vec![0; CHUNK + TAG]);
        Ok(Self { sealed, message, next: 0, chunk, rest: 0..0, state: State::Open })
    }

    /// Returns the next chunk, or nothing after the last.
    ///
    /// # Errors
    /// As [`open`].
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, OpenError> {
        // What was read in part is not read on from another chunk.
        self.rest = 0..0;
        match self.state {
            State::Ended => return Ok(None),
            State::Broken => return Err(OpenError::Chunk(self.next)),
            State::Open => self.state = State::Broken,
        }
        let read = fill(&mut self.sealed, &mut self.chunk)?;
        let length = self.message.open_tagged(self.next, &mut self.chunk[..read])?;
        self.next += 1;
        // A full chunk is never the last, so what is shorter can have nothing behind it.
        self.state = if length < CHUNK { State::Ended } else { State::Open };
        Ok(Some(&self.chunk[..length]))
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.rest.is_empty() {
            match self.chunk()? {
                Some(chunk) => self.rest = 0..chunk.len(),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.chunk[self.rest.start..][..count]);
        self.rest.start += count;
        Ok(count)
    }
}

/// Reads until `buffer` is full or the input ends, and returns how much was read.
pub(crate) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, OpenError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(OpenError::Read(error)),
        }
    }
    Ok(filled)
}
