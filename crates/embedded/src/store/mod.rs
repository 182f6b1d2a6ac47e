//! The data folder: one transactional database and the files that its rows refer to by digest.
//!
//! Order is what makes a kill harmless: a blob is complete on disk, its name and its folder flushed, before the
//! transaction that refers to it commits, and nothing is answered before that commit is on disk.

mod blob;
mod write;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

pub(crate) use blob::Blobs;

/// Facts about the database itself.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The key of [`META`] that holds [`SCHEMA_VERSION`].
const SCHEMA_KEY: &str = "schema_version";
/// The layout of the tables. Raised when a release could misread what an older one wrote.
const SCHEMA_VERSION: u64 = 1;
/// The database's file in the data folder.
const DATABASE: &str = "state.redb";

/// Why the data folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the data folder {0} is in use by another process")]
    InUse(PathBuf),
    /// It was written by another release.
    #[error("the data folder {folder} has schema version {found}, and this program knows {SCHEMA_VERSION}")]
    Schema {
        /// The folder.
        folder: PathBuf,
        /// Its version.
        found: u64,
    },
    /// A file.
    #[error("cannot {doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The database.
    #[error("the database failed")]
    Database(#[source] Box<redb::Error>),
    /// A row that this program did not write, or wrote wrongly.
    #[error("the database holds {0}")]
    Corrupt(String),
    /// The transaction was given up because another write in it failed, or the writer has ended.
    #[error("the write was given up because another one failed")]
    GivenUp,
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// What of the database stays in memory besides the system's own cache: redb would take a gigabyte.
const CACHE_BYTES: usize = 64 << 20;

/// The data folder of one running service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    // Dropped before the writer, whose thread thus holds the database last.
    database: Arc<Database>,
    writer: write::Writer,
    blobs: Blobs,
}

impl Store {
    /// Opens or creates the folder, and removes what a kill left behind: temporary files, and blobs that no
    /// committed row refers to.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        create_private_folder(folder)?;
        let path = folder.join(DATABASE);
        let database = match Database::builder().set_cache_size(CACHE_BYTES).create(&path) {
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err(StoreError::InUse(folder.to_owned()));
            }
            other => other?,
        };
        let txn = database.begin_write()?;
        {
            let mut meta = txn.open_table(META)?;
            let found = meta.get(SCHEMA_KEY)?.map(|version| version.value());
            match found {
                None => drop(meta.insert(SCHEMA_KEY, SCHEMA_VERSION)?),
                Some(SCHEMA_VERSION) => {}
                Some(found) => return Err(StoreError::Schema { folder: folder.to_owned(), found }),
            }
        }
        txn.commit()?;
        let blobs = Blobs::open(&folder.join("blobs"), &database)?;
        let database = Arc::new(database);
        Ok(Self { writer: write::Writer::start(Arc::clone(&database)), database, blobs })
    }

    /// Opens a snapshot for a short lookup. Scans belong in `spawn_blocking`.
    pub(crate) fn read(&self) -> Result<ReadTransaction, StoreError> {
        Ok(self.database.begin_read()?)
    }

    /// Runs `job` in a write transaction and returns once that is on disk.
    ///
    /// Jobs run one after the other on one thread; those that wait share a transaction and its flush, so each
    /// sees what the ones before it wrote. A refusal is a value of `T`: decide before writing. An `Err` takes
    /// everybody's changes in that transaction back, so it is for a failing disk alone.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    {
        self.writer.write(job).await
    }

    /// Returns what waits until the last clone of this is dropped and the folder is free for another process.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + use<> {
        self.writer.ended()
    }

    /// Returns the files.
    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }
}

/// Reads a random token from a private file, which is made when it is not there yet.
pub(crate) fn private_token(path: &Path) -> Result<String, StoreError> {
    match fs::read_to_string(path) {
        Ok(token) if token.trim().len() >= 32 => return Ok(token.trim().to_owned()),
        Ok(_) => return Err(StoreError::Corrupt(format!("no token in {}", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(StoreError::File { doing: "read", path: path.to_owned(), source }),
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::File {
        doing: "make random bytes for",
        path: path.to_owned(),
        source: error.into(),
    })?;
    let token = hex::encode(bytes);
    write_private_file(path, token.as_bytes())?;
    Ok(token)
}

/// Creates a folder that only its owner may enter.
pub(crate) fn create_private_folder(folder: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|source| StoreError::File {
        doing: "create the folder",
        path: folder.to_owned(),
        source,
    })
}

/// Writes a private file whole: temporary file, flush, rename, flush of the folder.
pub(crate) fn write_private_file(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let failed =
        |doing: &'static str| move |source| StoreError::File { doing, path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".tmp-")
        .tempfile_in(folder)
        .map_err(failed("create a file beside"))?;
    io::Write::write_all(&mut file, content).map_err(failed("write"))?;
    file.as_file().sync_all().map_err(failed("flush"))?;
    file.persist(path).map_err(|error| failed("rename a file to")(error.error))?;
    sync_folder(folder)
}

/// Flushes a folder, so that a name just given in it survives a power cut.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| StoreError::File {
        doing: "flush the folder",
        path: folder.to_owned(),
        source,
    })
}
