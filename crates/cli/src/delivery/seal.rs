//! Sealing: archive, data key, bundle, manifest, in one pass and constant memory.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use protected_bundle::{
    DataKey, ParallelSealer, archive,
    layout::{Delivery, Writer},
};
use protected_keys::{KeyService, WrappedKey};
use protected_model::{
    delivery::{
        ARTIFACT_TYPE, CONTENT, ContentIntegrity, DESCRIPTOR, DeliveryManifest, Descriptor, KEYS, Keys,
        MANIFEST as MANIFEST_TYPE, SealedBundle, WrappedDataKey, archive_bytes,
    },
    digest::Sha256,
    escrow::{POLICY, SUITE, WrappedBy},
    integrity::canonical,
    key_ref::KeyRef,
    name::{BundleId, CustomerSlug, PackageName, ProjectSlug, TenantId},
    time::whole_seconds,
    version::PackageVersion,
};

use super::{
    contents::{Contents, Stoppable},
    place::{BUNDLE, BUNDLE_TAR, Staging, broken},
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
    pub(crate) package_name: PackageName,
    pub(crate) version: PackageVersion,
    pub(crate) build_id: Option<String>,
    pub(crate) key_ref: KeyRef,
    /// Where the delivery appears.
    pub(crate) out: PathBuf,
    /// Where it is stored besides, as its manifest says it.
    pub(crate) uri: Option<String>,
    pub(crate) one_file: bool,
}

/// Seals the contents for one customer. The delivery appears whole, or not at all.
///
/// # Errors
/// When the key service does not wrap the data key, when a file is not the one that was listed, when nothing can be
/// written, and at a signal.
pub(crate) async fn seal(
    context: &Context,
    order: Order,
    contents: Contents,
    service: &dyn KeyService,
) -> Result<DeliveryManifest, CommandError> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| {
        CommandError::new(Kind::Failed, format!("sealing the delivery: {doing}: {error}"))
    };
    let archive_bytes = archive_bytes(&contents.files)
        .ok_or_else(|| CommandError::usage("what is to be delivered has too many bytes to count"))?;
    let descriptor = Descriptor {
        schema: DESCRIPTOR.to_owned(),
        suite: SUITE.to_owned(),
        bundle_id: order.bundle_id.clone(),
        tenant_id: order.tenant_id.clone(),
        project_slug: order.project_slug.clone(),
        customer_slug: order.customer_slug.clone(),
        package_name: order.package_name.clone(),
        version: order.version.clone(),
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
    let key_context = descriptor.key_context();
    let wrapped = context.cancel.or(service.wrap(&key, &key_context)).await?;
    let wrapped = wrapped.map_err(|error| key_service::failed("sealing the delivery", &error))?;
    let stop = context.cancel.shared_flag();
    let sealed = context::compute(move || {
        let staging = Staging::new(&order.out)?;
        let keys = Keys {
            schema: KEYS.to_owned(),
            descriptor_sha256: descriptor.sha256(),
            keys: vec![wrapped_data_key(&order.key_ref, wrapped.clone())],
        };
        let bundle = write(&staging, &descriptor, &keys, &contents, &key, &stop, order.one_file)?;
        let manifest = manifest(order, contents, descriptor, wrapped, bundle);
        manifest.check().map_err(|error| failed("its manifest", &error))?;
        if stop.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(CommandError::new(Kind::Failed, "stopped"));
        }
        staging.appear(&manifest)?;
        Ok(manifest)
    })
    .await;
    // What has appeared is told, also when the signal came then.
    if sealed.is_err() {
        context.cancel.check()?;
    }
    sealed
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
    staging: &Staging,
    descriptor: &Descriptor,
    keys: &Keys,
    contents: &Contents,
    key: &DataKey,
    stop: &Arc<AtomicBool>,
    one_file: bool,
) -> Result<SealedBundle, CommandError> {
    let place = staging.path().join(BUNDLE);
    let failed = |doing: &str, error: &dyn std::fmt::Display| {
        CommandError::new(Kind::Failed, format!("sealing the delivery: {doing}: {error}"))
    };
    let writer = Writer::new(&place).map_err(|error| broken(&place, &error))?;
    let file = writer.content().map_err(|error| broken(&place, &error))?;
    let mut sealer = ParallelSealer::new(key, &descriptor.binding(), file, threads())
        .map_err(|error| failed("the cipher", &error))?;
    let open = |path: &_| match contents.sources.get(path) {
        Some(source) => Ok(Stoppable { inner: fs::File::open(source)?, stop: Arc::clone(stop) }),
        None => Err(std::io::ErrorKind::NotFound.into()),
    };
    archive::pack(&descriptor.contents, open, &mut sealer).map_err(|error| failed("the archive", &error))?;
    let (file, whole) = sealer.finish().map_err(|error| failed("the cipher", &error))?;
    drop(file);
    let content = (Sha256::from_bytes(whole.sha256), whole.sealed_bytes);
    let written = writer.end(descriptor, keys, content).map_err(|error| broken(&place, &error))?;
    if one_file {
        to_one_file(&place, &staging.path().join(BUNDLE_TAR))?;
    }
    Ok(SealedBundle {
        media_type: ARTIFACT_TYPE.to_owned(),
        sha256: written.bundle.digest.0,
        size: written.content.size,
        uri: None,
    })
}

fn to_one_file(folder: &Path, tar: &Path) -> Result<(), CommandError> {
    let delivery = Delivery::open(folder).map_err(|error| broken(folder, &error))?;
    delivery.to_tar(tar).map_err(|error| broken(tar, &error))?;
    fs::remove_dir_all(folder).map_err(|error| {
        CommandError::new(Kind::Failed, format!("cannot remove `{}`: {error}", folder.display()))
    })
}

fn manifest(
    order: Order,
    contents: Contents,
    descriptor: Descriptor,
    wrapped: WrappedKey,
    bundle: SealedBundle,
) -> DeliveryManifest {
    let context = descriptor.key_context();
    DeliveryManifest {
        schema: MANIFEST_TYPE.to_owned(),
        bundle_id: order.bundle_id,
        tenant_id: order.tenant_id,
        project_slug: order.project_slug,
        customer_slug: order.customer_slug,
        package_name: order.package_name,
        version: order.version,
        build_id: order.build_id,
        protection: contents.protection,
        integrity: ContentIntegrity {
            sha256: Sha256::of(canonical(&descriptor.contents)),
            size: descriptor.archive_bytes,
        },
        bundle: SealedBundle { uri: order.uri, ..bundle },
        key_provider: WrappedBy {
            provider: order.key_ref.provider(),
            policy: POLICY.to_owned(),
            wrapped_key_sha256: Sha256::of(&wrapped.text),
            wrapped_key: wrapped.text,
            context,
        },
        key_ref: order.key_ref,
        contents: descriptor.contents,
        evidence: contents.evidence,
        created_at: descriptor.created_at,
        other: std::collections::BTreeMap::new(),
    }
}

/// Returns how many threads run the cipher.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
