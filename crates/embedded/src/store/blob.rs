//! Files by digest: `sha256/ab/<hex>`, written once, never changed.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protected_model::digest::Sha256;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    TableHandle as _, WriteTransaction,
};

use super::{StoreError, create_private_folder, sync_folder};

/// The blobs that committed rows refer to, with their sizes. What is not in here goes at the next start.
const BLOBS: TableDefinition<&[u8; 32], u64> = TableDefinition::new("blobs");
/// What each of them is referred to by. The last to let go of a blob takes it out of [`BLOBS`].
const REFERENCES: TableDefinition<(&[u8; 32], &str), ()> = TableDefinition::new("blob_references");
/// What the blobs of releases that did not count references are referred to by, so that they stay.
const OLDER: &str = "an older release";
/// Where a blob is written before it has its name.
const TEMPORARY: &str = "tmp";
/// How long a blob that was just stored may take until a transaction refers to it. Attack: store what is just being
/// removed, and have a row that refers to nothing.
const RECENT: Duration = Duration::from_secs(10 * 60);

/// The folder of blobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blobs {
    folder: PathBuf,
    /// The blobs that were stored within [`RECENT`].
    recent: Arc<Mutex<HashMap<Sha256, Instant>>>,
}

impl Blobs {
    pub(super) fn open(folder: &Path, database: &Database) -> Result<Self, StoreError> {
        let blobs = Self { folder: folder.to_owned(), recent: Arc::default() };
        let temporary = folder.join(TEMPORARY);
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(failed("sweep", &temporary))?;
        }
        create_private_folder(&temporary)?;
        create_private_folder(&folder.join("sha256"))?;
        let txn = database.begin_write()?;
        let counted = txn.list_tables()?.any(|table| table.name() == REFERENCES.name());
        {
            let known = txn.open_table(BLOBS)?;
            let mut references = txn.open_table(REFERENCES)?;
            if !counted && !known.is_empty()? {
                for row in known.iter()? {
                    references.insert((row?.0.value(), OLDER), ())?;
                }
            }
        }
        txn.commit()?;
        blobs.sweep(database)?;
        Ok(blobs)
    }

    /// Stores `bytes` and returns their digest once they are on disk under it. Blocks: `spawn_blocking`.
    ///
    /// The blob is only kept beyond a restart when a transaction then calls [`Blobs::refer`].
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Sha256, StoreError> {
        let digest = Sha256::of(bytes);
        self.recent().insert(digest, Instant::now());
        let path = self.path(&digest);
        let folder = path.parent().unwrap_or(&self.folder);
        if !path.exists() {
            let temporary = self.folder.join(TEMPORARY);
            let mut file = tempfile::NamedTempFile::new_in(&temporary)
                .map_err(failed("create a file in", &temporary))?;
            io::Write::write_all(&mut file, bytes).map_err(failed("write", &path))?;
            file.as_file().sync_all().map_err(failed("flush", &path))?;
            if !folder.exists() {
                create_private_folder(folder)?;
                sync_folder(&self.folder.join("sha256"))?;
            }
            file.persist(&path).map_err(|error| failed("rename a file to", &path)(error.error))?;
        }
        // Also when another request has just written it: its flush of the folder may be still to come.
        sync_folder(folder)?;
        Ok(digest)
    }

    /// Notes within `txn` that the row `by` refers to the blob `digest` of `size` bytes.
    pub(crate) fn refer(
        txn: &WriteTransaction,
        digest: &Sha256,
        size: u64,
        by: &str,
    ) -> Result<(), StoreError> {
        txn.open_table(BLOBS)?.insert(digest.as_bytes(), size)?;
        txn.open_table(REFERENCES)?.insert((digest.as_bytes(), by), ())?;
        Ok(())
    }

    /// Notes within `txn` that the row `by` is gone, and returns whether nothing refers to the blob any more. Hand
    /// such blobs to [`Blobs::remove`] once the transaction is on disk.
    pub(crate) fn release(txn: &WriteTransaction, digest: &Sha256, by: &str) -> Result<bool, StoreError> {
        let mut references = txn.open_table(REFERENCES)?;
        references.remove((digest.as_bytes(), by))?;
        let mut left = references.range((digest.as_bytes(), "")..)?;
        if left.next().transpose()?.is_some_and(|(key, _)| key.value().0 == digest.as_bytes()) {
            return Ok(false);
        }
        txn.open_table(BLOBS)?.remove(digest.as_bytes())?;
        Ok(true)
    }

    /// Removes the files of blobs that nothing refers to. One that was just stored again stays; should nothing refer
    /// to it either, it goes at the next start. Blocks: `spawn_blocking`.
    pub(crate) fn remove(&self, txn: &ReadTransaction, digests: &[Sha256]) -> Result<(), StoreError> {
        // While this is held nobody finds a file that is about to go.
        let mut recent = self.recent();
        recent.retain(|_, stored| stored.elapsed() < RECENT);
        let known = txn.open_table(BLOBS)?;
        for digest in digests {
            if recent.contains_key(digest) || known.get(digest.as_bytes())?.is_some() {
                continue;
            }
            let path = self.path(digest);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Forgets which blobs were stored longer than [`RECENT`] ago.
    pub(crate) fn forget_old(&self) {
        self.recent().retain(|_, stored| stored.elapsed() < RECENT);
    }

    fn recent(&self) -> MutexGuard<'_, HashMap<Sha256, Instant>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a blob whole. Blocks: `spawn_blocking`.
    pub(crate) fn get(&self, digest: &Sha256) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        fs::read(&path).map_err(failed("read", &path))
    }

    /// Returns where a blob is, to be streamed.
    pub(crate) fn path(&self, digest: &Sha256) -> PathBuf {
        let hex = digest.to_string();
        self.folder.join("sha256").join(&hex[..2]).join(hex)
    }

    /// Removes the blobs whose transaction never committed.
    fn sweep(&self, database: &Database) -> Result<(), StoreError> {
        let txn = database.begin_read()?;
        let known = txn.open_table(BLOBS)?;
        for folder in entries(&self.folder.join("sha256"))? {
            for path in entries(&folder)? {
                let digest = path.file_name().and_then(|name| name.to_str()?.parse::<Sha256>().ok());
                let referred = match digest {
                    Some(digest) => known.get(digest.as_bytes())?.is_some(),
                    None => false,
                };
                if !referred {
                    fs::remove_file(&path).map_err(failed("sweep", &path))?;
                }
            }
        }
        Ok(())
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
    });
    entries.map_err(failed("list", folder))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn a_file_stays_until_the_last_reference_is_gone() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path()).expect("store");
        let blobs = store.blobs().clone();
        let digest = blobs.put(b"content").expect("put");
        let path = blobs.path(&digest);
        let refer = |by: &'static str| store.write(move |txn| Blobs::refer(txn, &digest, 7, by));
        let release = |by: &'static str| store.write(move |txn| Blobs::release(txn, &digest, by));
        refer("a").await.expect("written");
        refer("b").await.expect("written");
        refer("b").await.expect("written");
        assert!(!release("a").await.expect("written"));
        assert!(!release("never was").await.expect("written"));
        blobs.recent().clear();
        blobs.remove(&store.read().expect("read"), &[digest]).expect("removed");
        assert!(path.exists(), "somebody refers to it");
        assert!(release("b").await.expect("written"));
        // Stored again at this moment: a row is about to refer to it.
        blobs.put(b"content").expect("put");
        blobs.remove(&store.read().expect("read"), &[digest]).expect("removed");
        assert!(path.exists(), "it was just stored");
        refer("c").await.expect("written");
        blobs.recent().clear();
        blobs.remove(&store.read().expect("read"), &[digest]).expect("removed");
        assert_eq!(blobs.get(&digest).expect("content"), b"content");
        assert!(release("c").await.expect("written"));
        blobs.remove(&store.read().expect("read"), &[digest]).expect("removed");
        assert!(!path.exists());
        blobs.remove(&store.read().expect("read"), &[digest]).expect("not there is no error");
    }

    #[tokio::test]
    async fn the_blobs_of_a_release_that_did_not_count_stay() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path()).expect("store");
        let digest = store.blobs().put(b"content").expect("put");
        let older = store.write(move |txn| {
            txn.open_table(BLOBS)?.insert(digest.as_bytes(), 7)?;
            txn.delete_table(REFERENCES)?;
            Ok(())
        });
        older.await.expect("written");
        let closed = store.closed();
        drop(store);
        closed.await;
        let store = Store::open(folder.path()).expect("store");
        let both = store.write(move |txn| {
            Blobs::refer(txn, &digest, 7, "a")?;
            Blobs::release(txn, &digest, "a")
        });
        assert!(!both.await.expect("written"));
        assert_eq!(store.blobs().get(&digest).expect("content"), b"content");
    }
}
