//! `list-grants`: what FractalOps has on record of who may open a delivery, beside what the key service has.

use jiff::Timestamp;
use protected_keys::FoundGrant;
use protected_model::api::delivery::{Bundle, Grant, GrantStatus};
use serde::Serialize;
use serde_json::json;

use super::grant_delivery::{bundle_id, is_active, recorded, sealed_under};
use crate::{args::ListGrants, context::Context, error::CommandError, key_service};

/// One grantee.
#[derive(Serialize)]
struct Row {
    grantee: String,
    on_record: Option<GrantStatus>,
    in_key_service: Option<String>,
    expires_at: Option<Timestamp>,
    /// What is on one side and not on the other.
    orphan: Option<&'static str>,
}

/// Lists the grants of one delivery.
///
/// # Errors
/// When FractalOps refuses. A key service that does not answer is told, and what is on record shown all the same.
pub(crate) async fn run(context: &Context, arguments: ListGrants) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("list-grants")?;
    let id = bundle_id(settings, arguments.bundle_id)?;
    let http = context.http()?;
    context.fractalops(&http)?;
    let session = context.log_in(&http).await?;
    let bundle = recorded(context, &session, &id).await?;
    let manifest = &bundle.manifest;
    let doing = format!("asking for the grants of the delivery `{id}`");
    let key_ref = sealed_under(arguments.key_ref.as_ref(), manifest)?;
    let asked = match key_service::connect(&key_ref, &context.keys()?, &http, &doing) {
        Ok(service) => {
            let found = context.cancel.or(service.grants(&id, &manifest.key_provider.context)).await?;
            found.map_err(|error| key_service::failed(&doing, &error))
        }
        Err(error) => Err(error),
    };
    let found = match asked {
        Ok(found) => Some(found),
        Err(error) => {
            context
                .console
                .warn("Key service not asked", &format!("only what is on record is shown: {error}"));
            None
        }
    };
    // What has ended by itself lets nobody unwrap, whether or not the service still shows it.
    let now = Timestamp::now();
    let found = found.map(|found| -> Vec<FoundGrant> {
        found.into_iter().filter(|there| there.expires_at.is_none_or(|end| end > now)).collect()
    });
    let rows = rows(&bundle, found.as_deref());
    let orphans = rows.iter().filter(|row| row.orphan.is_some()).count();
    let lines: Vec<String> = rows.iter().map(|row| line(row, found.is_some())).collect();
    let text = match lines.as_slice() {
        [] => format!("nobody may open the delivery `{id}`"),
        lines => lines.join("\n"),
    };
    if orphans > 0 {
        context.console.say(
            "  hint: `revoke-grant` takes an orphan back on either side; `grant-delivery --materialize-grant` makes it whole",
        );
    }
    let document =
        json!({"bundle_id": id, "key_ref": key_ref, "key_service_asked": found.is_some(), "grants": rows});
    context.console.result(&text, &document);
    Ok(())
}

fn rows(bundle: &Bundle, found: Option<&[FoundGrant]>) -> Vec<Row> {
    let is_of = |grant: &Grant, there: &FoundGrant| {
        there.grantee.as_ref() == Some(&grant.grantee)
            || there.grantee.is_none() && grant.key_grant_ref.as_deref() == Some(there.reference.as_str())
    };
    let mut rows = Vec::new();
    for grant in &bundle.grants {
        let there = found.and_then(|found| found.iter().find(|there| is_of(grant, there)));
        let orphan = match (found, grant.status, there) {
            (Some(_), GrantStatus::Materialized, None) => Some("the key service does not have it"),
            (_, _, Some(_)) if !is_active(grant) => Some("the key service still has it"),
            (_, GrantStatus::Recorded, Some(_)) => {
                Some("the record does not say that the key service has it")
            }
            _ => None,
        };
        rows.push(Row {
            grantee: grant.grantee.to_string(),
            on_record: Some(grant.status),
            in_key_service: there.map(|there| there.reference.clone()),
            expires_at: grant.expires_at.or(there.and_then(|there| there.expires_at)),
            orphan,
        });
    }
    let unknown = |there: &&FoundGrant| !bundle.grants.iter().any(|grant| is_of(grant, there));
    for there in found.unwrap_or_default().iter().filter(unknown) {
        rows.push(Row {
            grantee: there.grantee.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string),
            on_record: None,
            in_key_service: Some(there.reference.clone()),
            expires_at: there.expires_at,
            orphan: Some("it is not on record"),
        });
    }
    rows
}

fn line(row: &Row, asked: bool) -> String {
    let status = match row.on_record {
        Some(GrantStatus::Recorded) => "recorded",
        Some(GrantStatus::Materialized) => "materialized",
        Some(GrantStatus::Expired) => "expired",
        Some(GrantStatus::Revoked) => "revoked",
        None => "not on record",
    };
    let service = match (&row.in_key_service, asked) {
        (Some(reference), _) => reference.as_str(),
        (None, true) => "not in the key service",
        (None, false) => "key service not asked",
    };
    let until = row.expires_at.map_or_else(|| "no end".to_owned(), |end| end.to_string());
    let orphan = row.orphan.map_or_else(String::new, |orphan| format!("  ORPHAN: {orphan}"));
    format!("{}  {status}  {service}  {until}{orphan}", row.grantee)
}
