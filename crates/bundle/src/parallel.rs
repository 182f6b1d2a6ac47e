//! Sealing and opening on several cores, for what is large. The bytes are those that one core makes.
//!
//! Batches of chunks go round: sealing fills, seals, digests and writes them, opening reads, digests, opens and empties
//! them. Filling and emptying are the caller's. The other steps are anyone's who is free, so that no core waits while
//! there is something to do: the caller's thread while it waits for a batch, and one for each further core. SHA-256 is
//! one chain, so its step comes first. There are three batches more than threads, which bounds the memory.

use std::{
    io::{self, Read, Write},
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
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
    /// Which of the batches of the message it is.
    number: u64,
    /// Why the message does not go on behind its bytes.
    fault: Option<OpenError>,
}

impl Batch {
    /// Makes room for so many chunks. What is in it is sealed: where it lay before is not wiped.
    fn make_room(&mut self, chunks: usize) {
        if self.bytes.len() < chunks * SEALED {
            self.bytes.resize(chunks * SEALED, 0);
        }
    }

    /// Reads as many chunks as there are, and returns how many bytes they have. What is small gets by with little room.
    fn read(&mut self, sealed: &mut impl Read) -> Result<usize, OpenError> {
        let mut read = 0;
        for chunks in [1, 4, BATCH] {
            self.make_room(chunks);
            read += fill(sealed, &mut self.bytes[read..])?;
            if read < self.bytes.len() {
                break;
            }
        }
        Ok(read)
    }

    /// The chunks, each with its number in the message.
    fn chunks(&mut self) -> impl Iterator<Item = (u64, &mut [u8])> {
        (self.number * BATCH as u64..).zip(self.bytes[..self.length].chunks_mut(SEALED))
    }
}

/// What is done to a batch.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// The caller fills or empties it.
    Call,
    Cipher,
    Digest,
    /// It is read or written.
    Transfer,
}

/// The steps that are anyone's, the most urgent first.
const ANYONES: [Step; 3] = [Step::Digest, Step::Transfer, Step::Cipher];

/// What follows a step.
enum Then {
    More,
    /// The step is not done again.
    Last,
    /// Nothing is done again.
    Over,
}

/// Sealing or opening.
trait Work: Send + Sync + 'static {
    /// The steps in their order. After the last the batch is free for the first.
    const ROUND: [Step; 4];

    /// Does a step that is anyone's. Only the cipher is at work on several batches at once.
    fn step(&self, step: Step, batch: &mut Batch) -> Then;
}

/// The batches, and what is done to them.
struct Ring<W> {
    work: W,
    track: Mutex<Track>,
    /// Where the threads wait, and where the caller does.
    wait: [Condvar; 2],
}

/// Where each batch is.
struct Track {
    /// A batch lies in the slot of its number, modulo how many there are.
    slots: Vec<Slot>,
    /// How many batches each step has taken, which it does in their order.
    taken: [u64; 4],
    /// Whether a step that is done on one batch at a time is being done.
    busy: [bool; 4],
    /// How many threads wait, and whether the caller does.
    idle: [usize; 2],
    over: bool,
}

struct Slot {
    /// What is done next, or just now.
    step: Step,
    /// Nothing while it is being done.
    batch: Option<Batch>,
}

/// Who works on a ring, as an index.
#[derive(Clone, Copy)]
enum Who {
    Thread,
    Caller,
}

impl Track {
    fn slot(&self, number: u64) -> usize {
        (number % self.slots.len() as u64) as usize
    }

    fn is_ready(&self, step: Step) -> bool {
        let slot = &self.slots[self.slot(self.taken[step as usize])];
        !self.busy[step as usize] && slot.step == step && slot.batch.is_some()
    }

    fn take(&mut self, step: Step) -> Option<Batch> {
        if !self.is_ready(step) {
            return None;
        }
        let number = self.taken[step as usize];
        let slot = self.slot(number);
        let mut batch = self.slots[slot].batch.take()?;
        batch.number = number;
        self.taken[step as usize] += 1;
        self.busy[step as usize] = matches!(step, Step::Digest | Step::Transfer);
        Some(batch)
    }
}

impl<W: Work> Ring<W> {
    fn track(&self) -> MutexGuard<'_, Track> {
        // Nothing panics that has it.
        self.track.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until it is over, or until the caller's next batch is there, which is returned.
    fn go(&self, who: Who) -> Option<Batch> {
        let mut track = self.track();
        while !track.over {
            if matches!(who, Who::Caller)
                && let Some(batch) = track.take(Step::Call)
            {
                self.wake(&track);
                return Some(batch);
            }
            let next = ANYONES.into_iter().find_map(|step| Some((step, track.take(step)?)));
            self.wake(&track);
            if let Some((step, mut batch)) = next {
                drop(track);
                let then = self.work.step(step, &mut batch);
                track = self.track();
                self.put(&mut track, step, batch, &then);
            } else {
                track.idle[who as usize] += 1;
                track = self.wait[who as usize].wait(track).unwrap_or_else(PoisonError::into_inner);
                track.idle[who as usize] -= 1;
            }
        }
        None
    }

    /// Takes a batch back from the caller.
    fn pass(&self, batch: Batch) {
        let mut track = self.track();
        self.put(&mut track, Step::Call, batch, &Then::More);
        self.wake(&track);
    }

    /// Lays a batch down for its next step.
    fn put(&self, track: &mut Track, step: Step, batch: Batch, then: &Then) {
        let at = W::ROUND.iter().position(|each| *each == step).unwrap_or_default();
        let slot = track.slot(batch.number);
        track.slots[slot] = Slot { step: W::ROUND[(at + 1) % W::ROUND.len()], batch: Some(batch) };
        track.busy[step as usize] = matches!(then, Then::Last);
        track.over |= matches!(then, Then::Over);
        if track.over {
            self.wake_all();
        }
    }

    /// Wakes one who waits, where there is something to do for one. Who is woken looks for another.
    fn wake(&self, track: &Track) {
        let ready = ANYONES.into_iter().any(|step| track.is_ready(step));
        let [threads, caller] = track.idle;
        if ready && threads > 0 {
            self.wait[Who::Thread as usize].notify_one();
        }
        if caller > 0 && (track.is_ready(Step::Call) || ready && threads == 0) {
            self.wait[Who::Caller as usize].notify_one();
        }
    }

    fn wake_all(&self) {
        self.wait.iter().for_each(Condvar::notify_all);
    }
}

/// One who works on a ring. When one goes, whether it panicked or has enough, it is over for all.
struct Hand<W: Work>(Arc<Ring<W>>);

impl<W: Work> Drop for Hand<W> {
    fn drop(&mut self) {
        self.0.track().over = true;
        self.0.wake_all();
    }
}

/// The caller's hand, and the threads.
struct Crew<W: Work> {
    hand: Hand<W>,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Work> Crew<W> {
    /// Starts as many threads as there have to be besides the caller's.
    fn new(work: W, threads: usize) -> Self {
        let threads = threads.max(1);
        let slots =
            (0..threads + 3).map(|_| Slot { step: W::ROUND[0], batch: Some(Batch::default()) }).collect();
        let track = Track { slots, taken: [0; 4], busy: [false; 4], idle: [0; 2], over: false };
        let ring = Arc::new(Ring { work, track: Mutex::new(track), wait: Default::default() });
        let threads = (1..threads)
            .map(|_| {
                let hand = Hand(Arc::clone(&ring));
                thread::spawn(move || drop(hand.0.go(Who::Thread)))
            })
            .collect();
        Self { hand: Hand(ring), threads }
    }

    fn next(&self) -> Option<Batch> {
        self.hand.0.go(Who::Caller)
    }

    fn pass(&self, batch: Batch) {
        self.hand.0.pass(batch);
    }

    /// Waits for all batches. Nothing when it was over before.
    fn all_back(&self) -> Option<Vec<Batch>> {
        let count = self.hand.0.track().slots.len();
        (0..count).map(|_| self.next()).collect()
    }

    /// Waits for the threads, and returns what all worked with. Nothing where one panicked.
    ///
    /// A crew that is dropped does not wait, for a thread may read from what gives nothing.
    fn end(self) -> Option<W> {
        let ring = Arc::clone(&self.hand.0);
        drop(self.hand);
        let ended = self.threads.into_iter().map(JoinHandle::join).all(|ended| ended.is_ok());
        Arc::into_inner(ring).filter(|_| ended).map(|ring| ring.work)
    }
}

/// What is sealed, and where it goes.
struct Sealing<W> {
    message: Message,
    digest: Mutex<Sha256>,
    sealed: Mutex<Sealed<W>>,
    fault: Mutex<Option<SealError>>,
}

struct Sealed<W> {
    to: W,
    bytes: u64,
}

impl<W: Write + Send + 'static> Sealing<W> {
    fn try_step(&self, step: Step, batch: &mut Batch) -> Result<(), SealError> {
        match step {
            Step::Call => {}
            Step::Cipher => {
                for (number, chunk) in batch.chunks() {
                    self.message.seal(number, chunk).map_err(|_| SealError::Cipher(number))?;
                }
            }
            Step::Digest => {
                self.digest.lock().map_err(|_| broken())?.update(&batch.bytes[..batch.length]);
            }
            Step::Transfer => {
                let mut sealed = self.sealed.lock().map_err(|_| broken())?;
                sealed.to.write_all(&batch.bytes[..batch.length]).map_err(SealError::Write)?;
                sealed.bytes += batch.length as u64;
                batch.length = 0;
            }
        }
        Ok(())
    }
}

impl<W: Write + Send + 'static> Work for Sealing<W> {
    const ROUND: [Step; 4] = [Step::Call, Step::Cipher, Step::Digest, Step::Transfer];

    fn step(&self, step: Step, batch: &mut Batch) -> Then {
        match self.try_step(step, batch) {
            Ok(()) => Then::More,
            Err(error) => {
                self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                Then::Over
            }
        }
    }
}

/// A writer that seals what is written to it on several cores, and digests what it writes.
///
/// What was not [finished](Self::finish) cannot be opened.
pub struct ParallelSealer<W: Write + Send + 'static> {
    /// Nothing after a fault.
    filling: Option<Batch>,
    /// How much of the chunk that is being filled is there.
    filled: usize,
    plain_bytes: u64,
    crew: Crew<Sealing<W>>,
}

impl<W: Write + Send + 'static> ParallelSealer<W> {
    /// Starts a bundle: writes its header. `threads` is how many work on it, with the one that writes to it.
    ///
    /// # Errors
    /// As [`seal`](crate::seal()).
    pub fn new(key: &DataKey, context: &[u8], mut sealed: W, threads: usize) -> Result<Self, SealError> {
        let (message, header) = start(key, context)?;
        sealed.write_all(&header).map_err(SealError::Write)?;
        let digest = Mutex::new(Sha256::new_with_prefix(header));
        let sealed = Mutex::new(Sealed { to: sealed, bytes: HEADER as u64 });
        let crew = Crew::new(Sealing { message, digest, sealed, fault: Mutex::new(None) }, threads);
        let mut sealer = Self { filling: None, filled: 0, plain_bytes: 0, crew };
        sealer.fill_next();
        Ok(sealer)
    }

    /// Fills the next batch, once there is one. It has all its room before anything clear is in it.
    fn fill_next(&mut self) {
        self.filling = self.crew.next();
        self.filling.iter_mut().for_each(|batch| batch.make_room(BATCH));
    }

    /// Seals the last chunk, waits for all of it, and returns the writer beneath, flushed.
    ///
    /// # Errors
    /// As [`seal`](crate::seal()).
    pub fn finish(mut self) -> Result<(W, Whole), SealError> {
        let Some(mut last) = self.filling.take() else { return Err(self.fault()) };
        last.length += self.filled + TAG;
        self.crew.pass(last);
        // Who has all batches back knows that all are written.
        if self.crew.all_back().is_none() {
            return Err(self.fault());
        }
        let Sealing { digest, sealed, .. } = self.crew.end().ok_or_else(broken)?;
        let (Ok(digest), Ok(mut sealed)) = (digest.into_inner(), sealed.into_inner()) else {
            return Err(broken());
        };
        sealed.to.flush().map_err(SealError::Write)?;
        let whole = Whole {
            plain_bytes: self.plain_bytes,
            sealed_bytes: sealed.bytes,
            sha256: digest.finalize().into(),
        };
        Ok((sealed.to, whole))
    }

    fn push(&mut self, mut plain: &[u8]) -> Result<(), SealError> {
        while !plain.is_empty() {
            let Some(batch) = &mut self.filling else { return Err(self.fault()) };
            let (now, later) = plain.split_at(plain.len().min(CHUNK - self.filled));
            let at = batch.length + self.filled;
            batch.bytes[at..at + now.len()].copy_from_slice(now);
            self.filled += now.len();
            self.plain_bytes += now.len() as u64;
            plain = later;
            if self.filled == CHUNK {
                batch.length += SEALED;
                self.filled = 0;
                if batch.length == BATCH * SEALED {
                    self.filling.take().into_iter().for_each(|full| self.crew.pass(full));
                    self.fill_next();
                }
            }
        }
        Ok(())
    }

    /// Says why it is over. The fault is told once.
    fn fault(&mut self) -> SealError {
        let fault = &self.crew.hand.0.work.fault;
        fault.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(broken)
    }
}

impl<W: Write + Send + 'static> Write for ParallelSealer<W> {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.push(plain)?;
        Ok(plain.len())
    }

    /// Does nothing: what is on its way is written when it [ends](Self::finish).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is opened, and where it comes from.
struct Opening {
    message: Message,
    digest: Mutex<Digested>,
    sealed: Mutex<Box<dyn Read + Send>>,
}

struct Digested {
    digest: Sha256,
    bytes: u64,
}

impl Work for Opening {
    const ROUND: [Step; 4] = [Step::Transfer, Step::Digest, Step::Cipher, Step::Call];

    /// A fault travels with its batch, for what comes before it is still good.
    fn step(&self, step: Step, batch: &mut Batch) -> Then {
        match step {
            Step::Call => {}
            Step::Transfer => {
                let Ok(mut sealed) = self.sealed.lock() else { return Then::Over };
                let read = batch.read(&mut *sealed);
                (batch.length, batch.fault) = read.map_or_else(|error| (0, Some(error)), |read| (read, None));
                // A full batch is never the last: the last chunk is shorter than the others.
                if batch.length < BATCH * SEALED {
                    return Then::Last;
                }
            }
            Step::Digest => {
                let Ok(mut digested) = self.digest.lock() else { return Then::Over };
                digested.digest.update(&batch.bytes[..batch.length]);
                digested.bytes += batch.length as u64;
            }
            Step::Cipher => {
                let opened = batch.chunks().try_fold(0, |authentic, (number, chunk)| {
                    match self.message.open_tagged(number, chunk) {
                        Ok(_) => Ok(authentic + chunk.len()),
                        Err(error) => Err((authentic, error)),
                    }
                });
                if let Err((authentic, error)) = opened {
                    (batch.length, batch.fault) = (authentic, Some(error));
                }
            }
        }
        Then::More
    }
}

/// A reader of what is sealed, which opens on several cores and digests what it reads.
///
/// It gives no byte of a chunk that is not authentic, nor any behind one, and its end only after the last chunk.
pub struct ParallelOpener {
    crew: Crew<Opening>,
    current: Option<Batch>,
    /// What of the current batch was not handed out yet starts here.
    at: usize,
    plain_bytes: u64,
    state: State,
}

impl ParallelOpener {
    /// Reads the header, and refuses another key than the one that it commits to. `threads` is how many work on it,
    /// with the one that reads from it.
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
        let digest = Mutex::new(Digested { digest: Sha256::new_with_prefix(header), bytes: HEADER as u64 });
        let crew = Crew::new(Opening { message, digest, sealed: Mutex::new(Box::new(sealed)) }, threads);
        Ok(Self { crew, current: None, at: 0, plain_bytes: 0, state: State::Open })
    }

    /// Waits for the threads, and returns what the whole message is, once its end was read.
    ///
    /// # Errors
    /// [`OpenError::Truncated`] when the end was not read.
    pub fn finish(self) -> Result<Whole, OpenError> {
        let Self { crew, plain_bytes, state, .. } = self;
        // What was opened was digested before.
        let opening = crew.end().filter(|_| state == State::Ended);
        let digested = opening.and_then(|opening| opening.digest.into_inner().ok());
        let Some(Digested { digest, bytes }) = digested else {
            return Err(OpenError::Truncated(plain_bytes / CHUNK as u64));
        };
        Ok(Whole { plain_bytes, sealed_bytes: bytes, sha256: digest.finalize().into() })
    }

    /// Finds the next text of a chunk in the current batch, or takes the next batch.
    fn next(&mut self) -> Result<Option<Range<usize>>, OpenError> {
        loop {
            match self.state {
                State::Ended => return Ok(None),
                State::Broken => return Err(self.broken()),
                State::Open => self.state = State::Broken,
            }
            let mut batch = match self.current.take() {
                Some(batch) => batch,
                None => {
                    self.at = 0;
                    self.crew.next().ok_or_else(|| self.broken())?
                }
            };
            if self.at < batch.length {
                let start = self.at;
                self.at = ((start / SEALED + 1) * SEALED).min(batch.length);
                self.current = Some(batch);
                self.state = State::Open;
                return Ok(Some(start..self.at - TAG));
            }
            if let Some(fault) = batch.fault.take() {
                return Err(fault);
            }
            if batch.length == BATCH * SEALED {
                self.crew.pass(batch);
                self.state = State::Open;
            } else if batch.length % SEALED == 0 {
                // Whole chunks and nothing behind them: the last chunk is never whole.
                let chunks = batch.number * BATCH as u64 + (batch.length / SEALED) as u64;
                return Err(OpenError::Truncated(chunks));
            } else {
                self.state = State::Ended;
            }
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
            let Some(batch) = &self.current else { continue };
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
