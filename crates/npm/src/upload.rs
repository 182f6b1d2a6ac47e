//! Publishing with one request of our own.
//!
//! The token never enters a process that runs JavaScript, and publishing twice is harmless: the registry is asked
//! first what it has, and again after every failure, and the tarball's integrity decides.

use std::{collections::BTreeMap, io, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{Stream, stream};
use protected_http::{Client, HttpError, Response, Retry};
use protected_model::{
    api::evidence::BUNDLE_TYPE,
    digest::Integrity,
    hint::Hint,
    name::PackageName,
    secret::{RegistryToken, Secret as _},
    service_url::ServiceUrl,
    version::{DistTag, PackageVersion},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{pack::Packed, package_json::Access, redact};

/// The largest metadata of a package that is read: some thousand versions.
const MAX_METADATA_BYTES: u64 = 64 * 1024 * 1024;

/// How much of a tarball is encoded at a time; a multiple of 3, so that no chunk but the last has padding.
const CHUNK_BYTES: usize = 48 * 1024;

/// The slowest line on which an upload is still waited for.
const SLOWEST_BYTES_PER_SECOND: u64 = 128 * 1024;

/// How long a registry may take over an upload besides the transfer.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How a package is published.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// The dist-tag that will point at the version; else the one of `publishConfig`, else `latest`.
    pub tag: Option<DistTag>,
    /// Who may read the package; else what `publishConfig` says, else what the registry thinks.
    pub access: Option<Access>,
    /// What [`existing`] found, when the caller has asked already.
    pub existing: Option<Existing>,
    /// The Sigstore bundle of the package's provenance, JSON, which goes along as npm sends it. It must be v0.3.
    pub provenance: Option<String>,
}

/// What came of publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Whether the version is new.
    pub status: Status,
    /// The integrity that the registry has.
    pub integrity: Integrity,
    /// The dist-tag that was asked for.
    pub tag: DistTag,
    /// Whether the tag points at this version. A version that was there already keeps its tags.
    pub tagged: bool,
    /// What the registry had to say (its `npm-notice` header).
    pub notice: Option<String>,
}

/// Whether a version is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is.
    Published,
    /// The registry had the same bytes before.
    AlreadyPublished,
}

/// What a registry has of a package.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Existing {
    #[serde(default)]
    versions: BTreeMap<String, Version>,
    #[serde(default, rename = "dist-tags")]
    tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Version {
    #[serde(default)]
    dist: Dist,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Dist {
    #[serde(default)]
    integrity: Option<String>,
    #[serde(default)]
    shasum: Option<String>,
}

/// Why a package was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// `"private": true`.
    #[error("`{name}` has `\"private\": true` in its package.json")]
    Private {
        /// The package.
        name: PackageName,
    },
    /// A prerelease without a dist-tag would become `latest`.
    #[error("`{version}` is a prerelease, and no dist-tag was given for it")]
    PrereleaseNeedsTag {
        /// The version.
        version: PackageVersion,
    },
    /// `latest` would move to a lower version.
    #[error("`latest` is `{latest}`, and would go back to `{version}`")]
    Backwards {
        /// The version that was to be published.
        version: PackageVersion,
        /// What `latest` is.
        latest: PackageVersion,
    },
    /// The version is there with other content.
    #[error(
        "`{name}@{version}` is there already with other content: it has `{stored}`, this one is `{ours}`"
    )]
    Conflict {
        /// The package.
        name: PackageName,
        /// The version.
        version: PackageVersion,
        /// The digest that the registry shows.
        stored: String,
        /// The integrity that was to be published.
        ours: String,
    },
    /// What the registry has cannot be read.
    #[error("reading what the registry has of the package")]
    Read(#[source] HttpError),
    /// The upload failed, and the version is not there.
    #[error("sending the package")]
    Send(#[source] HttpError),
    /// The registry answered no.
    #[error(transparent)]
    Refused(Refusal),
}

/// A registry's refusal, in its words.
#[derive(Debug, thiserror::Error)]
#[error("{request}: the registry answered {status}{}", words(.message.as_ref(), .notice.as_ref()))]
pub struct Refusal {
    request: String,
    /// The HTTP status.
    pub status: u16,
    /// The `error` of the answer.
    pub message: Option<String>,
    /// The `npm-notice` of the answer.
    pub notice: Option<String>,
    hint: Option<Hint>,
}

impl PublishError {
    /// Returns whether the version is taken by other content.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Refused(Refusal { status: 409, .. }))
    }

    /// Returns whether the same command may fare better later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Read(error) | Self::Send(error) => error.is_transient(),
            Self::Refused(refusal) => matches!(refusal.status, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Private { .. } => {
                Some(Hint::new("remove `private` when this package is meant for a registry"))
            }
            Self::PrereleaseNeedsTag { .. } => Some(Hint::new("give it a dist-tag, such as `next`")),
            Self::Backwards { .. } => Some(Hint::new(
                "give it a dist-tag of its own, such as `release-1.x`: nobody who installs without one gets it then",
            )),
            Self::Conflict { .. } => Some(Hint::new(
                "raise the version: a published one never changes. If nothing was changed, build the same commit with \
                 the same tools",
            )),
            Self::Read(error) | Self::Send(error) => error.hint(),
            Self::Refused(refusal) => refusal.hint.clone(),
        }
    }
}

/// Asks the registry what it has of a package.
///
/// # Errors
/// When it does not say. A package that it does not know is no error.
pub async fn existing(
    http: &Client,
    registry: &ServiceUrl,
    token: &RegistryToken,
    name: &PackageName,
) -> Result<Existing, PublishError> {
    let response = http
        .get(registry.join(&name.escaped()))
        .bearer(token)
        .header("accept", "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8")
        // A cache on the way must not answer for the registry.
        .header("cache-control", "no-cache")
        .max_bytes(MAX_METADATA_BYTES)
        .retry(Retry::standard())
        .send()
        .await
        .map_err(PublishError::Read)?;
    match response.status {
        200..300 => response.json().map_err(PublishError::Read),
        404 => Ok(Existing::default()),
        _ => Err(PublishError::Refused(Refusal::new(&response, registry, token))),
    }
}

/// Publishes a package.
///
/// The version is sent once, and again when no answer came. Where the registry has it with the same integrity, that
/// is success. `latest` never moves to a lower version, and never to a prerelease unless it was asked for by name.
///
/// # Errors
/// When the registry has the version with other content or refuses it, when it cannot be reached, and when the tag
/// would be wrong. After an error that is not a conflict the version is not visible, as far as the registry said.
pub async fn publish(
    http: &Client,
    registry: &ServiceUrl,
    token: &RegistryToken,
    packed: &Packed,
    options: &PublishOptions,
) -> Result<Published, PublishError> {
    let (tag, access) = match prepare(http, registry, token, packed, options).await? {
        Prepared::AlreadyThere(published) => return Ok(published),
        Prepared::Send { tag, access } => (tag, access),
    };
    let document = Document::new(registry, packed, &tag, access, options.provenance.as_deref());
    let failure = match put(http, registry, token, &packed.name, document).await {
        Ok(response) if is_accepted(&response) => {
            let (status, integrity) = (Status::Published, packed.integrity);
            return Ok(Published { status, integrity, tag, tagged: true, notice: notice(&response, token) });
        }
        Ok(response) => PublishError::Refused(Refusal::new(&response, registry, token)),
        Err(error) => PublishError::Send(error),
    };
    // With a token that is no good, the registry would not show anything.
    if matches!(&failure, PublishError::Refused(Refusal { status: 401, .. })) {
        return Err(failure);
    }
    let status = if failure.is_transient() { Status::Published } else { Status::AlreadyPublished };
    match confirm(http, registry, token, packed, &tag, status).await? {
        Some(published) => Ok(published),
        None => Err(failure),
    }
}

/// What is left to do after [`prepare`].
#[derive(Clone, Debug)]
pub enum Prepared {
    /// Nothing: the registry has the version with the same integrity.
    AlreadyThere(Published),
    /// Send the package.
    Send {
        /// The dist-tag that will point at it.
        tag: DistTag,
        /// Who may read it.
        access: Option<Access>,
    },
}

/// Decides whether a package is to be sent, and with which tag: the first half of [`publish`], for when something
/// else sends it.
///
/// # Errors
/// As [`publish`], before anything is sent.
pub async fn prepare(
    http: &Client,
    registry: &ServiceUrl,
    token: &RegistryToken,
    packed: &Packed,
    options: &PublishOptions,
) -> Result<Prepared, PublishError> {
    if packed.package.is_private() {
        return Err(PublishError::Private { name: packed.name.clone() });
    }
    let tag = options.tag.as_ref().or(packed.package.publish_tag());
    if tag.is_none() && packed.version.is_prerelease() {
        return Err(PublishError::PrereleaseNeedsTag { version: packed.version.clone() });
    }
    let tag = tag.cloned().unwrap_or_else(DistTag::latest);
    let before = match &options.existing {
        Some(existing) => existing.clone(),
        None => existing(http, registry, token, &packed.name).await?,
    };
    if let Some(there) = before.settle(packed, &tag, Status::AlreadyPublished)? {
        return Ok(Prepared::AlreadyThere(there));
    }
    before.check_latest(&packed.version, &tag)?;
    Ok(Prepared::Send { tag, access: options.access.or(packed.package.publish_access()) })
}

/// Finds out what came of sending a package, after a failure: with `status` when the registry has it now.
///
/// No answer, a 5xx or a "there already" may follow a publish that worked, ours or that of another job: only what
/// the registry shows decides. `None` when it does not have the version, or does not say.
///
/// # Errors
/// When it has the version with other content.
pub async fn confirm(
    http: &Client,
    registry: &ServiceUrl,
    token: &RegistryToken,
    packed: &Packed,
    tag: &DistTag,
    status: Status,
) -> Result<Option<Published>, PublishError> {
    match existing(http, registry, token, &packed.name).await {
        Ok(after) => after.settle(packed, tag, status),
        Err(_) => Ok(None),
    }
}

impl Existing {
    /// Returns whether the version is there.
    pub fn has(&self, version: &PackageVersion) -> bool {
        self.versions.contains_key(&version.to_string())
    }

    /// Returns the version that `latest` points at.
    pub fn latest(&self) -> Option<PackageVersion> {
        self.tags.get("latest").and_then(|latest| latest.parse().ok())
    }

    /// Holds what is there under the package's version against the package.
    fn settle(
        &self,
        packed: &Packed,
        tag: &DistTag,
        status: Status,
    ) -> Result<Option<Published>, PublishError> {
        let version = packed.version.to_string();
        let Some(Version { dist }) = self.versions.get(&version) else { return Ok(None) };
        let ours = packed.integrity.to_string();
        // Old registries show the SHA-1 alone.
        let strong = dist.integrity.as_deref().filter(|integrity| integrity.contains("sha512-"));
        let same = match strong {
            Some(integrity) => integrity.split_ascii_whitespace().any(|one| one == ours),
            None => dist.shasum.as_ref() == Some(&packed.shasum.to_string()),
        };
        if !same {
            return Err(PublishError::Conflict {
                name: packed.name.clone(),
                version: packed.version.clone(),
                stored: strong.or(dist.shasum.as_deref()).unwrap_or("no digest").chars().take(128).collect(),
                ours,
            });
        }
        let tagged = self.tags.get(tag.as_str()) == Some(&version);
        Ok(Some(Published { status, integrity: packed.integrity, tag: tag.clone(), tagged, notice: None }))
    }

    fn check_latest(&self, version: &PackageVersion, tag: &DistTag) -> Result<(), PublishError> {
        match self.latest() {
            Some(latest) if *tag == DistTag::latest() && latest > *version => {
                Err(PublishError::Backwards { version: version.clone(), latest })
            }
            _ => Ok(()),
        }
    }
}

async fn put(
    http: &Client,
    registry: &ServiceUrl,
    token: &RegistryToken,
    name: &PackageName,
    document: Document,
) -> Result<Response, HttpError> {
    let transfer = Duration::from_secs(document.length() / SLOWEST_BYTES_PER_SECOND);
    let timeout = UPLOAD_TIMEOUT + transfer;
    http.put(registry.join(&name.escaped()))
        .bearer(token)
        .header("accept", "application/json")
        .header("npm-command", "publish")
        .timeout(timeout)
        // Sending the same version again is harmless: a registry that has it says so, and we compare.
        .retry(Retry { attempts: 5, budget: timeout + Duration::from_secs(60) })
        .stream(document.length(), "application/json", move || document.stream())
        .send()
        .await
}

/// The body of a publish, as npm 11 sends it, with the tarball's base64 made while it is sent.
struct Document {
    head: Bytes,
    tarball: Bytes,
    tail: Bytes,
}

impl Document {
    fn new(
        registry: &ServiceUrl,
        packed: &Packed,
        tag: &DistTag,
        access: Option<Access>,
        provenance: Option<&str>,
    ) -> Self {
        let (name, version) = (&packed.name, packed.version.to_string());
        let mut manifest = packed.manifest.clone();
        manifest["dist"] = json!({
            "integrity": packed.integrity.to_string(),
            "shasum": packed.shasum.to_string(),
            "tarball": registry.join(&format!("{name}/-/{}", name.tarball(&packed.version))).as_str(),
        });
        let metadata = json!({
            "_id": name.as_str(),
            "name": name.as_str(),
            "description": manifest.get("description").cloned().unwrap_or(Value::Null),
            "dist-tags": {tag.as_str(): &version},
            "versions": {&version: manifest},
            "access": access.map(Access::as_str),
        });
        let attachment = format!("{name}-{version}.tgz");
        let mut head = metadata.to_string();
        head.pop(); // the closing brace: the attachment is the last member
        head.push_str(&format!(
            r#","_attachments":{{"{attachment}":{{"content_type":"application/octet-stream","data":""#
        ));
        let mut tail = format!(r#"","length":{}}}"#, packed.bytes.len());
        if let Some(bundle) = provenance {
            // A JSON text and not base64, as npm sends it (libnpmpublish 11.2).
            let bundle = json!({"content_type": BUNDLE_TYPE, "data": bundle, "length": bundle.len()});
            tail.push_str(&format!(r#","{name}-{version}.sigstore":{bundle}"#));
        }
        tail.push_str("}}");
        Self { head: head.into(), tarball: packed.bytes.clone(), tail: tail.into() }
    }

    fn length(&self) -> u64 {
        (self.head.len() + self.tarball.len().div_ceil(3) * 4 + self.tail.len()) as u64
    }

    fn stream(&self) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + use<> {
        let Self { head, tarball, tail } = self;
        let tarball = tarball.clone();
        let chunks = (0..tarball.len()).step_by(CHUNK_BYTES).map(move |start| {
            let end = tarball.len().min(start + CHUNK_BYTES);
            Bytes::from(STANDARD.encode(&tarball[start..end]))
        });
        stream::iter([head.clone()].into_iter().chain(chunks).chain([tail.clone()]).map(Ok))
    }
}

#[derive(Default, Deserialize)]
struct Body {
    success: Option<bool>,
    error: Option<Value>,
    message: Option<Value>,
    reason: Option<Value>,
}

/// Returns whether the answer to a publish means yes: Nexus can say `"success": false` with any status.
fn is_accepted(response: &Response) -> bool {
    response.is_success() && body(response).success != Some(false)
}

fn body(response: &Response) -> Body {
    serde_json::from_slice(response.body()).unwrap_or_default()
}

fn notice(response: &Response, token: &RegistryToken) -> Option<String> {
    response
        .header("npm-notice")
        .map(|text| redact::line(text, token.reveal()))
        .filter(|text| !text.is_empty())
}

fn words(message: Option<&String>, notice: Option<&String>) -> String {
    let message = message.map(|message| format!(": {message}")).unwrap_or_default();
    let notice = notice.map(|notice| format!(" (notice: {notice})")).unwrap_or_default();
    message + &notice
}

impl Refusal {
    fn new(response: &Response, registry: &ServiceUrl, token: &RegistryToken) -> Self {
        let body = body(response);
        // npm, verdaccio and Nexus say `error`; couch adds `reason`, problem+json says `detail`-like `message`.
        let said = [body.reason, body.message, body.error]
            .into_iter()
            .flatten()
            .filter_map(|value| value.as_str().map(|text| redact::line(text, token.reveal())))
            .rfind(|text| !text.is_empty());
        let hint = advice(response, registry, said.as_deref().unwrap_or_default());
        Self {
            request: response.request().to_string(),
            status: response.status,
            message: said,
            notice: notice(response, token),
            hint: hint.map(Hint::new),
        }
    }
}

/// Says what a refusal usually means.
fn advice(response: &Response, registry: &ServiceUrl, message: &str) -> Option<String> {
    let realm = response.header("www-authenticate").unwrap_or_default();
    let is_group = message.to_lowercase().contains("group")
        || registry
            .as_url()
            .path_segments()
            .is_some_and(|mut names| names.any(|name| name.contains("group")));
    let text = match response.status {
        401 if realm.contains("Sonatype Nexus") => {
            "Nexus did not see the token as a credential: requests must pass the service that verifies it, and the \
             `npm Bearer Token Realm` must be active"
        }
        401 => {
            return Some(format!(
                "the token is expired, revoked, or was minted for another registry than {}: run the command again",
                registry.authority()
            ));
        }
        400 | 403 | 405 if is_group => {
            "a Nexus group can only be read: publish to the hosted repository, such as `/repository/npm-hosted/`"
        }
        400 if message.contains("read only") || message.contains("read-only") => {
            "the repository takes no packages at the moment: ask who keeps the registry"
        }
        403 => {
            "a token allows one package, version and content: what the registry says tells which did not match"
        }
        404 | 405 => "check the registry's path: Nexus has its repositories below `/repository/<name>/`",
        413 => "the registry takes only smaller packages: leave files out with `files`, or raise its limit",
        _ => return None,
    };
    Some(text.to_owned())
}
