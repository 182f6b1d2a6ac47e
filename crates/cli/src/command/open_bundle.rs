//! `open-bundle`: what a customer does. Needs a granted key, and neither FractalOps nor a project.

use std::{path::PathBuf, time::Instant};

use protected_bundle::{
    DataKey, OpenError, ParallelOpener,
    archive::{self, ArchiveError},
    layout,
};
use protected_model::{digest::Sha256, key_ref::KeyRef};
use serde_json::json;

use super::verify::{self, Asked, Policy};
use crate::{
    args::OpenBundle,
    console::human_size,
    context::{self, Context},
    delivery::{
        self, Stoppable,
        storage::{self, Place},
    },
    error::{CommandError, Kind},
    key_service,
};

/// How many files are shown to people; programs get them all.
const SHOWN: usize = 20;

/// Opens one delivery.
///
/// # Errors
/// When it is no delivery or was changed, when the key service does not open it, and when its files cannot be written.
/// No file of it is left behind then.
pub(crate) async fn run(context: &Context, arguments: OpenBundle) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("open-bundle")?;
    let text = settings.value(arguments.bundle, "BUNDLE", None)?.ok_or_else(|| {
        CommandError::usage("no delivery is named").advise("name it: protected-registry open-bundle <bundle>")
    })?;
    let out: Option<PathBuf> = settings.value(arguments.out, "OUT", None)?;
    let out = out.ok_or_else(|| {
        CommandError::usage("nothing says where the files go").advise("name a new folder with --out")
    })?;
    let out = settings.working_directory.join(out);
    if out.symlink_metadata().is_ok() {
        return Err(CommandError::usage(format!("`{}` is there already", out.display()))
            .advise("name a new folder with --out"));
    }
    if !out.parent().is_some_and(std::path::Path::is_dir) {
        let message = format!("the folder that `{}` goes into is not there", out.display());
        return Err(CommandError::usage(message).advise("make it first"));
    }
    let wanted = settings.key_ref("the key to open with", arguments.key_ref, "KEY_REF", None)?;
    let policy = Policy::settle(context, &arguments.trust, [&None, &None])?;
    let demanded = policy.parts();
    // What was fetched goes with this.
    let mut fetched = None;
    let path = match storage::locate(context, &text.0)? {
        Place::Here(found) => found.bundle,
        Place::Away(delivery, expected) => {
            let beside = out.parent().unwrap_or(&settings.working_directory);
            let (folder, path) = storage::fetch(context, &delivery, expected.as_ref(), beside).await?;
            fetched = Some(folder);
            path
        }
    };
    let bundle = delivery::open(&path)?;
    // Before any key is asked for.
    let asked = Asked { policy: &policy, demanded, trust: None, kept: None, offline: false };
    let mut signed = verify::check(context, &bundle, &asked).await?;
    for (name, line) in signed.lines() {
        context.console.say(format!("  {name:<11} {line}"));
    }
    signed.proven(&format!("the delivery `{}`", bundle.descriptor().bundle_id))?;
    let inside = match policy.of_package() {
        None => None,
        Some(demanded) => Some((policy.believed(context, false).await?, demanded)),
    };
    let started = Instant::now();
    let (key, key_ref) = data_key(context, &bundle, wanted.as_ref()).await?;
    context.console.step("key", key_ref.to_string(), started);

    let started = Instant::now();
    let descriptor = bundle.descriptor().clone();
    let stop = context.cancel.shared_flag();
    let (to, opening) = (out.clone(), format!("opening `{}`", path.display()));
    let opened = context::compute(move || {
        let broken = |error: layout::LayoutError| delivery::broken(&path, &error);
        let sealed = bundle.unverified_content().map_err(broken)?;
        let sealed = Stoppable { inner: sealed, stop: stop.clone() };
        let descriptor = bundle.descriptor();
        let mut opener = ParallelOpener::new(&key, &descriptor.binding(), sealed, delivery::threads())
            .map_err(|error| changed(&opening, &error))?;
        let staged =
            archive::extract(descriptor, &mut opener, &to).map_err(|error| extracting(&opening, &error))?;
        let whole = opener.finish().map_err(|error| changed(&opening, &error))?;
        let (content, found) = (bundle.content(), Sha256::from_bytes(whole.sha256));
        if (found, whole.sealed_bytes) != (content.digest.0, content.size) {
            let message = format!(
                "{opening}: its sealed content has SHA-256 {found}, where {} was expected",
                content.digest.0
            );
            return Err(CommandError::new(Kind::BadInput, message));
        }
        if stop.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(CommandError::new(Kind::Failed, "stopped"));
        }
        let inside = match &inside {
            None => None,
            Some((believed, demanded)) => {
                Some(verify::opened(&staged.folder(), descriptor, (&policy, believed, demanded))?)
            }
        };
        // What is not as it is demanded never appears.
        if inside.as_ref().is_none_or(verify::Signed::is_proven) {
            staged.appear().map_err(|error| extracting(&opening, &error))?;
        }
        Ok(inside)
    })
    .await;
    drop(fetched);
    if opened.is_err() {
        context.cancel.check()?;
    }
    if let Some(inside) = opened? {
        for (name, line) in inside.lines() {
            context.console.say(format!("  {name:<11} {line}"));
        }
        inside.proven(&format!("what is in the delivery `{}`", descriptor.bundle_id))?;
        signed.extend(inside);
    }
    let bytes = descriptor.contents.iter().map(|file| file.size).sum();
    let console = &context.console;
    console.step("open", format!("{} files, {}", descriptor.contents.len(), human_size(bytes)), started);
    let what = format!("{}@{}", descriptor.package_name, descriptor.version);
    console.say(format!(
        "{what} for {}, from {} of {}: delivery {}, sealed {}",
        descriptor.customer_slug,
        descriptor.project_slug,
        descriptor.tenant_id,
        descriptor.bundle_id,
        descriptor.created_at
    ));
    for file in descriptor.contents.iter().take(SHOWN) {
        console.say(format!("  {}  {}", file.path, human_size(file.size)));
    }
    if let Some(more @ 1..) = descriptor.contents.len().checked_sub(SHOWN) {
        console.say(format!("  and {more} more"));
    }
    let document = json!({
        "bundle_id": descriptor.bundle_id,
        "tenant": descriptor.tenant_id,
        "project": descriptor.project_slug,
        "customer": descriptor.customer_slug,
        "package": descriptor.package_name,
        "version": descriptor.version,
        "sealed_at": descriptor.created_at,
        "key_ref": key_ref,
        "out": out,
        "checks": signed.documents(),
        "files": descriptor.contents,
    });
    console.result(&out.display().to_string(), &document);
    Ok(())
}

/// Has the data key unwrapped by the first service that does.
pub(super) async fn data_key(
    context: &Context,
    bundle: &layout::Delivery,
    wanted: Option<&KeyRef>,
) -> Result<(DataKey, KeyRef), CommandError> {
    let settings = context.keys()?;
    let http = context.http()?;
    let key_context = bundle.descriptor().key_context();
    let mut refused = None;
    for wrapped in &bundle.keys().keys {
        if wanted.is_some_and(|wanted| *wanted != wrapped.key_ref) {
            continue;
        }
        let doing = format!("opening the delivery `{}`", bundle.descriptor().bundle_id);
        let tried = match key_service::connect(&wrapped.key_ref, &settings, &http, &doing) {
            Ok(service) => {
                let key = context.cancel.or(service.unwrap(&wrapped.wrapped_key, &key_context)).await?;
                key.map_err(|error| key_service::failed(&doing, &error))
            }
            Err(error) => Err(error),
        };
        match tried {
            Ok(key) => return Ok((key, wrapped.key_ref.clone())),
            Err(error) => {
                if let Some(before) = refused.replace(error) {
                    context.console.say(format!("  note      {before}"));
                }
            }
        }
    }
    Err(refused.unwrap_or_else(|| {
        let keys: Vec<String> = bundle.keys().keys.iter().map(|key| format!("`{}`", key.key_ref)).collect();
        CommandError::usage(format!(
            "the delivery is not sealed under that key, but under {}",
            keys.join(", ")
        ))
    }))
}

/// Tells why a key does not open what is sealed.
pub(super) fn changed(doing: &str, error: &OpenError) -> CommandError {
    CommandError::from_error(Kind::BadInput, doing, error)
}

fn extracting(doing: &str, error: &ArchiveError) -> CommandError {
    let kind = match error {
        ArchiveError::Exists(_) => Kind::Usage,
        ArchiveError::Extract(..) => Kind::Failed,
        _ => Kind::BadInput,
    };
    CommandError::from_error(kind, doing, error)
}
