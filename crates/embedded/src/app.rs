//! What every handler shares: the configuration, the data, the keys, and the clock.

use std::{net::SocketAddr, path::Path, sync::Arc};

use jiff::Timestamp;
use protected_http::{Client, Settings};
use protected_model::{
    api::problem::Code, digest::Sha256, environment::Environment, service_url::ServiceUrl,
};
use protected_trust::{mint::SigningKeys, registry_key::RegistryKeys};
use serde::Serialize;

use crate::{
    audit::{self, Gathered, NewEvent, Strangers},
    config::{self, Config},
    error::ServeError,
    idempotency::Answers,
    issuers::Issuers,
    local_issuer::runs::LocalIssuer,
    oci::keys::OciKeys,
    problem::Refusal,
    registry::trusted::Trusted,
    revocation::Revoked,
    sigstore::authority::Authority,
    store::{self, Store, StoreError},
};

/// The file in the data folder that holds the operator's token.
const ADMIN_TOKEN: &str = "admin-token";

/// Tells the time. Tests bring their own.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// One running service.
pub(crate) struct App {
    /// What it was told.
    pub(crate) config: Config,
    /// The URL that clients use.
    pub(crate) public_url: ServiceUrl,
    /// Its data.
    pub(crate) store: Store,
    /// The keys of the tokens that it mints.
    pub(crate) keys: SigningKeys,
    /// Whose ID tokens it believes.
    pub(crate) issuers: Issuers,
    /// The issuer that imitates CI platforms.
    pub(crate) local_issuer: Option<LocalIssuer>,
    /// The keys of tokens for the Docker registry, where one is configured.
    pub(crate) oci_keys: Option<OciKeys>,
    /// The private Sigstore, where it is switched on.
    pub(crate) authority: Option<Authority>,
    /// The tokens that are not taken any more.
    pub(crate) revoked: Revoked,
    /// Audit events of reads.
    pub(crate) gathered: Gathered,
    /// The answers that a repeated request gets again.
    pub(crate) answers: Answers,
    /// The keys with which the registry signs what it took.
    pub(crate) registry_keys: RegistryKeys,
    /// Whom the provenance of versions is believed.
    pub(crate) trusted: Trusted,
    strangers: Strangers,
    operator: Sha256,
    clock: Clock,
}

impl App {
    /// Opens the data folder and loads the keys; `gathered` is the way to the work that writes events of reads.
    pub(crate) fn open(
        mut config: Config,
        address: SocketAddr,
        store: Store,
        gathered: Gathered,
        clock: Clock,
    ) -> Result<Self, ServeError> {
        let public_url = match &config.server.public_url {
            Some(url) => url.clone(),
            None => format!("http://{address}/")
                .parse()
                .map_err(|source| ServeError::PublicUrl { address, source })?,
        };
        config.resolve_local(&public_url);
        let data = &config.server.data;
        let keys = SigningKeys::load_or_create(&data.join("keys"), clock()).map_err(ServeError::Keys)?;
        let authority = match config.sigstore.enabled {
            true => Some(Authority::open(&data.join("keys"), &public_url, clock())?),
            false => None,
        };
        let oci_keys = match config.oci {
            Some(_) => Some(OciKeys::load_or_create(&data.join("keys"), clock())?),
            None => None,
        };
        let registry_keys =
            RegistryKeys::load_or_create(&data.join("keys"), clock()).map_err(ServeError::Keys)?;
        let local_issuer = match &config.local_issuer {
            Some(local) => Some(LocalIssuer::open(local, &public_url, data)?),
            None => None,
        };
        Ok(Self {
            issuers: Issuers::new(&config, local_issuer.as_ref(), http_client(&config)?),
            revoked: Revoked::load(&store)?,
            answers: Answers::default(),
            registry_keys,
            trusted: trusted(&config)?,
            strangers: Strangers::default(),
            operator: operator_token(data)?,
            oci_keys,
            authority,
            local_issuer,
            public_url,
            store,
            keys,
            gathered,
            config,
            clock,
        })
    }

    /// Returns the time.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Returns the `iss` of the tokens that this service mints: its URL without a trailing `/`. It is also the
    /// one audience that an ID token for it must have.
    pub(crate) fn issuer(&self) -> String {
        self.public_url.audience()
    }

    /// Returns the URL of a repository, which ends with `/`. Without that `/` it is the `aud` of npm tokens.
    pub(crate) fn registry_url(&self, repository: &str) -> ServiceUrl {
        let url = self.public_url.join(&format!("repository/{repository}/"));
        // Below a good base and of plain letters, so it is as good.
        ServiceUrl::new(url).unwrap_or_else(|_| self.public_url.clone())
    }

    /// Signs a token. It is good for nothing before its audit event is written.
    pub(crate) fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String, Refusal> {
        self.keys.sign(typ, claims).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, typ, "cannot sign a token");
            Refusal::new(Code::INTERNAL, "the token could not be signed")
        })
    }

    /// Returns whether `token` is the operator's. Digests are compared, so the time taken tells nothing.
    pub(crate) fn is_operator(&self, token: &str) -> bool {
        Sha256::of(token) == self.operator
    }

    /// Writes the event of a denial, and returns the refusal that names it.
    ///
    /// The denial of a read is only gathered, see [`crate::audit`]. When the disk fails, the refusal stands and
    /// says no audit event.
    pub(crate) async fn record_denial(&self, event: NewEvent, refusal: Refusal, reading: bool) -> Refusal {
        // Anybody can have an ID token of a public CI platform: without a tenant, a caller is still a stranger.
        let stranger = event.0.tenant_id.is_none();
        if stranger && !self.strangers.admit(event.0.ip.as_deref(), event.0.ts) {
            return refusal;
        }
        let (decision, id) = (event.0.decision_id.clone(), event.0.id.clone());
        if reading {
            self.gathered.record(event).await;
            return refusal.recorded(&decision, &id);
        }
        match self.store.write(move |txn| audit::append(txn, event)).await {
            Ok(_) => refusal.recorded(&decision, &id),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a denial is not in the audit trail"
                );
                refusal
            }
        }
    }
}

fn trusted(config: &Config) -> Result<Trusted, ServeError> {
    let read = |path: &Option<std::path::PathBuf>| {
        let path = path.as_ref()?;
        Some(std::fs::read(path).map_err(|source| ServeError::File { path: path.clone(), source }))
    };
    let npm = read(&config.provenance.npm_trusted_root).transpose()?;
    let other = read(&config.provenance.trusted_root).transpose()?;
    Trusted::new(npm.as_deref(), other.as_deref()).map_err(ServeError::Trust)
}

fn http_client(config: &Config) -> Result<Client, ServeError> {
    let config::Server { ca_file, https_proxy, no_proxy, .. } = &config.server;
    let variables = [("HTTPS_PROXY", https_proxy), ("NO_PROXY", no_proxy)];
    let environment: Environment =
        variables.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))).collect();
    let ca_pem = match ca_file {
        None => None,
        Some(path) => {
            Some(std::fs::read(path).map_err(|source| ServeError::File { path: path.clone(), source })?)
        }
    };
    let user_agent = concat!("fractalops-local/", env!("CARGO_PKG_VERSION"));
    let settings = Settings::from_environment(&environment, ca_pem, user_agent).map_err(ServeError::Http)?;
    Client::new(&settings).map_err(ServeError::Http)
}

/// Reads the operator's token, or makes one at the first start, and returns its digest.
fn operator_token(data: &Path) -> Result<Sha256, StoreError> {
    let token = store::private_token(&data.join(ADMIN_TOKEN))?;
    Ok(Sha256::of(token))
}
