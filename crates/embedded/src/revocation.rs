//! Tokens before their time: which are revoked, and which publish tokens nobody revoked.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;
use protected_model::{api::audit::AuditEvent, time::numeric_date};
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use crate::{
    audit::{self, NewEvent, opened},
    store::{Store, StoreError},
};

/// Revoked tokens by `jti`, with their `exp`.
const REVOKED: TableDefinition<&str, u64> = TableDefinition::new("revoked_tokens");
/// Publish tokens by `jti` that are neither revoked nor expired, each with its mint's audit event.
const LIVE: TableDefinition<&str, &[u8]> = TableDefinition::new("live_publish_tokens");
/// How long after `exp` a row is kept: longer than any leeway with which a token is verified.
const KEPT_SECONDS: u64 = 120;

/// The revoked tokens, looked up on every request.
#[derive(Clone, Default)]
pub(crate) struct Revoked {
    tokens: Arc<RwLock<HashMap<String, u64>>>,
}

impl Revoked {
    /// Reads them from the database.
    pub(crate) fn load(store: &Store) -> Result<Self, StoreError> {
        let revoked = Self::default();
        let txn = store.read()?;
        if let Some(table) = opened(txn.open_table(REVOKED))? {
            let mut tokens = revoked.tokens.write().unwrap_or_else(PoisonError::into_inner);
            for row in table.iter()? {
                let (jti, exp) = row?;
                tokens.insert(jti.value().to_owned(), exp.value());
            }
        }
        Ok(revoked)
    }

    /// Returns whether the token is revoked.
    pub(crate) fn contains(&self, jti: &str) -> bool {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).contains_key(jti)
    }

    /// Revokes a token with its audit event, and returns once that is on disk. Twice is as good as once.
    pub(crate) async fn revoke(
        &self,
        store: &Store,
        jti: String,
        exp: u64,
        event: NewEvent,
    ) -> Result<(), StoreError> {
        let row = jti.clone();
        store
            .write(move |txn| {
                let known = txn.open_table(REVOKED)?.insert(row.as_str(), exp)?.is_some();
                txn.open_table(LIVE)?.remove(row.as_str())?;
                if !known {
                    audit::append(txn, event)?;
                }
                Ok(())
            })
            .await?;
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).insert(jti, exp);
        Ok(())
    }

    /// Forgets revoked tokens that have expired anyhow, and records each publish token that expired unrevoked:
    /// somebody's job ended without cleaning up, or a token is loose.
    pub(crate) async fn sweep(&self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let before = numeric_date(now).saturating_sub(KEPT_SECONDS);
        let nothing_to_do = {
            let txn = store.read()?;
            let live = match opened(txn.open_table(LIVE))? {
                Some(table) => table.iter()?.next().is_some(),
                None => false,
            };
            !live && self.tokens.read().unwrap_or_else(PoisonError::into_inner).is_empty()
        };
        if nothing_to_do {
            return Ok(());
        }
        store.write(move |txn| expire(txn, before, now)).await?;
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).retain(|_, exp| *exp > before);
        Ok(())
    }
}

fn expire(txn: &WriteTransaction, before: u64, now: Timestamp) -> Result<(), StoreError> {
    txn.open_table(REVOKED)?.retain(|_, exp| exp > before)?;
    let mut expired = Vec::new();
    let mut live = txn.open_table(LIVE)?;
    for row in live.iter()? {
        let (jti, event) = row?;
        let event: AuditEvent = serde_json::from_slice(event.value())
            .map_err(|error| StoreError::Corrupt(format!("a live token {}: {error}", jti.value())))?;
        if event.token_exp.is_none_or(|exp| numeric_date(exp) <= before) {
            expired.push((jti.value().to_owned(), event));
        }
    }
    for (jti, minted) in expired {
        live.remove(jti.as_str())?;
        let mut event = NewEvent::of_the_service("token.expired_unrevoked", now);
        event.0 = AuditEvent {
            tenant_id: minted.tenant_id,
            project_slug: minted.project_slug,
            target: minted.target,
            decision_id: minted.decision_id,
            entitlement_snapshot_id: minted.entitlement_snapshot_id,
            policy_id: minted.policy_id,
            token_jti: minted.token_jti,
            token_exp: minted.token_exp,
            request_id: minted.request_id,
            ..event.0
        };
        audit::append(txn, event)?;
    }
    Ok(())
}

/// Notes within the mint's transaction that a publish token is out, so that its end can be watched.
pub(crate) fn watch(txn: &WriteTransaction, minted: &AuditEvent) -> Result<(), StoreError> {
    if let Some(jti) = &minted.token_jti {
        let json = serde_json::to_vec(minted).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        txn.open_table(LIVE)?.insert(jti.as_str(), json.as_slice())?;
    }
    Ok(())
}
