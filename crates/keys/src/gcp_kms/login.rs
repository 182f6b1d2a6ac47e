//! Who asks Google Cloud: whose access token is given, who has a credential file, the job, or the machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use protected_http::Client;
use protected_model::{
    environment::Environment,
    key_ref::KeyRef,
    secret::{AccessToken, ClientSecret, CloudCredential, IdToken, Secret as _},
    service_url::{ServiceUrl, ServiceUrlError, is_secure},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::Url;

use super::said;
use crate::{
    IdTokens, KeyError, Settings,
    rest::{self, Lent},
};

/// What an access token is for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
/// What the token is for with which a federated identity becomes a service account.
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";
/// How long an access token lives.
const LIFETIME_SECONDS: i64 = 3600;
/// Where the machine tells who it is.
const MACHINE: &str = "169.254.169.254";

/// The variable that says where else a service is, and where it is without.
type Endpoint = (&'static str, &'static str);
const KMS: Endpoint = ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", "https://cloudkms.googleapis.com/");
const STS: Endpoint = ("CLOUDSDK_API_ENDPOINT_OVERRIDES_STS", "https://sts.googleapis.com/");
const IAM: Endpoint =
    ("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS", "https://iamcredentials.googleapis.com/");
const OAUTH: Endpoint = ("CLOUDSDK_AUTH_TOKEN_HOST", "https://oauth2.googleapis.com/token");

const TOKENS: &[&str] = &["GOOGLE_OAUTH_ACCESS_TOKEN", "CLOUDSDK_AUTH_ACCESS_TOKEN"];
const FILES: &[&str] = &["GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE"];
const PROVIDER: &str = "PROTECTED_REGISTRY_GCP_WORKLOAD_IDENTITY_PROVIDER";
const ACCOUNT: &str = "PROTECTED_REGISTRY_GCP_SERVICE_ACCOUNT";
const METADATA: &str = "GCE_METADATA_HOST";
const QUOTA_PROJECT: &str = "GOOGLE_CLOUD_QUOTA_PROJECT";

/// An identity at Google, and its access token once it was needed.
pub(super) struct Login {
    services: Services,
    who: Who,
    quota_project: Option<String>,
    session: rest::Login,
}

/// Where Google's services are.
struct Services {
    kms: ServiceUrl,
    sts: ServiceUrl,
    iam: ServiceUrl,
    oauth: ServiceUrl,
}

enum Who {
    /// Whose access token is given.
    Token(AccessToken),
    /// A service account, by a key of its own.
    Account { email: String, key_id: Option<String>, key: Box<KeyPair> },
    /// Somebody who logged in with `gcloud`.
    User { client_id: String, client_secret: ClientSecret, refresh_token: CloudCredential },
    /// Whoever another issuer says it is.
    Federated { provider: String, subject: Subject, kind: &'static str, account: Option<String> },
    /// The service account of this machine.
    Machine(Url),
}

/// Where the token of another issuer is.
enum Subject {
    Job(Arc<dyn IdTokens>),
    File { path: PathBuf, field: Option<String> },
    Url { url: Url, headers: BTreeMap<String, CloudCredential>, field: Option<String> },
}

/// `service_account`
#[derive(Deserialize)]
struct AccountFile {
    client_email: String,
    private_key_id: Option<String>,
    private_key: CloudCredential,
    token_uri: String,
}

/// `authorized_user`
#[derive(Deserialize)]
struct UserFile {
    client_id: String,
    client_secret: ClientSecret,
    refresh_token: CloudCredential,
}

/// `external_account`
#[derive(Deserialize)]
struct FederationFile {
    audience: String,
    subject_token_type: String,
    token_url: String,
    credential_source: SubjectSource,
    service_account_impersonation_url: Option<String>,
}

#[derive(Deserialize)]
struct SubjectSource {
    file: Option<PathBuf>,
    url: Option<Url>,
    #[serde(default)]
    headers: BTreeMap<String, CloudCredential>,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
struct Format {
    subject_token_field_name: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    access_token: AccessToken,
    expires_in: Option<u64>,
}

impl Token {
    fn lent(self) -> Lent {
        (self.access_token, self.expires_in.map(Duration::from_secs))
    }
}

impl Login {
    /// Finds out who asks, and asks nobody yet.
    pub(super) fn new(key: &KeyRef, settings: &Settings) -> Result<Self, KeyError> {
        let environment = &settings.environment;
        let services = Services::new(key, environment)?;
        let failed = |reason| KeyError::Login { key: key.clone(), reason };
        let given = |names: &[&'static str]| {
            names.iter().find_map(|name| environment.get(name).map(|value| (*name, value)))
        };
        let mut quota_project = environment.get(QUOTA_PROJECT).map(str::to_owned);
        let who = if let Some((_, token)) = given(TOKENS) {
            Who::Token(AccessToken::new(token))
        } else if let Some((name, path)) = given(FILES) {
            let failed = |reason| failed(format!("the file `{path}` that {name} names: {reason}"));
            let file = document(&rest::file(Path::new(path)).map_err(failed)?).map_err(failed)?;
            quota_project = quota_project.or_else(|| Some(file["quota_project_id"].as_str()?.to_owned()));
            services.who(&file).map_err(failed)?
        } else if let (Some(provider), Some(identity)) = (environment.get(PROVIDER), &settings.id_tokens) {
            let provider =
                provider_of(provider).ok_or_else(|| failed(format!("{PROVIDER}: {NO_PROVIDER}")))?;
            let account = environment.get(ACCOUNT).map(str::to_owned);
            if account.as_deref().is_some_and(|account| !is_account(account)) {
                return Err(failed(format!("{ACCOUNT}: expected the mail address of a service account")));
            }
            let subject = Subject::Job(identity.clone());
            Who::Federated { provider: provider.to_owned(), subject, kind: ID_TOKEN, account }
        } else if environment.get(PROVIDER).is_some() {
            // Never the machine in the job's place.
            return Err(KeyError::NotConfigured {
                key: key.clone(),
                what: "which job shows its identity to PROTECTED_REGISTRY_GCP_WORKLOAD_IDENTITY_PROVIDER",
                hint: "run in CI with an identity, or unset it and set GOOGLE_OAUTH_ACCESS_TOKEN or GOOGLE_APPLICATION_CREDENTIALS",
            });
        } else if let Some(host) = environment.get(METADATA) {
            let expected = "expected `metadata.google.internal`, or an address of this machine";
            Who::Machine(machine(host).ok_or_else(|| failed(format!("{METADATA}: {expected}")))?)
        } else {
            return Err(KeyError::NotConfigured {
                key: key.clone(),
                what: "who asks Google Cloud",
                hint: "in CI, set PROTECTED_REGISTRY_GCP_WORKLOAD_IDENTITY_PROVIDER; elsewhere, set GOOGLE_OAUTH_ACCESS_TOKEN to what `gcloud auth print-access-token` prints, or GOOGLE_APPLICATION_CREDENTIALS to a credential file",
            });
        };
        Ok(Self { services, who, quota_project, session: rest::Login::default() })
    }

    pub(super) fn kms(&self) -> &ServiceUrl {
        &self.services.kms
    }

    /// Returns the project that pays for requests, where that is not the key's.
    pub(super) fn quota_project(&self) -> Option<&str> {
        self.quota_project.as_deref()
    }

    /// Returns an access token, after logging in where there is none that lasts.
    pub(super) async fn token(&self, key: &KeyRef, http: &Client) -> Result<AccessToken, KeyError> {
        let session = Session { key, http, services: &self.services };
        self.session.token(session.token(&self.who)).await
    }
}

const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
/// What a federated identity may be shown as.
const SUBJECT_TYPES: &[&str] = &[ID_TOKEN, "urn:ietf:params:oauth:token-type:jwt"];
const NO_PROVIDER: &str =
    "expected projects/<number>/locations/global/workloadIdentityPools/<pool>/providers/<provider>";

impl Services {
    fn new(key: &KeyRef, environment: &Environment) -> Result<Self, KeyError> {
        let find = |(name, usual): Endpoint| {
            environment.get(name).unwrap_or(usual).parse().map_err(|error: ServiceUrlError| {
                KeyError::Address { key: key.clone(), reason: format!("{name}: {error}") }
            })
        };
        Ok(Self { kms: find(KMS)?, sts: find(STS)?, iam: find(IAM)?, oauth: find(OAUTH)? })
    }

    /// Reads a credential file.
    fn who(&self, file: &Value) -> Result<Who, String> {
        match file["type"].as_str() {
            Some("service_account") => self.account(fields(file)?),
            Some("authorized_user") => {
                let UserFile { client_id, client_secret, refresh_token } = fields(file)?;
                Ok(Who::User { client_id, client_secret, refresh_token })
            }
            Some("external_account") => self.federated(fields(file)?),
            other => Err(format!(
                "expected the type `service_account`, `authorized_user` or `external_account`, found {}",
                other.map_or("none".to_owned(), |found| format!("`{}`", rest::readable(found)))
            )),
        }
    }

    fn account(&self, file: AccountFile) -> Result<Who, String> {
        googles("token_uri", &file.token_uri, OAUTH, &self.oauth, "")?;
        let key = rest::from_pem("PRIVATE KEY", file.private_key.reveal())
            .and_then(|der| KeyPair::from_pkcs8(&der).ok())
            .ok_or("its private_key is no RSA key in PEM")?;
        Ok(Who::Account { email: file.client_email, key_id: file.private_key_id, key: Box::new(key) })
    }

    fn federated(&self, file: FederationFile) -> Result<Who, String> {
        googles("token_url", &file.token_url, STS, &self.sts, "v1/token")?;
        let kind = SUBJECT_TYPES.iter().find(|kind| **kind == file.subject_token_type);
        let kind =
            kind.ok_or_else(|| format!("its subject_token_type is none of {}", SUBJECT_TYPES.join(", ")))?;
        let provider = file.audience.strip_prefix("//iam.googleapis.com/").and_then(provider_of);
        let provider =
            provider.ok_or_else(|| format!("its audience: behind //iam.googleapis.com/, {NO_PROVIDER}"))?;
        let account =
            file.service_account_impersonation_url.map(|url| self.impersonated(&url)).transpose()?;
        let SubjectSource { file, url, headers, format } = file.credential_source;
        let field = format.subject_token_field_name;
        let subject = match (file, url) {
            (Some(path), None) => Subject::File { path, field },
            // Attack: on its way in clear, whoever is in between takes the token.
            (None, Some(url)) if is_secure(&url) => Subject::Url { url, headers, field },
            (None, Some(_)) => return Err("the url of its credential_source is not https".to_owned()),
            _ => return Err("its credential_source is neither a `file` nor a `url`".to_owned()),
        };
        Ok(Who::Federated { provider: provider.to_owned(), subject, kind, account })
    }

    /// Returns the service account that a URL is about.
    fn impersonated(&self, url: &str) -> Result<String, String> {
        let name = "service_account_impersonation_url";
        let account = url.rsplit_once('/').and_then(|(_, last)| last.strip_suffix(":generateAccessToken"));
        let account = account.filter(|account| is_account(account));
        let account = account.ok_or_else(|| format!("its {name} is about no service account"))?;
        googles(name, url, IAM, &self.iam, &impersonation(account))?;
        Ok(account.to_owned())
    }
}

/// Refuses a credential file that would have a token sent to somebody else.
///
/// Attack: whoever may change the file, or have another one be used, names a service of their own, and the identity of
/// the job comes to them. Where Google is, only this program and its environment say.
fn googles(field: &str, found: &str, usual: Endpoint, here: &ServiceUrl, path: &str) -> Result<(), String> {
    let (name, usual) = usual;
    if found == format!("{usual}{path}") || found == below(here, path).as_str() {
        return Ok(());
    }
    Err(format!("its {field} is not Google's, {usual}{path}; {name} says where else it is"))
}

/// Returns the URL of a path below a service, or of the service itself.
fn below(service: &ServiceUrl, path: &str) -> Url {
    let mut url = service.join(path);
    if path.is_empty() {
        let bare = url.path().trim_end_matches('/').to_owned();
        url.set_path(&bare);
    }
    url
}

fn impersonation(account: &str) -> String {
    format!("v1/projects/-/serviceAccounts/{account}:generateAccessToken")
}

/// Whether a text is the mail address of a service account, and no path.
fn is_account(text: &str) -> bool {
    text.split_once('@').is_some_and(|(name, domain)| {
        let fits = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
        };
        fits(name) && fits(domain)
    })
}

/// Returns the full name of a provider of a workload identity pool, if it is one.
fn provider_of(text: &str) -> Option<&str> {
    let id = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let parts: Vec<&str> = text.split('/').collect();
    let ["projects", number, "locations", "global", "workloadIdentityPools", pool, "providers", provider] =
        parts.as_slice()
    else {
        return None;
    };
    let numeric = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (numeric && id(pool) && id(provider)).then_some(text)
}

/// Returns where the machine is asked: nowhere else than at its own address.
fn machine(host: &str) -> Option<Url> {
    let host = if host == "metadata.google.internal" { MACHINE } else { host };
    let path = "computeMetadata/v1/instance/service-accounts/default/token";
    let url = Url::parse(&format!("http://{host}/{path}")).ok()?;
    (host == MACHINE || is_secure(&url)).then_some(url)
}

fn document(content: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(content).map_err(|_| "it is not JSON".to_owned())
}

/// Reads fields, and repeats nothing of them: some are secret.
fn fields<T: DeserializeOwned>(file: &Value) -> Result<T, String> {
    T::deserialize(file).map_err(|error| {
        let text = error.to_string();
        if text.starts_with("missing field `") {
            text
        } else {
            "a field of it is not what it has to be".to_owned()
        }
    })
}

/// Returns the token in a text: all of it, or a field of it.
fn subject(content: &[u8], field: Option<&str>) -> Result<IdToken, String> {
    let text = match field {
        Some(field) => {
            let found = document(content)?[field].as_str().map(str::to_owned);
            found.ok_or_else(|| format!("it has no text `{}`", rest::readable(field)))?
        }
        None => String::from_utf8(content.to_vec()).map_err(|_| "it is not text".to_owned())?,
    };
    Ok(IdToken::new(text.trim()))
}

/// Logging in, for the sake of a key.
struct Session<'a> {
    key: &'a KeyRef,
    http: &'a Client,
    services: &'a Services,
}

impl Session<'_> {
    async fn token(&self, who: &Who) -> Result<Lent, KeyError> {
        match who {
            Who::Token(token) => Ok((token.clone(), None)),
            Who::Account { email, key_id, key } => self.account(email, key_id.as_deref(), key).await,
            Who::User { client_id, client_secret, refresh_token } => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", client_id),
                    ("client_secret", client_secret.reveal()),
                    ("refresh_token", refresh_token.reveal()),
                ];
                let secrets = [client_secret.reveal(), refresh_token.reveal()];
                self.ask(below(&self.services.oauth, ""), &form, &secrets).await
            }
            Who::Federated { provider, subject, kind, account } => {
                let subject = self.subject(provider, subject).await?;
                let scope = if account.is_some() { IAM_SCOPE } else { SCOPE };
                let form = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("audience", &format!("//iam.googleapis.com/{provider}")),
                    ("scope", scope),
                    ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("subject_token", subject.reveal()),
                    ("subject_token_type", kind),
                ];
                let token = self.ask(self.services.sts.join("v1/token"), &form, &[subject.reveal()]).await?;
                match account {
                    Some(account) => self.impersonate(account, &token.0).await,
                    None => Ok(token),
                }
            }
            Who::Machine(url) => {
                let request = self.http.get(url.clone()).header("metadata-flavor", "Google");
                Ok(rest::json::<Token>(self.key, request, said, &[]).await?.lent())
            }
        }
    }

    fn failed(&self, reason: String) -> KeyError {
        KeyError::Login { key: self.key.clone(), reason }
    }

    async fn ask(&self, url: Url, form: &[(&str, &str)], secrets: &[&str]) -> Result<Lent, KeyError> {
        let request = self.http.post(url).form(form);
        Ok(rest::json::<Token>(self.key, request, said, secrets).await?.lent())
    }

    /// Asks by an assertion that the account signs itself (RFC 7523): for Google, wherever it is asked.
    async fn account(&self, email: &str, key_id: Option<&str>, key: &KeyPair) -> Result<Lent, KeyError> {
        let url = below(&self.services.oauth, "");
        let now = Timestamp::now().as_second();
        let claims =
            json!({"iss": email, "scope": SCOPE, "aud": OAUTH.1, "iat": now, "exp": now + LIFETIME_SECONDS});
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(key_id) = key_id {
            header["kid"] = key_id.into();
        }
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .map_err(|_| self.failed("the cryptography of this program failed".to_owned()))?;
        let assertion = IdToken::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)));
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", assertion.reveal()),
        ];
        self.ask(url, &form, &[assertion.reveal()]).await
    }

    /// Returns what another issuer says of who asks.
    async fn subject(&self, provider: &str, source: &Subject) -> Result<IdToken, KeyError> {
        match source {
            Subject::Job(identity) => {
                let audience = format!("https://iam.googleapis.com/{provider}");
                identity.id_token(&audience).await.map_err(|reason| self.failed(reason))
            }
            Subject::File { path, field } => {
                let token = rest::file(path).and_then(|content| subject(&content, field.as_deref()));
                token.map_err(|reason| {
                    self.failed(format!("the file `{}` with the token: {reason}", path.display()))
                })
            }
            Subject::Url { url, headers, field } => {
                let request = self.http.get(url.clone());
                let request =
                    headers.iter().fold(request, |request, (name, value)| request.secret_header(name, value));
                let secrets: Vec<&str> = headers.values().map(CloudCredential::reveal).collect();
                let answer = rest::answer(self.key, request, said, &secrets).await?;
                subject(answer.body(), field.as_deref()).map_err(|reason| {
                    self.failed(format!("the answer to {} with the token: {reason}", answer.request()))
                })
            }
        }
    }

    async fn impersonate(&self, account: &str, token: &AccessToken) -> Result<Lent, KeyError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Made {
            access_token: AccessToken,
            expire_time: Timestamp,
        }
        let request = self.http.post(self.services.iam.join(&impersonation(account))).bearer(token);
        let request = request.json(&json!({"scope": [SCOPE], "lifetime": format!("{LIFETIME_SECONDS}s")}));
        let made: Made = rest::json(self.key, request, said, &[token.reveal()]).await?;
        let lasts = made.expire_time.duration_since(Timestamp::now());
        Ok((made.access_token, Some(Duration::try_from(lasts).unwrap_or_default())))
    }
}
