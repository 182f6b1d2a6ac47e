//! Who has to have signed, what has to have been built, and whom to believe: `--policy`, and flags.

use std::path::{Path, PathBuf};

use protected_bundle::layout::signature::Part;
use protected_evidence::{
    statement,
    verify::{ExpectedBuild, Identity, Member, Pattern, Trust, TrustError},
};
use protected_model::digest::Sha256;
use serde::{Deserialize, Serialize};

use super::registry::RegistryKey;
use crate::{
    args::Trust as Arguments,
    context::Context,
    error::{CommandError, Kind},
    read,
};

/// What the flags are called where a policy is named in a verification summary.
const COMMAND_LINE: &str = "https://protected-registry.dev/policies/command-line";

/// The largest trusted root that is fetched: the public one has 7 KiB.
const MAX_ROOT_BYTES: u64 = 4 * 1024 * 1024;

/// A policy file (TOML).
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PolicyFile {
    /// Who has to have signed.
    #[serde(default)]
    identity: Identity,
    /// What the provenance has to say.
    #[serde(default)]
    build: ExpectedBuild,
    /// What has to be signed: documents of a package, and parts of a delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    require: Option<Vec<Required>>,
    /// `trusted_root.json` of the authority, relative to this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trusted_root: Option<PathBuf>,
    /// Public key of who signs without an authority, relative to this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
}

/// What has to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Required {
    Provenance,
    Cyclonedx,
    Spdx,
    /// Which delivery a bundle is.
    Delivery,
    /// That keys are those of a delivery.
    #[serde(rename = "delivery-keys")]
    DeliveryKeys,
}

impl Required {
    /// Returns the part of a delivery that it is about, if it is about one and not about a package.
    fn part(self) -> Option<Part> {
        match self {
            Self::Delivery => Some(Part::Bundle),
            Self::DeliveryKeys => Some(Part::Keys),
            Self::Provenance | Self::Cyclonedx | Self::Spdx => None,
        }
    }

    /// Returns its name in a policy.
    fn name(self) -> &'static str {
        match self {
            Self::Provenance => "provenance",
            Self::Cyclonedx => "cyclonedx",
            Self::Spdx => "spdx",
            Self::Delivery => "delivery",
            Self::DeliveryKeys => "delivery-keys",
        }
    }

    pub(super) fn predicate_type(self) -> &'static str {
        match self {
            Self::Provenance => statement::PROVENANCE,
            Self::Cyclonedx => statement::CYCLONEDX,
            Self::Spdx => statement::SPDX,
            Self::Delivery => statement::DELIVERY_STATEMENT,
            Self::DeliveryKeys => statement::KEYS_STATEMENT,
        }
    }
}

/// What is demanded of the evidence.
pub(in crate::command) struct Policy {
    pub(super) identity: Identity,
    pub(super) build: ExpectedBuild,
    require: Vec<Required>,
    /// Whether they are listed, and not what is usual.
    is_listed: bool,
    /// Whether a flag says something of the build.
    pub(super) names_build: bool,
    /// How it is named in a verification summary.
    pub(super) uri: String,
    pub(super) sha256: Sha256,
    root: Option<Root>,
    key: Option<PathBuf>,
}

/// Where a trusted root is.
enum Root {
    File(PathBuf),
    Fetched(url::Url),
}

/// Whom to believe.
pub(in crate::command) struct Believed {
    /// As people are told.
    pub(super) name: String,
    /// `None` for the public-good instance.
    root: Option<Vec<u8>>,
    key: Option<String>,
    /// Whether it was stated: what nobody stated is the public-good instance.
    pub(super) stated: bool,
}

impl Policy {
    /// Settles the policy from the file and the flags; a flag goes before the file.
    ///
    /// # Errors
    /// When the file cannot be read, and when a pattern demands nothing.
    pub(in crate::command) fn settle(
        context: &Context,
        arguments: &Arguments,
        [source, builder]: [&Option<Pattern>; 2],
    ) -> Result<Self, CommandError> {
        let settings = &context.settings;
        let at = |path: PathBuf| settings.working_directory.join(path);
        let file = settings.value(arguments.policy.clone(), "POLICY", None)?.map(at);
        let (mut policy, mut named) = match &file {
            Some(path) => {
                let (policy, sha256) = read(path)?;
                let name =
                    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                (policy, Some((name, sha256)))
            }
            None => (PolicyFile::default(), None),
        };
        let PolicyFile { identity, build, .. } = &mut policy;
        let mut given = |flag: &Option<Pattern>, name| {
            let pattern = settings.value(flag.clone(), name, None)?;
            if pattern.is_some() {
                named = None;
            }
            Ok::<_, CommandError>(pattern)
        };
        for (flag, name, member) in [
            (&arguments.identity, "IDENTITY", Member::Subject),
            (&arguments.issuer, "ISSUER", Member::Issuer),
        ] {
            if let Some(pattern) = given(flag, name)? {
                identity.demand(member, pattern);
            }
        }
        let mut names_build = false;
        for (flag, name, member) in
            [(source, "EXPECT_SOURCE", &mut build.source), (builder, "EXPECT_BUILDER", &mut build.builder)]
        {
            if let Some(pattern) = given(flag, name)? {
                (*member, names_build) = (Some(pattern), true);
            }
        }
        let beside =
            |path: &Path| file.as_ref().and_then(|file| file.parent()).unwrap_or(Path::new("")).join(path);
        let root: Option<String> = settings.value(arguments.trusted_root.clone(), "TRUSTED_ROOT", None)?;
        let root = match root {
            Some(text) if text.starts_with("https://") || text.starts_with("http://") => {
                let url = url::Url::parse(&text).map_err(|error| {
                    CommandError::usage(format!("the address of the trusted root, `{text}`: {error}"))
                })?;
                Some(Root::Fetched(url))
            }
            Some(text) => Some(Root::File(at(PathBuf::from(text)))),
            None => policy.trusted_root.as_deref().map(beside).map(Root::File),
        };
        let key = settings.value(arguments.key.clone(), "KEY", None)?.map(at);
        let key = key.or_else(|| policy.key.as_deref().map(beside));
        let stated =
            !policy.identity.is_empty() || policy.build != ExpectedBuild::default() || file.is_some();
        let default = if stated { vec![Required::Provenance] } else { Vec::new() };
        let (uri, sha256) = named.unwrap_or_else(|| {
            (COMMAND_LINE.to_owned(), Sha256::of(protected_model::integrity::canonical(&policy)))
        });
        let is_listed = policy.require.is_some();
        let require = policy.require.unwrap_or(default);
        let PolicyFile { identity, build, .. } = policy;
        Ok(Self { identity, build, require, is_listed, names_build, uri, sha256, root, key })
    }

    /// Returns whether anything was said about who signs or whom to believe.
    pub(super) fn is_stated(&self) -> bool {
        self.states_trust() || !self.identity.is_empty() || !self.require.is_empty()
    }

    /// Returns whether it is said what vouches for a signer.
    pub(super) fn states_trust(&self) -> bool {
        self.root.is_some() || self.key.is_some()
    }

    /// Returns whether it is said who has to have signed.
    pub(in crate::command) fn names_somebody(&self) -> bool {
        self.key.is_some() || !self.identity.is_empty()
    }

    /// Returns whether a key has to have signed.
    pub(super) fn names_key(&self) -> bool {
        self.key.is_some() && self.identity.is_empty()
    }

    /// Returns which parts of a delivery have to be signed: what is listed of these, or both where it is said who signs and
    /// the list speaks of packages alone.
    ///
    /// Attack: signatures that are left out, for who demands a signer and gets a delivery without any.
    pub(in crate::command) fn parts(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = self.require.iter().filter_map(|required| required.part()).collect();
        if parts.is_empty() && !(self.is_listed && self.require.is_empty()) {
            let is_demanded = self.key.is_some() || !self.require.is_empty();
            return if is_demanded { Part::ALL.to_vec() } else { parts };
        }
        // A list can leave the keys out, and never the bundle where somebody is named.
        if self.names_somebody() && !parts.contains(&Part::Bundle) {
            parts.push(Part::Bundle);
        }
        parts
    }

    /// Returns the documents of a package that have to be there, signed: what is listed of these, and the provenance where the
    /// list speaks of deliveries alone.
    ///
    /// Attack: a provenance that is left out, for who demands a build and lists other documents.
    pub(super) fn documents(&self) -> Vec<Required> {
        let mut documents = self.require.clone();
        documents.retain(|required| required.part().is_none());
        let is_silent = documents.is_empty() && !self.require.is_empty();
        let is_left_out =
            self.build != ExpectedBuild::default() && !documents.contains(&Required::Provenance);
        if is_silent || is_left_out {
            documents.push(Required::Provenance);
        }
        documents
    }

    /// Returns what is demanded of a package by its name, for a person: `None` where nothing but who signs is.
    ///
    /// It is seen in a package alone, and not in what is sealed.
    pub(in crate::command) fn of_package(&self) -> Option<String> {
        let is_built = self.build != ExpectedBuild::default();
        let is_listed = self.is_listed && self.require.iter().any(|required| required.part().is_none());
        if !is_built && !is_listed {
            return None;
        }
        let mut demanded: Vec<&str> = self.documents().into_iter().map(Required::name).collect();
        demanded.extend(is_built.then_some("what [build] says"));
        Some(demanded.join(", "))
    }

    /// Reads, or fetches, whom to believe.
    ///
    /// # Errors
    /// When the file or the service does not give it, and when it would have to be fetched offline.
    pub(in crate::command) async fn believed(
        &self,
        context: &Context,
        offline: bool,
    ) -> Result<Believed, CommandError> {
        let key = self.key.as_deref().map(text).transpose()?;
        let (name, root) = match &self.root {
            Some(Root::File(path)) => (format!("`{}`", path.display()), Some(bytes(path)?)),
            Some(Root::Fetched(url)) if offline => {
                let message = format!("the trusted root is at {url}, and nothing is fetched offline");
                return Err(CommandError::usage(message).advise("save it once, and give the file"));
            }
            Some(Root::Fetched(url)) => (url.to_string(), Some(fetch(context, url).await?)),
            None => match &self.key {
                Some(path) => {
                    (format!("the key `{}`", path.display()), Some(b"{\"mediaType\": \"\"}".to_vec()))
                }
                None => ("the public-good instance of Sigstore".to_owned(), None),
            },
        };
        let stated = self.states_trust();
        let believed = Believed { name, root, key, stated };
        believed.trust(None)?;
        Ok(believed)
    }
}

impl Believed {
    /// Returns the trust, with the registry's key in the place of the stated one where a bundle names that.
    ///
    /// A registry of one's own logs nowhere what it signs itself: such a bundle is believed for its key alone.
    ///
    /// # Errors
    /// When the root or a key is none.
    pub(super) fn trust(&self, registry: Option<&RegistryKey>) -> Result<Trust, CommandError> {
        if let Some(key) = registry.filter(|key| !key.needs_log) {
            return self.by_key(key);
        }
        let refuse = |error: TrustError| self.refuse(&error);
        let trust = match &self.root {
            Some(root) => Trust::from_trusted_root(root),
            None => Trust::public_good(),
        };
        let trust = trust.map_err(refuse)?;
        match (registry, &self.key) {
            (Some(key), _) => trust.with_key(&key.pem, Some(key.id.clone())).map_err(refuse),
            (None, Some(pem)) => trust.with_key(pem, None).map_err(refuse),
            (None, None) => Ok(trust),
        }
    }
}

impl Believed {
    /// Returns the trust in a registry's key alone.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn by_key(&self, registry: &RegistryKey) -> Result<Trust, CommandError> {
        Trust::from_public_key(&registry.pem).map_err(|error| self.refuse(&error))
    }

    fn refuse(&self, error: &TrustError) -> CommandError {
        CommandError::from_error(Kind::BadInput, &format!("trusting {}", self.name), error)
    }
}

fn read(path: &Path) -> Result<(PolicyFile, Sha256), CommandError> {
    let text = text(path)?;
    let policy = toml::from_str(&text).map_err(|error| {
        // The parser's own words repeat the line: another file, named by mistake, may hold a secret.
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        CommandError::usage(format!(
            "the policy `{}` is not one at line {line}: {}",
            path.display(),
            error.message()
        ))
    })?;
    Ok((policy, Sha256::of(text)))
}

fn text(path: &Path) -> Result<String, CommandError> {
    let text = String::from_utf8(bytes(path)?);
    text.map_err(|_| cannot_read(path, &std::io::Error::other("it is no UTF-8")))
}

fn bytes(path: &Path) -> Result<Vec<u8>, CommandError> {
    read::whole(path).map_err(|error| cannot_read(path, &error))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::usage(format!("cannot read `{}`: {error}", path.display()))
}

async fn fetch(context: &Context, url: &url::Url) -> Result<Vec<u8>, CommandError> {
    let request =
        context.http()?.get(url.clone()).max_bytes(MAX_ROOT_BYTES).retry(protected_http::Retry::standard());
    let answer = context.cancel.or(request.send()).await?.map_err(|error| {
        let hint = error.hint();
        CommandError::from_error(Kind::Unavailable, "fetching the trusted root", &error).hint(hint)
    })?;
    if answer.status != 200 {
        let message =
            format!("fetching the trusted root from {url}: the answer is {}, expected 200", answer.status);
        return Err(CommandError::new(Kind::Failed, message));
    }
    Ok(answer.into_body().to_vec())
}
