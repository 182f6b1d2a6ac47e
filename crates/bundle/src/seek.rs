//! Reading from the middle.

use std::io::{self, Read, Seek, SeekFrom};

use zeroize::Zeroizing;

use crate::{CHUNK, DataKey, HEADER, OpenError, TAG, key::Message, open::fill};

/// A reader of what is sealed that can go to any place. It gives no byte of a chunk that is not authentic.
///
/// The length is authentic from the start: only the last chunk is short, and its number is in its nonce.
pub struct SeekOpener<R: Read + Seek> {
    sealed: R,
    message: Message,
    /// How many bytes the plain text has.
    size: u64,
    /// Where in the plain text the next byte is read from.
    position: u64,
    /// The chunk that was opened last, and its number.
    chunk: Zeroizing<Vec<u8>>,
    current: Option<u64>,
    length: usize,
}

impl<R: Read + Seek> SeekOpener<R> {
    /// Reads the header and the last chunk, and refuses another key than the one that the header commits to.
    ///
    /// # Errors
    /// As [`open`](crate::open()).
    pub fn new(key: &DataKey, context: &[u8], mut sealed: R) -> Result<Self, OpenError> {
        let end = sealed.seek(SeekFrom::End(0)).map_err(OpenError::Read)?;
        sealed.rewind().map_err(OpenError::Read)?;
        let mut header = [0; HEADER];
        if fill(&mut sealed, &mut header)? < HEADER {
            return Err(OpenError::Truncated(0));
        }
        let message = Message::from_header(key, context, &header)?;
        let body = end.saturating_sub(HEADER as u64);
        let (whole, rest) = (body / (CHUNK + TAG) as u64, body % (CHUNK + TAG) as u64);
        let last = rest.checked_sub(TAG as u64).ok_or(OpenError::Truncated(whole))?;
        let mut opener = Self {
            sealed,
            message,
            size: whole * CHUNK as u64 + last,
            position: 0,
            chunk: Zeroizing::new(vec![0; CHUNK + TAG]),
            current: None,
            length: 0,
        };
        opener.load(whole)?;
        Ok(opener)
    }

    /// Returns how many bytes the plain text has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Opens chunk `number`, unless it is at hand.
    fn load(&mut self, number: u64) -> Result<(), OpenError> {
        if self.current == Some(number) {
            return Ok(());
        }
        self.current = None;
        let at = HEADER as u64 + number * (CHUNK + TAG) as u64;
        self.sealed.seek(SeekFrom::Start(at)).map_err(OpenError::Read)?;
        let read = fill(&mut self.sealed, &mut self.chunk)?;
        self.length = self.message.open_tagged(number, &mut self.chunk[..read])?;
        let expected = (self.size - number * CHUNK as u64).min(CHUNK as u64);
        if self.length as u64 != expected {
            return Err(OpenError::Chunk(number));
        }
        self.current = Some(number);
        Ok(())
    }
}

impl<R: Read + Seek> Read for SeekOpener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.position >= self.size {
            return Ok(0);
        }
        self.load(self.position / CHUNK as u64)?;
        let start = (self.position % CHUNK as u64) as usize;
        let count = buffer.len().min(self.length - start);
        buffer[..count].copy_from_slice(&self.chunk[start..start + count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl<R: Read + Seek> Seek for SeekOpener<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "a place before the start");
        self.position = position.ok_or_else(before)?;
        Ok(self.position)
    }
}
