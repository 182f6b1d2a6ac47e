//! `revoke-grant`: a grant taken back, in the key service first and then on record.

use std::time::Instant;

use jiff::Timestamp;
use protected_http::Client;
use protected_keys::{GrantTerms, KeyError};
use protected_model::{
    api::delivery::{Bundle, Grant},
    key_ref::KeyRef,
    time::whole_seconds,
};
use serde_json::json;

use super::grant_delivery::{active, bundle_id, grantee, keys_of, recorded, sealed_under};
use crate::{
    args::RevokeGrant,
    context::{Context, Session},
    error::{CommandError, Kind},
    key_service,
};

/// What became of a grant in the service of one key.
struct Told {
    key: KeyRef,
    how: How,
}

enum How {
    TakenBack,
    HadNone,
    /// Such a service was never told, and holds nobody back.
    KnowsNone,
    Failed(CommandError),
}

/// Takes back what one grantee has on a delivery, on every key.
///
/// # Errors
/// When there is none on either side, when a key service or FractalOps refuses, and when the grantee opens the delivery
/// by something else all the same.
pub(crate) async fn run(context: &Context, arguments: RevokeGrant) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("revoke-grant")?;
    let id = bundle_id(settings, arguments.bundle_id)?;
    let grantee = grantee(settings, arguments.grantee)?;
    let http = context.http()?;
    context.fractalops(&http)?;
    let session = context.log_in(&http).await?;
    let bundle = recorded(context, &session, &id).await?;
    let manifest = &bundle.manifest;
    let grants: Vec<&Grant> = active(&bundle, &grantee).collect();
    let named = arguments.key_ref.as_ref().map(|flag| sealed_under(Some(flag), manifest)).transpose()?;
    let doing = format!("taking the grant of `{grantee}` on the delivery `{id}` back");
    let (mut all, mut still) = (Vec::new(), Vec::new());
    for key in keys(&bundle, &grants, named.as_ref()) {
        let grant = grants.iter().find(|grant| grant.is_on(&key));
        let terms = GrantTerms {
            bundle: &id,
            context: &manifest.key_provider.context,
            grantee: &grantee,
            expires_at: grant.and_then(|grant| grant.expires_at),
            now: whole_seconds(Timestamp::now()),
        };
        let (how, more) = take_back(context, &http, &key, &terms, &doing).await?;
        still.extend(more);
        let is_needed = is_meant(&key, &grants, named.as_ref()) || key == manifest.key_ref;
        match how {
            How::Failed(error) if !is_needed => {
                let message = format!("whether `{key}` has a grant of `{grantee}` is not known: {error}");
                context.console.warn("Key service not asked", &message);
            }
            how => all.push(Told { key, how }),
        }
    }
    let taken = all.iter().any(|told| matches!(told.how, How::TakenBack));
    let holds = !all.iter().any(|told| matches!(told.how, How::KnowsNone));
    let (mut revoked, mut missing) = (Vec::new(), None);
    for grant in &grants {
        match all.iter().find(|told| grant.is_on(&told.key)) {
            Some(Told { how: How::Failed(_), .. }) => continue,
            Some(Told { key, how: How::HadNone }) if grant.is_materialized() && named.is_none() => {
                missing = Some(key.clone());
                continue;
            }
            // A FractalOps that does not tell the key has it on another service's.
            None => {
                missing = Some(manifest.key_ref.clone());
                continue;
            }
            Some(_) => revoked.push(record(context, &session, grant, &doing).await?),
        }
    }
    let document = json!({
        "grant": revoked.first(),
        "grants": revoked,
        "taken_back_in_key_service": taken,
        "still_opens_by": still,
    });
    if let Some(failed) = all.into_iter().find_map(|told| told.failed()) {
        return Err(failed.with_details(document));
    }
    if let Some(key) = missing {
        let message = format!(
            "`{grantee}` has a grant on the delivery `{id}` on record, and the key `{key}` has none to take back"
        );
        return Err(CommandError::new(Kind::Conflict, message)
            .advise(format!(
                "if it was given on another key, name that by --key-ref; to finish the record alone, --key-ref {key}"
            ))
            .with_details(document));
    }
    if grants.is_empty() && !taken && still.is_empty() {
        let message = format!("`{grantee}` has no grant on the delivery `{id}`");
        return Err(CommandError::new(Kind::Usage, message)
            .advise(format!("see who has: protected-registry list-grants --bundle-id {id}")));
    }
    if !still.is_empty() {
        // Attack: who reads that a grant is taken back takes the delivery for closed.
        let grant =
            if taken || !revoked.is_empty() { "the grant is taken back" } else { "there is no grant" };
        let message =
            format!("{grant}, and `{grantee}` still opens the delivery `{id}`, by {}", still.join(", "));
        return Err(CommandError::new(Kind::Conflict, message)
            .advise("take that back as well: the other deliveries by `revoke-grant`, what was not given here in the key service")
            .with_details(document));
    }
    let what = if holds {
        "is taken back; what was opened before stays open"
    } else {
        "is taken back on record alone: whoever has the key still opens it"
    };
    let line = format!("the grant of `{grantee}` on the delivery `{id}` {what}");
    context.console.result(&line, &document);
    Ok(())
}

impl Told {
    fn failed(self) -> Option<CommandError> {
        if let How::Failed(error) = self.how { Some(error) } else { None }
    }
}

/// Returns the keys to ask: those that the grants are on, the one that is named, and of the others that the delivery is or was
/// on record with those of the same services, whose words the grantee is in.
///
/// Attack: a delivery that was wrapped anew with another key, whose wrapping of before somebody kept.
fn keys(bundle: &Bundle, grants: &[&Grant], named: Option<&KeyRef>) -> Vec<KeyRef> {
    let mut keys = keys_of(bundle);
    keys.extend(named.filter(|named| !keys.iter().any(|key| key.is_same_key(named))).cloned());
    let services: Vec<_> =
        keys.iter().filter(|key| is_meant(key, grants, named)).map(KeyRef::provider).collect();
    keys.retain(|key| services.is_empty() || services.contains(&key.provider()));
    keys
}

/// Returns whether there is, or is said to be, a grant on this key.
fn is_meant(key: &KeyRef, grants: &[&Grant], named: Option<&KeyRef>) -> bool {
    named.is_some_and(|named| named.is_same_key(key)) || grants.iter().any(|grant| grant.is_on(key))
}

/// Takes a grant back in the service of one key, and returns by what else the grantee opens.
async fn take_back(
    context: &Context,
    http: &Client,
    key: &KeyRef,
    terms: &GrantTerms<'_>,
    doing: &str,
) -> Result<(How, Vec<String>), CommandError> {
    let started = Instant::now();
    let service = match key_service::connect(key, &context.keys()?, http, doing) {
        Ok(service) => service,
        Err(error) => return Ok((How::Failed(error), Vec::new())),
    };
    let (how, said, still) = match context.cancel.shield(service.revoke(terms)).await? {
        Ok(revoked) => {
            let still = revoked.still.into_iter().map(|by| format!("{by} (`{key}`)")).collect();
            match revoked.was {
                true => (How::TakenBack, "taken back", still),
                false => (How::HadNone, "it had none", still),
            }
        }
        Err(KeyError::NoGrants { .. }) => {
            let said = "it knows no grants, so that whoever has the key still opens it";
            (How::KnowsNone, said, Vec::new())
        }
        Err(error) => return Ok((How::Failed(key_service::failed(doing, &error)), Vec::new())),
    };
    context.console.step("revoke", format!("{key}: {said}"), started);
    Ok((how, still))
}

/// Takes a grant off the record.
async fn record(
    context: &Context,
    session: &Session,
    grant: &Grant,
    doing: &str,
) -> Result<Grant, CommandError> {
    let started = Instant::now();
    let answer = context.cancel.or(session.fractalops.revoke_grant(&session.token, &grant.id)).await?;
    let revoked = answer.map_err(|error| {
        let Grant { bundle_id, grantee, .. } = grant;
        let also = grant.key_ref.as_ref().map(|key| format!(" --key-ref {key}")).unwrap_or_default();
        CommandError::from_fractalops(doing, error).advise(format!(
            "the key service has taken it back already: finish the record by protected-registry revoke-grant --bundle-id {bundle_id} --grantee {grantee}{also}"
        ))
    })?;
    context.console.step("record", format!("grant {} is revoked", revoked.id), started);
    Ok(revoked)
}
