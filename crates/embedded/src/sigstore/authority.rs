//! What signs: the keys of now, and the log that they sign.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;
use protected_model::service_url::ServiceUrl;

use super::{
    error::AuthorityError,
    keys::{KeyFile, Keys},
    log,
};
use crate::store::Store;

/// Where everything of it is, below the base URL.
const PATH: &str = "sigstore";

/// What signs, and where it is.
pub(crate) struct Authority {
    url: String,
    file: KeyFile,
    keys: RwLock<Arc<Keys>>,
}

impl Authority {
    /// Loads the keys of a folder, or makes them.
    pub(crate) fn open(
        folder: &Path,
        public_url: &ServiceUrl,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let url = public_url.join(PATH).to_string();
        let (file, keys) = KeyFile::load_or_create(folder, &url, now)?;
        Ok(Self { url, file, keys: RwLock::new(Arc::new(keys)) })
    }

    /// Returns the URL that Fulcio, Rekor and the timestamp authority share, without a `/` at its end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets new keys take over when those that sign are old enough.
    pub(super) async fn rotate(&self, store: &Store, now: Timestamp) -> Result<(), AuthorityError> {
        let keys = self.keys();
        if !keys.is_due(now) {
            return Ok(());
        }
        let next = self.file.rotate(&keys, now)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        tracing::info!("new keys sign certificates, the log and timestamps from now on");
        log::begin(store, self.keys(), now).await
    }
}
