//! Files by digest: `sha256/ab/<hex>`, written once, never changed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use protected_model::digest::Sha256;
use redb::{Database, ReadableDatabase, TableDefinition, WriteTransaction};

use super::{StoreError, create_private_folder, sync_folder};

/// The blobs that committed rows refer to, with their sizes. What is not in here goes at the next start.
const BLOBS: TableDefinition<&[u8; 32], u64> = TableDefinition::new("blobs");
/// Where a blob is written before it has its name.
const TEMPORARY: &str = "tmp";

/// The folder of blobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    pub(super) fn open(folder: &Path, database: &Database) -> Result<Self, StoreError> {
        let blobs = Self { folder: folder.to_owned() };
        let temporary = folder.join(TEMPORARY);
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(failed("sweep", &temporary))?;
        }
        create_private_folder(&temporary)?;
        create_private_folder(&folder.join("sha256"))?;
        let txn = database.begin_write()?;
        txn.open_table(BLOBS)?;
        txn.commit()?;
        blobs.sweep(database)?;
        Ok(blobs)
    }

    /// Stores `bytes` and returns their digest once they are on disk under it. Blocks: `spawn_blocking`.
    ///
    /// The blob is only kept beyond a restart when a transaction then calls [`Blobs::refer`].
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Sha256, StoreError> {
        let digest = Sha256::of(bytes);
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

    /// Notes within `txn` that a row refers to the blob `digest` of `size` bytes.
    pub(crate) fn refer(txn: &WriteTransaction, digest: &Sha256, size: u64) -> Result<(), StoreError> {
        txn.open_table(BLOBS)?.insert(digest.as_bytes(), size)?;
        Ok(())
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
