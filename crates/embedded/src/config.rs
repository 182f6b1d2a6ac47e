//! The configuration: one commented TOML file, checked as a whole before anything starts.

mod check;
mod oci;
mod wrong;

pub(crate) use check::{PLATFORMS, platform_name};
pub(crate) use oci::{Customer, Licence, Oci, Plan};

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use protected_model::{
    action::{Action, ArtifactPolicy},
    api::entitlement::PackageStatus,
    claims::{INSTALL_SECONDS, PUBLISH_SECONDS, SESSION_SECONDS},
    digest::Sha256,
    identity::{PlatformKind, RunIdentity},
    integrity::canonical,
    name::{EntitlementSnapshotId, PackageName, PackageScope, ProjectSlug, TenantId},
    service_url::ServiceUrl,
};
use protected_trust::policy::TrustedPublisher;
use serde::{Deserialize, Serialize};
use toml::Spanned;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("cannot read the configuration {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What stands in it.
    #[error("the configuration is refused at line {line}: {message}")]
    Refused {
        /// Counted from 1.
        line: usize,
        /// The key, and what is wrong with it.
        message: String,
    },
}

/// Everything that the service is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens, what it is called, where its data is.
    pub server: Server,
    /// What it takes.
    pub limits: Limits,
    /// How long evidence is kept.
    pub evidence: Evidence,
    pub(crate) tenants: BTreeSet<TenantId>,
    pub(crate) projects: BTreeSet<(TenantId, ProjectSlug)>,
    /// The projects whose versions need a provenance.
    pub(crate) require_provenance: BTreeSet<(TenantId, ProjectSlug)>,
    /// Whom provenance is believed.
    pub(crate) provenance: Provenance,
    pub(crate) repositories: BTreeMap<String, Repository>,
    pub(crate) packages: BTreeMap<PackageKey, Package>,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) publishers: Vec<TrustedPublisher>,
    pub(crate) entitlements: Vec<Entitlement>,
    pub(crate) local_issuer: Option<LocalIssuer>,
    pub(crate) sigstore: Sigstore,
    pub(crate) customers: Vec<Customer>,
    pub(crate) oci: Option<Oci>,
}

/// Where the service listens, what it is called, where its data is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The URL that clients use; `http://<listen>` when absent, which needs a loopback address.
    pub public_url: Option<ServiceUrl>,
    /// The data folder.
    pub data: PathBuf,
    /// Certificate authorities (PEM) to trust besides the system's when issuers are asked for their keys.
    pub ca_file: Option<PathBuf>,
    /// The proxy through which issuers are asked.
    pub https_proxy: Option<String>,
    /// The hosts that are asked without it, as in `NO_PROXY`.
    pub no_proxy: Option<String>,
}

/// What the service takes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest upload.
    pub body_bytes: u64,
    /// Open connections.
    pub connections: usize,
    /// Open connections of one address.
    pub connections_per_client: usize,
    /// Life of a CI session token.
    pub session_seconds: u64,
    /// Life of a token that may only install.
    pub install_seconds: u64,
    /// Life of a token that may publish.
    pub publish_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024 * 1024,
            connections: 1024,
            connections_per_client: 256,
            session_seconds: SESSION_SECONDS,
            install_seconds: INSTALL_SECONDS,
            publish_seconds: PUBLISH_SECONDS,
        }
    }
}

/// Whom provenance is believed, beside the authority of this service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provenance {
    /// What stock npm trusts, where that is another Sigstore than the public-good instance.
    #[serde(default)]
    pub(crate) npm_trusted_root: Option<PathBuf>,
    /// A further instance of Sigstore.
    #[serde(default)]
    pub(crate) trusted_root: Option<PathBuf>,
}

/// How long evidence is kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Days for which a document is kept that belongs to no published version; for good when absent.
    #[serde(default)]
    pub retention_days: Option<u32>,
}

impl Evidence {
    /// Returns since when a document of no published version must be on record to be kept; `None` when all are.
    pub(crate) fn oldest(&self, now: Timestamp) -> Option<Timestamp> {
        let days = self.retention_days?;
        let kept = SignedDuration::from_hours(i64::from(days) * 24);
        Some(now.checked_sub(kept).unwrap_or(Timestamp::MIN))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenant {
    id: TenantId,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Project {
    tenant: TenantId,
    slug: ProjectSlug,
    /// Whether a version needs a provenance that verifies before it is published.
    #[serde(default)]
    require_provenance: bool,
}

/// An npm repository, served below `/repository/<name>/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Repository {
    /// The last part of its URL.
    pub(crate) name: String,
    /// Whose it is.
    pub(crate) tenant: TenantId,
    /// Packages of these scopes may be in it.
    #[serde(default)]
    pub(crate) scopes: Vec<PackageScope>,
    /// Packages of these names may be in it.
    #[serde(default)]
    pub(crate) packages: Vec<PackageName>,
    /// Whether a version may be taken back.
    #[serde(default)]
    pub(crate) allow_unpublish: bool,
}

impl Repository {
    /// Returns whether a package of this name may be in it: by its exact scope or its exact name.
    pub(crate) fn takes(&self, package: &PackageName) -> bool {
        self.packages.contains(package)
            || (!package.scope().is_empty() && self.scopes.contains(&package.scope()))
    }
}

/// A package and who may do what with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: PackageName,
    /// The project of the repository's tenant that it belongs to.
    pub(crate) project: ProjectSlug,
    /// The repository it is in.
    pub(crate) repository: String,
    /// Whether it is in use.
    #[serde(default)]
    pub(crate) status: PackageStatus,
    /// Whether it can still be installed when archived.
    #[serde(default)]
    pub(crate) archived_install: ArchivedInstall,
    /// What an artifact must be before it may be published.
    #[serde(default)]
    pub(crate) artifact_policy: Vec<ArtifactPolicy>,
    /// Ids of the trusted publishers and entitlements that may install. Absent: no policy, so nobody.
    #[serde(default)]
    pub(crate) install: Option<Vec<String>>,
    /// Ids of the trusted publishers and entitlements that may publish. Absent: no policy, so nobody.
    #[serde(default)]
    pub(crate) publish: Option<Vec<String>>,
}

impl Package {
    /// Returns who may do `action`, or `None` when nothing says so.
    pub(crate) fn policy(&self, action: Action) -> Option<&[String]> {
        match action {
            Action::Install => self.install.as_deref(),
            Action::Publish => self.publish.as_deref(),
        }
    }
}

/// Whether an archived package can still be installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ArchivedInstall {
    /// No.
    #[default]
    Deny,
    /// By whoever could before.
    Allow,
}

/// An issuer of ID tokens that is believed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issuer {
    /// Exactly `iss`; `local:<platform>` for the local issuer.
    pub(crate) url: String,
    /// What its claims mean.
    pub(crate) platform: PlatformKind,
    /// Its keys, when they cannot be discovered.
    #[serde(default)]
    pub(crate) jwks_url: Option<ServiceUrl>,
    /// Whether its tokens are those of people, who send them to the API as they are.
    #[serde(default)]
    pub(crate) people: bool,
    /// The oldest ID token taken.
    #[serde(default = "max_age_seconds")]
    pub(crate) max_age_seconds: u64,
}

fn max_age_seconds() -> u64 {
    protected_trust::issuer::MAX_AGE_SECONDS
}

/// What a person may do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entitlement {
    /// What packages call it.
    pub(crate) id: String,
    /// The person's tenant.
    pub(crate) tenant_id: TenantId,
    /// The project.
    pub(crate) project_slug: ProjectSlug,
    /// The issuer of the person's tokens.
    pub(crate) issuer: String,
    /// The person, by `sub`.
    #[serde(default)]
    pub(crate) sub: Option<String>,
    /// Or the persons of a group, by one of `groups`.
    #[serde(default)]
    pub(crate) group: Option<String>,
    /// The packages, by exact name.
    pub(crate) packages: Vec<PackageName>,
    /// What they may do.
    pub(crate) actions: Vec<Action>,
    /// `maintainer` may publish by hand.
    #[serde(default)]
    pub(crate) role: Role,
}

impl Entitlement {
    /// Returns whose it is.
    pub(crate) fn people(&self) -> People<'_> {
        People { issuer: &self.issuer, sub: self.sub.as_deref(), group: self.group.as_deref() }
    }
}

/// Persons of an issuer: one by `sub`, or those of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct People<'a> {
    issuer: &'a str,
    sub: Option<&'a str>,
    group: Option<&'a str>,
}

impl People<'_> {
    /// Returns whether this person is one of them.
    pub(crate) fn include(&self, identity: &RunIdentity, groups: &[String]) -> bool {
        self.issuer == identity.issuer
            && match (self.sub, self.group) {
                (Some(sub), None) => sub == identity.subject,
                (None, Some(group)) => groups.iter().any(|it| it == group),
                _ => false,
            }
    }
}

/// What a person is to a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Installs.
    #[default]
    Member,
    /// May also publish by hand.
    Maintainer,
}

/// The issuer that imitates CI platforms on this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalIssuer {
    /// Whether it is there at all.
    pub(crate) enabled: bool,
    /// The runs that can ask it for ID tokens.
    #[serde(default, rename = "run")]
    pub(crate) runs: Vec<LocalRun>,
}

/// A run that can ask the local issuer for ID tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalRun {
    /// The last part of its URL.
    pub(crate) name: String,
    /// Whose tokens to imitate.
    pub(crate) platform: PlatformKind,
    /// What they say, beside the times, the issuer and the audience.
    pub(crate) claims: serde_json::Map<String, serde_json::Value>,
}

/// The private Sigstore.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sigstore {
    /// Whether it is there at all.
    pub(crate) enabled: bool,
    /// Keys, beside its own certificates, whose signatures its log takes: PEM.
    pub(crate) public_keys: Vec<String>,
    /// The same in DER.
    #[serde(skip)]
    pub(crate) keys: Vec<Vec<u8>>,
}

impl Default for Sigstore {
    fn default() -> Self {
        Self { enabled: true, public_keys: Vec::new(), keys: Vec::new() }
    }
}

/// The file as it stands, each entry with its place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Spanned<Server>,
    #[serde(default)]
    limits: Option<Spanned<Limits>>,
    #[serde(default)]
    evidence: Option<Spanned<Evidence>>,
    #[serde(default)]
    provenance: Provenance,
    #[serde(default)]
    tenant: Vec<Spanned<Tenant>>,
    #[serde(default)]
    project: Vec<Spanned<Project>>,
    #[serde(default)]
    repository: Vec<Spanned<Repository>>,
    #[serde(default)]
    package: Vec<Spanned<Package>>,
    #[serde(default)]
    issuer: Vec<Spanned<Issuer>>,
    #[serde(default)]
    trusted_publisher: Vec<Spanned<TrustedPublisher>>,
    #[serde(default)]
    entitlement: Vec<Spanned<Entitlement>>,
    #[serde(default)]
    local_issuer: Option<Spanned<LocalIssuer>>,
    #[serde(default)]
    sigstore: Option<Spanned<Sigstore>>,
    #[serde(default)]
    customer: Vec<Spanned<Customer>>,
    #[serde(default)]
    oci: Option<Spanned<Oci>>,
    #[serde(default)]
    oci_plan: Vec<Spanned<Plan>>,
    #[serde(default)]
    oci_licence: Vec<Spanned<Licence>>,
}

/// A package is known by its tenant and its name.
type PackageKey = (TenantId, PackageName);

impl Config {
    /// Reads and checks a file. Its relative paths are relative to its folder.
    ///
    /// # Errors
    /// When it cannot be read, or says something that cannot be meant.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        let mut config = Self::parse(&text)?;
        if let Some(folder) = path.parent() {
            config.server.data = folder.join(&config.server.data);
            config.server.ca_file = config.server.ca_file.map(|file| folder.join(file));
            let provenance = &mut config.provenance;
            for root in [&mut provenance.npm_trusted_root, &mut provenance.trusted_root].into_iter().flatten()
            {
                *root = folder.join(&*root);
            }
        }
        Ok(config)
    }

    /// Checks a configuration.
    ///
    /// # Errors
    /// When it says something that cannot be meant; with the line.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let line =
            |offset: usize| text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1;
        let file: File = toml::from_str(text).map_err(|error| ConfigError::Refused {
            line: line(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        check::check(file)
            .map_err(|wrong| ConfigError::Refused { line: line(wrong.at), message: wrong.message })
    }

    /// Returns a commented configuration that works as it is.
    pub fn example() -> &'static str {
        include_str!("../example.toml")
    }

    /// Puts the local issuer's URLs, which are known once the service listens, where the configuration says
    /// `local:<platform>`.
    pub(crate) fn resolve_local(&mut self, public_url: &ServiceUrl) {
        let resolve = |url: &mut String| {
            let local = PLATFORMS
                .iter()
                .find(|platform| *url == format!("{}{}", check::LOCAL, platform_name(**platform)));
            if let Some(platform) = local {
                *url = issuer_url(public_url, *platform);
            }
        };
        self.issuers.iter_mut().for_each(|it| resolve(&mut it.url));
        self.publishers.iter_mut().for_each(|it| resolve(&mut it.issuer));
        self.entitlements.iter_mut().for_each(|it| resolve(&mut it.issuer));
        self.customers.iter_mut().for_each(|it| resolve(&mut it.issuer));
    }

    /// Returns a repository by its name.
    pub(crate) fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.get(name)
    }

    /// Returns whether a project's versions need a provenance.
    pub(crate) fn requires_provenance(&self, tenant: &TenantId, project: &ProjectSlug) -> bool {
        self.require_provenance.contains(&(tenant.clone(), project.clone()))
    }

    /// Returns a tenant's package by its exact name.
    pub(crate) fn package(&self, tenant: &TenantId, name: &PackageName) -> Option<&Package> {
        self.packages.get(&(tenant.clone(), name.clone()))
    }

    /// Returns a project's packages in the order of their names.
    pub(crate) fn packages_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        project: &'a ProjectSlug,
    ) -> impl Iterator<Item = &'a Package> {
        let own = move |((owner, _), package): &(&PackageKey, &Package)| {
            owner == tenant && package.project == *project
        };
        self.packages.iter().filter(own).map(|(_, package)| package)
    }

    /// Returns the digest of everything that decides who may do what in a project.
    pub(crate) fn snapshot(&self, tenant: &TenantId, project: &ProjectSlug) -> EntitlementSnapshotId {
        #[derive(Serialize)]
        struct Decisive<'a> {
            tenant: &'a TenantId,
            project: &'a ProjectSlug,
            packages: Vec<&'a Package>,
            publishers: Vec<&'a TrustedPublisher>,
            entitlements: Vec<&'a Entitlement>,
            issuers: &'a [Issuer],
        }
        let publishers =
            self.publishers.iter().filter(|it| it.tenant_id == *tenant && it.project_slug == *project);
        let entitlements =
            self.entitlements.iter().filter(|it| it.tenant_id == *tenant && it.project_slug == *project);
        let digest = Sha256::of(canonical(&Decisive {
            tenant,
            project,
            packages: self.packages_of(tenant, project).collect(),
            publishers: publishers.collect(),
            entitlements: entitlements.collect(),
            issuers: &self.issuers,
        }));
        // Letters and digits alone, so it always is an identifier.
        format!("snap-{}", &digest.to_string()[..32])
            .parse()
            .unwrap_or_else(|_| unreachable!("an identifier"))
    }
}

/// Returns the `iss` of an imitated platform.
pub(crate) fn issuer_url(public_url: &ServiceUrl, platform: PlatformKind) -> String {
    public_url.join(&format!("local-issuer/{}", platform_name(platform))).to_string()
}
