//! Who asks a registry: what the environment says, or Docker's own configuration.

use std::{fs, io::ErrorKind, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_model::{
    environment::Environment,
    secret::{CloudCredential, Secret as _},
};
use serde_json::Value;

use crate::{AreaRef, StorageError};

const USERNAME: &str = "PROTECTED_REGISTRY_OCI_USERNAME";
const PASSWORD: &str = "PROTECTED_REGISTRY_OCI_PASSWORD";
/// The registry that they are for.
///
/// Attack: a manifest that somebody wrote names a registry of his own, which would be shown the credential of ours.
const HOST: &str = "PROTECTED_REGISTRY_OCI_HOST";

/// How such a credential begins (RFC 7617).
const SCHEME: &str = "Basic ";

/// A username and password, as `Authorization: Basic` has them.
#[derive(Clone)]
pub(crate) struct Basic(CloudCredential);

impl Basic {
    fn new(username: &str, password: &str) -> Self {
        let encoded = STANDARD.encode(format!("{username}:{password}"));
        Self(CloudCredential::new(format!("{SCHEME}{encoded}")))
    }

    /// Returns what of it no message may repeat.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let encoded = self.0.reveal().trim_start_matches(SCHEME);
        let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let password = decoded.as_deref().and_then(|text| Some(text.split_once(':')?.1.to_owned()));
        [Some(encoded.to_owned()), password]
            .into_iter()
            .flatten()
            .filter(|secret| !secret.is_empty())
            .collect()
    }

    /// Returns the header, which is for the registry or whom it names for tokens.
    pub(crate) fn header(&self) -> &CloudCredential {
        &self.0
    }
}

/// Finds the credential for a registry, if there is one.
///
/// Programs that hold credentials for Docker (`credsStore`, `credHelpers`) are not run: which one it is a file says
/// that others may write.
pub(crate) fn find(
    area: &AreaRef,
    authority: &str,
    environment: &Environment,
) -> Result<Option<Basic>, StorageError> {
    let missing = |what, hint| StorageError::NotConfigured { area: area.clone().into(), what, hint };
    match (environment.get(HOST), environment.get(USERNAME), environment.get(PASSWORD)) {
        (Some(host), Some(username), Some(password)) if host == authority => {
            return Ok(Some(Basic::new(username, password)));
        }
        (None, None, None) | (Some(_), Some(_), Some(_)) => {}
        _ => {
            return Err(missing(
                "the rest of the credential",
                "set PROTECTED_REGISTRY_OCI_USERNAME, PROTECTED_REGISTRY_OCI_PASSWORD and PROTECTED_REGISTRY_OCI_HOST, the registry that they are for (`<host>` or `<host>:<port>`), all or none",
            ));
        }
    }
    let file = environment
        .get("REGISTRY_AUTH_FILE")
        .map(PathBuf::from)
        .or_else(|| environment.get("DOCKER_CONFIG").map(|folder| PathBuf::from(folder).join("config.json")))
        .or_else(|| environment.get("HOME").map(|home| PathBuf::from(home).join(".docker/config.json")));
    let Some(file) = file else { return Ok(None) };
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StorageError::File { action: "read", path: file, source }),
    };
    // What is wrong with it is not said: it holds passwords.
    let wrong = || {
        let reason = "the `auths` of Docker's configuration file are JSON, each `auth` base64 of `<username>:<password>`";
        StorageError::Settings { area: area.clone().into(), reason }
    };
    let config: Value = serde_json::from_slice(&text).map_err(|_| wrong())?;
    let host = if authority == "docker.io" { "index.docker.io" } else { authority };
    let names = [
        authority.to_owned(),
        format!("https://{host}"),
        format!("https://{host}/"),
        format!("https://{host}/v1/"),
    ];
    let auth = names.iter().find_map(|name| config.get("auths")?.get(name)?.get("auth")?.as_str());
    let Some(auth) = auth.filter(|auth| !auth.is_empty()) else { return Ok(None) };
    let decoded =
        STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    // Docker ended them with a zero byte once.
    let (username, password) = decoded.trim_end_matches('\0').split_once(':').ok_or_else(wrong)?;
    Ok(Some(Basic::new(username, password)))
}
