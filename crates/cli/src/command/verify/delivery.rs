//! A delivery that is verified without its key: what is sealed, under which keys, and what its manifest says.

use std::{collections::BTreeSet, fs, io::Read as _, path::Path};

use protected_bundle::layout::{self, signature::MAX_SIGNATURE_BYTES};
use protected_model::{delivery::DeliveryManifest, digest::Sha256};
use serde_json::json;

use super::{Asked, Finding, Outcome, Policy, check, say};
use crate::{
    context::{self, Context},
    delivery::{self, Found, Stoppable},
    error::{CommandError, Kind},
    summary,
};

/// Runs every check of a delivery.
///
/// # Errors
/// When it cannot be read, and [`Kind::NotProven`] when a check failed.
pub(super) async fn run(
    context: &Context,
    found: Found,
    policy: &Policy,
    offline: bool,
    kept: Option<&Path>,
) -> Result<(), CommandError> {
    let demanded = policy.parts();
    let kept = kept.map(statement).transpose()?;
    let bundle = match delivery::open(&found.bundle) {
        Ok(bundle) => bundle,
        Err(error) => return Err(CommandError { kind: Kind::NotProven, ..error }),
    };
    let stop = context.cancel.shared_flag();
    let (bundle, content) = context::compute(move || {
        let content = content(&bundle, stop);
        Ok((bundle, content))
    })
    .await?;
    context.cancel.check()?;
    let asked = Asked { policy, demanded, trust: None, kept, offline };
    let signed = check(context, &bundle, &asked).await?;
    let descriptor = bundle.descriptor();
    let about = format!(
        "the delivery {} of {}@{} for {}",
        descriptor.bundle_id, descriptor.package_name, descriptor.version, descriptor.customer_slug
    );
    let mut checks = vec![
        ("bundle", ok(format!("{}", bundle.bundle().digest))),
        ("descriptor", ok(format!("{} files, {}", descriptor.contents.len(), descriptor.sha256()))),
        ("content", content),
        ("keys", keys(&bundle)),
    ];
    checks.extend(signed.rows);
    if let Some(demanded) = policy.of_package() {
        let found = "sealed: `open-bundle` with this policy looks, and `verify` does once it is open";
        checks.push(("package", finding(Outcome::Note, &demanded, found)));
    }
    if let Some(path) = &found.manifest {
        match delivery::read_manifest(path) {
            Err(error) => checks.push(("manifest", failed("a manifest of a delivery", error.message))),
            Ok(manifest) => {
                checks.extend(of_manifest(&manifest, &bundle, path));
                checks.extend(signed.build_id.map(|signed| ("build", build(&manifest, signed))));
            }
        }
    }
    for (name, finding) in &checks {
        say(context, name, finding);
    }
    let failures: Vec<&str> =
        checks.iter().filter(|(_, it)| it.outcome == Outcome::Failed).map(|(name, _)| *name).collect();
    context.console.output("verified", if failures.is_empty() { "true" } else { "false" });
    context.console.output("bundle-id", descriptor.bundle_id.as_str());
    let rows = checks.iter().map(|(name, finding)| (*name, finding.word(), finding.text()));
    context.console.summary(&summary::verified(&about, failures.is_empty(), rows));
    let document = json!({
        "bundle_id": descriptor.bundle_id,
        "package": descriptor.package_name,
        "version": descriptor.version,
        "customer": descriptor.customer_slug,
        "bundle": bundle.bundle().digest.to_string(),
        "checks": checks.iter().map(|(name, finding)| finding.document(name)).collect::<Vec<_>>(),
    });
    if failures.is_empty() {
        let line = format!("{about} is whole; its files are seen once it is opened");
        context.console.result(&format!("{line}\n{}", bundle.bundle().digest), &document);
        return Ok(());
    }
    let message = format!("{about} is not verified: {}", failures.join(", "));
    Err(CommandError::new(Kind::NotProven, message).with_details(document))
}

/// Reads the signed statement over a bundle that was kept elsewhere, such as on record.
fn statement(path: &Path) -> Result<Vec<u8>, CommandError> {
    let cannot = |why: String| {
        CommandError::new(Kind::BadInput, format!("the signed statement `{}` {why}", path.display()))
    };
    let file = fs::File::open(path).map_err(|error| cannot(format!("cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_SIGNATURE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| cannot(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_SIGNATURE_BYTES {
        return Err(cannot(format!("has more than {MAX_SIGNATURE_BYTES} bytes")));
    }
    Ok(bytes)
}

fn ok(found: impl Into<String>) -> Finding {
    finding(Outcome::Ok, "", found)
}

fn failed(expected: &str, found: impl Into<String>) -> Finding {
    finding(Outcome::Failed, expected, found)
}

fn finding(outcome: Outcome, expected: &str, found: impl Into<String>) -> Finding {
    Finding { outcome, expected: expected.to_owned(), found: found.into(), differences: Vec::new() }
}

/// The sealed bytes: those of their digest.
fn content(bundle: &layout::Delivery, stop: std::sync::Arc<std::sync::atomic::AtomicBool>) -> Finding {
    let blob = bundle.content();
    let expected = format!("{} bytes, {}", blob.size, blob.digest);
    let read = || -> Result<String, String> {
        let content = bundle.unverified_content().map_err(|error| error.to_string())?;
        let read = delivery::digest(Stoppable { inner: content, stop });
        let (sha256, size) = read.map_err(|error| error.to_string())?;
        Ok(format!("{size} bytes, {}", layout::Digest(sha256)))
    };
    match read() {
        Ok(found) if found == expected => finding(Outcome::Ok, &expected, found),
        Ok(found) | Err(found) => failed(&expected, found),
    }
}

/// The keys that it can be opened with, which belong to this descriptor or are not read.
fn keys(bundle: &layout::Delivery) -> Finding {
    let keys: Vec<String> = bundle.keys().keys.iter().map(|key| key.key_ref.to_string()).collect();
    ok(keys.join(", "))
}

/// The build that is delivered: that of the signed statement.
fn build(manifest: &DeliveryManifest, signed: Option<String>) -> Finding {
    let told = |id: Option<&String>| id.map_or_else(|| "no build".to_owned(), |id| format!("build {id}"));
    let (expected, found) = (told(signed.as_ref()), told(manifest.build_id.as_ref()));
    let outcome = if expected == found { Outcome::Ok } else { Outcome::Failed };
    finding(outcome, &format!("{expected}, as it is signed"), found)
}

/// The manifest: it says of the bundle what the bundle says of itself, and its documents are among the files.
fn of_manifest(
    manifest: &DeliveryManifest,
    bundle: &layout::Delivery,
    path: &Path,
) -> Vec<(&'static str, Finding)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let agrees = match delivery::contradiction(manifest, bundle) {
        None => ok(format!("{name} says the same")),
        Some(field) => failed("what the bundle says", format!("another `{field}` in {name}")),
    };
    let now = bundle.keys().keys.iter().find(|key| key.key_ref == manifest.key_ref);
    let key = match now {
        Some(key) if key.wrapped_key == manifest.key_provider.wrapped_key => {
            ok(format!("wrapped with {}", manifest.key_ref))
        }
        Some(_) => finding(Outcome::Note, "the wrapped key of the manifest", "one that was wrapped anew"),
        None => finding(
            Outcome::Note,
            &format!("a key wrapped with {}", manifest.key_ref),
            "one wrapped with another key",
        ),
    };
    let files: BTreeSet<Sha256> = manifest.contents.iter().map(|file| file.sha256).collect();
    let missing = manifest.evidence.iter().find(|document| !files.contains(&document.sha256));
    let evidence = match missing {
        None => ok(format!("{} documents, each among the files by its digest", manifest.evidence.len())),
        Some(document) => failed(
            "each document among the files",
            format!("`{}` with {} is not", document.kind, document.sha256),
        ),
    };
    vec![("manifest", agrees), ("wrapped key", key), ("evidence", evidence)]
}
