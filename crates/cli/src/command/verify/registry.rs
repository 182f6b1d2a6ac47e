//! A version in a registry: its tarball, what the registry says of it, and the attestations that it serves.

use std::{collections::BTreeSet, fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use protected_evidence::{statement, verify};
use protected_http::{Client, Response, Retry};
use protected_model::{
    action::ActionMode,
    api::npm_token::NpmTokenRequest,
    digest::Sha256,
    name::{PackageName, ProjectSlug},
    secret::RegistryToken,
    service_url::ServiceUrl,
    version::PackageVersion,
};
use protected_npm::pack::Packed;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{
    Finding, Outcome,
    document::{Document, SIGNED, attestations},
};
use crate::{
    context::Context,
    error::{CommandError, Kind},
};

/// What the registry said, beside the tarball: so that it can be verified again offline.
pub(super) const FILE: &str = "registry.json";

/// The variable that npm's own configuration in CI reads.
const TOKEN_VARIABLE: &str = "NODE_AUTH_TOKEN";
const MAX_METADATA_BYTES: u64 = 128 * 1024 * 1024;
const MAX_TARBALL_BYTES: u64 = 512 * 1024 * 1024;
/// Where a registry of ours serves attestations.
const OWN_ATTESTATIONS: &str = "-/protected-registry/v1/attestations";
/// Where npm looks for them.
const NPM_ATTESTATIONS: &str = "-/npm/v1/attestations";

/// A version as a registry serves it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Served {
    registry: String,
    name: PackageName,
    version: PackageVersion,
    dist: Dist,
    #[serde(default)]
    keys: Vec<Key>,
    /// Whether it serves attestations where a registry of ours does. Such a one logs nowhere what it says itself; of any
    /// other, as of npm's, that is asked.
    #[serde(default)]
    own_attestations: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Dist {
    tarball: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    integrity: Option<String>,
    #[serde(default)]
    signatures: Vec<Signature>,
}

/// Of the registry, over `<name>@<version>:<integrity>`.
#[derive(Debug, Deserialize, Serialize)]
struct Signature {
    keyid: String,
    sig: String,
}

/// One of `/-/npm/v1/keys`.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Key {
    keyid: String,
    key: String,
}

/// A key of the registry, with which it signs what it says itself.
pub(super) struct RegistryKey {
    pub(super) id: String,
    pub(super) pem: String,
    /// Whether the bundle at hand has to be in a log of the trusted root: it has an entry, or is of a registry that logs.
    pub(super) needs_log: bool,
    /// The logs that the bundle at hand names, where the registry is one of ours: a trusted root of others need not name
    /// them.
    pub(super) own_logs: Vec<String>,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

impl Served {
    /// Reads what was kept of a registry, where it was.
    ///
    /// # Errors
    /// When the file is there and is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, CommandError> {
        let file = folder.join(FILE);
        if !file.is_file() {
            return Ok(None);
        }
        let refuse = |error: &dyn std::fmt::Display| {
            CommandError::new(
                Kind::BadInput,
                format!("`{}` is not what a registry said: {error}", file.display()),
            )
        };
        let json = fs::read(&file).map_err(|error| refuse(&error))?;
        serde_json::from_slice(&json).map(Some).map_err(|error| refuse(&error))
    }

    /// The tarball's digest, as the registry has it.
    pub(super) fn integrity(&self, packed: &Packed) -> Option<Finding> {
        let expected = self.dist.integrity.clone()?;
        Finding::compare(expected, packed.integrity.to_string(), Outcome::Failed)
    }

    /// The registry's own signature over name, version and digest.
    pub(super) fn signature(&self, packed: &Packed) -> Option<Finding> {
        let finding = |outcome, found: String| {
            let expected = "a signature of a key that the registry serves".to_owned();
            Some(Finding { outcome, expected, found, differences: Vec::new() })
        };
        let Some(signature) = self.dist.signatures.first() else {
            return finding(Outcome::Note, "none".to_owned());
        };
        let Some(key) = self.keys.iter().find(|key| key.keyid == signature.keyid) else {
            return finding(Outcome::Failed, format!("one of {}, which it does not serve", signature.keyid));
        };
        let message = format!("{}@{}:{}", packed.name, packed.version, packed.integrity);
        match verify::registry_signature(&key.key, &message, &signature.sig) {
            Ok(()) => finding(Outcome::Ok, format!("signed by {} with {}", self.registry, key.keyid)),
            Err(refused) => finding(Outcome::Failed, refused.found),
        }
    }

    /// Returns the registry's key that a bundle says it is signed with, where the registry serves it.
    pub(super) fn key_of(&self, bundle: &[u8]) -> Option<RegistryKey> {
        let bundle: Value = serde_json::from_slice(bundle).ok()?;
        let material = bundle.get("verificationMaterial")?;
        let hint = material.pointer("/publicKey/hint")?.as_str()?;
        let key = self.keys.iter().find(|key| key.keyid == hint)?;
        let entries = material.get("tlogEntries").and_then(Value::as_array);
        Some(RegistryKey {
            id: key.keyid.clone(),
            pem: format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", key.key),
            needs_log: !self.own_attestations || entries.is_some_and(|entries| !entries.is_empty()),
            own_logs: match self.own_attestations {
                true => entries
                    .into_iter()
                    .flatten()
                    .filter_map(|entry| entry.pointer("/logId/keyId")?.as_str().map(str::to_owned))
                    .collect(),
                false => Vec::new(),
            },
        })
    }
}

/// Which registry has it.
pub(super) enum Origin {
    /// The one that was named.
    Given(ServiceUrl),
    /// The one that FractalOps names to a CI job of this project.
    Known(Option<ProjectSlug>),
}

/// Fetches a version into `folder`, laid out as a build is: the tarball, `evidence/` and [`FILE`].
///
/// # Errors
/// When the registry has no such version, or does not give it.
pub(super) async fn fetch(
    context: &Context,
    (name, version): (&PackageName, &PackageVersion),
    origin: Origin,
    folder: &Path,
) -> Result<(), CommandError> {
    let http = context.http()?;
    let (registry, token) = open(context, &http, name, version, origin).await?;
    let reader = Reader { context, http: &http, registry: &registry, token };
    let doing = format!("reading `{name}@{version}` from {registry}");
    let packument = reader.get(registry.join(&name.escaped()), MAX_METADATA_BYTES, &doing).await?;
    let packument: Value =
        packument.json().map_err(|error| CommandError::from_error(Kind::Failed, &doing, &error))?;
    let dist =
        packument.get("versions").and_then(|it| it.get(version.to_string())).and_then(|it| it.get("dist"));
    let dist = dist.ok_or_else(|| {
        CommandError::new(Kind::BadInput, format!("{doing}: the registry has no such version"))
    })?;
    let dist: Dist = serde_json::from_value(dist.clone())
        .map_err(|error| CommandError::from_error(Kind::Failed, &doing, &error))?;
    let tarball = Url::parse(&dist.tarball).map_err(|error| {
        CommandError::new(Kind::Failed, format!("{doing}: the tarball's address: {error}"))
    })?;
    let bytes = reader.get(tarball, MAX_TARBALL_BYTES, &doing).await?.into_body();
    let keys = reader.find(registry.join("-/npm/v1/keys"), &doing).await?;
    let keys = keys.map(|answer| answer.json::<Keys>()).transpose();
    let keys = keys.map_err(|error| CommandError::from_error(Kind::Failed, &doing, &error))?;
    let (mut documents, mut own_attestations) = (Vec::new(), false);
    for path in [OWN_ATTESTATIONS, NPM_ATTESTATIONS] {
        let url = registry.join(&format!("{path}/{}@{version}", name.escaped()));
        if let Some(answer) = reader.find(url, &doing).await? {
            own_attestations |= path == OWN_ATTESTATIONS;
            let document = Document { name: path.to_owned(), bytes: answer.into_body().to_vec() };
            documents.extend(attestations(document));
        }
    }
    let served = Served {
        registry: registry.to_string(),
        name: name.clone(),
        version: version.clone(),
        dist,
        keys: keys.map_or_else(Vec::new, |keys| keys.keys),
        own_attestations,
    };
    let evidence = folder.join("evidence");
    let base = name.file_base();
    let mut files = vec![(folder.join(format!("{base}-{version}.tgz")), bytes.to_vec())];
    files.push((folder.join(FILE), protected_model::integrity::canonical(&served)));
    files.extend(named(documents).into_iter().map(|(name, bytes)| (evidence.join(name), bytes)));
    fs::create_dir_all(&evidence).map_err(|error| cannot_write(&evidence, &error))?;
    for (file, bytes) in files {
        fs::write(&file, bytes).map_err(|error| cannot_write(&file, &error))?;
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::new(Kind::Failed, format!("cannot write `{}`: {error}", path.display()))
}

/// Gives each bundle a file name after what it says, each once however often it is served.
fn named(documents: Vec<Document>) -> Vec<(String, Vec<u8>)> {
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut files = Vec::new();
    for document in documents {
        if !seen.insert(Sha256::of(&document.bytes)) {
            continue;
        }
        let kind = match predicate_type(&document.bytes).as_deref() {
            Some(statement::PROVENANCE) => "provenance",
            Some(statement::CYCLONEDX) => "sbom.cdx",
            Some(statement::SPDX) => "sbom.spdx",
            Some(statement::VSA) => "vsa",
            _ => "attestation",
        };
        let mut name = format!("{kind}{SIGNED}");
        let mut number = 2;
        while !names.insert(name.clone()) {
            name = format!("{kind}-{number}{SIGNED}");
            number += 1;
        }
        files.push((name, document.bytes));
    }
    files
}

fn predicate_type(bundle: &[u8]) -> Option<String> {
    let bundle: Value = serde_json::from_slice(bundle).ok()?;
    let payload = STANDARD.decode(bundle.pointer("/dsseEnvelope/payload")?.as_str()?).ok()?;
    let statement: Value = serde_json::from_slice(&payload).ok()?;
    Some(statement.get("predicateType")?.as_str()?.to_owned())
}

/// Settles which registry, and what opens it: a given one takes the token of npm's variable, and the one that
/// FractalOps names gives this CI job a token of its own.
async fn open(
    context: &Context,
    http: &Client,
    name: &PackageName,
    version: &PackageVersion,
    origin: Origin,
) -> Result<(ServiceUrl, Option<RegistryToken>), CommandError> {
    let settings = &context.settings;
    let project = match origin {
        Origin::Given(registry) => {
            let token = settings.environment.get(TOKEN_VARIABLE).map(RegistryToken::new);
            return Ok((registry, token));
        }
        Origin::Known(project) => project,
    };
    if context.console.platform().is_none() || settings.fractalops_url().is_err() {
        let message = format!("nothing says which registry has `{name}@{version}`");
        return Err(CommandError::usage(message)
            .advise("give --registry <URL>; in a CI job with FractalOps configured, FractalOps names it"));
    }
    let project_slug = settings.project(project)?;
    let session = context.log_in(http).await?;
    let request = NpmTokenRequest {
        project_slug,
        package_name: name.clone(),
        action_mode: ActionMode::Install,
        tenant_id: None,
        expected_entitlement_snapshot_id: None,
        package_version: Some(version.clone()),
        artifact_sha512: None,
        protection_build_id: None,
        package_manager: Some("protected-registry".to_owned()),
        reason: None,
        dry_run: false,
    };
    let minted = context.mint(&session, &request).await?;
    Ok((minted.registry_url, minted.token))
}

/// What a registry is read with.
struct Reader<'a> {
    context: &'a Context,
    http: &'a Client,
    registry: &'a ServiceUrl,
    token: Option<RegistryToken>,
}

impl Reader<'_> {
    async fn get(&self, url: Url, max_bytes: u64, doing: &str) -> Result<Response, CommandError> {
        let answer = self.send(url, max_bytes, doing).await?;
        match answer.status {
            200 => Ok(answer),
            404 => Err(CommandError::new(Kind::BadInput, format!("{doing}: the registry does not have it"))),
            401 | 403 => {
                Err(CommandError::new(Kind::Refused, format!("{doing}: the answer is {}", answer.status))
                    .advise(format!(
                        "set {TOKEN_VARIABLE} to a token that may read it, or verify its tarball"
                    )))
            }
            status => Err(CommandError::new(Kind::Failed, format!("{doing}: the answer is {status}"))),
        }
    }

    /// As [`Self::get`], for what not every registry has.
    async fn find(&self, url: Url, doing: &str) -> Result<Option<Response>, CommandError> {
        let answer = self.send(url, MAX_METADATA_BYTES, doing).await?;
        match answer.status {
            200 => Ok(Some(answer)),
            404 | 405 => Ok(None),
            status => Err(CommandError::new(Kind::Failed, format!("{doing}: the answer is {status}"))),
        }
    }

    async fn send(&self, url: Url, max_bytes: u64, doing: &str) -> Result<Response, CommandError> {
        // Attack: a packument that names a tarball elsewhere would have the token sent there.
        let own = url.origin() == self.registry.as_url().origin();
        let mut request = self.http.get(url).header("accept", "application/json; q=1.0, */*; q=0.5");
        if let Some(token) = self.token.as_ref().filter(|_| own) {
            request = request.bearer(token);
        }
        let answer =
            self.context.cancel.or(request.max_bytes(max_bytes).retry(Retry::standard()).send()).await?;
        answer.map_err(|error| {
            let (hint, kind) =
                (error.hint(), if error.is_transient() { Kind::Unavailable } else { Kind::Failed });
            CommandError::from_error(kind, doing, &error).hint(hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: a registry that logs what it signs has the entry taken away, so that nobody finds what it signed.
    #[test]
    fn only_a_registry_of_ours_may_sign_without_a_log() {
        let served = |own: bool| -> Served {
            serde_json::from_value(serde_json::json!({
                "registry": "https://registry.example/", "name": "@acme/core", "version": "1.0.0",
                "dist": {"tarball": "https://registry.example/core.tgz"},
                "keys": [{"keyid": "SHA256:one", "key": "AA=="}], "own_attestations": own,
            }))
            .expect("served")
        };
        let bundle = |entries: &str| {
            format!(r#"{{"verificationMaterial": {{"publicKey": {{"hint": "SHA256:one"}}{entries}}}}}"#)
        };
        for (own, entries, needs_log) in [
            (true, "", false),
            (true, r#", "tlogEntries": []"#, false),
            (true, r#", "tlogEntries": [{}]"#, true),
            (false, "", true),
            (false, r#", "tlogEntries": []"#, true),
        ] {
            let key = served(own).key_of(bundle(entries).as_bytes()).expect("key");
            assert_eq!(key.needs_log, needs_log, "{own} {entries}");
        }
        let other = bundle("").replace("SHA256:one", "SHA256:two");
        assert!(served(true).key_of(other.as_bytes()).is_none(), "a key that it does not serve");
    }
}
