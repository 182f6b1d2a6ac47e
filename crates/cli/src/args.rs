//! The command line, as clap reads it. Meaning is given to it in `settings`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protected_evidence::verify::Pattern;
use protected_model::{
    name::{DeliveryLabel, PackageName, ProjectSlug, TenantId},
    service_url::ServiceUrl,
    version::{DistTag, PackageVersion},
};
use serde::Deserialize;

const AFTER_HELP: &str = "\
Options can also be set in the environment, most in protected-registry.toml too; the flag wins, then the environment, \
then the file. --dry-run is PROTECTED_REGISTRY_DRY_RUN, and so on; --fractalops-url is FRACTALOPS_BASE_URL. An empty \
variable counts as unset. docs/configuration.md lists them all.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no CI identity, 4 refused, 5 unavailable (try again), \
6 the version exists or is on record with other content, 7 the package or its source is bad, \
8 verify found a difference or trace no delivery, 130 and 143 cancelled";

/// Publishes protected npm packages with the identity of a CI run
#[derive(Debug, Parser)]
#[command(name = "protected-registry", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Base URL of FractalOps
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) fractalops_url: Option<ServiceUrl>,
    /// Audience to ask the ID token for; the base URL of FractalOps when not given
    #[arg(long, global = true, value_name = "AUDIENCE")]
    pub(crate) audience: Option<String>,
    /// PEM file of certificate authorities to trust besides the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Configuration file; protected-registry.toml in the working directory or above when not given
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How results are written to standard output
    #[arg(long, global = true, value_enum)]
    pub(crate) format: Option<Format>,
    /// Say more on standard error; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document, for programs
    Json,
}

/// One variant for each file of `command/`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Publish(Publish),
    Install(Install),
    ProtectBuild(ProtectBuild),
    Deliver(Box<Deliver>),
    SubmitBundle(SubmitBundle),
    OpenBundle(OpenBundle),
    Rewrap(Rewrap),
    GrantDelivery(GrantDelivery),
    ListGrants(ListGrants),
    RevokeGrant(RevokeGrant),
    Verify(Box<Verify>),
    Trace(Trace),
    Token(Token),
    Revoke(Revoke),
    Doctor(Doctor),
    Retrace(Retrace),
    AttachEvidence(AttachEvidence),
    Completions(Completions),
}

/// Harden, pack and publish a package with a token that lives for minutes
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// Name that package.json must have
    pub(crate) package: Option<PackageName>,
    #[command(flatten)]
    pub(crate) build: Build,
    /// Publish this tarball as it is, instead of hardening a source folder
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "out", "profile", "escrow_key"])]
    pub(crate) tarball: Option<PathBuf>,
    /// Dist-tag to set; needed for a prerelease and for a version below `latest`
    #[arg(long)]
    pub(crate) tag: Option<DistTag>,
    /// What sends the tarball
    #[arg(long, value_enum, value_name = "CLIENT")]
    pub(crate) with: Option<PublishWith>,
    /// Exchange, build and let the server decide, but mint and publish nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What sends a tarball to the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PublishWith {
    /// This program: the token never enters a process that runs JavaScript
    #[default]
    Own,
    /// npm
    Npm,
    /// pnpm
    Pnpm,
    /// Refused: yarn cannot publish a given tarball
    Yarn,
}

/// What a hardened build takes.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Project in FractalOps that the package belongs to
    #[arg(long, value_name = "SLUG")]
    pub(crate) project: Option<ProjectSlug>,
    /// Folder of the package
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,
    /// Folder for the build; protected-build/<name>-<version> when not given
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// How far code is obfuscated
    #[arg(long, value_enum)]
    pub(crate) profile: Option<Profile>,
    /// Key to seal the source maps under, such as local-file://<name>; a private folder when not given
    #[arg(long, value_name = "KEY_REF")]
    pub(crate) escrow_key: Option<Unrepeated>,
    #[command(flatten)]
    pub(crate) sign: Sign,
}

/// How what is said about a build is signed.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// How statements about what is made are signed
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) sign: Option<SignMode>,
    /// Key to sign with, such as openbao://<mount>/<key>; the identity of the CI run when not given
    #[arg(long, value_name = "KEY_REF")]
    pub(crate) sign_key: Option<Unrepeated>,
}

/// How statements are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SignMode {
    /// By the authority that FractalOps advertises, and not at all if it has none
    Auto,
    /// With the identity of the CI run: the public Sigstore, or the services that are named
    Keyless,
    /// With a key of your own
    Key,
    /// Not at all
    Off,
}

impl SignMode {
    /// Returns the word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Keyless => "keyless",
            Self::Key => "key",
            Self::Off => "off",
        }
    }
}

/// How far code is obfuscated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// Names are shortened, and that is all
    Light,
    /// Strings and property names are encoded, and functions lose their shape
    #[default]
    Standard,
    /// What can be hidden is hidden, at a cost
    Strong,
}

/// A text that may be a key or a token pasted by mistake, so that nothing repeats it: neither clap nor the TOML parser,
/// which both quote what they refuse, get to judge it.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Unrepeated(pub(crate) String);

impl std::str::FromStr for Unrepeated {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Unrepeated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unrepeated")
    }
}

/// Install a package with a token that lives for fifteen minutes
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Package, with a version or dist-tag after `@` where one is wanted
    pub(crate) package: Option<String>,
    /// Project in FractalOps that the package belongs to
    #[arg(long, value_name = "SLUG")]
    pub(crate) project: Option<ProjectSlug>,
    /// Folder to install into; the working directory when not given
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Package manager; the one that the folder is kept by when not given
    #[arg(long, value_enum, value_name = "MANAGER")]
    pub(crate) with: Option<InstallWith>,
    /// Let packages run their install scripts, which can read the token's file while they run
    #[arg(long)]
    pub(crate) allow_scripts: bool,
}

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InstallWith {
    /// npm
    Npm,
    /// pnpm
    Pnpm,
    /// yarn 1
    Yarn,
    /// yarn 2 and later
    Berry,
}

impl InstallWith {
    /// Returns the name under which `protected_npm` lists it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn => "yarn",
            Self::Berry => "berry",
        }
    }
}

/// Harden and pack a package, and put the build on record
#[derive(Debug, Args)]
pub(crate) struct ProtectBuild {
    /// Name that package.json must have
    pub(crate) package: Option<PackageName>,
    #[command(flatten)]
    pub(crate) build: Build,
    /// Version that package.json must have
    #[arg(long)]
    pub(crate) version: Option<PackageVersion>,
    /// Build only: no identity is needed and FractalOps is not asked
    #[arg(long)]
    pub(crate) no_record: bool,
    /// Mark this copy as that of one delivery, such as acme-1.2.0; such a copy is not put on record
    #[arg(long, value_name = "DELIVERY")]
    pub(crate) mark: Option<DeliveryLabel>,
}

/// Seal a protected artifact for one customer, and put the delivery on record
#[derive(Debug, Args)]
pub(crate) struct Deliver {
    /// Package that is delivered; what the build says when not given
    pub(crate) package: Option<PackageName>,
    /// Project in FractalOps that the package belongs to
    #[arg(long, value_name = "SLUG")]
    pub(crate) project: Option<ProjectSlug>,
    /// Customer who gets it
    #[arg(long, value_name = "SLUG")]
    pub(crate) customer: Option<Unrepeated>,
    /// Version that is delivered; what the build says when not given
    #[arg(long)]
    pub(crate) version: Option<PackageVersion>,
    /// Build of protect-build, its tarball, or any file or folder; once for each
    #[arg(long, value_name = "PATH")]
    pub(crate) artifact: Vec<PathBuf>,
    /// Document or folder of documents besides those of the build; once for each
    #[arg(long, value_name = "PATH")]
    pub(crate) evidence: Vec<PathBuf>,
    /// Key to seal under, such as openbao://<mount>/<key>
    #[arg(long, value_name = "KEY_REF")]
    pub(crate) key_ref: Option<Unrepeated>,
    /// Delivery area to store it in: a folder, s3://, gs://, az:// or oci://
    #[arg(long, value_name = "AREA")]
    pub(crate) to: Option<Unrepeated>,
    /// Folder for the delivery; protected-delivery/<customer>/<name>-<version> when not given
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write the bundle as one tar file
    #[arg(long)]
    pub(crate) one_file: bool,
    /// Name of the delivery; a new one when not given
    #[arg(long, value_name = "ID")]
    pub(crate) bundle_id: Option<Unrepeated>,
    /// Seal only: no identity is needed and FractalOps is not asked
    #[arg(long)]
    pub(crate) no_submit: bool,
    /// Tenant in FractalOps whose project it is; what FractalOps says when not given
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<TenantId>,
    #[command(flatten)]
    pub(crate) sign: Sign,
}

/// Put a delivery on record that was sealed before
#[derive(Debug, Args)]
pub(crate) struct SubmitBundle {
    /// Manifest of the delivery
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<Unrepeated>,
}

/// Open a delivery with a granted key
#[derive(Debug, Args)]
pub(crate) struct OpenBundle {
    /// Folder of the delivery, its bundle (a folder or a tar file), its manifest, or where it lies: s3://, gs://, az://, oci://
    pub(crate) bundle: Option<Unrepeated>,
    /// Folder for its files; it must not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Key to open it with, where it is sealed for several; each is tried when not given
    #[arg(long, value_name = "KEY_REF")]
    pub(crate) key_ref: Option<Unrepeated>,
    #[command(flatten)]
    pub(crate) trust: Trust,
}

/// Who has to have signed, and whom to believe that.
#[derive(Clone, Debug, Args)]
pub(crate) struct Trust {
    /// Policy (TOML): who has to have signed, and what has to have been built
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Who has to have signed: the certificate's subject, in which * stands for anything
    #[arg(long, value_name = "PATTERN")]
    pub(crate) identity: Option<Pattern>,
    /// Issuer of the ID token that the signer had
    #[arg(long, value_name = "PATTERN")]
    pub(crate) issuer: Option<Pattern>,
    /// File or address of the authority's trusted_root.json; the public-good Sigstore when not given
    #[arg(long, value_name = "FILE|URL")]
    pub(crate) trusted_root: Option<String>,
    /// Public key (PEM) of who signs without an authority
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

/// Wrap the data key of a delivery anew, and leave what is sealed as it is
#[derive(Debug, Args)]
pub(crate) struct Rewrap {
    /// Folder of the delivery, its bundle, or where it lies: s3://, gs://, az://, oci://; once for each place where it lies
    pub(crate) bundle: Vec<Unrepeated>,
    /// Another key to wrap with; each key as it is now when not given
    #[arg(long, value_name = "KEY_REF")]
    pub(crate) key_ref: Option<Unrepeated>,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// Take keys as they are that nobody who is named signed, and sign for them where signing is asked for
    #[arg(long)]
    pub(crate) accept_unproven: bool,
    #[command(flatten)]
    pub(crate) sign: Sign,
}

/// Record that somebody may open a delivery, and tell the key service
#[derive(Debug, Args)]
pub(crate) struct GrantDelivery {
    /// Delivery
    #[arg(long, value_name = "ID")]
    pub(crate) bundle_id: Option<Unrepeated>,
    /// Customer that the delivery is for
    #[arg(long, value_name = "SLUG")]
    pub(crate) customer: Option<Unrepeated>,
    /// Who may open it, in the words of the key service: an entity, a role's ARN, a service account, an object id
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) grantee: Option<Unrepeated>,
    /// When it ends: a time, such as 2027-01-31T00:00:00Z, or how long it lasts, such as 30d
    #[arg(long, value_name = "TIME|DURATION")]
    pub(crate) expires: Option<String>,
    /// Have the key service let the grantee unwrap, and not only record it
    #[arg(long)]
    pub(crate) materialize_grant: bool,
    /// Key to grant on, where it is another than the one that the delivery is on record with
    #[arg(long, value_name = "KEY_REF")]
    pub(crate) key_ref: Option<Unrepeated>,
}

/// Show who may open a delivery: what FractalOps has on record beside what the key service has
#[derive(Debug, Args)]
pub(crate) struct ListGrants {
    /// Delivery
    #[arg(long, value_name = "ID")]
    pub(crate) bundle_id: Option<Unrepeated>,
    /// Key to ask for alone; each that the delivery is or was on record with when not given
    #[arg(long, value_name = "KEY_REF")]
    pub(crate) key_ref: Option<Unrepeated>,
}

/// Take a grant back, in the key service and on record
#[derive(Debug, Args)]
pub(crate) struct RevokeGrant {
    /// Delivery
    #[arg(long, value_name = "ID")]
    pub(crate) bundle_id: Option<Unrepeated>,
    /// Who may no longer open it
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) grantee: Option<Unrepeated>,
    /// Key to take it back on as well, where the record does not name it; what it does not have is then taken off the record
    #[arg(long, value_name = "KEY_REF")]
    pub(crate) key_ref: Option<Unrepeated>,
}

/// Check a package against its signed documents, its build manifest, or what its source gives when it is built again
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Tarball, the folder of a build, a delivery, or <name>@<version> in a registry
    pub(crate) artifact: Option<String>,
    /// Project in FractalOps that the package belongs to, where FractalOps names the registry
    #[arg(long, value_name = "SLUG")]
    pub(crate) project: Option<ProjectSlug>,
    /// Signed document (Sigstore bundle): those in evidence/ beside the tarball when not given, and of a delivery the one in it; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// Source repository that the provenance has to name
    #[arg(long, value_name = "PATTERN")]
    pub(crate) expect_source: Option<Pattern>,
    /// Builder that the provenance has to name
    #[arg(long, value_name = "PATTERN")]
    pub(crate) expect_builder: Option<Pattern>,
    /// Registry that has <name>@<version>; the one that FractalOps names in CI when not given
    #[arg(long, value_name = "URL")]
    pub(crate) registry: Option<ServiceUrl>,
    /// Keep what was fetched in this folder, to verify it again offline
    #[arg(long, value_name = "DIR")]
    pub(crate) download: Option<PathBuf>,
    /// Fetch nothing
    #[arg(long)]
    pub(crate) offline: bool,
    /// Write a verification summary (in-toto statement, SLSA VSA) here; signed where --sign or --sign-key says by whom
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sign: Sign,
    /// Folder of the source: build it again and compare every file
    #[arg(long, value_name = "DIR")]
    pub(crate) rebuild: Option<PathBuf>,
    /// Build manifest, whose settings the source is built with; the one in evidence/ beside the tarball when not given
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Delivery that the copy is marked for; what delivery.json beside the tarball says when not given
    #[arg(long, value_name = "DELIVERY")]
    pub(crate) mark: Option<DeliveryLabel>,
}

/// Name the delivery that a leaked file came from
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// Leaked files, whole or in pieces, and folders of them
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Delivery that may have leaked; may be given more than once
    #[arg(long, value_name = "DELIVERY")]
    pub(crate) delivery: Vec<DeliveryLabel>,
    /// File of deliveries that may have leaked, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) deliveries: Option<PathBuf>,
    /// Folder of marked builds that may have leaked; protected-build when no delivery is named
    #[arg(long, value_name = "DIR")]
    pub(crate) builds: Option<PathBuf>,
}

/// Exchange the CI identity for an npm token and write it to a private .npmrc
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// Package that the token is for
    pub(crate) package: Option<PackageName>,
    /// Project in FractalOps that the package belongs to
    #[arg(long, value_name = "SLUG")]
    pub(crate) project: Option<ProjectSlug>,
    /// What the token is for
    #[arg(long, value_enum)]
    pub(crate) action: Option<TokenAction>,
    /// File to write; it must not exist and is only readable by you
    #[arg(long, value_name = "FILE")]
    pub(crate) npmrc: Option<PathBuf>,
    /// Exchange and let the server decide, but mint nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenAction {
    /// Read the package
    #[default]
    Install,
    /// Add a version
    Publish,
}

/// Revoke the token of a .npmrc that `token` wrote, and delete the file
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// File that `token` wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) npmrc: Option<PathBuf>,
}

/// Check, without publishing anything, whether a publish from here can work
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Project in FractalOps that the package belongs to
    #[arg(long, value_name = "SLUG")]
    pub(crate) project: Option<ProjectSlug>,
    /// Folder of the package
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,
}

/// Turn stack traces of a hardened package into source files, lines and names
#[derive(Debug, Args)]
pub(crate) struct Retrace {
    /// File with the stack traces; standard input when not given
    #[arg(value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Build, private folder or sealed escrow to read with, once for each; the builds in protected-build when not given
    #[arg(long, value_name = "PATH")]
    pub(crate) escrow: Vec<PathBuf>,
    /// Delivered file, so that its source map is chosen by its content; once for each
    #[arg(long, value_name = "FILE")]
    pub(crate) delivered: Vec<PathBuf>,
    /// Package to read with, and its version after `@`, where there are builds of several
    #[arg(long)]
    pub(crate) package: Option<String>,
}

/// Keep documents about a version in FractalOps
#[derive(Debug, Args)]
pub(crate) struct AttachEvidence {
    /// Package and version, such as @acme/core@1.2.3
    #[arg(long, value_name = "NAME@VERSION")]
    pub(crate) package: Option<String>,
    /// Document to attach; once for each
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) file: Vec<PathBuf>,
    /// What the documents are; told by their content when not given
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) r#type: Option<EvidenceType>,
    /// Project in FractalOps that the package belongs to
    #[arg(long, value_name = "SLUG")]
    pub(crate) project: Option<ProjectSlug>,
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EvidenceType {
    /// Software bill of materials: CycloneDX or SPDX, JSON
    Sbom,
    /// in-toto statement with SLSA provenance
    Provenance,
    /// in-toto statement with a verification summary
    Vsa,
    /// Sigstore bundle
    SigstoreBundle,
    /// Integrity manifest of a build
    IntegrityManifest,
    /// Build manifest
    ProtectedBuild,
    /// Checksums of native installers
    NativeArtifacts,
}

/// Write a completion script for a shell to standard output
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}
