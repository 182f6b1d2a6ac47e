//! `grant-delivery`: who may open a delivery, told to the key service and put on record.

use std::time::{Duration, Instant};

use jiff::{Span, Timestamp, tz::TimeZone};
use protected_keys::{GrantTerms, KeyService};
use protected_model::{
    api::delivery::{Bundle, Grant, GrantRequest, GrantStatus, Grantee},
    delivery::DeliveryManifest,
    key_ref::KeyRef,
    name::BundleId,
    time::whole_seconds,
};
use serde_json::json;

use crate::{
    args::{GrantDelivery, Unrepeated},
    context::{Context, Session},
    error::{CommandError, Kind},
    key_service,
    settings::{Settings, reference},
};

/// How far the clock of FractalOps may be from this one's, where the same duration means the same time.
const SKEW: Duration = Duration::from_secs(300);

/// How long it may take to take back what was granted.
const TAKE_BACK: Duration = Duration::from_secs(8);

/// Grants one delivery to one grantee.
///
/// # Errors
/// When the key service or FractalOps refuses. Where the second half fails, the first is taken back.
pub(crate) async fn run(context: &Context, arguments: GrantDelivery) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("grant-delivery")?;
    let materializes = settings.switch(arguments.materialize_grant, "MATERIALIZE_GRANT")?;
    let id = bundle_id(settings, arguments.bundle_id)?;
    let grantee = grantee(settings, arguments.grantee)?;
    let customer =
        settings.name("customer", arguments.customer, "CUSTOMER", settings.file.deliver.customer.clone())?;
    let customer = customer.ok_or_else(|| {
        CommandError::usage("nothing says which customer the delivery is for").advise("give --customer")
    })?;
    let now = whole_seconds(Timestamp::now());
    let expires = settings.value(arguments.expires, "EXPIRES", None)?;
    let expires = expires.map(|text: String| Expiry::read(&text, now)).transpose()?;
    let http = context.http()?;
    context.fractalops(&http)?;
    let session = context.log_in(&http).await?;
    let bundle = recorded(context, &session, &id).await?;
    let manifest = &bundle.manifest;
    if manifest.customer_slug != customer {
        let message =
            format!("the delivery `{id}` is for `{}`, and not for `{customer}`", manifest.customer_slug);
        return Err(CommandError::new(Kind::Refused, message));
    }
    let key_ref = sealed_under(arguments.key_ref.as_ref(), manifest)?;
    let is_on_record = key_ref.is_same_key(&manifest.key_ref);
    let before = active(&bundle, &grantee).find(|grant| grant.is_on(&key_ref));
    let expires_at = settle(before, expires.as_ref(), &grantee)?;
    let terms = GrantTerms {
        bundle: &id,
        context: &manifest.key_provider.context,
        grantee: &grantee,
        expires_at,
        now,
    };
    let mut service = None;
    let mut materialization = None;
    if materializes {
        let doing = format!("granting the delivery `{id}` to `{grantee}`");
        let connected = key_service::connect(&key_ref, &context.keys()?, &http, &doing)?;
        let started = Instant::now();
        let made = context.cancel.shield(connected.grant(&terms)).await?;
        let made = made.map_err(|error| key_service::failed(&doing, &error))?;
        context.console.step("grant", format!("{} of {}", made.reference, key_ref), started);
        let limits = connected.limits();
        context.console.say(format!("  note      {}", limits.says));
        if !limits.one_bundle {
            let message = format!(
                "the key service cannot hold `{grantee}` to this delivery: whatever else `{key_ref}` wraps opens as well"
            );
            context.console.warn("Grant of the whole key", &message);
        }
        if let Some(end) = expires_at.filter(|_| !limits.expires) {
            let message = format!("the key service does not end the grant: run `revoke-grant` at {end}");
            context.console.warn("Grant without an end", &message);
        }
        service = Some(connected);
        materialization = Some(made);
    }
    let request = GrantRequest {
        bundle_id: id.clone(),
        customer_slug: customer.clone(),
        grantee: grantee.clone(),
        key_ref: Some(key_ref.clone()),
        key_grant_ref: materialization.as_ref().map(|made| made.reference.clone()),
        grant_materialization: materialization,
        expires_at,
    };
    let started = Instant::now();
    let grant = match record(context, &session, &request).await {
        Ok(grant) => grant,
        Err(error) => {
            let also = if is_on_record { String::new() } else { format!(" --key-ref {key_ref}") };
            let was_there = before.is_some_and(Grant::is_materialized);
            return Err(match service {
                Some(service) if !was_there => {
                    take_back(service.as_ref(), &terms, &request, &also, error).await
                }
                _ => error,
            });
        }
    };
    context.console.step("record", format!("grant {}", grant.id), started);
    context.console.output("grant-id", &grant.id);
    context.console.output("correlation-id", &context.correlation_id);
    let until = grant.expires_at.map_or_else(String::new, |end| format!(" until {end}"));
    let line = match grant.is_materialized() {
        true => format!("`{grantee}` may open the delivery `{id}`{until}"),
        false => format!(
            "it is on record that `{grantee}` may open the delivery `{id}`{until}; the key service was not told"
        ),
    };
    let line = match grant.status {
        GrantStatus::OtherKey => {
            context.console.say("  hint: `submit-bundle` puts the delivery on record as it is wrapped now");
            format!(
                "{line}; it is where `{key_ref}` wrapped its key, and on record that is `{}`",
                manifest.key_ref
            )
        }
        _ => line,
    };
    context.console.result(&line, &json!({ "grant": grant }));
    Ok(())
}

async fn record(context: &Context, session: &Session, request: &GrantRequest) -> Result<Grant, CommandError> {
    let doing = format!("recording that `{}` may open the delivery `{}`", request.grantee, request.bundle_id);
    let answer = context.cancel.or(session.fractalops.grant_delivery(&session.token, request)).await?;
    answer.map_err(|error| CommandError::from_fractalops(&doing, error))
}

/// Takes back in the key service what could not be recorded.
async fn take_back(
    service: &dyn KeyService,
    terms: &GrantTerms<'_>,
    request: &GrantRequest,
    also: &str,
    error: CommandError,
) -> CommandError {
    match tokio::time::timeout(TAKE_BACK, service.revoke(terms)).await {
        Ok(Ok(_)) => {
            error.advise("the key service was told and has taken it back: the same command again does both")
        }
        failed => {
            let GrantRequest { bundle_id, customer_slug, grantee, expires_at, .. } = request;
            let why = match failed {
                Ok(Err(error)) => crate::error::chain(&error),
                _ => format!("no answer within {} s", TAKE_BACK.as_secs()),
            };
            let end = expires_at.map_or_else(String::new, |end| format!(" --expires {end}"));
            error
                .advise(format!(
                    "the key service lets `{grantee}` unwrap, which is not on record and could not be taken back: {why}"
                ))
                .advise(format!(
                    "finish it: protected-registry grant-delivery --bundle-id {bundle_id} --customer {customer_slug} --grantee {grantee}{end} --materialize-grant{also}"
                ))
                .advise(format!(
                    "or take it back: protected-registry revoke-grant --bundle-id {bundle_id} --grantee {grantee}{also}"
                ))
        }
    }
}

/// Settles which key of the delivery it is about: the one on record, where nothing is said. The environment does not say so:
/// what it names is the key of the next delivery.
pub(super) fn sealed_under(
    flag: Option<&Unrepeated>,
    manifest: &DeliveryManifest,
) -> Result<KeyRef, CommandError> {
    flag.map_or_else(|| Ok(manifest.key_ref.clone()), |text| reference("the key of the delivery", text))
}

/// Settles which delivery it is about.
pub(super) fn bundle_id(settings: &Settings, flag: Option<Unrepeated>) -> Result<BundleId, CommandError> {
    settings.name("bundle id", flag, "BUNDLE_ID", None)?.ok_or_else(|| {
        CommandError::usage("no delivery is named").advise("give --bundle-id, as `deliver` printed it")
    })
}

/// Settles whom it is about. The text is not repeated before it was judged: it may be a token.
pub(super) fn grantee(settings: &Settings, flag: Option<Unrepeated>) -> Result<Grantee, CommandError> {
    let text = settings.value(flag, "GRANTEE", None)?.ok_or_else(|| {
        CommandError::usage("nobody is named").advise("give --grantee, in the words of the key service")
    })?;
    text.0.parse().map_err(|error| CommandError::usage(format!("--grantee: {error}")))
}

/// Reads what FractalOps has on a delivery.
pub(super) async fn recorded(
    context: &Context,
    session: &Session,
    id: &BundleId,
) -> Result<Bundle, CommandError> {
    let answer = context.cancel.or(session.fractalops.delivery(&session.token, id)).await?;
    let bundle = answer
        .map_err(|error| CommandError::from_fractalops(&format!("asking for the delivery `{id}`"), error))?;
    // Attack: a record that was changed, with another key or another bundle's context in it.
    bundle.manifest.check().map_err(|error| {
        CommandError::from_error(Kind::Failed, &format!("what is on record of the delivery `{id}`"), &error)
    })?;
    Ok(bundle)
}

/// Returns the grants that a grantee has now, on whatever key.
pub(super) fn active<'a>(bundle: &'a Bundle, grantee: &Grantee) -> impl Iterator<Item = &'a Grant> {
    bundle.grants.iter().filter(move |grant| grant.grantee == *grantee && is_active(grant))
}

pub(super) fn is_active(grant: &Grant) -> bool {
    matches!(grant.status, GrantStatus::Recorded | GrantStatus::Materialized | GrantStatus::OtherKey)
}

/// Returns the keys that a delivery is or was on record with, and those of its grants: the one of now first.
pub(super) fn keys_of(bundle: &Bundle) -> Vec<KeyRef> {
    let wrapped = bundle.wrappings.iter().rev().map(|wrapping| &wrapping.key_ref);
    let granted = bundle.grants.iter().filter_map(|grant| grant.key_ref.as_ref());
    let mut keys = vec![bundle.manifest.key_ref.clone()];
    for key in wrapped.chain(granted) {
        if !keys.iter().any(|there| there.is_same_key(key)) {
            keys.push(key.clone());
        }
    }
    keys
}

/// When a grant is to end.
enum Expiry {
    At(Timestamp),
    After(Span, Timestamp),
}

impl Expiry {
    fn read(text: &str, now: Timestamp) -> Result<Self, CommandError> {
        if let Ok(at) = text.parse::<Timestamp>() {
            let at = whole_seconds(at);
            return match at > now {
                true => Ok(Self::At(at)),
                false => Err(CommandError::usage(format!("--expires: {at} is over"))),
            };
        }
        let wrong = || {
            CommandError::usage(
                "--expires: expected a time, such as 2027-01-31T00:00:00Z, or how long, such as 30d or 12h",
            )
        };
        let span: Span = text.parse().map_err(|_| wrong())?;
        let end = after(now, span).filter(|end| *end > now).ok_or_else(wrong)?;
        Ok(Self::After(span, end))
    }
}

fn after(start: Timestamp, span: Span) -> Option<Timestamp> {
    let end = start.to_zoned(TimeZone::UTC).checked_add(span).ok()?;
    Some(whole_seconds(end.timestamp()))
}

/// Settles when the grant ends: as it was granted before, where the same was asked for.
fn settle(
    before: Option<&Grant>,
    wanted: Option<&Expiry>,
    grantee: &Grantee,
) -> Result<Option<Timestamp>, CommandError> {
    let end = match wanted {
        None => None,
        Some(Expiry::At(end) | Expiry::After(_, end)) => Some(*end),
    };
    let Some(grant) = before.filter(|grant| grant.expires_at != end) else { return Ok(end) };
    if let (Some(there), Some(Expiry::After(span, _))) = (grant.expires_at, wanted)
        && let Some(then) = after(grant.created_at, *span)
        && there.duration_since(then).unsigned_abs() <= SKEW
    {
        return Ok(Some(there));
    }
    // Before the key service is told: it would change what it has, and FractalOps would not follow.
    let until = |end: Option<Timestamp>| {
        end.map_or_else(|| "without an end".to_owned(), |end| format!("until {end}"))
    };
    let message =
        format!("`{grantee}` has a grant {}, and one {} was asked for", until(grant.expires_at), until(end));
    Err(CommandError::new(Kind::Conflict, message)
        .advise("take it back with `revoke-grant`, then grant anew"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_a_duration_that_is_to_come() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        for (text, expected) in [
            ("2026-01-31T00:00:00Z", "2026-01-31T00:00:00Z"),
            ("30d", "2026-01-31T00:00:00Z"),
            ("12h", "2026-01-01T12:00:00Z"),
            ("1 month", "2026-02-01T00:00:00Z"),
            ("P1D", "2026-01-02T00:00:00Z"),
        ] {
            let end = match Expiry::read(text, now).expect(text) {
                Expiry::At(end) | Expiry::After(_, end) => end,
            };
            assert_eq!(end.to_string(), expected, "{text}");
        }
        for bad in ["", "0s", "-1d", "tomorrow", "2025-12-31T23:59:59Z", "2026-01-31", "99999999999y"] {
            assert!(Expiry::read(bad, now).is_err(), "{bad}");
        }
    }
}
