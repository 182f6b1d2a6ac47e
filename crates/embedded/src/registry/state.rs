//! What the registry keeps in memory: documents and tarballs that are asked for again and again, and how much may
//! be uploaded at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Bytes;
use protected_model::{api::problem::Code, digest::Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    cache::Cache,
    packument::Rendered,
    table::{self, Place},
};
use crate::{
    app::App,
    config::Repository,
    problem::{Answer, Refusal},
    store::StoreError,
};

/// Memory for rendered documents.
const DOCUMENTS_BYTES: usize = 48 << 20;
/// Memory for tarballs.
const TARBALLS_BYTES: usize = 32 << 20;
/// A larger tarball is read from its file each time.
const CACHED_TARBALL_BYTES: u64 = 1 << 20;
/// Installs that are remembered as recorded; an entry takes some 200 bytes.
const INSTALLS: usize = 20_000;
/// Uploads in memory at one time, by what they announce. Attack: a hundred documents of 64 MiB at once.
const UPLOADS_KIB: usize = 192 << 10;
/// How long an upload waits for others before it is sent away.
const UPLOAD_WAIT: Duration = Duration::from_secs(10);
/// Uploads of one token at one time. Attack: a token that is good for one package keeps everybody else waiting.
const UPLOADS_PER_TOKEN: usize = 4;
/// Documents that are rendered at one time: more would make each slower.
const RENDERING: usize = 2;

/// The registry's memory.
pub(crate) struct Registry {
    documents: Cache<Place, Arc<Rendered>>,
    tarballs: Cache<Sha256, Bytes>,
    installs: Cache<String, ()>,
    uploads: Arc<Semaphore>,
    uploading: Uploading,
    rendering: Semaphore,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            documents: Cache::new(DOCUMENTS_BYTES),
            tarballs: Cache::new(TARBALLS_BYTES),
            installs: Cache::new(INSTALLS),
            uploads: Arc::new(Semaphore::new(UPLOADS_KIB)),
            uploading: Uploading::default(),
            rendering: Semaphore::new(RENDERING),
        }
    }

    /// Returns the documents of a package as they are now, or `None` when it has no version.
    pub(crate) async fn documents(
        &self,
        app: &App,
        repository: &Repository,
        place: &Place,
    ) -> Answer<Option<Arc<Rendered>>> {
        if let Some(known) = self.documents.get(place) {
            return Ok(Some(known));
        }
        // Whoever waited here finds what the one before has rendered.
        let _permit = self.rendering.acquire().await;
        if let Some(known) = self.documents.get(place) {
            return Ok(Some(known));
        }
        let read_at = self.documents.generation();
        let (store, url, own) = (app.store.clone(), app.registry_url(&repository.name), place.clone());
        let rendered = tokio::task::spawn_blocking(move || {
            let Some(stored) = table::read(&store.read()?, &own)? else { return Ok(None) };
            Rendered::new(own.package(), &stored.package, &stored.versions, &url)
                .map(|rendered| Some(Arc::new(rendered)))
                .map_err(|error| StoreError::Corrupt(error.to_string()))
        });
        let rendered = rendered.await.unwrap_or(Err(StoreError::GivenUp))?;
        if let Some(rendered) = &rendered {
            self.documents.insert(place.clone(), Arc::clone(rendered), rendered.memory_bytes(), read_at);
        }
        Ok(rendered)
    }

    /// Forgets the documents of a package. To be called after each commit that changes it, before the answer.
    pub(crate) fn changed(&self, place: &Place) {
        self.documents.invalidate(place);
    }

    /// Returns a tarball of `size_bytes` from memory, read into it when it is small; `None` for a large one.
    pub(crate) async fn tarball(&self, app: &App, sha256: Sha256, size_bytes: u64) -> Answer<Option<Bytes>> {
        if size_bytes > CACHED_TARBALL_BYTES {
            return Ok(None);
        }
        if let Some(known) = self.tarballs.get(&sha256) {
            return Ok(Some(known));
        }
        let blobs = app.store.blobs().clone();
        let read = tokio::task::spawn_blocking(move || {
            let bytes = blobs.get(&sha256)?;
            // Once for each time it enters the memory: a disk that has lost bits shows here, not at a client.
            if Sha256::of(&bytes) != sha256 {
                return Err(StoreError::Corrupt(format!("a blob that is not {sha256}")));
            }
            Ok(Bytes::from(bytes))
        });
        let bytes = read.await.unwrap_or(Err(StoreError::GivenUp))?;
        self.tarballs.insert(sha256, bytes.clone(), bytes.len(), self.tarballs.generation());
        Ok(Some(bytes))
    }

    /// Returns whether this token installs this version for the first time, as far as is remembered.
    pub(crate) fn is_first_install(&self, jti: &str, version: &str) -> bool {
        let key = format!("{jti} {version}");
        let first = self.installs.get(key.as_str()).is_none();
        if first {
            self.installs.insert(key, (), 1, self.installs.generation());
        }
        first
    }

    /// Waits for the memory that an upload of `bytes` takes. It is given back when the return is dropped.
    pub(crate) async fn upload(&self, caller: &str, bytes: u64) -> Answer<Upload> {
        let Some(turn) = self.uploading.enter(caller) else {
            let message = format!("the token has {UPLOADS_PER_TOKEN} uploads under way already");
            return Err(Refusal::new(Code::OVERLOADED, message).retry_after(5));
        };
        let kib = usize::try_from(bytes / 1024 + 1).unwrap_or(usize::MAX).min(UPLOADS_KIB);
        let permits = u32::try_from(kib).unwrap_or(u32::MAX);
        let waiting =
            tokio::time::timeout(UPLOAD_WAIT, Arc::clone(&self.uploads).acquire_many_owned(permits));
        match waiting.await {
            Ok(Ok(memory)) => Ok(Upload { _memory: memory, _turn: turn }),
            _ => {
                Err(Refusal::new(Code::OVERLOADED, "too much is being uploaded at this moment")
                    .retry_after(5))
            }
        }
    }
}

/// The memory of an upload, and its token's turn.
pub(crate) struct Upload {
    _memory: OwnedSemaphorePermit,
    _turn: Turn,
}

/// How many uploads each token has under way.
#[derive(Clone, Default)]
struct Uploading(Arc<Mutex<HashMap<String, usize>>>);

/// One of them, for as long as it lasts.
struct Turn {
    uploading: Uploading,
    caller: String,
}

impl Uploading {
    fn enter(&self, caller: &str) -> Option<Turn> {
        let mut callers = self.callers();
        let count = callers.entry(caller.to_owned()).or_default();
        if *count >= UPLOADS_PER_TOKEN {
            return None;
        }
        *count += 1;
        Some(Turn { uploading: self.clone(), caller: caller.to_owned() })
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut callers = self.uploading.callers();
        if let Some(count) = callers.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_has_so_many_uploads_and_gets_its_turns_back() {
        let registry = Registry::new();
        let mut under_way = Vec::new();
        for _ in 0..UPLOADS_PER_TOKEN {
            under_way.push(registry.upload("a", 10).await.expect("a turn"));
        }
        let refused = registry.upload("a", 10).await.err().expect("one too many");
        assert_eq!(refused.code(), &Code::OVERLOADED);
        assert!(registry.upload("b", 10).await.is_ok(), "another token");
        under_way.pop();
        assert!(registry.upload("a", 10).await.is_ok());
        drop(under_way);
        assert!(registry.uploading.callers().is_empty());
    }

    #[tokio::test]
    async fn an_upload_waits_for_memory() {
        let registry = Arc::new(Registry::new());
        let all = registry.upload("a", u64::MAX).await.expect("all of it");
        let waiting = Arc::clone(&registry);
        let waiting = tokio::spawn(async move { waiting.upload("b", 10).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished());
        drop(all);
        assert!(waiting.await.expect("task"));
    }
}
