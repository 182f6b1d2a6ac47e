//! Sealing: archive, data key, bundle, manifest, in one pass and constant memory.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use protected_bundle::{
    DataKey, ParallelSealer, archive,
    layout::{Delivery, Writer},
    staging::{Staging, StagingError},
};
use protected_keys::{KeyService, WrappedKey};
use protected_model::{
    delivery::{
        ARTIFACT_TYPE, CONTENT, ContentIntegrity, ContentPath, DESCRIPTOR, DeliveryManifest, Descriptor,
        KEYS, Keys, MANIFEST as MANIFEST_TYPE, SealedBundle, WrappedDataKey, archive_bytes,
    },
    digest::Sha256,
    escrow::{POLICY, SUITE, WrappedBy},
    integrity::canonical,
    key_ref::KeyRef,
    name::{BundleId, CustomerSlug, ProjectSlug, TenantId},
    time::whole_seconds,
};

use super::{
    contents::{Contents, Stoppable},
    place::{BUNDLE, BUNDLE_TAR, broken},
};
use crate::{
    context::{self, Context},
    error::{CommandError, Kind},
    key_service,
};

/// What is to be sealed, for whom.
pub(crate) struct Order {
    pub(crate) bundle_id: BundleId,
    pub(crate) tenant_id: TenantId,
    pub(crate) project_slug: ProjectSlug,
    pub(crate) customer_slug: CustomerSlug,
    pub(crate) key_ref: KeyRef,
    /// Where the delivery appears.
    pub(crate) out: PathBuf,
    pub(crate) one_file: bool,
}

/// A delivery that is sealed, and does not appear yet.
pub(crate) struct Sealed {
    staging: Staging,
    one_file: bool,
}

/// Seals the contents for one customer. Nothing of it is to be seen before it [appears](Sealed::appear); `None` says that
/// another command was faster.
///
/// # Errors
/// When the key service does not wrap the data key, when a file is not the one that was listed, when nothing can be
/// written, and at a signal.
pub(crate) async fn seal(
    context: &Context,
    order: Order,
    contents: &Contents,
    service: &dyn KeyService,
) -> Result<Option<Sealed>, CommandError> {
    let archive_bytes = archive_bytes(&contents.files)
        .ok_or_else(|| CommandError::usage("what is to be delivered has too many bytes to count"))?;
    let descriptor = Descriptor {
        schema: DESCRIPTOR.to_owned(),
        suite: SUITE.to_owned(),
        bundle_id: order.bundle_id,
        tenant_id: order.tenant_id,
        project_slug: order.project_slug,
        customer_slug: order.customer_slug,
        package_name: contents.package.clone(),
        version: contents.version.clone(),
        created_at: whole_seconds(jiff::Timestamp::now()),
        media_type: CONTENT.to_owned(),
        archive_bytes,
        contents: contents.files.clone(),
    };
    descriptor
        .check()
        .map_err(|error| CommandError::from_error(Kind::BadInput, "what is to be delivered", &error))?;
    // Before the first byte is sealed: a delivery without a key is none.
    let key = DataKey::generate().map_err(|error| failed("making a data key", &error))?;
    let wrapped = context.cancel.or(service.wrap(&key, &descriptor.key_context())).await?;
    let wrapped = wrapped.map_err(|error| key_service::failed("sealing the delivery", &error))?;
    let keys = Keys {
        schema: KEYS.to_owned(),
        descriptor_sha256: descriptor.sha256(),
        keys: vec![wrapped_data_key(&order.key_ref, wrapped)],
    };
    let (stop, sources) = (context.cancel.shared_flag(), contents.sources.clone());
    let sealed = context::compute(move || {
        let parent = order.out.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)
            .map_err(|error| failed(&format!("making the folder `{}`", parent.display()), &error))?;
        let staging = match Staging::beside(&order.out) {
            Ok(staging) => staging,
            // Another command was faster: what it sealed is looked at as what was sealed before.
            Err(StagingError::Exists(_)) => return Ok(None),
            Err(error) => return Err(failed("the place for it", &error)),
        };
        write(&staging.folder(), &descriptor, &keys, &sources, &key, &stop)?;
        Ok(Some(Sealed { staging, one_file: order.one_file }))
    })
    .await;
    context.cancel.check()?;
    sealed
}

impl Sealed {
    /// Returns where its layout is.
    pub(crate) fn layout(&self) -> PathBuf {
        self.staging.folder().join(BUNDLE)
    }

    /// Lets the bundle appear, whole or not at all, and returns whether it did: another command may have been faster.
    ///
    /// # Errors
    /// When it cannot be written, and at a signal.
    pub(crate) async fn appear(self, context: &Context) -> Result<bool, CommandError> {
        let stop = context.cancel.shared_flag();
        let appeared = context::compute(move || {
            let folder = self.staging.folder();
            if self.one_file {
                to_one_file(&folder.join(BUNDLE), &folder.join(BUNDLE_TAR), &stop)?;
            }
            if stop.load(Ordering::SeqCst) {
                return Err(CommandError::new(Kind::Failed, "stopped"));
            }
            match self.staging.appear() {
                Ok(()) => Ok(true),
                Err(StagingError::Exists(_)) => Ok(false),
                Err(error) => Err(failed("letting it appear", &error)),
            }
        })
        .await;
        context.cancel.check()?;
        appeared
    }
}

fn failed(doing: &str, error: &dyn std::fmt::Display) -> CommandError {
    CommandError::new(Kind::Failed, format!("sealing the delivery: {doing}: {error}"))
}

/// Returns a wrapped data key as a document of keys has it.
pub(crate) fn wrapped_data_key(key: &KeyRef, wrapped: WrappedKey) -> WrappedDataKey {
    WrappedDataKey {
        key_ref: key.clone(),
        provider: key.provider(),
        key_version: wrapped.version,
        wrapped_key_sha256: Sha256::of(&wrapped.text),
        wrapped_key: wrapped.text,
    }
}

fn write(
    folder: &Path,
    descriptor: &Descriptor,
    keys: &Keys,
    sources: &BTreeMap<ContentPath, PathBuf>,
    key: &DataKey,
    stop: &Arc<AtomicBool>,
) -> Result<(), CommandError> {
    let place = folder.join(BUNDLE);
    let writer = Writer::new(&place).map_err(|error| broken(&place, &error))?;
    let file = writer.content().map_err(|error| broken(&place, &error))?;
    let mut sealer = ParallelSealer::new(key, &descriptor.binding(), file, threads())
        .map_err(|error| failed("the cipher", &error))?;
    let open = |path: &_| match sources.get(path) {
        Some(source) => Ok(Stoppable { inner: fs::File::open(source)?, stop: Arc::clone(stop) }),
        None => Err(std::io::ErrorKind::NotFound.into()),
    };
    archive::pack(&descriptor.contents, open, &mut sealer).map_err(|error| failed("the archive", &error))?;
    let (file, whole) = sealer.finish().map_err(|error| failed("the cipher", &error))?;
    drop(file);
    let content = (Sha256::from_bytes(whole.sha256), whole.sealed_bytes);
    writer.end(descriptor, keys, content).map_err(|error| broken(&place, &error))?;
    Ok(())
}

fn to_one_file(folder: &Path, tar: &Path, stop: &AtomicBool) -> Result<(), CommandError> {
    let delivery = Delivery::open(folder).map_err(|error| broken(folder, &error))?;
    delivery.to_tar(tar, stop).map_err(|error| broken(tar, &error))?;
    fs::remove_dir_all(folder).map_err(|error| {
        CommandError::new(Kind::Failed, format!("cannot remove `{}`: {error}", folder.display()))
    })
}

/// Makes the manifest of a bundle, which follows from it and from what went into it.
///
/// # Errors
/// When the bundle has no such key, or anything in the manifest looks like a key.
pub(crate) fn manifest(
    bundle: &Delivery,
    contents: &Contents,
    key_ref: &KeyRef,
    uri: Option<String>,
    build_id: Option<String>,
) -> Result<DeliveryManifest, CommandError> {
    let (descriptor, keys) = (bundle.descriptor().clone(), &bundle.keys().keys);
    let wrapped = keys.iter().find(|key| key.key_ref == *key_ref).ok_or_else(|| {
        CommandError::new(Kind::Conflict, format!("the bundle is not sealed under `{key_ref}`"))
    })?;
    let manifest = DeliveryManifest {
        schema: MANIFEST_TYPE.to_owned(),
        key_provider: WrappedBy {
            provider: wrapped.provider,
            policy: POLICY.to_owned(),
            wrapped_key: wrapped.wrapped_key.clone(),
            wrapped_key_sha256: wrapped.wrapped_key_sha256,
            context: descriptor.key_context(),
        },
        bundle_id: descriptor.bundle_id,
        tenant_id: descriptor.tenant_id,
        project_slug: descriptor.project_slug,
        customer_slug: descriptor.customer_slug,
        package_name: descriptor.package_name,
        version: descriptor.version,
        build_id,
        protection: contents.protection,
        integrity: ContentIntegrity {
            sha256: Sha256::of(canonical(&descriptor.contents)),
            size: descriptor.archive_bytes,
        },
        bundle: SealedBundle {
            media_type: ARTIFACT_TYPE.to_owned(),
            sha256: bundle.bundle().digest.0,
            size: bundle.content().size,
            uri,
        },
        key_ref: key_ref.clone(),
        contents: descriptor.contents,
        evidence: contents.evidence.clone(),
        created_at: descriptor.created_at,
        other: BTreeMap::new(),
    };
    manifest.check().map_err(|error| {
        CommandError::from_error(Kind::BadInput, "the manifest of the delivery is refused", &error)
    })?;
    Ok(manifest)
}

/// Returns how many threads seal or open.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
