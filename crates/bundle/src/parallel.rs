//! Sealing and opening on several cores, for what is large. The bytes are those that one core makes.
//!
//! Chunks travel in batches, in order, through a row of threads: sealing is cipher, digest, writer; opening is
//! reader, digest, cipher. There are as many batches as threads of the cipher and three more, which bounds the memory.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    CHUNK, DataKey, HEADER, OpenError, SealError, TAG,
    key::Message,
    open::{State, fill},
    seal::{broken, start},
};

/// How many chunks travel together.
const BATCH: usize = 64;

/// How many bytes a sealed chunk has.
const SEALED: usize = CHUNK + TAG;

/// What a whole message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// How many bytes the plain text has.
    pub plain_bytes: u64,
    /// How many bytes the sealed message has.
    pub sealed_bytes: u64,
    /// The SHA-256 of the sealed message.
    pub sha256: [u8; 32],
}

/// Up to [`BATCH`] chunks, each with the place of its tag.
#[derive(Default)]
struct Batch {
    bytes: Zeroizing<Vec<u8>>,
    /// How many of the bytes count.
    length: usize,
    /// The number of the first chunk.
    first: u64,
}

impl Batch {
    fn new() -> Self {
        Self { bytes: Zeroizing::new(vec![0; BATCH * SEALED]), length: 0, first: 0 }
    }
}

/// A batch on its way through the cipher, and where it is waited for.
struct Work<E> {
    batch: Batch,
    done: Sender<(Batch, Result<(), E>)>,
}

/// Batches in their order, each once its cipher is done.
type InOrder<E> = Receiver<Receiver<(Batch, Result<(), E>)>>;

/// Starts the threads of the cipher. They end when `work` has no sender any more.
fn cipher<E: Send + 'static>(
    threads: usize,
    work: Receiver<Work<E>>,
    message: &Arc<Message>,
    each: fn(&Message, &mut Batch) -> Result<(), E>,
) -> Vec<JoinHandle<()>> {
    let work = Arc::new(Mutex::new(work));
    (0..threads)
        .map(|_| {
            let (work, message) = (Arc::clone(&work), Arc::clone(message));
            thread::spawn(move || {
                loop {
                    let next = match work.lock() {
                        Ok(work) => work.recv(),
                        Err(_) => return,
                    };
                    let Ok(Work { mut batch, done }) = next else { return };
                    let result = each(&message, &mut batch);
                    // Nobody waits for it any more after an error.
                    let _ = done.send((batch, result));
                }
            })
        })
        .collect()
}

fn seal_batch(message: &Message, batch: &mut Batch) -> Result<(), SealError> {
    for (number, chunk) in (batch.first..).zip(batch.bytes[..batch.length].chunks_mut(SEALED)) {
        message.seal(number, chunk).map_err(|_| SealError::Cipher(number))?;
    }
    Ok(())
}

/// Opens each chunk in its place. On an error, `length` is what of the batch is authentic.
fn open_batch(message: &Message, batch: &mut Batch) -> Result<(), OpenError> {
    let mut authentic = 0;
    let mut result = Ok(());
    for (number, chunk) in (batch.first..).zip(batch.bytes[..batch.length].chunks_mut(SEALED)) {
        match message.open_tagged(number, chunk) {
            Ok(_) => authentic += chunk.len(),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    batch.length = authentic;
    result
}

/// A writer that seals what is written to it on several cores, and digests what it writes.
///
/// What was not [finished](Self::finish) cannot be opened.
pub struct ParallelSealer<W: Write + Send + 'static> {
    filling: Batch,
    /// How much of the chunk that is being filled is there.
    filled: usize,
    plain_bytes: u64,
    threads: Option<SealerThreads<W>>,
}

struct SealerThreads<W> {
    work: Sender<Work<SealError>>,
    order: Sender<Receiver<(Batch, Result<(), SealError>)>>,
    free: Receiver<Batch>,
    cipher: Vec<JoinHandle<()>>,
    digest: JoinHandle<Result<[u8; 32], SealError>>,
    writer: JoinHandle<Result<(W, u64), SealError>>,
}

impl<W: Write + Send + 'static> ParallelSealer<W> {
    /// Starts a bundle: writes its header. `threads` is how many run the cipher; two more digest and write.
    ///
    /// # Errors
    /// As [`seal`](crate::seal()).
    pub fn new(key: &DataKey, context: &[u8], mut sealed: W, threads: usize) -> Result<Self, SealError> {
        let (message, header) = start(key, context)?;
        sealed.write_all(&header).map_err(SealError::Write)?;
        let threads = threads.max(1);
        let (work, todo) = channel();
        let (order, in_order): (_, InOrder<SealError>) = channel();
        let (to_writer, sealed_batches) = channel::<Batch>();
        let (give_back, free) = channel();
        for _ in 0..threads + 2 {
            // The other end is in this function.
            let _ = give_back.send(Batch::new());
        }
        let cipher = cipher(threads, todo, &Arc::new(message), seal_batch);
        let digest = thread::spawn(move || {
            let mut digest = Sha256::new_with_prefix(header);
            for sealed in in_order {
                // A thread of the cipher that is gone has panicked: the join tells.
                let Ok((batch, result)) = sealed.recv() else { break };
                result?;
                digest.update(&batch.bytes[..batch.length]);
                if to_writer.send(batch).is_err() {
                    break;
                }
            }
            Ok(digest.finalize().into())
        });
        let writer = thread::spawn(move || {
            let mut written = HEADER as u64;
            for batch in sealed_batches {
                sealed.write_all(&batch.bytes[..batch.length]).map_err(SealError::Write)?;
                written += batch.length as u64;
                let _ = give_back.send(batch);
            }
            sealed.flush().map_err(SealError::Write)?;
            Ok((sealed, written))
        });
        let threads = Some(SealerThreads { work, order, free, cipher, digest, writer });
        Ok(Self { filling: Batch::new(), filled: 0, plain_bytes: 0, threads })
    }

    /// Seals the last chunk, waits for all of it, and returns the writer beneath, flushed.
    ///
    /// # Errors
    /// As [`seal`](crate::seal()).
    pub fn finish(mut self) -> Result<(W, Whole), SealError> {
        self.end_chunk();
        let Some(threads) = self.threads.take() else { return Err(broken()) };
        let sent = threads.send(self.filling);
        let (sealed, sealed_bytes, sha256) = threads.end()?;
        if !sent {
            return Err(broken());
        }
        Ok((sealed, Whole { plain_bytes: self.plain_bytes, sealed_bytes, sha256 }))
    }

    fn push(&mut self, mut plain: &[u8]) -> Result<(), SealError> {
        self.plain_bytes += plain.len() as u64;
        while !plain.is_empty() {
            let (now, later) = plain.split_at(plain.len().min(CHUNK - self.filled));
            let at = self.filling.length + self.filled;
            self.filling.bytes[at..at + now.len()].copy_from_slice(now);
            self.filled += now.len();
            plain = later;
            if self.filled == CHUNK {
                self.end_chunk();
                if self.filling.length == BATCH * SEALED {
                    self.send()?;
                }
            }
        }
        Ok(())
    }

    fn end_chunk(&mut self) {
        self.filling.length += self.filled + TAG;
        self.filled = 0;
    }

    /// Sends the batch that is full on its way and takes the next one that is free.
    fn send(&mut self) -> Result<(), SealError> {
        let next = self.threads.as_ref().and_then(|threads| threads.free.recv().ok());
        let Some(mut next) = next else { return Err(self.fault()) };
        next.length = 0;
        next.first = self.filling.first + BATCH as u64;
        let full = std::mem::replace(&mut self.filling, next);
        if self.threads.as_ref().is_some_and(|threads| threads.send(full)) {
            Ok(())
        } else {
            Err(self.fault())
        }
    }

    /// Ends the threads and says which of them failed.
    fn fault(&mut self) -> SealError {
        match self.threads.take().map(SealerThreads::end) {
            Some(Err(error)) => error,
            _ => broken(),
        }
    }
}

impl<W> SealerThreads<W> {
    /// Sends a batch through the cipher, and its place in the order to the digest. False once a thread is gone.
    fn send(&self, batch: Batch) -> bool {
        let (done, sealed) = channel();
        self.work.send(Work { batch, done }).is_ok() && self.order.send(sealed).is_ok()
    }

    /// Waits for all threads. A writer that fails ends the ones before it, so its fault is the one that counts.
    fn end(self) -> Result<(W, u64, [u8; 32]), SealError> {
        drop((self.work, self.order));
        let cipher_ran = self.cipher.into_iter().map(JoinHandle::join).all(|ended| ended.is_ok());
        let digest = self.digest.join().unwrap_or_else(|_| Err(broken()));
        let written = self.writer.join().unwrap_or_else(|_| Err(broken()));
        let (sealed, bytes) = written?;
        let sha256 = digest?;
        if cipher_ran { Ok((sealed, bytes, sha256)) } else { Err(broken()) }
    }
}

impl<W: Write + Send + 'static> Write for ParallelSealer<W> {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        if self.threads.is_none() {
            return Err(broken().into());
        }
        self.push(plain)?;
        Ok(plain.len())
    }

    /// Does nothing: what is on its way is written when it [ends](Self::finish).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader of what is sealed, which opens on several cores and digests what it reads.
///
/// It gives no byte of a chunk that is not authentic, nor any behind one, and its end only after the last chunk.
pub struct ParallelOpener {
    in_order: InOrder<OpenError>,
    give_back: Sender<Batch>,
    current: Option<(Batch, Result<(), OpenError>)>,
    /// What of the current batch was not handed out yet starts here.
    at: usize,
    plain_bytes: u64,
    state: State,
    reader: Option<JoinHandle<Result<(), OpenError>>>,
    digest: Option<JoinHandle<(u64, [u8; 32])>>,
}

impl ParallelOpener {
    /// Reads the header, and refuses another key than the one that it commits to. `threads` is how many run the
    /// cipher; two more read and digest.
    ///
    /// # Errors
    /// As [`open`](crate::open()).
    pub fn new(
        key: &DataKey,
        context: &[u8],
        mut sealed: impl Read + Send + 'static,
        threads: usize,
    ) -> Result<Self, OpenError> {
        let mut header = [0; HEADER];
        if fill(&mut sealed, &mut header)? < HEADER {
            return Err(OpenError::Truncated(0));
        }
        let message = Message::from_header(key, context, &header)?;
        let threads = threads.max(1);
        let (work, todo) = channel();
        let (order, in_order) = channel();
        let (to_digest, read) = channel::<Batch>();
        let (give_back, free) = channel::<Batch>();
        for _ in 0..threads + 2 {
            let _ = give_back.send(Batch::new());
        }
        // They end with the digest, which has the only sender.
        cipher(threads, todo, &Arc::new(message), open_batch);
        let reader = thread::spawn(move || {
            let mut first = 0;
            for mut batch in free {
                batch.length = fill(&mut sealed, &mut batch.bytes)?;
                batch.first = first;
                first += BATCH as u64;
                // A full batch is never the last: the last chunk is shorter than the others.
                let last = batch.length < BATCH * SEALED;
                if to_digest.send(batch).is_err() || last {
                    break;
                }
            }
            Ok(())
        });
        let digest = thread::spawn(move || {
            let mut digest = Sha256::new_with_prefix(header);
            let mut bytes = HEADER as u64;
            for batch in read {
                digest.update(&batch.bytes[..batch.length]);
                bytes += batch.length as u64;
                let (done, opened) = channel();
                if work.send(Work { batch, done }).is_err() || order.send(opened).is_err() {
                    break;
                }
            }
            (bytes, digest.finalize().into())
        });
        Ok(Self {
            in_order,
            give_back,
            current: None,
            at: 0,
            plain_bytes: 0,
            state: State::Open,
            reader: Some(reader),
            digest: Some(digest),
        })
    }

    /// Returns what the whole message is, once its end was read.
    ///
    /// # Errors
    /// [`OpenError::Truncated`] when the end was not read.
    pub fn finish(mut self) -> Result<Whole, OpenError> {
        let plain_bytes = self.plain_bytes;
        let unread = OpenError::Truncated(plain_bytes / CHUNK as u64);
        if self.state != State::Ended {
            return Err(unread);
        }
        match self.digest.take().map(JoinHandle::join) {
            Some(Ok((sealed_bytes, sha256))) => Ok(Whole { plain_bytes, sealed_bytes, sha256 }),
            _ => Err(unread),
        }
    }

    /// Finds the next text of a chunk in the current batch, or takes the next batch.
    fn next(&mut self) -> Result<Option<std::ops::Range<usize>>, OpenError> {
        loop {
            match self.state {
                State::Ended => return Ok(None),
                State::Broken => return Err(self.broken()),
                State::Open => {}
            }
            let Some((batch, _)) = &self.current else {
                self.state = State::Broken;
                let opened = self.in_order.recv().ok().and_then(|opened| opened.recv().ok());
                self.current = Some(opened.ok_or_else(|| self.fault())?);
                self.at = 0;
                self.state = State::Open;
                continue;
            };
            if self.at < batch.length {
                let start = self.at;
                let end = ((start / SEALED + 1) * SEALED).min(batch.length);
                self.at = end;
                return Ok(Some(start..end - TAG));
            }
            let Some((batch, result)) = self.current.take() else { continue };
            self.state = State::Broken;
            result?;
            if batch.length == BATCH * SEALED {
                self.state = State::Open;
                // The reader that read the last batch is gone.
                let _ = self.give_back.send(batch);
            } else if batch.length % SEALED == 0 {
                // Whole chunks and nothing behind them: the last chunk is never whole.
                return Err(OpenError::Truncated(batch.first + (batch.length / SEALED) as u64));
            } else {
                self.state = State::Ended;
            }
        }
    }

    /// Says why there is no next batch.
    fn fault(&mut self) -> OpenError {
        match self.reader.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => self.broken(),
        }
    }

    /// What is said of a message that failed before.
    fn broken(&self) -> OpenError {
        OpenError::Chunk(self.plain_bytes / CHUNK as u64)
    }
}

impl Read for ParallelOpener {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // The last chunk may be empty.
        while let Some(range) = self.next()? {
            let Some((batch, _)) = &self.current else { continue };
            let count = buffer.len().min(range.len());
            buffer[..count].copy_from_slice(&batch.bytes[range.start..][..count]);
            self.plain_bytes += count as u64;
            if count < range.len() {
                // The rest of the chunk is next.
                self.at = range.start + count;
            }
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }
}
