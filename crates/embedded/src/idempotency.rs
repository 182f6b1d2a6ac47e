//! Answers that a repeated request gets again: the same `Idempotency-Key` within [`KEPT_SECONDS`].
//!
//! They hold tokens, so they are kept in memory and never written: after a restart a repeated exchange is
//! refused as a replay, and the job asks its platform for a fresh ID token.

use std::{any::Any, collections::HashMap, sync::Arc};

use axum::http::HeaderMap;
use jiff::Timestamp;
use protected_model::{
    api::problem::{Code, IDEMPOTENCY_HEADER},
    digest::Sha256,
    time::after,
};
use tokio::sync::Mutex;

use crate::{
    problem::{Answer, Refusal},
    request::is_identifier,
};

/// How long an answer is kept. Bounds how long a token stays in memory after it went out.
pub(crate) const KEPT_SECONDS: u64 = 60;

type Slot = Arc<Mutex<Option<Kept>>>;

/// An answer with what it answered.
struct Kept {
    request: Sha256,
    answer: Box<dyn Any + Send>,
}

/// The answers of the last [`KEPT_SECONDS`].
#[derive(Default)]
pub(crate) struct Answers {
    slots: Mutex<HashMap<Sha256, (Timestamp, Slot)>>,
}

/// Returns the request's `Idempotency-Key`.
pub(crate) fn key(headers: &HeaderMap) -> Answer<Option<&str>> {
    let Some(value) = headers.get(IDEMPOTENCY_HEADER) else { return Ok(None) };
    match value.to_str().ok().filter(|text| is_identifier(text)) {
        Some(key) => Ok(Some(key)),
        None => Err(Refusal::new(
            Code::INVALID_REQUEST,
            "expected an Idempotency-Key of 1 to 128 letters, digits, `-`, `_`, `.` and `:`",
        )),
    }
}

impl Answers {
    /// Does `work`, or returns the answer that it had for the same `key` of the same `caller`.
    ///
    /// A request that comes while the first is at work waits for it. A refusal is not kept: it is decided again.
    pub(crate) async fn once<T: Clone + Send + 'static>(
        &self,
        now: Timestamp,
        key: Option<&str>,
        caller: &str,
        request: &[u8],
        work: impl Future<Output = Answer<T>>,
    ) -> Answer<T> {
        let Some(key) = key else { return work.await };
        let place = Sha256::of([*Sha256::of(key).as_bytes(), *Sha256::of(caller).as_bytes()].concat());
        let request = Sha256::of(request);
        let slot = {
            let mut slots = self.slots.lock().await;
            slots.retain(|_, (until, _)| *until > now);
            Arc::clone(&slots.entry(place).or_insert_with(|| (after(now, KEPT_SECONDS), Slot::default())).1)
        };
        let mut kept = slot.lock().await;
        if let Some(kept) = kept.as_ref() {
            return match kept.answer.downcast_ref::<T>() {
                Some(answer) if kept.request == request => Ok(answer.clone()),
                _ => Err(Refusal::new(
                    Code::INVALID_REQUEST,
                    "this Idempotency-Key was used for another request within the last minute",
                )),
            };
        }
        let answer = work.await;
        match &answer {
            Ok(answer) => *kept = Some(Kept { request, answer: Box::new(answer.clone()) }),
            // Attack: refused requests, each with a key of its own, that fill the memory for a minute each.
            Err(_) => {
                let mut slots = self.slots.lock().await;
                // Two: the map's and ours. With more, somebody waits here and will decide again.
                if Arc::strong_count(&slot) == 2 {
                    slots.remove(&place);
                }
            }
        }
        answer
    }

    /// Forgets the answers whose time is over.
    pub(crate) async fn sweep(&self, now: Timestamp) {
        self.slots.lock().await.retain(|_, (until, _)| *until > now);
    }
}
