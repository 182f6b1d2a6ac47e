//! What the parser cannot see: references that lead nowhere, names given twice, settings that contradict.

use std::collections::{BTreeMap, BTreeSet};

use protected_model::{
    action::Action,
    claims::{INSTALL_SECONDS, PUBLISH_SECONDS, SESSION_SECONDS},
    identity::PlatformKind,
    name::{PackageName, ProjectSlug, TenantId},
    service_url::ServiceUrl,
};
use protected_trust::policy::TrustedPublisher;
use toml::Spanned;
use url::Host;

use super::{
    Config, Customer, Entitlement, File, Issuer, Limits, LocalIssuer, Package, People, Project, Repository,
    Server, Sigstore,
    oci::{self, Tables},
    wrong::{Checked, wrong},
};
use crate::x509::PublicKey;

/// The prefix of an issuer's URL that means the local issuer.
pub(super) const LOCAL: &str = "local:";

/// Every platform whose tokens are understood.
pub(crate) const PLATFORMS: &[PlatformKind] =
    &[PlatformKind::GithubActions, PlatformKind::GitlabCi, PlatformKind::Jenkins, PlatformKind::Generic];

fn values<T>(entries: Vec<Spanned<T>>) -> Vec<T> {
    entries.into_iter().map(Spanned::into_inner).collect()
}

pub(super) fn check(file: File) -> Checked<Config> {
    server(&file.server)?;
    if let Some(limits) = &file.limits {
        check_limits(limits)?;
    }
    if let Some(evidence) = &file.evidence
        && evidence.get_ref().retention_days == Some(0)
    {
        return wrong(
            evidence,
            "[evidence] retention_days = 0: expected at least 1, or nothing to keep everything",
        );
    }
    let mut tenants = BTreeSet::new();
    for entry in &file.tenant {
        let id = &entry.get_ref().id;
        if !tenants.insert(id.clone()) {
            return wrong(entry, format!("[[tenant]] id `{id}` is there twice"));
        }
    }
    let mut projects = BTreeSet::new();
    let mut require_provenance = BTreeSet::new();
    for entry in &file.project {
        let Project { tenant, slug, require_provenance: requires } = entry.get_ref();
        if !tenants.contains(tenant) {
            return wrong(entry, format!("[[project]] `{slug}`: tenant `{tenant}` is no [[tenant]]"));
        }
        if !projects.insert((tenant.clone(), slug.clone())) {
            return wrong(entry, format!("[[project]] `{slug}` of tenant `{tenant}` is there twice"));
        }
        if *requires {
            require_provenance.insert((tenant.clone(), slug.clone()));
        }
    }
    let mut config = Config {
        server: file.server.into_inner(),
        limits: file.limits.map(Spanned::into_inner).unwrap_or_default(),
        evidence: file.evidence.map(Spanned::into_inner).unwrap_or_default(),
        tenants,
        projects,
        require_provenance,
        provenance: file.provenance,
        repositories: BTreeMap::new(),
        packages: BTreeMap::new(),
        issuers: Vec::new(),
        publishers: Vec::new(),
        entitlements: Vec::new(),
        local_issuer: None,
        sigstore: file.sigstore.map(sigstore).transpose()?.unwrap_or_default(),
        customers: Vec::new(),
        oci: None,
    };
    for entry in file.repository {
        repository(&config, &entry)?;
        let repository = entry.into_inner();
        config.repositories.insert(repository.name.clone(), repository);
    }
    if let Some(entry) = file.local_issuer {
        local_issuer(&entry, config.server.public_url.as_ref())?;
        config.local_issuer = Some(entry.into_inner()).filter(|issuer| issuer.enabled);
    }
    for entry in &file.issuer {
        issuer(&config, entry)?;
        config.issuers.push(entry.get_ref().clone());
    }
    let mut ids = BTreeSet::new();
    for entry in &file.trusted_publisher {
        publisher(&config, entry)?;
        unique(&mut ids, entry, &entry.get_ref().id)?;
    }
    for entry in &file.entitlement {
        entitlement(&config, entry)?;
        unique(&mut ids, entry, &entry.get_ref().id)?;
    }
    for entry in &file.customer {
        customer(&config, entry)?;
        unique(&mut ids, entry, &entry.get_ref().id)?;
    }
    config.publishers = values(file.trusted_publisher.clone());
    config.entitlements = values(file.entitlement.clone());
    config.customers = values(file.customer);
    for entry in file.package {
        let key = package(&config, &entry)?;
        config.packages.insert(key, entry.into_inner());
    }
    for entry in &file.trusted_publisher {
        let it = entry.get_ref();
        known_packages(&config, entry, "trusted_publisher", &it.id, &it.tenant_id, &it.packages)?;
    }
    for entry in &file.entitlement {
        let it = entry.get_ref();
        known_packages(&config, entry, "entitlement", &it.id, &it.tenant_id, &it.packages)?;
    }
    let tables = Tables { oci: file.oci, plans: file.oci_plan, licences: file.oci_licence };
    config.oci = oci::check(&config, tables)?;
    Ok(config)
}

fn server(entry: &Spanned<Server>) -> Checked {
    let server = entry.get_ref();
    if server.public_url.is_none() && !server.listen.ip().is_loopback() {
        let listen = server.listen;
        return wrong(entry, format!("[server] listens on {listen}, so it needs `public_url`"));
    }
    Ok(())
}

fn check_limits(entry: &Spanned<Limits>) -> Checked {
    let limits = entry.get_ref();
    let lives = [
        ("session_seconds", limits.session_seconds, SESSION_SECONDS),
        ("install_seconds", limits.install_seconds, INSTALL_SECONDS),
        ("publish_seconds", limits.publish_seconds, PUBLISH_SECONDS),
    ];
    for (key, seconds, most) in lives {
        if !(1..=most).contains(&seconds) {
            return wrong(entry, format!("[limits] {key} = {seconds}: expected 1 to {most}"));
        }
    }
    if limits.body_bytes < 1024 || limits.connections == 0 || limits.connections_per_client == 0 {
        return wrong(entry, "[limits]: expected body_bytes of at least 1024 and at least one connection");
    }
    Ok(())
}

fn repository(config: &Config, entry: &Spanned<Repository>) -> Checked {
    let Repository { name, tenant, scopes, packages, .. } = entry.get_ref();
    // It stands in URLs and as a folder's name.
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !plain || name.is_empty() || name.len() > 64 {
        let text =
            format!("[[repository]] name `{name}`: expected 1 to 64 lower-case letters, digits and `-`");
        return wrong(entry, text);
    }
    if !config.tenants.contains(tenant) {
        return wrong(entry, format!("[[repository]] `{name}`: tenant `{tenant}` is no [[tenant]]"));
    }
    if config.repositories.contains_key(name) {
        return wrong(entry, format!("[[repository]] name `{name}` is there twice"));
    }
    if scopes.iter().any(|scope| scope.is_empty()) {
        let text = format!("[[repository]] `{name}`: list packages without a scope in `packages`");
        return wrong(entry, text);
    }
    if scopes.is_empty() && packages.is_empty() {
        return wrong(
            entry,
            format!("[[repository]] `{name}` takes no package: it has no `scopes`, no `packages`"),
        );
    }
    Ok(())
}

fn package(config: &Config, entry: &Spanned<Package>) -> Checked<super::PackageKey> {
    let package = entry.get_ref();
    let name = &package.name;
    let Some(repository) = config.repositories.get(&package.repository) else {
        let text = format!("[[package]] `{name}`: repository `{}` is no [[repository]]", package.repository);
        return wrong(entry, text);
    };
    if !repository.takes(name) {
        let text = format!(
            "[[package]] `{name}`: repository `{}` has neither its scope in `scopes` nor its name in `packages`",
            repository.name
        );
        return wrong(entry, text);
    }
    let tenant = &repository.tenant;
    if !config.projects.contains(&(tenant.clone(), package.project.clone())) {
        let text =
            format!("[[package]] `{name}`: project `{}` is no [[project]] of `{tenant}`", package.project);
        return wrong(entry, text);
    }
    let key = (tenant.clone(), name.clone());
    if config.packages.contains_key(&key) {
        return wrong(entry, format!("[[package]] `{name}` of tenant `{tenant}` is there twice"));
    }
    for action in [Action::Install, Action::Publish] {
        for id in package.policy(action).unwrap_or_default() {
            covered(config, entry, &key, action, id)?;
        }
    }
    Ok(key)
}

/// Checks that what a package's policy names covers that package and action: otherwise it would read as a
/// permission and be none.
fn covered(
    config: &Config,
    entry: &Spanned<Package>,
    (tenant, name): &super::PackageKey,
    action: Action,
    id: &str,
) -> Checked {
    let publishers = config.publishers.iter().map(|it| {
        (&it.id, &it.tenant_id, &it.project_slug, it.packages.contains(name), it.actions.contains(&action))
    });
    let entitlements = config.entitlements.iter().map(|it| {
        (&it.id, &it.tenant_id, &it.project_slug, it.packages.contains(name), it.actions.contains(&action))
    });
    let Some((_, owner, project, package, allows)) = publishers.chain(entitlements).find(|it| it.0 == id)
    else {
        let text = format!(
            "[[package]] `{name}`: {action} names `{id}`, no [[trusted_publisher]] or [[entitlement]]"
        );
        return wrong(entry, text);
    };
    if owner != tenant || *project != entry.get_ref().project {
        return wrong(
            entry,
            format!("[[package]] `{name}`: {action} names `{id}`, which is of another project"),
        );
    }
    if !package {
        let text =
            format!("[[package]] `{name}`: {action} names `{id}`, whose `packages` do not list the package");
        return wrong(entry, text);
    }
    if !allows {
        let text =
            format!("[[package]] `{name}`: {action} names `{id}`, whose `actions` do not list `{action}`");
        return wrong(entry, text);
    }
    Ok(())
}

fn issuer(config: &Config, entry: &Spanned<Issuer>) -> Checked {
    let Issuer { url, platform, jwks_url, people, .. } = entry.get_ref();
    if *people && *platform != PlatformKind::Generic {
        return wrong(entry, format!("[[issuer]] `{url}`: `people` needs platform `generic`"));
    }
    if config.issuers.iter().any(|it| it.url == *url) {
        return wrong(entry, format!("[[issuer]] url `{url}` is there twice"));
    }
    if let Some(name) = url.strip_prefix(LOCAL) {
        if config.local_issuer.is_none() {
            return wrong(entry, format!("[[issuer]] `{url}` needs [local_issuer] with `enabled = true`"));
        }
        if name != platform_name(*platform) || jwks_url.is_some() {
            let text = format!(
                "[[issuer]] `{url}`: expected platform `{}` as in its url, and no `jwks_url`",
                platform_name(*platform)
            );
            return wrong(entry, text);
        }
        return Ok(());
    }
    // Compared exactly with `iss`, so the text stays as it is; it only has to be a URL that is safe to ask.
    match url.parse::<ServiceUrl>() {
        Ok(_) => Ok(()),
        Err(error) => wrong(entry, format!("[[issuer]] url: {error}")),
    }
}

/// Returns how a platform is written in the configuration and in the local issuer's URLs.
pub(crate) fn platform_name(platform: PlatformKind) -> &'static str {
    match platform {
        PlatformKind::GithubActions => "github-actions",
        PlatformKind::GitlabCi => "gitlab-ci",
        PlatformKind::Jenkins => "jenkins",
        PlatformKind::Generic => "generic",
    }
}

fn publisher(config: &Config, entry: &Spanned<TrustedPublisher>) -> Checked {
    let it = entry.get_ref();
    belongs(config, entry, "trusted_publisher", &it.id, (&it.tenant_id, &it.project_slug), &it.issuer)?;
    if let Err(error) = it.validate() {
        return wrong(entry, format!("[[trusted_publisher]]: {error}"));
    }
    // Otherwise no run is ever this publisher, and the refusals would not say why.
    let platform = config.issuers.iter().find(|issuer| issuer.url == it.issuer).map(|issuer| issuer.platform);
    if platform != it.platform() {
        let text =
            format!("[[trusted_publisher]] `{}`: its rules are not for the platform of its issuer", it.id);
        return wrong(entry, text);
    }
    Ok(())
}

fn entitlement(config: &Config, entry: &Spanned<Entitlement>) -> Checked {
    let it = entry.get_ref();
    belongs(config, entry, "entitlement", &it.id, (&it.tenant_id, &it.project_slug), &it.issuer)?;
    people(config, entry, "entitlement", &it.id, it.people())?;
    if it.actions.is_empty() || it.packages.is_empty() {
        return wrong(
            entry,
            format!("[[entitlement]] `{}`: `actions` and `packages` may not be empty", it.id),
        );
    }
    Ok(())
}

fn customer(config: &Config, entry: &Spanned<Customer>) -> Checked {
    let it = entry.get_ref();
    if !config.tenants.contains(&it.tenant_id) {
        let text = format!("[[customer]] `{}`: tenant `{}` is no [[tenant]]", it.id, it.tenant_id);
        return wrong(entry, text);
    }
    known_issuer(config, entry, "customer", &it.id, &it.issuer)?;
    people(config, entry, "customer", &it.id, it.people())
}

fn people(config: &Config, entry: &Spanned<impl Sized>, table: &str, id: &str, it: People<'_>) -> Checked {
    if it.sub.is_some() == it.group.is_some() {
        return wrong(entry, format!("[[{table}]] `{id}`: expected either `sub` or `group`"));
    }
    if config.issuers.iter().any(|issuer| issuer.url == it.issuer && !issuer.people) {
        let text = format!("[[{table}]] `{id}`: issuer `{}` needs `people = true`", it.issuer);
        return wrong(entry, text);
    }
    Ok(())
}

fn belongs(
    config: &Config,
    entry: &Spanned<impl Sized>,
    table: &str,
    id: &str,
    (tenant, project): (&TenantId, &ProjectSlug),
    issuer: &str,
) -> Checked {
    if !config.projects.contains(&(tenant.clone(), project.clone())) {
        return wrong(
            entry,
            format!("[[{table}]] `{id}`: project `{project}` is no [[project]] of `{tenant}`"),
        );
    }
    known_issuer(config, entry, table, id, issuer)
}

fn known_issuer(
    config: &Config,
    entry: &Spanned<impl Sized>,
    table: &str,
    id: &str,
    issuer: &str,
) -> Checked {
    match config.issuers.iter().any(|it| it.url == issuer) {
        true => Ok(()),
        false => wrong(entry, format!("[[{table}]] `{id}`: issuer `{issuer}` is no [[issuer]]")),
    }
}

fn is_loopback(url: &ServiceUrl) -> bool {
    match url.as_url().host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn sigstore(entry: Spanned<Sigstore>) -> Checked<Sigstore> {
    let keys: Result<_, _> = entry
        .get_ref()
        .public_keys
        .iter()
        .map(|pem| PublicKey::from_pem(pem).map(|key| key.spki().to_vec()))
        .collect();
    match keys {
        Ok(keys) => Ok(Sigstore { keys, ..entry.into_inner() }),
        Err(error) => wrong(&entry, format!("[sigstore] public_keys: {error}")),
    }
}

fn unique(ids: &mut BTreeSet<String>, entry: &Spanned<impl Sized>, id: &str) -> Checked {
    if ids.insert(id.to_owned()) {
        return Ok(());
    }
    wrong(
        entry,
        format!("the id `{id}` is there twice among [[trusted_publisher]], [[entitlement]] and [[customer]]"),
    )
}

fn known_packages(
    config: &Config,
    entry: &Spanned<impl Sized>,
    table: &str,
    id: &str,
    tenant: &TenantId,
    packages: &[PackageName],
) -> Checked {
    match packages.iter().find(|name| config.package(tenant, name).is_none()) {
        None => Ok(()),
        Some(name) => wrong(entry, format!("[[{table}]] `{id}`: `{name}` is no [[package]] of `{tenant}`")),
    }
}

fn local_issuer(entry: &Spanned<LocalIssuer>, public_url: Option<&ServiceUrl>) -> Checked {
    // Attack: an issuer that says whatever this file says, believed by a service that others use.
    if let Some(url) = public_url.filter(|url| entry.get_ref().enabled && !is_loopback(url)) {
        return wrong(entry, format!("[local_issuer] is for one machine, and `public_url` is {url}"));
    }
    let mut names = BTreeSet::new();
    for run in &entry.get_ref().runs {
        let plain = run.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !plain || run.name.is_empty() || run.name.len() > 64 {
            let name = &run.name;
            let text =
                format!("[[local_issuer.run]] name `{name}`: expected 1 to 64 letters, digits and `-`");
            return wrong(entry, text);
        }
        if !names.insert(&run.name) {
            return wrong(entry, format!("[[local_issuer.run]] name `{}` is there twice", run.name));
        }
        if let Some(claim) =
            ["iss", "aud", "exp", "iat", "nbf", "jti"].iter().find(|it| run.claims.contains_key(**it))
        {
            let text = format!("[[local_issuer.run]] `{}`: the issuer itself sets `{claim}`", run.name);
            return wrong(entry, text);
        }
        if !run.claims.get("sub").is_some_and(serde_json::Value::is_string) {
            return wrong(entry, format!("[[local_issuer.run]] `{}`: claims need a `sub`", run.name));
        }
    }
    Ok(())
}
