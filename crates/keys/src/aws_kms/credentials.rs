//! Who asks AWS: credentials that are given, or that a role or a container lends for a short time.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use aws_credential_types::Credentials;
use jiff::{SignedDuration, Timestamp};
use protected_http::{Client, Response};
use protected_model::{
    environment::Environment,
    key_ref::KeyRef,
    secret::{AccessToken, IdToken, Secret as _},
    service_url::{ServiceUrl, is_secure},
};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::{coded, endpoint, until_it_passes};
use crate::{IdTokens, KeyError, Settings, rest};

/// For whom a job's ID token is made when it is shown to AWS.
const AUDIENCE: &str = "sts.amazonaws.com";
/// How long a role is lent, in seconds: the shortest that AWS does.
const ROLE_SECONDS: &str = "900";
/// What the role's log calls us, unless it is told.
const SESSION: &str = "protected-registry";
/// How long before their end credentials are renewed, so that none ends on its way.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// Where the agent of a container answers that is given a path alone: the next hop, and nobody behind it.
const CONTAINER_AGENT: &str = "http://169.254.170.2";

/// Finds credentials, and renews those that end.
pub(super) struct Asker {
    key: KeyRef,
    http: Client,
    source: Source,
    lent: Mutex<Option<Credentials>>,
}

enum Source {
    Given(Credentials),
    Role { sts: ServiceUrl, role: String, session: String, identity: Identity },
    Container { url: Url, authorization: Option<Authorization> },
}

/// What a role is lent for.
enum Identity {
    File(PathBuf),
    Job(Arc<dyn IdTokens>),
}

enum Authorization {
    Token(AccessToken),
    File(PathBuf),
}

impl Asker {
    /// Decides by the environment who asks, in the order of AWS's own clients. Nothing is asked or read yet.
    pub(super) fn new(
        key: &KeyRef,
        region: &str,
        settings: &Settings,
        http: &Client,
    ) -> Result<Self, KeyError> {
        let source = source(key, region, settings)?;
        Ok(Self { key: key.clone(), http: http.clone(), source, lent: Mutex::new(None) })
    }

    /// Returns credentials that last a while yet.
    pub(super) async fn credentials(&self) -> Result<Credentials, KeyError> {
        if let Source::Given(credentials) = &self.source {
            return Ok(credentials.clone());
        }
        let mut lent = self.lent.lock().await;
        if let Some(credentials) = lent.as_ref().filter(|credentials| lasts(credentials)) {
            return Ok(credentials.clone());
        }
        Ok(lent.insert(self.borrow().await?).clone())
    }

    async fn borrow(&self) -> Result<Credentials, KeyError> {
        match &self.source {
            Source::Given(credentials) => Ok(credentials.clone()),
            Source::Role { sts, role, session, identity } => self.role(sts, role, session, identity).await,
            Source::Container { url, authorization } => self.container(url, authorization.as_ref()).await,
        }
    }

    /// AssumeRoleWithWebIdentity, which nobody signs: the ID token is the credential.
    async fn role(
        &self,
        sts: &ServiceUrl,
        role: &str,
        session: &str,
        identity: &Identity,
    ) -> Result<Credentials, KeyError> {
        let token = match identity {
            Identity::File(path) => IdToken::new(self.read(path)?),
            Identity::Job(job) => job.id_token(AUDIENCE).await.map_err(|reason| self.failed(reason))?,
        };
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", session),
            ("WebIdentityToken", token.reveal()),
            ("DurationSeconds", ROLE_SECONDS),
        ];
        let request = || Ok(self.http.post(sts.join("")).form(&form));
        let answer = until_it_passes(&self.key, request, said, &[token.reveal()]).await?;
        assumed(&answer).ok_or_else(|| self.unreadable())
    }

    async fn container(
        &self,
        url: &Url,
        authorization: Option<&Authorization>,
    ) -> Result<Credentials, KeyError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Lent {
            access_key_id: String,
            secret_access_key: String,
            token: Option<String>,
            expiration: Option<Timestamp>,
        }
        let token = match authorization {
            None => None,
            Some(Authorization::Token(token)) => Some(token.clone()),
            Some(Authorization::File(path)) => Some(AccessToken::new(self.read(path)?)),
        };
        let secret = token.as_ref().map(|token| token.reveal());
        let request = || {
            let request = self.http.get(url.clone());
            Ok(match secret {
                Some(secret) => request.header("authorization", secret),
                None => request,
            })
        };
        let secrets: Vec<&str> = secret.into_iter().collect();
        let answer = until_it_passes(&self.key, request, |_| None, &secrets).await?;
        let Lent { access_key_id, secret_access_key, token, expiration } =
            answer.json().map_err(|_| self.unreadable())?;
        Ok(lent(access_key_id, secret_access_key, token, expiration))
    }

    fn read(&self, path: &Path) -> Result<String, KeyError> {
        rest::text(path)
            .map_err(|error| self.failed(format!("the token in {} cannot be read: {error}", path.display())))
    }

    fn unreadable(&self) -> KeyError {
        self.failed("the answer holds no credentials".to_owned())
    }

    fn failed(&self, reason: String) -> KeyError {
        KeyError::Login { key: self.key.clone(), reason }
    }
}

fn source(key: &KeyRef, region: &str, settings: &Settings) -> Result<Source, KeyError> {
    let environment = &settings.environment;
    let refuse = |reason: &str| KeyError::Login { key: key.clone(), reason: reason.to_owned() };
    match (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            let token = environment.get("AWS_SESSION_TOKEN").map(str::to_owned);
            return Ok(Source::Given(lent(id.to_owned(), secret.to_owned(), token, None)));
        }
        (None, None) => {}
        (Some(_), None) => return Err(refuse("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not")),
        (None, Some(_)) => return Err(refuse("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not")),
    }
    let file = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE");
    if let Some(role) = environment.get("AWS_ROLE_ARN") {
        let job = || settings.id_tokens.clone().map(Identity::Job);
        let identity = file.map(|path| Identity::File(path.into())).or_else(job);
        return Ok(Source::Role {
            sts: endpoint(key, environment, "STS", region)?,
            role: role.to_owned(),
            session: environment.get("AWS_ROLE_SESSION_NAME").unwrap_or(SESSION).to_owned(),
            identity: identity.ok_or_else(|| {
                refuse("AWS_ROLE_ARN is set, and there is neither an identity of this job nor AWS_WEB_IDENTITY_TOKEN_FILE to get the role with")
            })?,
        });
    }
    if file.is_some() {
        return Err(refuse("AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not"));
    }
    let container = container(environment).map_err(refuse)?;
    container.ok_or_else(|| KeyError::NotConfigured {
        key: key.clone(),
        what: "who asks AWS",
        hint: "set AWS_ROLE_ARN to a role that this job's identity may take; or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    })
}

fn container(environment: &Environment) -> Result<Option<Source>, &'static str> {
    let url = match (
        environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ) {
        (Some(path), _) => {
            let agent = Url::parse(CONTAINER_AGENT).ok();
            let url = agent.as_ref().and_then(|agent| agent.join(path).ok());
            // Attack: a path such as `//evil.example/` is another host.
            url.filter(|url| agent.is_some_and(|agent| agent.origin() == url.origin()))
                .ok_or("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is no path")?
        }
        (None, Some(url)) => Url::parse(url).ok().filter(is_secure).ok_or(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is no address that credentials are got from: https, or http on this machine",
        )?,
        (None, None) => return Ok(None),
    };
    let file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    let authorization = match (file, token) {
        (Some(path), _) => Some(Authorization::File(path.into())),
        (None, Some(token)) => Some(Authorization::Token(AccessToken::new(token))),
        (None, None) => None,
    };
    Ok(Some(Source::Container { url, authorization }))
}

fn lent(id: String, secret: String, token: Option<String>, ends: Option<Timestamp>) -> Credentials {
    Credentials::new(id, secret, token, ends.map(SystemTime::from), "protected-registry")
}

fn lasts(credentials: &Credentials) -> bool {
    let end = credentials.expiry().map(Timestamp::try_from);
    end.is_none_or(|end| end.is_ok_and(|end| end.duration_since(Timestamp::now()) > MARGIN))
}

/// Reads the answer to AssumeRoleWithWebIdentity, which STS writes in XML alone.
fn assumed(answer: &Response) -> Option<Credentials> {
    let text = std::str::from_utf8(answer.body()).ok()?;
    let document = roxmltree::Document::parse(text).ok()?;
    let found = document.descendants().find(|node| node.has_tag_name("Credentials"))?;
    let value = |name| found.children().find(|node| node.has_tag_name(name))?.text().map(str::to_owned);
    let ends = value("Expiration")?.parse().ok()?;
    Some(lent(value("AccessKeyId")?, value("SecretAccessKey")?, Some(value("SessionToken")?), Some(ends)))
}

fn said(answer: &Response) -> Option<String> {
    let text = std::str::from_utf8(answer.body()).ok()?;
    let document = roxmltree::Document::parse(text).ok()?;
    let found = document.descendants().find(|node| node.has_tag_name("Error"))?;
    let value = |name| found.children().find(|node| node.has_tag_name(name))?.text();
    Some(coded(value("Code")?, value("Message").unwrap_or_default()))
}
