//! A blob of a layout, read piece by piece.

use std::io::Read;

use bytes::{Bytes, BytesMut};
use protected_bundle::layout::{Blob, Delivery, Digest, LayoutError};
use protected_model::digest::Sha256;
use sha2::Digest as _;

use crate::{StorageError, blocking};

/// A blob that is being sent. Its last piece is only given out when the blob has its digest.
///
/// Attack: a layout that changes while it is sent, or was broken before. Its blob would lie in the area under a digest
/// that it does not have, and be taken for sent for ever after.
pub(crate) struct Source {
    blob: Blob,
    state: Option<State>,
    /// What pieces were made of, to be used again once these are gone. What one thread allocates and another frees, the
    /// allocator keeps: memory would grow with the blob.
    buffers: Vec<BytesMut>,
}

struct State {
    read: Box<dyn Read + Send>,
    digest: sha2::Sha256,
    left: u64,
}

impl Source {
    pub(crate) async fn open(delivery: &std::sync::Arc<Delivery>, blob: &Blob) -> Result<Self, StorageError> {
        let (from, wanted) = (delivery.clone(), blob.clone());
        let read = blocking(move || from.unverified_blob(&wanted)).await?;
        let state = State { read: Box::new(read), digest: sha2::Sha256::new(), left: blob.size };
        Ok(Self { blob: blob.clone(), state: Some(state), buffers: Vec::new() })
    }

    /// Returns how many bytes the blob has.
    pub(crate) fn size(&self) -> u64 {
        self.blob.size
    }

    /// Returns up to `most` bytes: fewer at the end alone, and none behind it.
    pub(crate) async fn next(&mut self, most: usize) -> Result<Bytes, StorageError> {
        let Some(mut state) = self.state.take() else { return Ok(Bytes::new()) };
        let blob = self.blob.clone();
        let room = most.min(usize::try_from(state.left).unwrap_or(usize::MAX));
        let free = self.buffers.iter_mut().position(|buffer| buffer.try_reclaim(room));
        let free = free.map(|at| self.buffers.swap_remove(at));
        let mut piece = free.unwrap_or_else(|| BytesMut::with_capacity(room));
        let (state, mut piece) = blocking(move || {
            piece.resize(room, 0);
            state.read.read_exact(&mut piece).map_err(|error| LayoutError::Read(blob.path(), error))?;
            state.digest.update(&piece);
            state.left -= room as u64;
            if state.left > 0 {
                return Ok::<_, LayoutError>((Some(state), piece));
            }
            let found = Digest(Sha256::from_bytes(state.digest.finalize().into()));
            if found != blob.digest {
                let (expected, found) = (blob.digest.to_string(), found.to_string());
                return Err(LayoutError::Digest { name: blob.path(), expected, found });
            }
            Ok((None, piece))
        })
        .await?;
        self.state = state;
        let whole = piece.split().freeze();
        self.buffers.push(piece);
        Ok(whole)
    }
}
