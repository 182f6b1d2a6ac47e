//! Who asks: an application of Microsoft Entra, by an identity that it trusts or by its secret.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use protected_http::{Client, Response};
use protected_model::{
    environment::Environment,
    key_ref::KeyRef,
    secret::{AccessToken, ClientSecret, IdToken, Secret as _},
    service_url::ServiceUrl,
};
use serde::Deserialize;

use crate::{
    IdTokens, KeyError, Settings,
    rest::{self, Lent},
};

/// One of Azure's clouds, which have nothing in common.
pub(super) struct Cloud {
    /// The hosts that hand out its tokens, the usual one first.
    authorities: &'static [&'static str],
    /// Whom a foreign identity's token is for.
    exchange: &'static str,
    /// What the names of its vaults end with.
    pub(super) vaults: &'static str,
    /// Its resource manager.
    pub(super) management: &'static str,
}

const CLOUDS: &[Cloud] = &[
    Cloud {
        authorities: &["login.microsoftonline.com"],
        exchange: "api://AzureADTokenExchange",
        vaults: "vault.azure.net",
        management: "https://management.azure.com",
    },
    Cloud {
        authorities: &["login.microsoftonline.us"],
        exchange: "api://AzureADTokenExchangeUSGov",
        vaults: "vault.usgovcloudapi.net",
        management: "https://management.usgovcloudapi.net",
    },
    Cloud {
        authorities: &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
        exchange: "api://AzureADTokenExchangeChina",
        vaults: "vault.azure.cn",
        management: "https://management.chinacloudapi.cn",
    },
];

pub(super) struct Application {
    key: KeyRef,
    http: Client,
    authority: ServiceUrl,
    tenant: String,
    id: String,
    proof: Proof,
}

/// How an application shows that it is itself.
enum Proof {
    Secret(ClientSecret),
    /// A file with a token of an identity that it trusts.
    File(PathBuf),
    /// The identity of the job.
    Job(Arc<dyn IdTokens>),
}

#[derive(Deserialize)]
struct Granted {
    access_token: AccessToken,
    expires_in: Option<u64>,
}

impl Application {
    pub(super) fn from_settings(key: &KeyRef, settings: &Settings, http: &Client) -> Result<Self, KeyError> {
        let environment = &settings.environment;
        let tenant =
            given(key, environment, "AZURE_TENANT_ID", "which tenant of Microsoft Entra to log in to")?;
        let id = given(key, environment, "AZURE_CLIENT_ID", "which application asks Azure Key Vault")?;
        let path = |name| environment.get(name).map(PathBuf::from);
        // In the order of Azure's own clients.
        let secret =
            environment.get("AZURE_CLIENT_SECRET").map(|secret| Proof::Secret(ClientSecret::new(secret)));
        let proof = secret
            .or_else(|| path("AZURE_FEDERATED_TOKEN_FILE").map(Proof::File))
            .or_else(|| settings.id_tokens.clone().map(Proof::Job));
        let proof = proof.ok_or(KeyError::NotConfigured {
            key: key.clone(),
            what: "how the application AZURE_CLIENT_ID logs in",
            hint: "run in CI with an identity that the application trusts, or set AZURE_FEDERATED_TOKEN_FILE or AZURE_CLIENT_SECRET",
        })?;
        let authority = environment.get("AZURE_AUTHORITY_HOST").unwrap_or(CLOUDS[0].authorities[0]);
        // Azure's own clients take a bare host as well.
        let authority =
            if authority.contains("://") { authority.to_owned() } else { format!("https://{authority}") };
        let authority = authority.parse().map_err(|error| KeyError::Address {
            key: key.clone(),
            reason: format!("the address of Microsoft Entra (AZURE_AUTHORITY_HOST): {error}"),
        })?;
        Ok(Self { key: key.clone(), http: http.clone(), authority, tenant, id, proof })
    }

    /// Returns the cloud of its authority, where it is one of Azure's.
    pub(super) fn cloud(&self) -> Option<&'static Cloud> {
        let host = self.authority.authority();
        CLOUDS.iter().find(|cloud| cloud.authorities.contains(&host.as_str()))
    }

    /// Returns who hands out its tokens.
    pub(super) fn issuer(&self) -> String {
        self.authority.join(&self.tenant).into()
    }

    /// Logs in.
    pub(super) async fn token(&self, scope: &str) -> Result<Lent, KeyError> {
        let given;
        let proof = match &self.proof {
            Proof::Secret(secret) => secret.reveal(),
            Proof::File(path) => {
                given = self.read(path)?;
                given.reveal()
            }
            Proof::Job(identity) => {
                let audience = self.cloud().unwrap_or(&CLOUDS[0]).exchange;
                given = identity.id_token(audience).await.map_err(|reason| self.failed(reason))?;
                given.reveal()
            }
        };
        let mut form = vec![("grant_type", "client_credentials"), ("client_id", &self.id), ("scope", scope)];
        if let Proof::Secret(_) = self.proof {
            form.push(("client_secret", proof));
        } else {
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            form.extend([("client_assertion_type", kind), ("client_assertion", proof)]);
        }
        let url = self.authority.join(&format!("{}/oauth2/v2.0/token", self.tenant));
        let request = self.http.post(url).form(&form);
        let granted: Granted =
            rest::json(&self.key, request, said, &[proof]).await.map_err(|error| match error {
                KeyError::Service { status: status @ (400 | 401), message, .. } => {
                    let text = message.unwrap_or_else(|| "for no reason that it gives".to_owned());
                    self.failed(format!(
                        "Microsoft Entra refused the application {} ({status}): {text}",
                        self.id
                    ))
                }
                other => other,
            })?;
        Ok((granted.access_token, granted.expires_in.map(Duration::from_secs)))
    }

    fn read(&self, path: &Path) -> Result<IdToken, KeyError> {
        rest::text(path).map(IdToken::new).map_err(|error| {
            self.failed(format!("the token in `{}` (AZURE_FEDERATED_TOKEN_FILE): {error}", path.display()))
        })
    }

    fn failed(&self, reason: String) -> KeyError {
        KeyError::Login { key: self.key.clone(), reason }
    }
}

/// Returns a variable that stands in the path of a request, or in a form beside a credential.
fn given(
    key: &KeyRef,
    environment: &Environment,
    name: &'static str,
    what: &'static str,
) -> Result<String, KeyError> {
    let hint = match name {
        "AZURE_TENANT_ID" => "set AZURE_TENANT_ID to the tenant of the vault",
        _ => "set AZURE_CLIENT_ID to the application, or managed identity, that may use the key",
    };
    let value = environment.get(name).ok_or(KeyError::NotConfigured { key: key.clone(), what, hint })?;
    if value.split('.').all(|label| !label.is_empty() && label.chars().all(is_plain)) {
        return Ok(value.to_owned());
    }
    let reason = format!("expected in {name} an id such as `6ab3c3e2-93a5-4a8e-9d62-3a9f2a1f4a11`");
    Err(KeyError::Login { key: key.clone(), reason })
}

/// Whether a character may stand in an id or in a label of a domain.
pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

/// Returns what a vault, the resource manager (`error.message`) or Entra (`error_description`) says.
pub(super) fn said(answer: &Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Problem {
        error: Kind,
        error_description: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Kind {
        Code(String),
        Told { code: String, message: String },
    }
    let Problem { error, error_description } = answer.json().ok()?;
    match (error, error_description) {
        (_, Some(text)) | (Kind::Code(text), None) => Some(text),
        (Kind::Told { code, message }, None) => Some(format!("{code}: {message}")),
    }
}
