//! `revoke-grant`: a grant taken back, in the key service first and then on record.

use std::time::Instant;

use jiff::Timestamp;
use protected_keys::{GrantTerms, KeyError};
use protected_model::time::whole_seconds;
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
/// When there is none on either side, and when the key service or FractalOps refuses. What the key service still allows
/// stays on record.
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
    let service = key_service::connect(&key_ref, &context.keys()?, &http, &doing)?;
    let (taken, how) = match context.cancel.shield(service.revoke(&terms)).await? {
        Ok(true) => (true, "taken back"),
        Ok(false) => (false, "it had none"),
        // Such a service was never told, and holds nobody back.
        Err(KeyError::NoGrants { .. }) => {
            (false, "it knows no grants, so that whoever has the key still opens it")
        }
        Err(error) => return Err(key_service::failed(&doing, &error)),
    };
    context.console.step("revoke", format!("{key_ref}: {how}"), started);
    let revoked = match grant {
        None if !taken => {
            let message = format!("`{grantee}` has no grant on the delivery `{id}`");
            return Err(CommandError::new(Kind::Usage, message)
                .advise(format!("see who has: protected-registry list-grants --bundle-id {id}")));
        }
        None => None,
        Some(grant) => {
            let started = Instant::now();
            let answer = session.fractalops.revoke_grant(&session.token, &grant.id);
            let answer = context.cancel.or(answer).await?.map_err(|error| {
                CommandError::from_fractalops(&doing, error).advise(
                    "the key service has taken it back already: the same command again finishes the record",
                )
            })?;
            context.console.step("record", format!("grant {} is revoked", answer.id), started);
            Some(answer)
        }
    };
    let line = format!(
        "the grant of `{grantee}` on the delivery `{id}` is taken back; what was opened before stays open"
    );
    context.console.result(&line, &json!({"grant": revoked, "taken_back_in_key_service": taken}));
    Ok(())
}
