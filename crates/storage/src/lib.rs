//! The delivery area of a project: where sealed deliveries lie until their customer fetches them. One file each.
//!
//! A store is not trusted. What comes from one is held against the digests of the delivery while it comes, and never
//! appears before it is whole; what a store says about sizes bounds nothing.
//!
//! ```text
//! <area>/<bundle id>/oci-layout, blobs/sha256/<digest>, index.json      a folder, S3, Google Cloud Storage, Azure
//! <registry>/<repository>:<bundle id>                                   an OCI registry
//! ```
//!
//! Blobs go first and are never replaced; the name by which a delivery is found goes last. So nobody finds half a
//! delivery, and what was interrupted goes on where it was.

mod area;
mod azure;
mod docker_config;
mod error;
mod files;
mod folder;
mod gcs;
mod objects;
mod oci;
mod s3;
mod source;

use std::path::Path;

use protected_bundle::layout::{Delivery, Digest};
use protected_http::Client;
use protected_model::{digest::Sha256, environment::Environment, secret::AccessToken};
use url::Url;

pub use area::{Address, AreaRef, AreaRefError, Bucket, DeliveryRef, Repository};
pub use error::{Refused, StorageError};

use files::Files;

/// How stores are reached.
#[derive(Clone, Default)]
pub struct Settings {
    /// Where the credentials of each provider come from, in the variables that its own tools read.
    pub environment: Environment,
}

/// A service that mints tokens for registries, and a session of the caller's with it.
#[derive(Clone)]
pub struct TokenService {
    /// Where tokens are, as a registry names it to its clients (`realm`).
    pub url: Url,
    /// What shows who asks.
    pub session: AccessToken,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many bytes went over, or were there already.
    pub done: u64,
    /// How many bytes the delivery has.
    pub total: u64,
}

/// Takes note of [`Progress`].
pub type Watch<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// A delivery that lies in its area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where it is. [`DeliveryRef::uri`] is what its manifest says.
    pub delivery: DeliveryRef,
    /// How many blobs and documents were sent.
    pub sent: usize,
    /// How many were there already.
    pub already_there: usize,
    /// How many bytes were sent.
    pub bytes: u64,
}

/// A delivery area that can be used.
pub struct Area {
    reference: AreaRef,
    store: Store,
}

enum Store {
    /// It holds files by name.
    Files(Box<dyn Files>),
    /// It holds manifests and blobs by digest.
    Registry(Box<oci::Registry>),
}

impl Area {
    /// Connects to an area. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When it cannot be used here, such as for want of credentials.
    pub fn connect(area: &AreaRef, settings: &Settings, http: &Client) -> Result<Self, StorageError> {
        let files: Box<dyn Files> = match area {
            AreaRef::Folder(folder) => Box::new(folder::Folder::new(folder)),
            AreaRef::S3(bucket) => Box::new(s3::connect(area, bucket, settings, http)?),
            AreaRef::Gcs(bucket) => Box::new(gcs::connect(area, bucket, settings, http)?),
            AreaRef::Azure { account, container } => {
                Box::new(azure::connect(area, account, container, settings, http)?)
            }
            AreaRef::Oci(repository) => {
                let registry = oci::connect(area, repository, settings, http)?;
                return Ok(Self { reference: area.clone(), store: Store::Registry(Box::new(registry)) });
            }
        };
        let store = Store::Files(files);
        Ok(Self { reference: area.clone(), store })
    }

    /// Lets a registry's tokens be asked for in a session, where no other credential is given and the registry's clients
    /// are sent to exactly this service for one of exactly this registry (its `service` is the `<host>[:<port>]` of the
    /// area).
    pub fn set_token_service(&mut self, service: TokenService) {
        if let Store::Registry(registry) = &mut self.store {
            registry.set_token_service(service);
        }
    }

    /// Stores the delivery of a layout, a folder or a tar file, under its bundle id.
    ///
    /// What is there already is not sent again, so that it can be repeated after whatever went wrong; a repetition
    /// answers the same place.
    ///
    /// # Errors
    /// When the layout is no delivery, when another delivery has this id, or the area cannot be written.
    pub async fn store(&self, layout: &Path, watch: Watch<'_>) -> Result<Stored, StorageError> {
        let delivery = open(layout).await?;
        match &self.store {
            Store::Files(store) => files::store(&self.reference, store.as_ref(), delivery, watch).await,
            Store::Registry(registry) => registry.store(delivery, watch).await,
        }
    }

    /// Fetches a delivery as a layout that appears at `into`, or not at all.
    ///
    /// `expected` is the digest of the bundle as the delivery's manifest has it (`bundle.sha256`): with it, the area
    /// decides nothing but whether the delivery is there.
    ///
    /// # Errors
    /// When it is not there, is another one, is not what its digests say, or cannot be written.
    pub async fn fetch(
        &self,
        address: &Address,
        expected: Option<&Sha256>,
        into: &Path,
        watch: Watch<'_>,
    ) -> Result<(), StorageError> {
        let expected = expected.copied().map(Digest);
        match &self.store {
            Store::Files(store) => {
                files::fetch(&self.reference, store.as_ref(), address, expected, into, watch).await
            }
            Store::Registry(registry) => registry.fetch(address, expected, into, watch).await,
        }
    }

    /// Puts the keys of a layout in the place of those that lie in the area. The content is not touched.
    ///
    /// `read` is the manifest of the keys that the new ones were made from, as it was fetched
    /// ([`Manifests::keys`](protected_bundle::layout::Manifests::keys)): keys that came to be there meanwhile are not
    /// overwritten.
    ///
    /// # Errors
    /// When the area has no such delivery, or other keys than those that were read.
    pub async fn replace_keys(&self, layout: &Path, read: &Digest) -> Result<Stored, StorageError> {
        let delivery = open(layout).await?;
        match &self.store {
            Store::Files(store) => files::replace_keys(&self.reference, store.as_ref(), delivery, read).await,
            Store::Registry(registry) => registry.replace_keys(delivery, read).await,
        }
    }
}

/// Opens a layout without holding up the others.
async fn open(layout: &Path) -> Result<Delivery, StorageError> {
    let layout = layout.to_owned();
    Ok(blocking(move || Delivery::open(&layout)).await?)
}

/// Runs what waits for a disk.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done,
        // It is never cancelled: what it ended with is a panic.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
