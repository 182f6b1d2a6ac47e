//! `revoke-grant`: a grant taken back, in the key service first and then on record.

use std::time::Instant;

use jiff::Timestamp;
use protected_keys::{GrantTerms, KeyError};
use protected_model::{api::delivery::GrantStatus, time::whole_seconds};
use serde_json::json;

use super::grant_delivery::{active, bundle_id, grantee, recorded, sealed_under};
use crate::{
    args::RevokeGrant,
    context::Context,
    error::{CommandError, Kind},
    key_service,
};

/// Takes one grant back.
///
/// # Errors
/// When there is none on either side, when the key service or FractalOps refuses, and when the grantee opens the delivery
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
    let grant = active(&bundle, &grantee);
    let doing = format!("taking the grant of `{grantee}` on the delivery `{id}` back");
    let terms = GrantTerms {
        bundle: &id,
        context: &manifest.key_provider.context,
        grantee: &grantee,
        expires_at: grant.and_then(|grant| grant.expires_at),
        now: whole_seconds(Timestamp::now()),
    };
    let started = Instant::now();
    let key_ref = sealed_under(arguments.key_ref.as_ref(), manifest)?;
    // Attack: a delivery that was wrapped anew with another key, whose wrapping of before somebody kept. So both are
    // taken back before the record says so.
    let mut keys = vec![&key_ref];
    keys.extend(Some(&manifest.key_ref).filter(|key| !key.is_same_key(&key_ref)));
    let (mut taken, mut holds, mut still) = (false, true, Vec::new());
    for key in keys {
        let service = key_service::connect(key, &context.keys()?, &http, &doing)?;
        let how = match context.cancel.shield(service.revoke(&terms)).await? {
            Ok(revoked) => {
                still.extend(revoked.still.into_iter().map(|by| format!("{by} (`{key}`)")));
                taken |= revoked.was;
                if revoked.was { "taken back" } else { "it had none" }
            }
            // Such a service was never told, and holds nobody back.
            Err(KeyError::NoGrants { .. }) => {
                holds = false;
                "it knows no grants, so that whoever has the key still opens it"
            }
            Err(error) => return Err(key_service::failed(&doing, &error)),
        };
        context.console.step("revoke", format!("{key}: {how}"), started);
    }
    let materialized = grant.is_some_and(|grant| grant.status == GrantStatus::Materialized);
    if !taken && materialized && arguments.key_ref.is_none() {
        let message = format!(
            "`{grantee}` has a grant on the delivery `{id}` on record, and the key `{key_ref}` has none to take back"
        );
        return Err(CommandError::new(Kind::Conflict, message).advise(format!(
            "if the delivery was wrapped anew, name its key of now by --key-ref; to finish the record alone, --key-ref {key_ref}"
        )));
    }
    let revoked = match grant {
        None if !taken && still.is_empty() => {
            let message = format!("`{grantee}` has no grant on the delivery `{id}`");
            return Err(CommandError::new(Kind::Usage, message)
                .advise(format!("see who has: protected-registry list-grants --bundle-id {id}")));
        }
        None => None,
        Some(grant) => {
            let started = Instant::now();
            let answer = session.fractalops.revoke_grant(&session.token, &grant.id);
            let answer = context.cancel.or(answer).await?.map_err(|error| {
                CommandError::from_fractalops(&doing, error).advise(format!(
                    "the key service has taken it back already: finish the record by protected-registry revoke-grant --bundle-id {id} --grantee {grantee} --key-ref {key_ref}"
                ))
            })?;
            context.console.step("record", format!("grant {} is revoked", answer.id), started);
            Some(answer)
        }
    };
    let document = json!({"grant": revoked, "taken_back_in_key_service": taken, "still_opens_by": still});
    if !still.is_empty() {
        // Attack: who reads that a grant is taken back takes the delivery for closed.
        let grant = if taken || revoked.is_some() { "the grant is taken back" } else { "there is no grant" };
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
