//! What `protected-registry.toml` may say: the one description of it, of which the published schema is made.

use std::{collections::BTreeSet, path::PathBuf};

use protected_evidence::sign::LogVersion;
use protected_model::{
    key_ref::KeyRef,
    name::{CustomerSlug, PackageName, ProjectSlug},
    service_url::ServiceUrl,
    version::DistTag,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::args::{InstallWith, Profile, PublishWith, SignMode, Unrepeated};

/// The configuration file's name.
pub(crate) const FILE_NAME: &str = "protected-registry.toml";

/// `protected-registry.toml`: what a repository says about its packages, so that CI need not repeat it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "protected-registry.toml")]
pub(crate) struct ConfigFile {
    /// Project in FractalOps that the packages belong to.
    pub(crate) project: Option<ProjectSlug>,
    /// Where FractalOps is, and how it is reached.
    #[serde(default)]
    pub(crate) fractalops: FractalOpsSection,
    /// How packages are published.
    #[serde(default)]
    pub(crate) publish: PublishSection,
    /// How packages are installed.
    #[serde(default)]
    pub(crate) install: InstallSection,
    /// How packages are sealed for customers.
    #[serde(default)]
    pub(crate) deliver: DeliverSection,
    /// How packages are hardened.
    #[serde(default)]
    pub(crate) harden: HardenSection,
    /// How the SBOM is written.
    #[serde(default)]
    pub(crate) sbom: SbomSection,
    /// How statements about packages are signed.
    #[serde(default)]
    pub(crate) sign: SignSection,
}

/// `[fractalops]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FractalOpsSection {
    /// Base URL: https, or http on a loopback address.
    pub(crate) url: Option<ServiceUrl>,
    /// PEM file of certificate authorities to trust besides the system's, relative to this file.
    pub(crate) ca_file: Option<PathBuf>,
}

/// `[publish]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishSection {
    /// Package that is published when the command line names none.
    pub(crate) package: Option<PackageName>,
    /// Folder of the package, relative to this file.
    pub(crate) source: Option<PathBuf>,
    /// Folder for the build, relative to this file.
    pub(crate) out: Option<PathBuf>,
    /// Dist-tag to set.
    pub(crate) tag: Option<DistTag>,
    /// What sends the tarball.
    pub(crate) with: Option<PublishWith>,
}

/// `[install]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstallSection {
    /// Package manager.
    pub(crate) with: Option<InstallWith>,
}

/// `[deliver]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliverSection {
    /// Customer who gets deliveries when the command line names none.
    pub(crate) customer: Option<CustomerSlug>,
    /// Key to seal under, such as `openbao://<mount>/<key>`.
    #[schemars(with = "Option<KeyRef>")]
    pub(crate) key_ref: Option<Unrepeated>,
    /// Delivery area to store deliveries in: a folder, relative to this file, or `s3://`, `gs://`, `az://`, `oci://`.
    #[schemars(with = "Option<String>")]
    pub(crate) to: Option<Unrepeated>,
    /// Folder for the delivery, relative to this file.
    pub(crate) out: Option<PathBuf>,
}

/// `[harden]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HardenSection {
    /// Keep the names of functions and classes, for code that reads them at run time.
    #[serde(default)]
    pub(crate) keep_names: bool,
    /// What becomes of licence comments: moved to LEGAL.txt unless told otherwise.
    pub(crate) legal_comments: Option<LegalComments>,
    /// How far code is obfuscated: standard unless told otherwise.
    pub(crate) profile: Option<Profile>,
    /// Merge internal modules into the entry points that package.json names.
    #[serde(default)]
    pub(crate) bundle: bool,
    /// What of the declaration files is published: everything unless told otherwise.
    pub(crate) declarations: Option<Declarations>,
    /// Files that are obfuscated further or less far than the rest. The last one that names a file counts.
    #[serde(default, rename = "override")]
    pub(crate) overrides: Vec<Override>,
    /// Names of properties, functions and variables that stay as they are wherever they stand.
    #[serde(default)]
    pub(crate) reserved_names: BTreeSet<String>,
    /// Make code that was changed afterwards refuse to run.
    #[serde(default)]
    pub(crate) self_defence: bool,
    /// CPU profile of V8 (.cpuprofile), relative to this file: the functions that took nine tenths of the package's
    /// time in it are kept out of the steps that cost time.
    pub(crate) cpu_profile: Option<PathBuf>,
    /// Fail when a file would be published less protected than configured: in CI unless told otherwise.
    pub(crate) fail_unprotected: Option<bool>,
    /// Paths in the built package that may be published less protected than configured, as in an override's `files`.
    #[serde(default)]
    pub(crate) allow_unprotected: Vec<String>,
    /// Key to seal the source maps under, such as `local-file://<name>`: a reference, never a key.
    #[schemars(with = "Option<KeyRef>")]
    pub(crate) escrow_key: Option<Unrepeated>,
}

/// What becomes of licence comments.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LegalComments {
    /// They stay where they are.
    Keep,
    /// They move to `LEGAL.txt`.
    File,
    /// They are dropped.
    Remove,
}

/// What of a package's declaration files is published.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Declarations {
    /// Everything, as it is.
    Keep,
    /// What users of the entry points see.
    Public,
}

/// `[[harden.override]]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Override {
    /// Paths in the package, in which `*` stands for anything but `/` and `**` for anything.
    pub(crate) files: Vec<String>,
    /// How far they are obfuscated.
    pub(crate) profile: Profile,
}

/// `[sbom]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SbomSection {
    /// Version of CycloneDX that the SBOM is written in.
    pub(crate) cyclonedx: Option<CyclonedxVersion>,
}

/// A version of CycloneDX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum CyclonedxVersion {
    #[default]
    #[serde(rename = "1.6")]
    V1_6,
    #[serde(rename = "1.7")]
    V1_7,
}

/// `[sign]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignSection {
    /// How statements are signed; `auto` when not given, or what the other keys say.
    pub(crate) mode: Option<SignMode>,
    /// Base URL of a certificate authority (Fulcio) of your own.
    pub(crate) fulcio_url: Option<ServiceUrl>,
    /// Base URL of a transparency log (Rekor) of your own.
    pub(crate) rekor_url: Option<ServiceUrl>,
    /// What the log speaks: 1 or 2.
    #[schemars(range(min = 1, max = 2))]
    #[schemars(with = "Option<u8>")]
    pub(crate) rekor_version: Option<LogVersion>,
    /// Endpoint of a timestamp authority (RFC 3161) of your own.
    pub(crate) timestamp_url: Option<ServiceUrl>,
    /// File of what verifies their signatures (trusted_root.json), relative to this file.
    pub(crate) trusted_root: Option<PathBuf>,
    /// Key to sign with instead of an identity, such as `openbao://transit/release`.
    #[schemars(with = "Option<KeyRef>")]
    pub(crate) key: Option<Unrepeated>,
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_published_schema_is_that_of_the_code() {
        let published =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema/protected-registry.schema.json");
        let mut schema = serde_json::to_string_pretty(&schemars::schema_for!(ConfigFile)).expect("schema");
        schema.push('\n');
        if fs::read_to_string(&published).unwrap_or_default() != schema {
            let now = std::env::temp_dir().join("protected-registry.schema.json");
            fs::write(&now, schema).expect("write");
            panic!("the schema has changed: cp {} {}", now.display(), published.display());
        }
    }
}
