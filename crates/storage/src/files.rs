//! A delivery as files in a store of files: what is written in which order, and what is believed of what is read.

use std::{
    fs::File,
    io::{self, Write as _},
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use protected_bundle::layout::{
    Blob, Delivery, Digest, LAYOUT, LayoutError, MAX_DOCUMENT_BYTES, Manifests, Receiver, blobs_of_bundle,
    blobs_of_keys,
    signature::{Part, blobs_of_signature},
};
use protected_model::{digest::Sha256, name::BundleId};
use sha2::Digest as _;
use tokio::task::JoinHandle;

use crate::{Address, AreaRef, DeliveryRef, Progress, StorageError, Stored, Watch, blocking, source::Source};

/// A store that holds files by name. Names are made here, and have no part that means anything to a file system.
#[async_trait]
pub(crate) trait Files: Send + Sync {
    /// Returns the size of a file, if it is there.
    async fn size(&self, name: &str) -> Result<Option<u64>, StorageError>;

    /// Reads a small file whole, if it is there: at most `most` bytes, and one more where it has more.
    async fn read(&self, name: &str, most: u64) -> Result<Option<(Bytes, Version)>, StorageError>;

    /// Reads a large file piece by piece, if it is there.
    async fn open(&self, name: &str) -> Result<Option<Pieces>, StorageError>;

    /// Writes a blob, which appears when it is whole.
    async fn send(&self, name: &str, source: Source, sent: Sent<'_>) -> Result<(), StorageError>;

    /// Writes a small file where there is none, and returns whether it did.
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, StorageError>;

    /// Writes a small file in the place of the one that was read, and returns whether that was still there.
    async fn replace(&self, name: &str, bytes: Bytes, read: &Version) -> Result<bool, StorageError>;
}

/// What a store calls the state of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) e_tag: Option<String>,
    pub(crate) version: Option<String>,
}

/// The bytes of a file as they come.
pub(crate) type Pieces = BoxStream<'static, Result<Bytes, StorageError>>;

/// Takes note of bytes that were sent.
pub(crate) type Sent<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Sends a delivery: blobs first, and `index.json`, which names them, last.
pub(crate) async fn store(
    area: &AreaRef,
    files: &dyn Files,
    delivery: Delivery,
    watch: Watch<'_>,
) -> Result<Stored, StorageError> {
    let delivery = Arc::new(delivery);
    let bundle = &delivery.descriptor().bundle_id;
    let reference = area.delivery(bundle);
    let manifests = delivery.manifests();
    // Before anything is sent: what cannot end well costs nothing.
    if let Some((there, _)) = listed(files, &reference, bundle).await? {
        same(&reference, &there, manifests)?;
    }
    let blobs = blobs(&delivery).await?;
    let mut tally = Tally::new(blobs.iter().map(|blob| blob.size).sum(), watch);
    for blob in &blobs {
        send(files, &delivery, bundle, blob, &mut tally).await?;
    }
    tally.count(files.create(&path(bundle, "oci-layout"), Bytes::from_static(LAYOUT)).await?, LAYOUT.len());
    list(files, &reference, bundle, manifests, &mut tally).await?;
    Ok(tally.stored(reference))
}

/// How often an index is written anew that somebody else wrote meanwhile.
const TRIES: usize = 5;

/// Names a delivery in its index, or the signatures that the index does not name yet.
///
/// Attack: two publishers of one id. One of them creates it; the other looks at what is there now.
async fn list(
    files: &dyn Files,
    reference: &DeliveryRef,
    bundle: &BundleId,
    manifests: &Manifests,
    tally: &mut Tally<'_>,
) -> Result<(), StorageError> {
    let name = path(bundle, INDEX);
    for _ in 0..TRIES {
        let (index, written) = match listed(files, reference, bundle).await? {
            None => {
                let index = Bytes::from(manifests.to_index(bundle));
                (index.clone(), files.create(&name, index).await?)
            }
            Some((there, version)) => {
                same(reference, &there, manifests)?;
                let signatures = there.signatures.or(&manifests.signatures);
                let index = Bytes::from(Manifests { signatures, ..there.clone() }.to_index(bundle));
                if there.signatures == there.signatures.or(&manifests.signatures) {
                    tally.count(false, index.len());
                    return Ok(());
                }
                (index.clone(), files.replace(&name, index, &version).await?)
            }
        };
        if written {
            tally.count(true, index.len());
            return Ok(());
        }
    }
    Err(StorageError::Service {
        area: reference.area.clone().into(),
        said: format!("`{name}` changes faster than it can be written"),
    })
}

/// Puts other keys in the place of those that were read, with their signature if they have one.
pub(crate) async fn replace_keys(
    area: &AreaRef,
    files: &dyn Files,
    delivery: Delivery,
    read: &Digest,
) -> Result<Stored, StorageError> {
    let delivery = Arc::new(delivery);
    let bundle = &delivery.descriptor().bundle_id;
    let reference = area.delivery(bundle);
    let manifests = delivery.manifests();
    let blobs = keys_blobs(&delivery).await?;
    let mut tally = Tally::new(blobs.iter().map(|blob| blob.size).sum(), &|_| ());
    let missing = || StorageError::NoDelivery(reference.clone().into());
    let (there, version) = listed(files, &reference, bundle).await?.ok_or_else(missing)?;
    may_replace(&reference, &there, manifests, read)?;
    for blob in &blobs {
        send(files, &delivery, bundle, blob, &mut tally).await?;
    }
    if there.keys.digest != manifests.keys.digest {
        let mut new = manifests.clone();
        // What is signed of the bundle stays, also where only the area has that.
        new.signatures.bundle = there.signatures.bundle.or(new.signatures.bundle);
        let index = Bytes::from(new.to_index(bundle));
        if files.replace(&path(bundle, INDEX), index.clone(), &version).await? {
            tally.count(true, index.len());
            return Ok(tally.stored(reference));
        }
    }
    // They are there, or somebody was faster, perhaps with the same keys.
    list(files, &reference, bundle, manifests, &mut tally).await?;
    Ok(tally.stored(reference))
}

/// Returns the blobs of the keys and of their signature, in the order in which they are sent.
pub(crate) async fn keys_blobs(delivery: &Arc<Delivery>) -> Result<Vec<Blob>, StorageError> {
    let delivery = delivery.clone();
    let blobs = blocking(move || -> Result<Vec<Blob>, LayoutError> {
        let signature = delivery.signature_blobs(Part::Keys)?;
        let mut blobs: Vec<Blob> = delivery.keys_blobs()?.into_iter().chain(signature).collect();
        let mut seen = std::collections::BTreeSet::new();
        blobs.retain(|blob| seen.insert(blob.digest));
        Ok(blobs)
    });
    Ok(blobs.await?)
}

/// Refuses to replace keys that are neither those that were read nor the new ones.
fn may_replace(
    reference: &DeliveryRef,
    there: &Manifests,
    new: &Manifests,
    read: &Digest,
) -> Result<(), StorageError> {
    same_bundle(reference, &there.bundle.digest, &new.bundle.digest)?;
    if there.keys.digest == new.keys.digest {
        return Ok(());
    }
    same_keys(reference, &there.keys.digest, read)
}

/// Refuses what is there where it is another delivery, or has other keys.
fn same(reference: &DeliveryRef, there: &Manifests, mine: &Manifests) -> Result<(), StorageError> {
    same_bundle(reference, &there.bundle.digest, &mine.bundle.digest)?;
    same_keys(reference, &there.keys.digest, &mine.keys.digest)?;
    for part in Part::ALL {
        same_signature(reference, part, there.signatures.of(part), mine.signatures.of(part))?;
    }
    Ok(())
}

/// Refuses a signature that is another one. One that only one side has is none.
///
/// Attack: whoever may write into the area signs first. What is signed here would count as stored, and lie nowhere.
pub(crate) fn same_signature(
    reference: &DeliveryRef,
    part: Part,
    found: Option<&Blob>,
    expected: Option<&Blob>,
) -> Result<(), StorageError> {
    match (found, expected) {
        (Some(found), Some(expected)) if found.digest != expected.digest => {
            let (found, expected) = (found.digest, expected.digest);
            let (delivery, part) = (reference.clone().into(), part.name());
            Err(StorageError::OtherSignature { delivery, part, found, expected })
        }
        _ => Ok(()),
    }
}

/// Refuses a delivery that is another one.
pub(crate) fn same_bundle(
    reference: &DeliveryRef,
    found: &Digest,
    expected: &Digest,
) -> Result<(), StorageError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (*found, *expected);
    Err(StorageError::OtherDelivery { delivery: reference.clone().into(), found, expected })
}

/// Refuses keys that are other ones.
pub(crate) fn same_keys(
    reference: &DeliveryRef,
    found: &Digest,
    expected: &Digest,
) -> Result<(), StorageError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (*found, *expected);
    Err(StorageError::OtherKeys { delivery: reference.clone().into(), found, expected })
}

/// Says that a blob has another size than it should.
pub(crate) fn size(reference: &DeliveryRef, blob: &Blob, found: &str) -> StorageError {
    StorageError::Size {
        delivery: reference.clone().into(),
        name: blob.path(),
        found: found.to_owned(),
        expected: format!("{} bytes", blob.size),
    }
}

/// Fetches a delivery.
pub(crate) async fn fetch(
    area: &AreaRef,
    files: &dyn Files,
    address: &Address,
    expected: Option<Digest>,
    into: &Path,
    watch: Watch<'_>,
) -> Result<(), StorageError> {
    let reference = DeliveryRef { area: area.clone(), address: address.clone() };
    let Address::Bundle(bundle) = address else { return Err(StorageError::NoDigests(reference.into())) };
    let receiver = Arc::new(start(into).await?);
    let missing = || StorageError::NoDelivery(reference.clone().into());
    let (manifests, _) = listed(files, &reference, bundle).await?.ok_or_else(missing)?;
    if let Some(expected) = expected {
        same_bundle(&reference, &manifests.bundle.digest, &expected)?;
    }
    let get = Get { files, reference: &reference, bundle, receiver: &receiver };
    let bad = |source| StorageError::Bad { delivery: reference.clone().into(), source: Box::new(source) };
    let manifest = get.document(&manifests.bundle).await?;
    let [config, descriptor, content] = blobs_of_bundle(&manifests.bundle, &manifest).map_err(bad)?;
    let manifest = get.document(&manifests.keys).await?;
    let [_, keys] = blobs_of_keys(&manifests.keys, &manifest, &manifests.bundle).map_err(bad)?;
    for blob in [&config, &descriptor, &keys] {
        get.document(blob).await?;
    }
    for part in Part::ALL {
        let Some(signature) = manifests.signatures.of(part) else { continue };
        let manifest = get.document(signature).await?;
        let [_, layer] = blobs_of_signature(part, signature, &manifest, manifests.of(part)).map_err(bad)?;
        get.document(&layer).await?;
    }
    get.content(&content, watch).await?;
    end(receiver, manifests, bundle.clone(), &reference).await
}

pub(crate) async fn start(into: &Path) -> Result<Receiver, StorageError> {
    let into = into.to_owned();
    Ok(blocking(move || Receiver::new(&into)).await?)
}

pub(crate) async fn end(
    receiver: Arc<Receiver>,
    manifests: Manifests,
    bundle: BundleId,
    reference: &DeliveryRef,
) -> Result<(), StorageError> {
    let Some(receiver) = Arc::into_inner(receiver) else { unreachable!("nothing else has it any more") };
    let ended = blocking(move || receiver.end(&manifests, &bundle)).await;
    ended.map_err(|error| match error {
        // The place where it is to appear is not the area's fault.
        LayoutError::Exists(_) | LayoutError::Write(..) => StorageError::Layout(error),
        source => StorageError::Bad { delivery: reference.clone().into(), source: Box::new(source) },
    })
}

/// The fetching of one delivery.
struct Get<'a> {
    files: &'a dyn Files,
    reference: &'a DeliveryRef,
    bundle: &'a BundleId,
    receiver: &'a Arc<Receiver>,
}

impl Get<'_> {
    /// Fetches a small blob.
    async fn document(&self, blob: &Blob) -> Result<Bytes, StorageError> {
        let name = blob.path();
        bounded(self.reference, &name, blob.size)?;
        let found = self.files.read(&path(self.bundle, &name), blob.size).await?;
        let (bytes, _) = found.ok_or_else(|| lost(self.reference, &name))?;
        keep(self.receiver, self.reference, blob, bytes).await
    }

    /// Fetches a large blob, and holds it against its digest while it comes.
    async fn content(&self, blob: &Blob, watch: Watch<'_>) -> Result<(), StorageError> {
        let name = blob.path();
        let found = self.files.open(&path(self.bundle, &name)).await?;
        let pieces = found.ok_or_else(|| lost(self.reference, &name))?;
        let mut sink = Sink::new(self.receiver, self.reference, blob, watch).await?;
        sink.take(pieces).await?;
        sink.end().await
    }
}

/// Writes a small blob that came, and returns it.
pub(crate) async fn keep(
    receiver: &Arc<Receiver>,
    reference: &DeliveryRef,
    blob: &Blob,
    bytes: Bytes,
) -> Result<Bytes, StorageError> {
    let (receiver, wanted, written) = (receiver.clone(), blob.clone(), bytes.clone());
    let done = blocking(move || receiver.document(&wanted, &written)).await;
    match done {
        Ok(()) => Ok(bytes),
        Err(error @ LayoutError::Write(..)) => Err(error.into()),
        Err(source) => {
            Err(StorageError::Bad { delivery: reference.clone().into(), source: Box::new(source) })
        }
    }
}

/// Refuses a document of a size that none has.
///
/// Attack: a manifest that says of a document that it has a gigabyte. It would be read into memory.
pub(crate) fn bounded(reference: &DeliveryRef, name: &str, size: u64) -> Result<(), StorageError> {
    if size <= MAX_DOCUMENT_BYTES {
        return Ok(());
    }
    Err(StorageError::Size {
        delivery: reference.clone().into(),
        name: name.to_owned(),
        found: format!("{size} bytes"),
        expected: format!("at most {MAX_DOCUMENT_BYTES} bytes"),
    })
}

fn lost(reference: &DeliveryRef, name: &str) -> StorageError {
    let source = LayoutError::Read(name.to_owned(), std::io::ErrorKind::NotFound.into());
    StorageError::Bad { delivery: reference.clone().into(), source: Box::new(source) }
}

/// How much of a large blob comes before it is written, while as much is being written.
const PIECE: usize = 1 << 20;

/// A large blob that comes.
pub(crate) struct Sink<'a> {
    /// What came and is not being written yet.
    came: Vec<u8>,
    /// Nothing behind a failure.
    writing: Option<JoinHandle<io::Result<Written>>>,
    place: PathBuf,
    pub(crate) done: u64,
    reference: &'a DeliveryRef,
    blob: &'a Blob,
    watch: Watch<'a>,
}

/// The beginning of a blob, as far as it is written.
struct Written {
    file: File,
    digest: sha2::Sha256,
    /// To be filled again: memory that goes to and fro between threads is not made anew for each piece.
    empty: Vec<u8>,
}

impl Written {
    fn write(mut self, mut piece: Vec<u8>) -> io::Result<Self> {
        self.file.write_all(&piece)?;
        self.digest.update(&piece);
        piece.clear();
        Ok(Self { empty: piece, ..self })
    }
}

impl<'a> Sink<'a> {
    pub(crate) async fn new(
        receiver: &Arc<Receiver>,
        reference: &'a DeliveryRef,
        blob: &'a Blob,
        watch: Watch<'a>,
    ) -> Result<Self, StorageError> {
        let (from, wanted) = (receiver.clone(), blob.clone());
        let (file, place) = blocking(move || from.blob(&wanted)).await?;
        let written = Written { file, digest: sha2::Sha256::new(), empty: Vec::with_capacity(PIECE) };
        let writing = Some(tokio::task::spawn_blocking(|| Ok(written)));
        Ok(Self { came: Vec::with_capacity(PIECE), writing, place, done: 0, reference, blob, watch })
    }

    /// Writes what comes, as far as it comes, and never more than the blob has.
    pub(crate) async fn take(&mut self, mut pieces: Pieces) -> Result<(), StorageError> {
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let done = self.done + piece.len() as u64;
            // Attack: an answer that does not end. It would fill the disk.
            if done > self.blob.size {
                return Err(self.size("more"));
            }
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(PIECE - self.came.len()));
                self.came.extend_from_slice(now);
                rest = later;
                if self.came.len() == PIECE {
                    self.write().await?;
                }
            }
            self.done = done;
            (self.watch)(Progress { done, total: self.blob.size });
        }
        Ok(())
    }

    /// Has what came be written, once what came before is.
    async fn write(&mut self) -> Result<(), StorageError> {
        let mut written = self.written().await?;
        let piece = std::mem::replace(&mut self.came, std::mem::take(&mut written.empty));
        self.writing = Some(tokio::task::spawn_blocking(move || written.write(piece)));
        Ok(())
    }

    /// Waits for what is being written.
    async fn written(&mut self) -> Result<Written, StorageError> {
        let written = match self.writing.take() {
            Some(writing) => writing.await.unwrap_or_else(|error| resume_unwind(error.into_panic())),
            None => Err(io::Error::other("the writing ended before")),
        };
        Ok(written.map_err(|error| LayoutError::Write(self.place.clone(), error))?)
    }

    /// Ends a blob that came whole.
    pub(crate) async fn end(mut self) -> Result<(), StorageError> {
        if self.done != self.blob.size {
            return Err(self.size(&format!("{} bytes", self.done)));
        }
        self.write().await?;
        let Written { file, digest, .. } = self.written().await?;
        let found = Digest(Sha256::from_bytes(digest.finalize().into()));
        if found != self.blob.digest {
            let (expected, found) = (self.blob.digest.to_string(), found.to_string());
            let source = LayoutError::Digest { name: self.blob.path(), expected, found };
            return Err(StorageError::Bad {
                delivery: self.reference.clone().into(),
                source: Box::new(source),
            });
        }
        let synced = blocking(move || file.sync_all()).await;
        Ok(synced.map_err(|error| LayoutError::Write(self.place, error))?)
    }

    fn size(&self, found: &str) -> StorageError {
        size(self.reference, self.blob, found)
    }
}

const INDEX: &str = "index.json";

/// The largest index that is read: ours has less than two of these kilobytes.
const MAX_INDEX_BYTES: u64 = 64 << 10;

fn path(bundle: &BundleId, name: &str) -> String {
    format!("{bundle}/{name}")
}

/// Returns what a delivery's index names, where there is one.
async fn listed(
    files: &dyn Files,
    reference: &DeliveryRef,
    bundle: &BundleId,
) -> Result<Option<(Manifests, Version)>, StorageError> {
    let Some((bytes, version)) = files.read(&path(bundle, INDEX), MAX_INDEX_BYTES).await? else {
        return Ok(None);
    };
    if bytes.len() as u64 > MAX_INDEX_BYTES {
        return Err(StorageError::Size {
            delivery: reference.clone().into(),
            name: INDEX.to_owned(),
            found: "more".to_owned(),
            expected: format!("at most {MAX_INDEX_BYTES} bytes"),
        });
    }
    let manifests = Manifests::of_index(&bytes);
    match manifests {
        Ok(manifests) => Ok(Some((manifests, version))),
        Err(source) => {
            Err(StorageError::Bad { delivery: reference.clone().into(), source: Box::new(source) })
        }
    }
}

/// Sends a blob, unless it is there.
async fn send(
    files: &dyn Files,
    delivery: &Arc<Delivery>,
    bundle: &BundleId,
    blob: &Blob,
    tally: &mut Tally<'_>,
) -> Result<(), StorageError> {
    let name = path(bundle, &blob.path());
    match files.size(&name).await? {
        Some(size) if size == blob.size => {
            tally.there(blob.size);
            Ok(())
        }
        // Another size is no blob of this digest: it is put right.
        _ => {
            let source = Source::open(delivery, blob).await?;
            files.send(&name, source, &|bytes| tally.moved(bytes)).await?;
            tally.sent(blob.size);
            Ok(())
        }
    }
}

/// Returns the blobs of a delivery, each once, in the order in which they are sent.
pub(crate) async fn blobs(delivery: &Arc<Delivery>) -> Result<Vec<Blob>, StorageError> {
    let delivery = delivery.clone();
    Ok(blocking(move || delivery.blobs()).await?)
}

/// What was sent.
pub(crate) struct Tally<'a> {
    watch: Watch<'a>,
    total: u64,
    done: u64,
    sent: usize,
    already_there: usize,
    bytes: u64,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(total: u64, watch: Watch<'a>) -> Self {
        Self { watch, total, done: 0, sent: 0, already_there: 0, bytes: 0 }
    }

    /// Shows how much of the blob that is being sent went over.
    pub(crate) fn moved(&self, bytes: u64) {
        (self.watch)(Progress { done: self.done + bytes, total: self.total });
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.sent += 1;
        self.bytes += bytes;
        self.done += bytes;
        self.moved(0);
    }

    pub(crate) fn there(&mut self, bytes: u64) {
        self.already_there += 1;
        self.done += bytes;
        self.moved(0);
    }

    /// Counts a document.
    pub(crate) fn count(&mut self, sent: bool, bytes: usize) {
        match sent {
            true => {
                self.sent += 1;
                self.bytes += bytes as u64;
            }
            false => self.already_there += 1,
        }
    }

    pub(crate) fn stored(self, delivery: DeliveryRef) -> Stored {
        Stored { delivery, sent: self.sent, already_there: self.already_there, bytes: self.bytes }
    }
}
