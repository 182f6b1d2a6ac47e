//! The audit trail: one event per decision, each holding the hash of the one before.
//!
//! An event is appended in the transaction of what it records, so there is never the one without the other.
//! Reads are the exception: `registry.install` and denials of reads are gathered in memory and written at least
//! every [`FLUSH_EVERY`] and at shutdown, since a flush to disk for each tarball would cost more than the
//! tarball. A kill can therefore lose the reads of the last moments, and never a change.
//!
//! Denials of callers whom nothing identifies are written down up to [`STRANGERS_PER_MINUTE`] for each address.
//!
//! The chain shows that a stored event was changed, left out or moved to whoever knows the last hash. It does
//! not stop somebody who may write the database from computing a new chain: keep hashes elsewhere for that.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use protected_model::{
    api::{
        audit::{Actor, ActorKind, AuditEvent, AuditPage, Decision, Target},
        problem::Code,
    },
    claims::RegistryClaims,
    digest::Sha256,
    identity::RunIdentity,
    integrity::canonical,
    name::{ProjectSlug, TenantId},
};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};
use tokio::sync::mpsc;

use crate::{
    request::RequestInfo,
    session::Session,
    store::{Store, StoreError},
};

/// The longest time that an event of a read stays in memory.
pub(crate) const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Events of reads in memory; more make their requests wait for a flush.
const GATHERED: usize = 4096;
/// The most events of one page.
pub(crate) const PAGE: usize = 1000;

/// Denials of strangers that one address causes in a minute and that are written down. Attack: whoever has no
/// credential fills the disk with the trail of being refused.
pub(crate) const STRANGERS_PER_MINUTE: u32 = 100;
/// Addresses counted at once; beyond, all further ones share a count.
const ADDRESSES: usize = 4096;

/// Every event by its number, as its hash and its JSON.
const EVENTS: TableDefinition<u64, (&[u8; 32], &[u8])> = TableDefinition::new("audit_events");
/// The numbers of each tenant's events.
const BY_TENANT: TableDefinition<(&str, u64), ()> = TableDefinition::new("audit_events_by_tenant");

/// An event that is not in the chain yet: everything but its hashes is set.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent(pub(crate) AuditEvent);

impl NewEvent {
    /// Begins an event of nobody in particular, allowed so far.
    pub(crate) fn new(action: &str, request: &RequestInfo, now: Timestamp) -> Self {
        let none = Sha256::from_bytes([0; 32]);
        Self(AuditEvent {
            id: ulid::Ulid::generate().to_string(),
            ts: protected_model::time::whole_seconds(now),
            tenant_id: None,
            project_slug: None,
            actor: actor(ActorKind::Unknown, "unauthenticated"),
            action: action.to_owned(),
            target: Target::default(),
            decision: Decision::Allow,
            code: None,
            decision_id: ulid::Ulid::generate().to_string(),
            entitlement_snapshot_id: None,
            policy_id: None,
            token_jti: None,
            token_exp: None,
            request_id: request.correlation_id.clone(),
            ip: request.ip.clone(),
            user_agent: request.user_agent.clone(),
            prev_hash: none,
            hash: none,
        })
    }

    /// Begins an event that the service causes itself.
    pub(crate) fn of_the_service(action: &str, now: Timestamp) -> Self {
        let correlation_id = ulid::Ulid::generate().to_string();
        let mut event = Self::new(action, &RequestInfo { correlation_id, ip: None, user_agent: None }, now);
        event.0.actor = actor(ActorKind::System, "fractalops-local");
        event
    }

    /// Says that the caller is a run whose ID token was verified.
    pub(crate) fn by_run(&mut self, identity: &RunIdentity) {
        self.0.actor = Actor {
            kind: ActorKind::Ci,
            sub: identity.subject.clone(),
            issuer: Some(identity.issuer.clone()),
            repository_id: identity.repository_id.clone(),
            run_id: identity.run_id.clone(),
        };
    }

    /// Says that the caller is the bearer of a session: tenant, actor and token.
    pub(crate) fn by_session(&mut self, session: &Session) {
        self.by_run(&session.identity);
        self.0.actor.kind = session.kind;
        self.0.tenant_id = Some(session.tenant_id.clone());
        self.by_token(&session.token_jti, session.token_exp);
    }

    /// Says that the caller is the bearer of an npm token: tenant, project, package, actor and token.
    pub(crate) fn by_npm_token(&mut self, claims: &RegistryClaims) {
        self.0.tenant_id = Some(claims.tenant_id.clone());
        self.0.project_slug = Some(claims.project_slug.clone());
        self.0.target.package_name = Some(claims.package_name.clone());
        self.0.entitlement_snapshot_id = Some(claims.entitlement_snapshot_id.clone());
        let publisher = claims.publisher.as_ref();
        self.0.actor = Actor {
            kind: if publisher.is_some() { ActorKind::Ci } else { ActorKind::Human },
            sub: claims.sub.clone(),
            issuer: publisher.map(|publisher| publisher.issuer.clone()),
            repository_id: publisher.and_then(|publisher| publisher.repository_id.clone()),
            run_id: publisher.and_then(|publisher| publisher.run_id.clone()),
        };
        self.by_token(&claims.jti, claims.exp);
    }

    /// Says that the caller is the machine's operator.
    pub(crate) fn by_operator(&mut self) {
        self.0.actor = actor(ActorKind::Operator, "operator");
    }

    /// Names the token that was used or minted.
    pub(crate) fn by_token(&mut self, jti: &str, exp: u64) {
        self.0.token_jti = Some(jti.to_owned());
        self.0.token_exp = i64::try_from(exp).ok().and_then(|exp| Timestamp::from_second(exp).ok());
    }

    /// Turns it into a denial.
    pub(crate) fn denied(mut self, code: Code) -> Self {
        self.0.decision = Decision::Deny;
        self.0.code = Some(code);
        self
    }
}

fn actor(kind: ActorKind, sub: &str) -> Actor {
    Actor { kind, sub: sub.to_owned(), issuer: None, repository_id: None, run_id: None }
}

/// Appends an event within the transaction of what it records.
pub(crate) fn append(txn: &WriteTransaction, event: NewEvent) -> Result<AuditEvent, StoreError> {
    let NewEvent(mut event) = event;
    let mut events = txn.open_table(EVENTS)?;
    let (number, prev_hash) = match events.last()? {
        None => (0, Sha256::from_bytes([0; 32])),
        Some((number, row)) => (number.value() + 1, Sha256::from_bytes(*row.value().0)),
    };
    event.prev_hash = prev_hash;
    event.hash = hash(&event);
    let json = serde_json::to_vec(&event).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    events.insert(number, (event.hash.as_bytes(), json.as_slice()))?;
    if let Some(tenant) = &event.tenant_id {
        txn.open_table(BY_TENANT)?.insert((tenant.as_str(), number), ())?;
    }
    Ok(event)
}

/// Digests an event as canonical JSON (RFC 8785) without its `hash`.
fn hash(event: &AuditEvent) -> Sha256 {
    let mut value = serde_json::to_value(event).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.remove("hash");
    }
    Sha256::of(canonical(&value))
}

/// Which events a caller may see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// This tenant's alone; all tenants' for the operator.
    pub(crate) tenant: Option<TenantId>,
    /// These projects' alone; all when absent.
    pub(crate) projects: Option<BTreeSet<ProjectSlug>>,
}

impl Filter {
    fn shows(&self, event: &AuditEvent) -> bool {
        let tenant = self.tenant.as_ref().is_none_or(|tenant| event.tenant_id.as_ref() == Some(tenant));
        let project = self.projects.as_ref().is_none_or(|projects| {
            event.project_slug.as_ref().is_some_and(|project| projects.contains(project))
        });
        tenant && project
    }
}

/// Returns the events from number `cursor` on that `filter` shows, oldest first, at most `limit`.
pub(crate) fn page(
    txn: &ReadTransaction,
    filter: &Filter,
    cursor: u64,
    limit: usize,
) -> Result<AuditPage, StoreError> {
    let mut page = AuditPage { items: Vec::new(), next_cursor: None };
    let Some(events) = opened(txn.open_table(EVENTS))? else { return Ok(page) };
    let numbers: Box<dyn Iterator<Item = Result<u64, StoreError>>> = match &filter.tenant {
        None => Box::new(events.range(cursor..)?.map(|row| Ok(row?.0.value()))),
        Some(tenant) => match opened(txn.open_table(BY_TENANT))? {
            None => return Ok(page),
            Some(index) => {
                let range = (tenant.as_str(), cursor)..=(tenant.as_str(), u64::MAX);
                Box::new(index.range(range)?.map(|row| Ok(row?.0.value().1)))
            }
        },
    };
    for number in numbers {
        let number = number?;
        let Some(event) = events.get(number)?.map(|row| parse(number, row.value().1)).transpose()? else {
            return Err(StoreError::Corrupt(format!("no audit event {number}")));
        };
        if !filter.shows(&event) {
            continue;
        }
        if page.items.len() == limit.clamp(1, PAGE) {
            page.next_cursor = Some(number.to_string());
            break;
        }
        page.items.push(event);
    }
    Ok(page)
}

/// Checks every event's hash and its place, and returns how many there are.
pub(crate) fn verify_chain(txn: &ReadTransaction) -> Result<u64, StoreError> {
    let Some(events) = opened(txn.open_table(EVENTS))? else { return Ok(0) };
    let mut expected = (0, Sha256::from_bytes([0; 32]));
    for row in events.iter()? {
        let (number, row) = row?;
        let (number, (stored_hash, json)) = (number.value(), row.value());
        let event = parse(number, json)?;
        let broken = |what| Err(StoreError::Corrupt(format!("audit event {number} {what}")));
        if number != expected.0 {
            return broken(format!("where event {} should be", expected.0));
        }
        if event.prev_hash != expected.1 {
            return broken("that does not follow the one before".to_owned());
        }
        if event.hash != hash(&event) || event.hash.as_bytes() != stored_hash {
            return broken("whose content does not match its hash".to_owned());
        }
        expected = (number + 1, event.hash);
    }
    Ok(expected.0)
}

fn parse(number: u64, json: &[u8]) -> Result<AuditEvent, StoreError> {
    serde_json::from_slice(json)
        .map_err(|error| StoreError::Corrupt(format!("audit event {number}: {error}")))
}

/// Makes `None` of a table that no transaction has created yet.
pub(crate) fn opened<T>(table: Result<T, TableError>) -> Result<Option<T>, StoreError> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How many denials of strangers were written down within the minute, by address.
#[derive(Default)]
pub(crate) struct Strangers {
    minute: Mutex<(i64, HashMap<String, u32>)>,
}

impl Strangers {
    /// Returns whether one more denial of this address may be written down.
    pub(crate) fn admit(&self, ip: Option<&str>, now: Timestamp) -> bool {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let this = now.as_second().div_euclid(60);
        if minute.0 != this {
            *minute = (this, HashMap::new());
        }
        let ip = ip.unwrap_or_default();
        let key = if minute.1.len() < ADDRESSES || minute.1.contains_key(ip) { ip } else { "" };
        let count = minute.1.entry(key.to_owned()).or_default();
        *count = count.saturating_add(1);
        if *count == STRANGERS_PER_MINUTE + 1 {
            tracing::warn!(ip = key, "further denials of this minute are not in the audit trail");
        }
        *count <= STRANGERS_PER_MINUTE
    }
}

/// The events of reads on their way to the disk.
#[derive(Clone)]
pub(crate) struct Gathered {
    sender: mpsc::Sender<NewEvent>,
}

impl Gathered {
    /// Returns the way in, and the work that writes, which ends once every way in is dropped.
    pub(crate) fn new(store: Store) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(GATHERED);
        (Self { sender }, write_gathered(store, receiver))
    }

    /// Takes an event; waits while [`GATHERED`] others do.
    pub(crate) async fn record(&self, event: NewEvent) {
        if self.sender.send(event).await.is_err() {
            tracing::error!("an audit event of a read came after the shutdown and is lost");
        }
    }
}

async fn write_gathered(store: Store, mut receiver: mpsc::Receiver<NewEvent>) {
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, GATHERED).await > 0 {
        let deadline = tokio::time::Instant::now() + FLUSH_EVERY / 2;
        while batch.len() < GATHERED {
            match tokio::time::timeout_at(deadline, receiver.recv()).await {
                Ok(Some(event)) => batch.push(event),
                Ok(None) | Err(_) => break,
            }
        }
        let events = std::mem::take(&mut batch);
        let count = events.len();
        let written =
            store.write(move |txn| events.into_iter().try_for_each(|event| append(txn, event).map(drop)));
        if let Err(error) = written.await {
            tracing::error!(
                count,
                error = &error as &dyn std::error::Error,
                "audit events of reads are lost"
            );
        }
    }
}
