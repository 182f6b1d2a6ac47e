//! What is said of a sealed delivery: which one a bundle is, and that these are its keys.
//!
//! Both statements name what anybody can see who has the sealed bytes, and neither a key nor a host.

use jiff::Timestamp;
use protected_model::{
    delivery::{DELIVERY_STATEMENT, DeliveryManifest, Descriptor, KEYS_STATEMENT},
    digest::Sha256,
    name::{BundleId, CustomerSlug, PackageName, ProjectSlug, TenantId},
    version::PackageVersion,
};
use serde::{Deserialize, Serialize};

use crate::statement::{DigestSet, Statement, Subject};

/// The predicate of the statement over a bundle, whose subject is the bundle's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The delivery.
    pub bundle_id: BundleId,
    /// Whose project it is.
    pub tenant_id: TenantId,
    /// The project.
    pub project_slug: ProjectSlug,
    /// Who gets it.
    pub customer_slug: CustomerSlug,
    /// The package.
    pub package_name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// When it was sealed.
    pub created_at: Timestamp,
    /// Digest of the descriptor, which lists the files.
    pub descriptor_sha256: Sha256,
    /// The build that is in it, as FractalOps has it on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
}

impl Delivered {
    /// Says what the manifest of a delivery says, where that is whole: it names its descriptor by digest.
    pub fn of_manifest(manifest: &DeliveryManifest) -> Option<Self> {
        Some(Self {
            bundle_id: manifest.bundle_id.clone(),
            tenant_id: manifest.tenant_id.clone(),
            project_slug: manifest.project_slug.clone(),
            customer_slug: manifest.customer_slug.clone(),
            package_name: manifest.package_name.clone(),
            version: manifest.version.clone(),
            created_at: manifest.created_at,
            descriptor_sha256: manifest.key_provider.context.get("descriptor_sha256")?.parse().ok()?,
            build_id: manifest.build_id.clone(),
        })
    }

    /// Says what a descriptor says, and which build is in it.
    pub fn of(descriptor: &Descriptor, build_id: Option<String>) -> Self {
        Self {
            bundle_id: descriptor.bundle_id.clone(),
            tenant_id: descriptor.tenant_id.clone(),
            project_slug: descriptor.project_slug.clone(),
            customer_slug: descriptor.customer_slug.clone(),
            package_name: descriptor.package_name.clone(),
            version: descriptor.version.clone(),
            created_at: descriptor.created_at,
            descriptor_sha256: descriptor.sha256(),
            build_id,
        }
    }
}

/// The predicate of the statement over the keys of a delivery, whose subject is the manifest of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrapped {
    /// The delivery.
    pub bundle_id: BundleId,
    /// Digest of the bundle's manifest.
    pub bundle_sha256: Sha256,
    /// When its data key was wrapped so.
    pub wrapped_at: Timestamp,
}

/// Names an artifact of a delivery: by the delivery, and by the digest of its manifest.
pub fn artifact(descriptor: &Descriptor, manifest: &Sha256) -> Subject {
    subject(&descriptor.bundle_id, manifest)
}

pub(crate) fn subject(bundle_id: &BundleId, manifest: &Sha256) -> Subject {
    Subject {
        name: bundle_id.to_string(),
        digest: DigestSet::from([("sha256".to_owned(), manifest.to_string())]),
    }
}

/// Says which delivery the bundle with this manifest is.
pub fn delivered(descriptor: &Descriptor, bundle: &Sha256, build_id: Option<String>) -> Statement<Delivered> {
    Statement::new(artifact(descriptor, bundle), DELIVERY_STATEMENT, Delivered::of(descriptor, build_id))
}

/// Says that the keys with this manifest are those of the bundle with that one.
pub fn wrapped(
    descriptor: &Descriptor,
    bundle: &Sha256,
    keys: &Sha256,
    wrapped_at: Timestamp,
) -> Statement<Wrapped> {
    let bundle_id = descriptor.bundle_id.clone();
    let predicate = Wrapped { bundle_id, bundle_sha256: *bundle, wrapped_at };
    Statement::new(artifact(descriptor, keys), KEYS_STATEMENT, predicate)
}
