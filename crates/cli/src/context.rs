//! What every command works with, and what it must undo at its end.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use protected_ci::RelyingParty;
use protected_fractalops::FractalOps;
use protected_http::Client;
use protected_model::{
    api::{
        npm_token::{NpmTokenRequest, NpmTokenResponse},
        oauth::TokenExchangeResponse,
    },
    environment::Environment,
    hint::Hint,
    identity::RunIdentity,
    secret::{AccessToken, IdToken, RegistryToken, Secret},
};

use crate::{
    cancel::Cancel,
    console::Console,
    error::{CommandError, Kind},
    settings::Settings,
};

/// How long the cleanup of a command may take in all. CI runners kill about ten seconds after a signal.
const CLEANUP: Duration = Duration::from_secs(5);

/// A command's surroundings.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) console: Console,
    pub(crate) cancel: Cancel,
    pub(crate) correlation_id: String,
    http: OnceLock<Client>,
    undo: Mutex<Undo>,
}

/// What was made and must not stay.
#[derive(Default)]
struct Undo {
    tokens: Vec<(FractalOps, AccessToken, &'static str)>,
}

/// The identity of this job, for key services.
struct Job {
    platform: Box<dyn protected_ci::Platform>,
    /// The audience of FractalOps.
    own: Option<String>,
    http: Client,
}

#[async_trait]
impl protected_keys::IdTokens for Job {
    async fn id_token(&self, audience: &str) -> Result<IdToken, String> {
        // Attack: a key service that is shown the token for FractalOps publishes in the job's name.
        if self.own.as_deref() == Some(audience) {
            return Err(format!(
                "`{audience}` is the audience of FractalOps, whose token nobody else is shown"
            ));
        }
        let asked = self.platform.token_for(RelyingParty::KeyService, &self.http, audience).await;
        asked.map_err(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        })
    }
}

/// A CI session with FractalOps.
pub(crate) struct Session {
    pub(crate) fractalops: FractalOps,
    pub(crate) token: AccessToken,
    pub(crate) exchange: TokenExchangeResponse,
}

impl Context {
    pub(crate) fn new(settings: Settings, console: Console, cancel: Cancel) -> Self {
        let correlation_id = ulid::Ulid::generate().to_string();
        Self { settings, console, cancel, correlation_id, http: OnceLock::new(), undo: Mutex::default() }
    }

    /// Returns the one HTTP client of this command, whose connections all its parts share.
    ///
    /// # Errors
    /// When the proxy or the certificate authorities cannot be used.
    pub(crate) fn http(&self) -> Result<Client, CommandError> {
        if let Some(client) = self.http.get() {
            return Ok(client.clone());
        }
        let user_agent = concat!("protected-registry/", env!("CARGO_PKG_VERSION"));
        protected_http::Settings::from_environment(
            &self.settings.environment,
            self.settings.ca_pem()?,
            user_agent,
        )
        .and_then(|settings| Client::new(&settings))
        .map_err(|error| {
            let hint = error.hint();
            CommandError::from_error(Kind::Usage, "setting up HTTP", &error).hint(hint)
        })
        .map(|client| self.http.get_or_init(|| client).clone())
    }

    /// Returns the client of the control plane.
    ///
    /// # Errors
    /// When nothing says where it is.
    pub(crate) fn fractalops(&self, http: &Client) -> Result<FractalOps, CommandError> {
        let base = self.settings.fractalops_url()?;
        Ok(FractalOps::new(http.clone(), base, self.correlation_id.clone()))
    }

    /// Obtains an ID token from the CI platform and exchanges it for a session, which ends with the command.
    ///
    /// # Errors
    /// When this is no CI run, when the platform gives no token, and when FractalOps refuses it.
    pub(crate) async fn log_in(&self, http: &Client) -> Result<Session, CommandError> {
        let Some(platform) = self.console.platform() else {
            return Err(no_identity(&self.settings.environment));
        };
        let fractalops = self.fractalops(http)?;
        let audience = self.settings.audience(&self.settings.fractalops_url()?);
        let started = Instant::now();
        let id_token = self.cancel.or(platform.id_token(http, &audience)).await?.map_err(|error| {
            let kind = if error.is_transient() { Kind::Unavailable } else { Kind::NoIdentity };
            let doing = format!("asking {} for an ID token", platform.name());
            let hint = error.hint();
            CommandError::from_error(kind, &doing, &error).hint(hint)
        })?;
        self.console.mask(&id_token);
        let unverified_identity = platform.unverified_identity();
        let who = format!("{}: {}", platform.name(), unverified_identity.describe());
        self.console.step("identity", who, started);
        let started = Instant::now();
        let answer = self.cancel.shield(fractalops.exchange(&id_token, None, false)).await?;
        let exchange = answer
            .map_err(|error| CommandError::from_fractalops("exchanging the ID token for a session", error))?;
        let Some(token) = exchange.access_token.clone() else {
            return Err(CommandError::new(
                Kind::Failed,
                "FractalOps accepted the ID token but sent no session",
            ));
        };
        self.console.mask(&token);
        self.revoke_later(&fractalops, &token, "session");
        self.cancel.check()?;
        let accepted = format!("accepted by {}", exchange.policies.join(", "));
        self.console.step("exchange", accepted, started);
        Ok(Session { fractalops, token, exchange })
    }

    /// Obtains an ID token for a certificate authority of Sigstore from the CI platform.
    ///
    /// # Errors
    /// When this is no CI run, and when the platform gives no such token.
    pub(crate) async fn signing_token(&self, http: &Client, audience: &str) -> Result<IdToken, CommandError> {
        let Some(platform) = self.console.platform() else {
            return Err(no_identity(&self.settings.environment));
        };
        let token =
            self.cancel.or(platform.token_for(RelyingParty::Sigstore, http, audience)).await?.map_err(
                |error| {
                    let kind = if error.is_transient() { Kind::Unavailable } else { Kind::NoIdentity };
                    let doing = format!("asking {} for an ID token to sign with", platform.name());
                    let hint = error.hint();
                    CommandError::from_error(kind, &doing, &error).hint(hint)
                },
            )?;
        self.console.mask(&token);
        Ok(token)
    }

    /// Has an npm token minted, which ends with the command at the latest.
    ///
    /// # Errors
    /// When FractalOps refuses.
    pub(crate) async fn mint(
        &self,
        session: &Session,
        request: &NpmTokenRequest,
    ) -> Result<NpmTokenResponse, CommandError> {
        let actions: Vec<String> = request.action_mode.actions().iter().map(ToString::to_string).collect();
        let doing = format!("asking for a token to {} `{}`", actions.join(" and "), request.package_name);
        let started = Instant::now();
        let answer = self.cancel.shield(session.fractalops.npm_token(&session.token, request)).await?;
        let minted = answer.map_err(|error| CommandError::from_fractalops(&doing, error))?;
        if let Some(token) = &minted.token {
            self.console.mask(token);
            self.revoke_later(&session.fractalops, &AccessToken::new(token.reveal()), "npm token");
        }
        self.cancel.check()?;
        let policy = &minted.policy_id;
        let how = match &minted.token {
            Some(_) => format!("for {} s, allowed by {policy}", minted.expires_in),
            None => format!("would be allowed by {policy}; nothing minted"),
        };
        self.console.step("token", how, started);
        Ok(minted)
    }

    /// Returns where keys are found.
    ///
    /// # Errors
    /// When a setting cannot be read.
    pub(crate) fn keys(&self) -> Result<protected_keys::Settings, CommandError> {
        let mut settings = self.settings.keys(self.console.platform().is_some())?;
        if let Some(platform) = protected_ci::detect(&self.settings.environment) {
            let own = self.settings.fractalops_url().ok().map(|url| self.settings.audience(&url));
            settings.id_tokens = Some(Arc::new(Job { platform, own, http: self.http()? }));
        }
        Ok(settings)
    }

    fn revoke_later(&self, fractalops: &FractalOps, token: &AccessToken, what: &'static str) {
        let mut undo = self.undo.lock().unwrap_or_else(PoisonError::into_inner);
        undo.tokens.push((fractalops.clone(), token.clone(), what));
    }

    /// Lets a token outlive the command, because the command's purpose is to hand it over.
    pub(crate) fn keep(&self, token: &RegistryToken) {
        let mut undo = self.undo.lock().unwrap_or_else(PoisonError::into_inner);
        undo.tokens.retain(|(_, kept, _)| kept.reveal() != token.reveal());
    }

    /// Revokes every token of this command, all at once and within [`CLEANUP`]. Runs however it ended.
    pub(crate) async fn clean_up(&self) {
        let tokens = {
            let mut undo = self.undo.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut undo.tokens)
        };
        if tokens.is_empty() {
            return;
        }
        let started = Instant::now();
        let count = tokens.len();
        let mut revocations = tokio::task::JoinSet::new();
        for (fractalops, token, what) in tokens {
            revocations.spawn(async move {
                let done = tokio::time::timeout(CLEANUP, fractalops.revoke(&token)).await;
                (what, done)
            });
        }
        let mut failed = Vec::new();
        while let Some(joined) = revocations.join_next().await {
            match joined {
                Ok((_, Ok(Ok(())))) => {}
                Ok((what, Ok(Err(error)))) => failed.push(format!("{what}: {}", crate::error::chain(&error))),
                Ok((what, Err(_))) => {
                    failed.push(format!("{what}: no answer within {} s", CLEANUP.as_secs()))
                }
                Err(error) => failed.push(error.to_string()),
            }
        }
        if failed.is_empty() {
            let tokens = if count == 1 { "1 token".to_owned() } else { format!("{count} tokens") };
            self.console.step("revoke", tokens, started);
        } else {
            let message = format!("not revoked, so valid until they expire: {}", failed.join("; "));
            self.console.warn("Token not revoked", &message);
        }
    }

    /// Returns what the platform says about this run, unproven.
    pub(crate) fn unverified_identity(&self) -> Option<RunIdentity> {
        self.console.platform().map(protected_ci::Platform::unverified_identity)
    }
}

/// Runs `work` on a thread for computation, to its end.
///
/// # Errors
/// Those of `work`; a panic there becomes an error here.
pub(crate) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(CommandError::new(Kind::Failed, format!("a computation ended unexpectedly: {error}")))
    })
}

fn no_identity(environment: &Environment) -> CommandError {
    let half = environment.get("ACTIONS_ID_TOKEN_REQUEST_URL").map(|_| {
        Hint::new("ACTIONS_ID_TOKEN_REQUEST_URL is set, but GITHUB_ACTIONS is not `true`, as it is in every job there")
    });
    CommandError::new(Kind::NoIdentity, "this is not a CI run: there is no identity to publish or install with")
        .hint(half)
        .advise(
            "run it in GitHub Actions, GitLab CI or Jenkins, or give an ID token in FRACTALOPS_ID_TOKEN_FILE",
        )
        .advise(
            "maintainers who publish by hand log in with `protected-registry login`, which this version does not have yet",
        )
}
