//! `rewrap`: the data key of a delivery, wrapped with the key as it is now. What is sealed stays as it is.

use std::{path::Path, time::Instant};

use protected_bundle::layout;
use protected_model::{
    delivery::{DeliveryManifest, Keys, WrappedDataKey},
    key_ref::KeyRef,
};
use serde_json::json;

use super::open_bundle::data_key;
use crate::{
    args::Rewrap,
    context::{self, Context},
    delivery::{
        self,
        storage::{self, Place},
    },
    error::CommandError,
    key_service,
    signing::{self, Plan, Unsigned},
};

/// Wraps the keys of one delivery anew, where it lies.
///
/// # Errors
/// When it is no delivery, when the key service does not wrap, and when it cannot be written; it stays as it was then.
pub(crate) async fn run(context: &Context, arguments: Rewrap) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("rewrap")?;
    let text = settings.value(arguments.bundle, "BUNDLE", None)?.ok_or_else(|| {
        CommandError::usage("no delivery is named").advise("name it: protected-registry rewrap <bundle>")
    })?;
    let new = settings.key_ref("the key to wrap with", arguments.key_ref, "KEY_REF", None)?;
    let plan = Plan::of(settings, &arguments.sign)?;
    // What was fetched goes with this.
    let (path, beside, area, _fetched) = match storage::locate(context, &text.0)? {
        Place::Here(found) => (found.bundle, found.manifest, None, None),
        Place::Away(place, expected) => {
            let named = Some(settings.working_directory.join(&text.0)).filter(|it| delivery::is_manifest(it));
            let (folder, path) =
                storage::fetch(context, &place, expected.as_ref(), &std::env::temp_dir()).await?;
            (path, named, Some(place.area), Some(folder))
        }
    };
    let is_away = area.is_some();
    let mut bundle = delivery::open(&path)?;
    let manifest = match &beside {
        None => None,
        Some(place) => Some((place, delivery::read_manifest(place)?)),
    };
    let manifest = manifest.filter(|(_, manifest)| delivery::contradiction(manifest, &bundle).is_none());
    let read = bundle.manifests().keys.digest;
    // Before a key is touched: what cannot be signed stays as it was.
    let http = context.http()?;
    let was_signed = bundle.manifests().signatures.keys.is_some();
    // What nobody signed before is signed where that is asked for, and not because somebody is there who could.
    let (session, signing) = match was_signed || plan.is_asked_for() {
        true => signing::enter_to_sign(context, &http, &plan).await?,
        false => (None, Err(Unsigned::NotBefore)),
    };
    if let Ok(signing) = &signing {
        delivery::check_keys(&bundle, signing)?;
        // Attack: a key of a stranger's beside the one that is wrapped anew, which would be signed with it.
        if let Some(new) = new.as_ref().filter(|_| !was_signed && bundle.keys().keys.len() > 1) {
            let message = format!("the delivery has other keys, which nobody signed, beside `{new}`");
            return Err(CommandError::usage(message).advise("give --sign off, or wrap each key as it is now"));
        }
    }
    let started = Instant::now();
    let keys = match &new {
        None => same_keys(context, &bundle).await?,
        Some(new) => other_key(context, &bundle, new).await?,
    };
    let before = bundle.keys().keys.clone();
    let made = Keys { keys, ..bundle.keys().clone() };
    let signature = match &signing {
        Err(_) => None,
        Ok(signing) => {
            let statement = delivery::keys_statement(&bundle, &bundle.manifest_of_keys(&made).digest.0)?;
            let signed = signing.sign(context, &http, session.as_ref(), vec![statement]).await?;
            signed.into_iter().next().map(|signed| signed.bundle)
        }
    };
    context.cancel.check()?;
    let is_signed = signature.is_some();
    let (stop, place) = (context.cancel.shared_flag(), path.clone());
    let written = context::compute(move || {
        // What was fetched, and what is copied into another tar file, is held against its digest on the way.
        if place.is_dir() && !is_away {
            delivery::check_content(&bundle, &place, &stop)?;
        }
        let lock = bundle
            .set_keys(made, signature.as_deref(), &stop)
            .map_err(|error| delivery::broken(&place, &error))?;
        Ok((bundle, lock))
    });
    let written = written.await;
    context.cancel.check()?;
    let (bundle, lock) = written?;
    if let Some(area) = area {
        let area = storage::connect(context, &area)?;
        let replaced = context.cancel.or(area.replace_keys(&path, &read)).await?;
        replaced.map_err(|error| storage::failed("storing the new keys", &error))?;
    }
    let console = &context.console;
    let now = &bundle.keys().keys;
    let updated = match manifest {
        None => None,
        Some((place, manifest)) => update(place, manifest, now)?,
    };
    // The manifest is of the keys that are there: whoever comes after writes both.
    drop(lock);
    let shown = |keys: &[WrappedDataKey]| {
        let shown = keys.iter().map(|key| match &key.key_version {
            Some(version) => format!("{} (version {version})", key.key_ref),
            None => key.key_ref.to_string(),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    console.step("rewrap", format!("{} -> {}", shown(&before), shown(now)), started);
    let digest = bundle.bundle().digest;
    console.say(format!("  content   unchanged: {digest}"));
    if was_signed && !is_signed {
        console.warn(
            "Keys not signed",
            "the former keys were signed, and these are not: who demands a signature does not open the delivery",
        );
    }
    match updated {
        Some(place) => console.say(format!(
            "  manifest  has the new wrapping: `submit-bundle --manifest {}` puts it on record",
            place.display()
        )),
        None => console.say(
            "  manifest  is not here: the record keeps the former wrapping, until the delivery is wrapped anew by the path of its manifest",
        ),
    }
    if let Some(new) = new.filter(|new| !before.iter().any(|key| key.key_ref.is_same_key(new))) {
        console.say(format!(
            "  note      grants on the former key do not open it as it is now: give them on this one, by `grant-delivery --key-ref {new}`"
        ));
    }
    let document = json!({
        "bundle_id": bundle.descriptor().bundle_id,
        "bundle": digest.to_string(),
        "signed": delivery::signed(&bundle),
        "keys": now.iter().map(|key| json!({"key_ref": key.key_ref, "key_version": key.key_version})).collect::<Vec<_>>(),
    });
    console.result(&format!("{}\n{digest}", bundle.descriptor().bundle_id), &document);
    Ok(())
}

/// Writes the new wrapping into the manifest of the delivery, and returns where that is. Where its key no longer opens the
/// delivery, the one that took its place stands in it.
fn update<'a>(
    place: &'a Path,
    mut manifest: DeliveryManifest,
    keys: &[WrappedDataKey],
) -> Result<Option<&'a Path>, CommandError> {
    let own = keys.iter().find(|key| key.key_ref == manifest.key_ref);
    let Some(key) = own.or(keys.last()) else { return Ok(None) };
    manifest.key_ref.clone_from(&key.key_ref);
    manifest.key_provider.provider = key.provider;
    manifest.key_provider.wrapped_key.clone_from(&key.wrapped_key);
    manifest.key_provider.wrapped_key_sha256 = key.wrapped_key_sha256;
    delivery::save_manifest(place, &manifest)?;
    Ok(Some(place))
}

/// Has each service wrap its own key anew.
async fn same_keys(
    context: &Context,
    bundle: &layout::Delivery,
) -> Result<Vec<WrappedDataKey>, CommandError> {
    let (settings, http) = (context.keys()?, context.http()?);
    let key_context = bundle.descriptor().key_context();
    let doing = format!("wrapping the key of the delivery `{}` anew", bundle.descriptor().bundle_id);
    let mut keys = Vec::new();
    for key in &bundle.keys().keys {
        let service = key_service::connect(&key.key_ref, &settings, &http, &doing)?;
        let wrapped = context.cancel.or(service.rewrap(&key.wrapped_key, &key_context)).await?;
        let wrapped = wrapped.map_err(|error| key_service::failed(&doing, &error))?;
        keys.push(delivery::wrapped_data_key(&key.key_ref, wrapped));
    }
    Ok(keys)
}

/// Has the data key unwrapped, and wrapped with another key, which takes the place of the one that unwrapped it.
async fn other_key(
    context: &Context,
    bundle: &layout::Delivery,
    new: &KeyRef,
) -> Result<Vec<WrappedDataKey>, CommandError> {
    let doing = format!("wrapping the key of the delivery `{}` with another", bundle.descriptor().bundle_id);
    let service = key_service::connect(new, &context.keys()?, &context.http()?, &doing)?;
    let (key, old) = data_key(context, bundle, None).await?;
    let wrapped = context.cancel.or(service.wrap(&key, &bundle.descriptor().key_context())).await?;
    let wrapped = wrapped.map_err(|error| key_service::failed(&doing, &error))?;
    let mut keys = bundle.keys().keys.clone();
    keys.retain(|key| key.key_ref != old && key.key_ref != *new);
    keys.push(delivery::wrapped_data_key(new, wrapped));
    Ok(keys)
}
