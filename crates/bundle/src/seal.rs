//! Sealing.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use crate::{CHUNK, DataKey, HEADER, SALT, TAG, key::Message};

/// Why something could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no salt without random numbers.
    #[error("the operating system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// What is sealed could not be read.
    #[error("what is to be sealed could not be read")]
    Read(#[source] io::Error),
    /// The sealed bytes could not be written.
    #[error("the sealed bytes could not be written")]
    Write(#[source] io::Error),
    /// The cipher refused, as it does beyond its limits.
    #[error("the cipher refused chunk {0}")]
    Cipher(u64),
}

impl From<SealError> for io::Error {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Read(error) | SealError::Write(error) => error,
            other => Self::other(other),
        }
    }
}

/// Seals `plain` under `key` and binds it to `context`, which is not stored: who opens it has to know it.
///
/// A key is for one bundle. Returns how many bytes were read.
///
/// # Errors
/// When either side fails. What was written until then cannot be opened.
pub fn seal(
    key: &DataKey,
    context: &[u8],
    mut plain: impl Read,
    sealed: impl Write,
) -> Result<u64, SealError> {
    let mut sealer = Sealer::new(key, context, sealed)?;
    let mut buffer = Zeroizing::new(vec![0; CHUNK]);
    let mut total = 0;
    loop {
        let read = match plain.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SealError::Read(error)),
        };
        if read == 0 {
            sealer.finish()?;
            return Ok(total);
        }
        total += read as u64;
        sealer.push(&buffer[..read])?;
    }
}

/// Starts a message: a fresh salt, what follows from it, and the header.
pub(crate) fn start(key: &DataKey, context: &[u8]) -> Result<(Message, [u8; HEADER]), SealError> {
    start_with(key, context, getrandom::fill)
}

/// Attack: a salt that is used twice under one key, which gives two messages the same nonces. So nobody brings one,
/// none is kept for later (what forks or is cloned asks the system itself), and without random numbers nothing starts.
fn start_with(
    key: &DataKey,
    context: &[u8],
    fill: impl FnOnce(&mut [u8]) -> Result<(), getrandom::Error>,
) -> Result<(Message, [u8; HEADER]), SealError> {
    let mut header = [0; HEADER];
    let (salt, commitment) = header.split_at_mut(SALT);
    let Ok(salt) = <&mut [u8; SALT]>::try_from(salt) else { unreachable!("a header starts with its salt") };
    fill(salt).map_err(SealError::Random)?;
    let message = Message::derive(key, salt, context);
    commitment.copy_from_slice(&message.commitment);
    Ok((message, header))
}

/// A writer that seals what is written to it. What was not [finished](Self::finish) cannot be opened.
pub struct Sealer<W: Write> {
    sealed: W,
    message: Message,
    /// The number of the chunk that is being filled.
    next: u64,
    /// The chunk that is being filled.
    chunk: Zeroizing<Vec<u8>>,
    /// Whether a chunk was not written.
    ///
    /// Attack: a writer that fails once. The chunk is sealed in its place, and sealed again with the same nonce it is
    /// clear text: whoever tries once more, as a buffer does when it is dropped, would write that.
    broken: bool,
}

impl<W: Write> Sealer<W> {
    /// Starts a bundle: writes its header.
    ///
    /// # Errors
    /// As [`seal`].
    pub fn new(key: &DataKey, context: &[u8], mut sealed: W) -> Result<Self, SealError> {
        let (message, header) = start(key, context)?;
        sealed.write_all(&header).map_err(SealError::Write)?;
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK + TAG));
        Ok(Self { sealed, message, next: 0, chunk, broken: false })
    }

    /// Seals the last chunk and returns the writer beneath, flushed.
    ///
    /// # Errors
    /// As [`seal`].
    pub fn finish(mut self) -> Result<W, SealError> {
        self.seal_chunk()?;
        self.sealed.flush().map_err(SealError::Write)?;
        Ok(self.sealed)
    }

    fn push(&mut self, mut plain: &[u8]) -> Result<(), SealError> {
        if self.broken {
            return Err(broken());
        }
        while !plain.is_empty() {
            let (now, later) = plain.split_at(plain.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            plain = later;
            if self.chunk.len() == CHUNK {
                self.seal_chunk()?;
            }
        }
        Ok(())
    }

    fn seal_chunk(&mut self) -> Result<(), SealError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(broken());
        }
        let number = self.next;
        let length = self.chunk.len();
        self.chunk.resize(length + TAG, 0);
        self.message.seal(number, &mut self.chunk).map_err(|_| SealError::Cipher(number))?;
        self.sealed.write_all(&self.chunk).map_err(SealError::Write)?;
        self.chunk.clear();
        self.next += 1;
        self.broken = false;
        Ok(())
    }
}

/// What is said of a sealer that failed before.
pub(crate) fn broken() -> SealError {
    SealError::Write(io::Error::other("the writing ended before"))
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.push(plain)?;
        Ok(plain.len())
    }

    /// Flushes what is sealed: the chunk that is being filled waits for its end.
    fn flush(&mut self) -> io::Result<()> {
        self.sealed.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_starts_without_random_numbers() {
        let key = DataKey::try_from([1; 32].as_slice()).expect("key");
        let refused = start_with(&key, b"context", |_| Err(getrandom::Error::UNEXPECTED));
        assert!(matches!(refused.err(), Some(SealError::Random(_))));
    }
}
