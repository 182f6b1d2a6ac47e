//! How long evidence stays: for good, or where the configuration says so for a number of days after its version is
//! gone or was never published. What belongs to a version that was delivered stays, as its delivery does.

use jiff::{SignedDuration, Timestamp};
use protected_model::digest::Sha256;

use super::{
    builds,
    evidence::{self, Owned},
};
use crate::{
    app::App,
    audit::{self, NewEvent},
    registry,
    store::StoreError,
};

/// How many records are looked at in one step: bounds how long publishing waits for it.
const STEP: usize = 128;
/// The type of document that a version has when it was delivered to a customer.
const DELIVERY: &str = "delivery-manifest";
/// How often all records are gone through.
const EVERY: SignedDuration = SignedDuration::from_hours(1);

/// How far the records have been gone through.
#[derive(Default)]
pub(crate) struct Progress {
    /// The record that was looked at last.
    after: String,
    /// When to begin again.
    next: Option<Timestamp>,
}

/// Removes what is older than `evidence.retention_days` and belongs to no published version: one step of it.
pub(crate) async fn sweep(app: &App, progress: &mut Progress, now: Timestamp) -> Result<(), StoreError> {
    app.store.blobs().forget_old();
    let Some(limit) = app.config.evidence.oldest(now) else { return Ok(()) };
    loop {
        let Some(after) = progress.after(now) else { return Ok(()) };
        let step = evidence::oldest(&app.store.read()?, &after, STEP)?;
        let old: Vec<Owned> = step.iter().take_while(|it| it.record.created_at < limit).cloned().collect();
        let ended = old.len() < STEP;
        progress.went_to(old.last().map(|owned| owned.record.id.as_str()), ended, now);
        let removed = app.store.write(move |txn| {
            let mut free = Vec::new();
            for owned in old {
                // In the transaction that removes it: the version may just have been published.
                if registry::is_published(txn, &owned.tenant_id, &owned.package_name, &owned.version)?
                    || evidence::has(txn, &owned, DELIVERY)?
                {
                    continue;
                }
                free.extend(evidence::remove(txn, &owned)?);
                builds::forget_evidence(txn, &owned)?;
                audit::append(txn, event(&owned, now))?;
            }
            Ok(free)
        });
        let free: Vec<Sha256> = removed.await?;
        if !free.is_empty() {
            let store = app.store.clone();
            let gone = tokio::task::spawn_blocking(move || store.blobs().remove(&store.read()?, &free));
            gone.await.unwrap_or(Err(StoreError::GivenUp))?;
        }
        if ended {
            return Ok(());
        }
    }
}

fn event(owned: &Owned, now: Timestamp) -> NewEvent {
    let mut event = NewEvent::of_the_service("evidence.expire", now);
    event.0.tenant_id = Some(owned.tenant_id.clone());
    event.0.project_slug = Some(owned.project_slug.clone());
    event.0.target.package_name = Some(owned.package_name.clone());
    event.0.target.version = Some(owned.version.clone());
    event.0.target.build_id.clone_from(&owned.record.build_id);
    event
}

impl Progress {
    /// Returns where to go on, when it is time to.
    fn after(&self, now: Timestamp) -> Option<String> {
        self.next.is_none_or(|next| now >= next).then(|| self.after.clone())
    }

    fn went_to(&mut self, last: Option<&str>, ended: bool, now: Timestamp) {
        self.after = if ended { String::new() } else { last.unwrap_or_default().to_owned() };
        self.next = ended.then(|| now.checked_add(EVERY).unwrap_or(Timestamp::MAX));
    }
}
