//! `list-grants`: what FractalOps has on record of who may open a delivery, beside what the key service has.

use jiff::Timestamp;
use protected_http::Client;
use protected_keys::FoundGrant;
use protected_model::{
    api::delivery::{Bundle, Grant, GrantStatus},
    key_ref::KeyRef,
};
use serde::Serialize;
use serde_json::json;

use super::grant_delivery::{bundle_id, is_active, keys_of, recorded, sealed_under};
use crate::{args::ListGrants, context::Context, error::CommandError, key_service};

/// One grantee on one key.
#[derive(Serialize)]
struct Row {
    grantee: String,
    /// The key, where anything says which.
    key_ref: Option<KeyRef>,
    on_record: Option<GrantStatus>,
    in_key_service: Option<String>,
    /// Whether that is another key than the one on record.
    #[serde(skip)]
    elsewhere: bool,
    /// Whether the service of the key answered.
    #[serde(skip)]
    asked: bool,
    expires_at: Option<Timestamp>,
    /// What is on one side and not on the other.
    orphan: Option<&'static str>,
}

/// A key, and what its service has: nothing where it did not answer.
struct Asked {
    key: KeyRef,
    found: Option<Vec<FoundGrant>>,
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
    let key_ref = sealed_under(arguments.key_ref.as_ref(), &bundle.manifest)?;
    let keys = if arguments.key_ref.is_some() { vec![key_ref.clone()] } else { keys_of(&bundle) };
    let mut asked = Vec::new();
    for key in keys {
        asked.push(Asked { found: ask(context, &http, &bundle, &key).await?, key });
    }
    let rows = rows(&bundle, &asked);
    let orphans = rows.iter().filter(|row| row.orphan.is_some()).count();
    let elsewhere = rows.iter().any(|row| row.on_record == Some(GrantStatus::OtherKey));
    let lines: Vec<String> = rows.iter().map(line).collect();
    let text = match lines.as_slice() {
        [] => format!("nobody may open the delivery `{id}`"),
        lines => lines.join("\n"),
    };
    if orphans > 0 {
        context.console.say(
            "  hint: `revoke-grant` takes an orphan back on either side; `grant-delivery --materialize-grant` makes it whole",
        );
    }
    if elsewhere {
        context.console.say(
            "  hint: a grant on another key opens what that key wrapped, and not the delivery as it is on record: `revoke-grant` takes it back",
        );
    }
    let document = json!({
        "bundle_id": id,
        "key_ref": key_ref,
        "key_service_asked": asked.iter().all(|it| it.found.is_some()),
        "keys": asked.iter().map(|it| json!({"key_ref": it.key, "asked": it.found.is_some()})).collect::<Vec<_>>(),
        "grants": rows,
    });
    context.console.result(&text, &document);
    Ok(())
}

/// Asks the service of a key what it has on a delivery. Nothing, which is told, where it does not answer.
async fn ask(
    context: &Context,
    http: &Client,
    bundle: &Bundle,
    key: &KeyRef,
) -> Result<Option<Vec<FoundGrant>>, CommandError> {
    let id = &bundle.manifest.bundle_id;
    let doing = format!("asking for the grants of the delivery `{id}`");
    let asked = match key_service::connect(key, &context.keys()?, http, &doing) {
        Ok(service) => {
            let found = context.cancel.or(service.grants(id, &bundle.manifest.key_provider.context)).await?;
            found.map_err(|error| key_service::failed(&doing, &error))
        }
        Err(error) => Err(error),
    };
    match asked {
        Ok(found) => {
            // What has ended by itself lets nobody unwrap, whether or not the service still shows it.
            let now = Timestamp::now();
            let holds = |there: &FoundGrant| there.expires_at.is_none_or(|end| end > now);
            Ok(Some(found.into_iter().filter(holds).collect()))
        }
        Err(error) => {
            context
                .console
                .warn("Key service not asked", &format!("only what is on record is shown: {error}"));
            Ok(None)
        }
    }
}

fn rows(bundle: &Bundle, asked: &[Asked]) -> Vec<Row> {
    let is_of = |grant: &Grant, there: &FoundGrant| {
        there.grantee.as_ref() == Some(&grant.grantee)
            || there.grantee.is_none() && grant.key_grant_ref.as_deref() == Some(there.reference.as_str())
    };
    let mut rows = Vec::new();
    for grant in &bundle.grants {
        let its = asked.iter().find(|it| grant.is_on(&it.key));
        let found = its.and_then(|it| it.found.as_deref());
        let there = found.and_then(|found| found.iter().find(|there| is_of(grant, there)));
        let orphan = match (found, there) {
            (_, Some(_)) if !is_active(grant) => Some("the key service still has it"),
            (_, Some(_)) if !grant.is_materialized() => {
                Some("the record does not say that the key service has it")
            }
            (Some(_), None) if is_active(grant) && grant.is_materialized() => {
                Some("the key service does not have it")
            }
            _ => None,
        };
        rows.push(Row {
            grantee: grant.grantee.to_string(),
            key_ref: grant.key_ref.clone().or_else(|| its.map(|it| it.key.clone())),
            on_record: Some(grant.status),
            in_key_service: there.map(|there| there.reference.clone()),
            elsewhere: !grant.is_on(&bundle.manifest.key_ref),
            asked: found.is_some(),
            expires_at: grant.expires_at.or(there.and_then(|there| there.expires_at)),
            orphan,
        });
    }
    for Asked { key, found } in asked {
        let unknown =
            |there: &&FoundGrant| !bundle.grants.iter().any(|grant| grant.is_on(key) && is_of(grant, there));
        for there in found.iter().flatten().filter(unknown) {
            rows.push(Row {
                grantee: there.grantee.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string),
                key_ref: Some(key.clone()),
                on_record: None,
                in_key_service: Some(there.reference.clone()),
                elsewhere: !key.is_same_key(&bundle.manifest.key_ref),
                asked: true,
                expires_at: there.expires_at,
                orphan: Some("it is not on record"),
            });
        }
    }
    rows
}

fn line(row: &Row) -> String {
    let status = match row.on_record {
        Some(GrantStatus::Recorded) => "recorded",
        Some(GrantStatus::Materialized) => "materialized",
        Some(GrantStatus::OtherKey) => "on another key",
        Some(GrantStatus::Expired) => "expired",
        Some(GrantStatus::Revoked) => "revoked",
        None => "not on record",
    };
    let key = row.key_ref.as_ref().filter(|_| row.elsewhere);
    let key = key.map(|key| format!(" ({key})")).unwrap_or_default();
    let service = match (&row.in_key_service, row.asked) {
        (Some(reference), _) => reference.as_str(),
        (None, true) => "not in the key service",
        (None, false) => "key service not asked",
    };
    let until = row.expires_at.map_or_else(|| "no end".to_owned(), |end| end.to_string());
    let orphan = row.orphan.map_or_else(String::new, |orphan| format!("  ORPHAN: {orphan}"));
    format!("{}  {status}{key}  {service}  {until}{orphan}", row.grantee)
}
