//! Azure as its documentation and its own clients have it: Entra, Key Vault and the resource manager behind one proxy.
//!
//! The proxy takes `CONNECT` to their real names and ends TLS with an authority of its own, so that whoever is tested
//! runs with the addresses of production. Any other host is noted, and not connected.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest::{Digest, SHA256},
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::{SecureRandom, SystemRandom},
    rsa::{
        KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
        PrivateDecryptingKey,
    },
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};
use url::form_urlencoded;
use uuid::Uuid;

pub(crate) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(crate) const SUBSCRIPTION: &str = "12345678-1234-9876-4563-123456789012";
pub(crate) const GROUP: &str = "deliveries";
pub(crate) const ISSUER: &str = "https://ci.example";
pub(crate) const AUDIENCE: &str = "api://AzureADTokenExchange";
/// Reads, wraps, unwraps.
pub(crate) const ENCRYPTION_USER: &str = "e147488a-f6f5-4113-8e2d-b22465e65bf6";
/// Everything that is done with a key.
pub(crate) const CRYPTO_USER: &str = "12338af0-0e69-4776-bea7-57ae8d297424";
/// One of the customer's own: unwraps, and nothing else.
pub(crate) const UNWRAP_ONLY: &str = "5c2d7e57-b937-40c9-bcb5-0a6a1b2c3d4e";
/// What a page of a list holds, so that lists have several.
const PAGE: usize = 2;

const ROLES: &[(&str, &[&str])] = &[
    (ENCRYPTION_USER, &["read", "wrap", "unwrap"]),
    (CRYPTO_USER, &["read", "wrap", "unwrap", "sign", "verify"]),
    (UNWRAP_ONLY, &["unwrap"]),
];

/// A way in which a vault answers that none should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// As another key.
    OtherKey,
    /// As another version of the key.
    OtherVersion,
    /// As a key in another vault.
    OtherVault,
    /// With bytes that are no data key.
    Short,
    /// With a data key of nothing but zeros.
    Zeros,
    /// With the bytes of another data key.
    Another,
    /// With a value that is not base64url.
    Garbage,
    /// By announcing 1 GiB.
    Gibibyte,
    /// With no end.
    Endless,
    /// By asking for a token for another service.
    Resource,
    /// By asking for a token of another authority.
    Authority,
    /// By sending the client elsewhere.
    Redirect,
    /// By repeating what it was sent as a credential.
    Repeat,
    /// With a signature of another digest.
    Signature,
    /// Of its tokens, that they are over.
    Ended,
}

#[derive(Default)]
struct State {
    applications: BTreeMap<String, Application>,
    /// What kind each object of the directory is.
    objects: BTreeMap<Uuid, &'static str>,
    /// The keys (RFC 7517) of those who issue identities.
    issuers: BTreeMap<String, Value>,
    tokens: BTreeMap<String, Token>,
    /// Vaults by name, and whether they go by roles.
    vaults: BTreeMap<String, bool>,
    keys: BTreeMap<(String, String), Vec<Version>>,
    assignments: BTreeMap<Uuid, Assignment>,
    /// Who may write assignments.
    owners: Vec<Uuid>,
    seen: Vec<String>,
    strangers: Vec<String>,
    lie: Option<Lie>,
    /// How many requests are still told to come later.
    busy: usize,
    /// What somebody else makes of an assignment right after it is written next.
    rival: Option<String>,
}

struct Application {
    object: Uuid,
    secret: Option<String>,
    /// The identity that it trusts: issuer and subject.
    trusts: Option<(String, String)>,
}

struct Token {
    object: Uuid,
    audience: String,
    until: Instant,
}

struct Version {
    id: String,
    material: Material,
    enabled: bool,
    expired: bool,
    exportable: bool,
    operations: &'static [&'static str],
}

enum Material {
    Rsa(Rsa),
    Ec(Arc<EcdsaKeyPair>),
}

/// An RSA key, in the forms that it is used in.
#[derive(Clone)]
struct Rsa {
    pkcs8: Vec<u8>,
    n: Vec<u8>,
    e: Vec<u8>,
}

struct Assignment {
    scope: String,
    role: String,
    principal: Uuid,
    kind: &'static str,
    description: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Azure {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    authority_pem: String,
}

impl Azure {
    pub(crate) async fn start() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let authority =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority");
        let names = ["login.microsoftonline.com", "management.azure.com", "*.vault.azure.net"];
        let sovereign =
            ["login.microsoftonline.us", "management.usgovcloudapi.net", "*.vault.usgovcloudapi.net"];
        let names: Vec<String> = names.into_iter().chain(sovereign).map(str::to_owned).collect();
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(names).expect("params");
        let certificate = params.signed_by(&key, &authority).expect("certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("config");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let azure = Self {
            state: Arc::default(),
            address: listener.local_addr().expect("address"),
            authority_pem: authority.pem(),
        };
        let served = azure.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(served.clone().connection(stream, acceptor.clone()));
            }
        });
        azure
    }

    pub(crate) fn proxy(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("lock")
    }

    /// Registers an application, and returns the id of its service principal.
    pub(crate) fn application(&self, id: &str, secret: Option<&str>) -> Uuid {
        let object = random_id();
        let application = Application { object, secret: secret.map(str::to_owned), trusts: None };
        let mut state = self.state();
        state.applications.insert(id.to_owned(), application);
        state.objects.insert(object, "ServicePrincipal");
        object
    }

    /// Has an application trust a subject of an issuer, whose keys these are.
    pub(crate) fn trust(&self, application: &str, issuer: &str, jwks: Value, subject: &str) {
        let mut state = self.state();
        let application = state.applications.get_mut(application).expect("application");
        application.trusts = Some((issuer.to_owned(), subject.to_owned()));
        state.issuers.insert(issuer.to_owned(), jwks);
    }

    pub(crate) fn user(&self) -> Uuid {
        let object = random_id();
        self.state().objects.insert(object, "User");
        object
    }

    pub(crate) fn vault(&self, name: &str, roles: bool) {
        self.state().vaults.insert(name.to_owned(), roles);
    }

    /// Makes a version of an RSA key, and returns its reference.
    pub(crate) fn rsa(&self, vault: &str, key: &str) -> String {
        self.add(vault, key, Material::Rsa(fresh_rsa()), &["wrapKey", "unwrapKey", "encrypt", "decrypt"])
    }

    /// Makes a version of an EC key on P-256, and returns its reference.
    pub(crate) fn ec(&self, vault: &str, key: &str) -> String {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key");
        self.add(vault, key, Material::Ec(Arc::new(pair)), &["sign", "verify"])
    }

    /// Returns the public key of an EC key, as `openssl` reads it.
    pub(crate) fn public_pem(&self, reference: &str) -> String {
        let mut der = Vec::new();
        self.change(reference, |version| {
            let Material::Ec(pair) = &version.material else { panic!("{reference} is no EC key") };
            let key = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).expect("key");
            der = key.as_ref().to_vec();
        });
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    fn add(&self, vault: &str, key: &str, material: Material, operations: &'static [&'static str]) -> String {
        let id = random_id().simple().to_string();
        let version = Version {
            id: id.clone(),
            material,
            enabled: true,
            expired: false,
            exportable: false,
            operations,
        };
        self.state().keys.entry((vault.to_owned(), key.to_owned())).or_default().push(version);
        format!("azure-keyvault://{vault}/{key}/{id}")
    }

    fn change(&self, reference: &str, change: impl FnOnce(&mut Version)) {
        let path = reference.strip_prefix("azure-keyvault://").expect("reference");
        let [vault, key, id] = path.split('/').collect::<Vec<_>>()[..] else { panic!("{reference}") };
        let mut state = self.state();
        let versions = state.keys.get_mut(&(vault.to_owned(), key.to_owned())).expect("key");
        change(versions.iter_mut().find(|version| version.id == id).expect("version"));
    }

    pub(crate) fn disable(&self, reference: &str) {
        self.change(reference, |version| version.enabled = false);
    }

    pub(crate) fn expire(&self, reference: &str) {
        self.change(reference, |version| version.expired = true);
    }

    pub(crate) fn make_exportable(&self, reference: &str) {
        self.change(reference, |version| version.exportable = true);
    }

    pub(crate) fn allow_only(&self, reference: &str, operations: &'static [&'static str]) {
        self.change(reference, |version| version.operations = operations);
    }

    /// Gives a principal a role, as an administrator does by hand.
    pub(crate) fn assign(&self, principal: Uuid, role: &str, scope: &str) -> Uuid {
        let name = random_id();
        let mut state = self.state();
        let kind = state.objects[&principal];
        let assignment =
            Assignment { scope: scope.to_owned(), role: role.to_owned(), principal, kind, description: None };
        state.assignments.insert(name, assignment);
        name
    }

    pub(crate) fn describe(&self, assignment: Uuid, text: &str) {
        self.state().assignments.get_mut(&assignment).expect("assignment").description =
            Some(text.to_owned());
    }

    pub(crate) fn rename(&self, assignment: Uuid, name: Uuid) {
        let mut state = self.state();
        let found = state.assignments.remove(&assignment).expect("assignment");
        state.assignments.insert(name, found);
    }

    pub(crate) fn own(&self, principal: Uuid) {
        self.state().owners.push(principal);
    }

    pub(crate) fn descriptions(&self) -> Vec<(Uuid, String)> {
        let state = self.state();
        let described = |(name, found): (&Uuid, &Assignment)| Some((*name, found.description.clone()?));
        state.assignments.iter().filter_map(described).collect()
    }

    pub(crate) fn lie(&self, lie: impl Into<Option<Lie>>) {
        self.state().lie = lie.into();
    }

    pub(crate) fn busy(&self, requests: usize) {
        self.state().busy = requests;
    }

    pub(crate) fn rival(&self, description: &str) {
        self.state().rival = Some(description.to_owned());
    }

    pub(crate) fn log_everybody_out(&self) {
        self.state().tokens.clear();
    }

    /// Returns the requests since this was last asked, such as `POST acme.vault.azure.net/keys/...`.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.state().seen)
    }

    /// Returns the hosts that somebody wanted to reach and that are no part of Azure.
    pub(crate) fn strangers(&self) -> Vec<String> {
        self.state().strangers.clone()
    }

    async fn connection(self, mut stream: TcpStream, acceptor: TlsAcceptor) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) if head.len() < 8192 => head.push(byte),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let target =
            head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let host = target.strip_suffix(":443").unwrap_or_default().to_owned();
        if !is_azure(&host) {
            self.state().strangers.push(head.lines().next().unwrap_or_default().to_owned());
            let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
        let Ok(stream) = acceptor.accept(stream).await else { return };
        let service = service_fn(move |request: Request<Incoming>| {
            let (azure, host) = (self.clone(), host.clone());
            async move { Ok::<_, Infallible>(azure.respond(&host, request).await) }
        });
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn respond(&self, host: &str, request: Request<Incoming>) -> Response<Content> {
        let (parts, mut incoming) = request.into_parts();
        let mut body = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
            let Ok(frame) = frame else { break };
            body.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
        }
        let header =
            |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let asked = Asked {
            host,
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect(),
            bearer: header("authorization").strip_prefix("Bearer ").unwrap_or_default(),
            json: header("content-type").split(';').next() == Some("application/json"),
            body: &body,
        };
        let mut state = self.state();
        state.seen.push(format!("{} {host}{}", asked.method, asked.path));
        if state.busy > 0 {
            state.busy -= 1;
            return problem(
                429,
                "Throttled",
                "Request was not processed because too many requests were received",
            )
            .with("retry-after", "0")
            .response();
        }
        let reply = if host.starts_with("login.") {
            state.entra(&asked)
        } else if host.starts_with("management.") {
            state.manage(&asked)
        } else {
            state.vault(&asked)
        };
        reply.unwrap_or_else(|no| no).response()
    }
}

fn is_azure(host: &str) -> bool {
    let known = [
        "login.microsoftonline.com",
        "management.azure.com",
        "login.microsoftonline.us",
        "management.usgovcloudapi.net",
    ];
    known.contains(&host) || host.ends_with(".vault.azure.net") || host.ends_with(".vault.usgovcloudapi.net")
}

struct Asked<'a> {
    host: &'a str,
    method: &'a str,
    path: &'a str,
    query: BTreeMap<String, String>,
    bearer: &'a str,
    json: bool,
    body: &'a [u8],
}

impl Asked<'_> {
    fn version(&self) -> &str {
        self.query.get("api-version").map_or("", String::as_str)
    }

    fn body(&self) -> Result<Value, Reply> {
        let bad = || problem(400, "BadParameter", "The body is not JSON");
        if !self.json {
            return Err(bad());
        }
        serde_json::from_slice(self.body).map_err(|_| bad())
    }
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    content: Content,
}

impl Reply {
    fn json(status: u16, value: &Value) -> Self {
        let bytes = Bytes::from(value.to_string());
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        Self { status, headers, content: Content { bytes: Some(bytes), endless: false, claims: None } }
    }

    fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), content: Content { bytes: None, endless: false, claims: None } }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn response(self) -> Response<Content> {
        let mut response = Response::builder().status(StatusCode::from_u16(self.status).expect("status"));
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(self.content).expect("response")
    }
}

fn problem(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error": {"code": code, "message": message}}))
}

/// The body of an answer.
struct Content {
    bytes: Option<Bytes>,
    endless: bool,
    /// A size that it announces and does not have.
    claims: Option<u64>,
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.endless {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 64 * 1024])))));
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        match (self.endless, self.claims) {
            (true, _) => SizeHint::default(),
            (false, Some(size)) => SizeHint::with_exact(size),
            (false, None) => SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

impl State {
    // Entra

    fn entra(&mut self, asked: &Asked<'_>) -> Result<Reply, Reply> {
        let host = asked.host;
        match (asked.method, asked.path.trim_start_matches('/').split('/').collect::<Vec<_>>().as_slice()) {
            ("GET", ["common", "discovery", "instance"]) => Ok(Reply::json(
                200,
                &json!({
                    "tenant_discovery_endpoint":
                        format!("https://{host}/{TENANT}/v2.0/.well-known/openid-configuration"),
                    "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
                }),
            )),
            ("GET", [tenant, "v2.0", ".well-known", "openid-configuration"]) if *tenant == TENANT => {
                Ok(Reply::json(
                    200,
                    &json!({
                        "issuer": format!("https://{host}/{TENANT}/v2.0"),
                        "authorization_endpoint": format!("https://{host}/{TENANT}/oauth2/v2.0/authorize"),
                        "token_endpoint": format!("https://{host}/{TENANT}/oauth2/v2.0/token"),
                    }),
                ))
            }
            ("POST", [tenant, "oauth2", "v2.0", "token"]) => {
                if *tenant != TENANT {
                    return Err(denied(
                        400,
                        "AADSTS90002: Tenant not found. Check to make sure you have the correct tenant ID.",
                    ));
                }
                self.token(asked)
            }
            _ => Err(denied(404, "AADSTS900144: there is nothing at this address")),
        }
    }

    fn token(&mut self, asked: &Asked<'_>) -> Result<Reply, Reply> {
        let form: BTreeMap<String, String> = form_urlencoded::parse(asked.body).into_owned().collect();
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        if self.lie == Some(Lie::Repeat) {
            let text = format!("AADSTS7000215: `{}{}`", field("client_secret"), field("client_assertion"));
            return Err(denied(401, &text));
        }
        if field("grant_type") != "client_credentials" {
            return Err(denied(400, "AADSTS70003: The app requested an unsupported grant type."));
        }
        let application = self.applications.get(field("client_id")).ok_or_else(|| {
            denied(
                400,
                &format!(
                    "AADSTS700016: Application with identifier '{}' was not found in the directory.",
                    field("client_id")
                ),
            )
        })?;
        let audience = field("scope").strip_suffix("/.default").ok_or_else(|| {
            denied(400, "AADSTS1002012: The provided value for scope is not valid: it has no /.default.")
        })?;
        let known =
            ["https://vault.azure.net", "https://management.azure.com", "https://vault.usgovcloudapi.net"];
        if !known.contains(&audience) {
            return Err(denied(400, "AADSTS500011: The resource principal was not found in the tenant."));
        }
        match (form.get("client_secret"), form.get("client_assertion")) {
            (Some(secret), None) if application.secret.as_ref() == Some(secret) => {}
            (Some(_), None) => return Err(denied(401, "AADSTS7000215: Invalid client secret provided.")),
            (None, Some(assertion)) => {
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                if field("client_assertion_type") != kind {
                    return Err(denied(400, "AADSTS90023: Unsupported 'client_assertion_type' value."));
                }
                check_assertion(assertion, application.trusts.as_ref(), &self.issuers)
                    .map_err(|text| denied(401, &text))?;
            }
            _ => {
                return Err(denied(
                    401,
                    "AADSTS7000218: The request body must contain 'client_assertion' or 'client_secret'.",
                ));
            }
        }
        let object = application.object;
        let token = format!("at-{}", random_id().simple());
        let until = Instant::now() + Duration::from_secs(3599);
        let lasts = if self.lie == Some(Lie::Ended) { 0 } else { 3599 };
        self.tokens.insert(token.clone(), Token { object, audience: audience.to_owned(), until });
        Ok(Reply::json(
            200,
            &json!({"token_type": "Bearer", "expires_in": lasts, "ext_expires_in": lasts, "access_token": token}),
        ))
    }

    /// Returns who asks, if the token is one for this service.
    fn who(&self, asked: &Asked<'_>, audience: &str) -> Option<Uuid> {
        let token = self.tokens.get(asked.bearer)?;
        (token.audience == audience && token.until > Instant::now()).then_some(token.object)
    }

    // Key Vault

    fn vault(&mut self, asked: &Asked<'_>) -> Result<Reply, Reply> {
        let (vault, suffix) = asked.host.split_once('.').expect("host");
        let mut resource = format!("https://{suffix}");
        let mut authority = format!("https://login.microsoftonline.com/{TENANT}");
        let lie = self.lie;
        match lie {
            Some(Lie::Resource) => resource = "https://management.azure.com".to_owned(),
            Some(Lie::Authority) => authority = format!("https://login.evil.example/{TENANT}"),
            Some(Lie::Redirect) => {
                return Ok(Reply::empty(307).with("location", format!("https://evil.example{}", asked.path)));
            }
            Some(Lie::Repeat) => {
                let text =
                    format!("your token {} and body {}", asked.bearer, String::from_utf8_lossy(asked.body));
                return Err(problem(403, "Forbidden", &text));
            }
            _ => {}
        }
        let lying = matches!(lie, Some(Lie::Resource | Lie::Authority));
        let who = self.who(asked, &format!("https://{suffix}")).filter(|_| !lying).ok_or_else(|| {
            problem(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.").with(
                "www-authenticate",
                format!("Bearer authorization=\"{authority}\", resource=\"{resource}\""),
            )
        })?;
        if asked.version() != "2025-07-01" {
            return Err(problem(
                400,
                "BadParameter",
                "The specified version is not supported by this vault.",
            ));
        }
        let path: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
        let (name, id, operation) = match (asked.method, path.as_slice()) {
            ("GET", ["keys", name]) => (*name, None, "read"),
            ("GET", ["keys", name, id]) => (*name, Some(*id), "read"),
            ("POST", ["keys", name, id, operation]) => (*name, Some(*id), *operation),
            _ => return Err(problem(404, "NotFound", "There is nothing at this address.")),
        };
        let action = match operation {
            "wrapkey" => "wrap",
            "unwrapkey" => "unwrap",
            other => other,
        };
        let scope = key_scope(vault, name);
        if !self.vaults.get(vault).copied().unwrap_or_default() || !self.may(who, action, &scope) {
            let text = format!(
                "Caller is not authorized to perform action on resource.\r\nAction: 'Microsoft.KeyVault/vaults/keys/{action}/action'"
            );
            return Err(problem(403, "Forbidden", &text));
        }
        let found = self.keys.get(&(vault.to_owned(), name.to_owned())).and_then(|versions| match id {
            Some(id) => versions.iter().find(|version| version.id == id),
            None => versions.last(),
        });
        let found = found.ok_or_else(|| {
            problem(
                404,
                "KeyNotFound",
                &format!("A key with (name/id) {name} was not found in this key vault."),
            )
        })?;
        let kid = match lie {
            Some(Lie::OtherKey) => format!("https://{}/keys/other/{}", asked.host, found.id),
            Some(Lie::OtherVersion) => format!("https://{}/keys/{name}/{}", asked.host, "0".repeat(32)),
            Some(Lie::OtherVault) => format!("https://evil.{suffix}/keys/{name}/{}", found.id),
            _ => format!("https://{}/keys/{name}/{}", asked.host, found.id),
        };
        if operation == "read" {
            return Ok(Reply::json(200, &found.shown(&kid)));
        }
        let value = found.operate(operation, &asked.body()?, lie)?;
        let value = if lie == Some(Lie::Garbage) { "%%%".to_owned() } else { URL_SAFE_NO_PAD.encode(value) };
        let mut reply = Reply::json(200, &json!({"kid": kid, "value": value}));
        reply.content.endless = lie == Some(Lie::Endless);
        reply.content.claims = (lie == Some(Lie::Gibibyte)).then_some(1 << 30);
        Ok(reply)
    }

    fn may(&self, who: Uuid, action: &str, scope: &str) -> bool {
        self.assignments.values().filter(|found| found.principal == who).any(|found| {
            let here = scope.eq_ignore_ascii_case(&found.scope)
                || scope.to_ascii_lowercase().starts_with(&format!("{}/", found.scope.to_ascii_lowercase()));
            here && ROLES.iter().any(|(role, actions)| found.role == *role && actions.contains(&action))
        })
    }

    // The resource manager

    fn manage(&mut self, asked: &Asked<'_>) -> Result<Reply, Reply> {
        let who = self.who(asked, "https://management.azure.com").ok_or_else(|| {
            problem(
                401,
                "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is missing or invalid.",
            )
            .with(
                "www-authenticate",
                "Bearer authorization_uri=\"https://login.windows.net/\", error=\"invalid_token\"",
            )
        })?;
        if !self.owners.contains(&who) {
            let text = format!(
                "The client with object id '{who}' does not have authorization to perform this action."
            );
            return Err(problem(403, "AuthorizationFailed", &text));
        }
        let vaults = format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.KeyVault/vaults/"
        );
        let rest = strip_prefix_ignoring_case(asked.path, &vaults)
            .ok_or_else(|| problem(404, "ResourceGroupNotFound", "Resource group could not be found."))?;
        let (resource, name) =
            match split_ignoring_case(rest, "/providers/Microsoft.Authorization/roleAssignments") {
                None => (rest, None),
                Some((resource, name)) => (resource, Some(name.trim_start_matches('/'))),
            };
        let vault = resource.split('/').next().unwrap_or_default();
        let roles = *self.vaults.get(vault).ok_or_else(|| {
            problem(
                404,
                "ResourceNotFound",
                &format!("The Resource 'Microsoft.KeyVault/vaults/{vault}' was not found."),
            )
        })?;
        let wanted = if name.is_some() { "2022-04-01" } else { "2026-05-15" };
        if asked.version() != wanted {
            return Err(problem(400, "InvalidApiVersionParameter", "The api-version is invalid."));
        }
        let scope = format!("{vaults}{resource}");
        match (asked.method, name) {
            ("GET", None) if resource == vault => Ok(Reply::json(
                200,
                &json!({
                    "id": scope, "name": vault, "type": "Microsoft.KeyVault/vaults", "location": "westeurope",
                    "properties": {
                        "vaultUri": format!("https://{vault}.vault.azure.net/"),
                        "tenantId": TENANT,
                        "sku": {"family": "A", "name": "premium"},
                        "enableRbacAuthorization": roles,
                    },
                }),
            )),
            ("GET", Some("")) => self.list(asked, &scope),
            (method, Some(name)) => {
                let name = name.parse().map_err(|_| {
                    problem(400, "InvalidRoleAssignmentId", "The role assignment ID must be a GUID.")
                })?;
                match method {
                    "GET" => self.assignments.get(&name).filter(|found| found.is_at(&scope)).map_or_else(
                        || {
                            Err(problem(
                                404,
                                "RoleAssignmentNotFound",
                                &format!("The role assignment '{name}' is not found."),
                            ))
                        },
                        |found| Ok(Reply::json(200, &found.shown(name))),
                    ),
                    "PUT" => self.put(asked, &scope, name),
                    "DELETE" => {
                        let there = self.assignments.get(&name).is_some_and(|found| found.is_at(&scope));
                        let found = there.then(|| self.assignments.remove(&name)).flatten();
                        Ok(found
                            .map_or_else(|| Reply::empty(204), |found| Reply::json(200, &found.shown(name))))
                    }
                    _ => Err(problem(405, "MethodNotAllowed", "This is not done here.")),
                }
            }
            _ => Err(problem(404, "NotFound", "There is nothing at this address.")),
        }
    }

    fn list(&self, asked: &Asked<'_>, scope: &str) -> Result<Reply, Reply> {
        if asked.query.get("$filter").map(String::as_str) != Some("atScope()") {
            return Err(problem(400, "UnsupportedQuery", "The filter is not one of this stand-in."));
        }
        let here =
            |found: &Assignment| scope.to_ascii_lowercase().starts_with(&found.scope.to_ascii_lowercase());
        let all: Vec<Value> = self
            .assignments
            .iter()
            .filter(|(_, found)| here(found))
            .map(|(name, found)| found.shown(*name))
            .collect();
        let skip: usize = asked.query.get("$skipToken").map_or(0, |text| text.parse().expect("skip"));
        let mut page = json!({"value": all.iter().skip(skip).take(PAGE).collect::<Vec<_>>()});
        if skip + PAGE < all.len() {
            let host = if self.lie == Some(Lie::Redirect) { "evil.example" } else { asked.host };
            page["nextLink"] = json!(format!(
                "https://{host}{}?api-version=2022-04-01&$filter=atScope()&$skipToken={}",
                asked.path,
                skip + PAGE
            ));
        }
        Ok(Reply::json(200, &page))
    }

    fn put(&mut self, asked: &Asked<'_>, scope: &str, name: Uuid) -> Result<Reply, Reply> {
        let body = asked.body()?;
        let properties = &body["properties"];
        let text = |name: &str| properties[name].as_str().map(str::to_owned);
        let principal: Uuid = text("principalId").and_then(|id| id.parse().ok()).ok_or_else(|| {
            problem(400, "InvalidPrincipalId", "The Principal ID is not valid. Principal ID must be a GUID.")
        })?;
        let kind = *self.objects.get(&principal).ok_or_else(|| {
            problem(
                400,
                "PrincipalNotFound",
                &format!("Principal {principal} does not exist in the directory."),
            )
        })?;
        if text("principalType").is_some_and(|given| given != kind) {
            let text = format!(
                "The PrincipalId '{principal}' has type '{kind}', which is different from specified PrinciaplType."
            );
            return Err(problem(400, "UnmatchedPrincipalType", &text));
        }
        let role = text("roleDefinitionId").unwrap_or_default();
        let role = role
            .strip_prefix(&format!(
                "/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/"
            ))
            .filter(|role| ROLES.iter().any(|(known, _)| known == role))
            .ok_or_else(|| {
                problem(400, "RoleDefinitionDoesNotExist", "The specified role definition does not exist.")
            })?;
        let description = text("description");
        if description.as_ref().is_some_and(|text| text.len() > 512) {
            return Err(problem(400, "BadRequestFormat", "The description is too long."));
        }
        let same =
            |found: &Assignment| found.principal == principal && found.role == role && found.is_at(scope);
        match self.assignments.get(&name) {
            Some(found) if !same(found) => {
                let text =
                    "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.";
                return Err(problem(400, "RoleAssignmentUpdateNotPermitted", text));
            }
            None => {
                if let Some((other, _)) = self.assignments.iter().find(|(_, found)| same(found)) {
                    let text = format!(
                        "The role assignment already exists. The ID of the existing role assignment is {}.",
                        other.simple()
                    );
                    return Err(problem(409, "RoleAssignmentExists", &text));
                }
            }
            Some(_) => {}
        }
        let assignment =
            Assignment { scope: scope.to_owned(), role: role.to_owned(), principal, kind, description };
        let reply = Reply::json(201, &assignment.shown(name));
        self.assignments.insert(name, assignment);
        if let (Some(rival), Some(found)) = (self.rival.take(), self.assignments.get_mut(&name)) {
            found.description = Some(rival);
        }
        Ok(reply)
    }
}

impl Assignment {
    fn is_at(&self, scope: &str) -> bool {
        self.scope.eq_ignore_ascii_case(scope)
    }

    fn shown(&self, name: Uuid) -> Value {
        json!({
            "id": format!("{}/providers/Microsoft.Authorization/roleAssignments/{name}", self.scope),
            "name": name,
            "type": "Microsoft.Authorization/roleAssignments",
            "properties": {
                "scope": self.scope,
                "roleDefinitionId": format!(
                    "/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/{}", self.role
                ),
                "principalId": self.principal,
                "principalType": self.kind,
                "description": self.description,
                "condition": null,
                "createdOn": "2026-11-01T00:00:00.0000000Z",
            },
        })
    }
}

impl Version {
    fn shown(&self, kid: &str) -> Value {
        let mut key = json!({"kid": kid, "key_ops": self.operations});
        let material = match &self.material {
            Material::Rsa(rsa) => json!({
                "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(&rsa.n), "e": URL_SAFE_NO_PAD.encode(&rsa.e),
            }),
            Material::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({
                    "kty": "EC", "crv": "P-256",
                    "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
                })
            }
        };
        key.as_object_mut().expect("object").extend(material.as_object().expect("object").clone());
        json!({
            "key": key,
            "attributes": {
                "enabled": self.enabled, "exportable": self.exportable, "created": 1_700_000_000,
                "updated": 1_700_000_000, "recoveryLevel": "Recoverable+Purgeable",
            },
        })
    }

    fn operate(&self, operation: &str, body: &Value, lie: Option<Lie>) -> Result<Vec<u8>, Reply> {
        let bad = |text: &str| problem(400, "BadParameter", text);
        if !self.enabled {
            return Err(problem(
                403,
                "Forbidden",
                &format!("Operation {operation} is not allowed on a disabled key."),
            ));
        }
        // What an expired key once wrapped or signed is still opened and verified.
        if self.expired && ["wrapkey", "sign"].contains(&operation) {
            return Err(problem(
                403,
                "Forbidden",
                &format!("Operation {operation} is not allowed on an expired key."),
            ));
        }
        let needed = match operation {
            "wrapkey" => "wrapKey",
            "unwrapkey" => "unwrapKey",
            other => other,
        };
        if !self.operations.contains(&needed) {
            return Err(problem(
                403,
                "Forbidden",
                &format!("Operation {operation} is not permitted on this key."),
            ));
        }
        let text = body["value"].as_str().ok_or_else(|| bad("Property value is missing"))?;
        let value = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad("Property value is not base64url"))?;
        let known = ["alg", "value", "aad", "iv", "tag"];
        if body.as_object().is_some_and(|body| body.keys().any(|name| !known.contains(&name.as_str()))) {
            return Err(bad("The body has properties that are not known"));
        }
        match (&self.material, operation, body["alg"].as_str().unwrap_or_default()) {
            (Material::Rsa(rsa), "wrapkey", "RSA-OAEP-256") => {
                rsa.wrap(&value).ok_or_else(|| bad("Invalid value"))
            }
            (Material::Rsa(rsa), "unwrapkey", "RSA-OAEP-256") => {
                let plain = rsa.unwrap(&value).ok_or_else(|| bad("The parameter is incorrect."))?;
                Ok(match lie {
                    Some(Lie::Short) => plain[..16].to_vec(),
                    Some(Lie::Zeros) => vec![0; 32],
                    Some(Lie::Another) => vec![7; 32],
                    _ => plain,
                })
            }
            (Material::Ec(pair), "sign", "ES256") => {
                let digest = if lie == Some(Lie::Signature) { vec![7; 32] } else { value };
                let digest = Digest::import_less_safe(&digest, &SHA256);
                let digest = digest.map_err(|_| bad("Invalid length of 'value': 32 bytes for ES256"))?;
                Ok(pair.sign_digest(&digest).expect("signature").as_ref().to_vec())
            }
            _ => Err(bad("Key and signing algorithm are incompatible, or the algorithm is not supported")),
        }
    }
}

impl Rsa {
    fn wrap(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = PrivateDecryptingKey::from_pkcs8(&self.pkcs8).ok()?.public_key();
        let key = OaepPublicEncryptingKey::new(key).ok()?;
        let mut out = vec![0; key.ciphertext_size()];
        let written = key.encrypt(&OAEP_SHA256_MGF1SHA256, plain, &mut out, None).ok()?.len();
        out.truncate(written);
        Some(out)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Option<Vec<u8>> {
        let key = OaepPrivateDecryptingKey::new(PrivateDecryptingKey::from_pkcs8(&self.pkcs8).ok()?).ok()?;
        let mut out = vec![0; key.min_output_size()];
        let written = key.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut out, None).ok()?.len();
        out.truncate(written);
        Some(out)
    }

    fn pair(&self) -> RsaKeyPair {
        RsaKeyPair::from_pkcs8(&self.pkcs8).expect("key")
    }
}

fn fresh_rsa() -> Rsa {
    let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("key");
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).expect("key").as_ref().to_vec();
    let pair = RsaKeyPair::from_pkcs8(&pkcs8).expect("key");
    let number = |number: aws_lc_rs::io::Positive<'_>| number.big_endian_without_leading_zero().to_vec();
    let (n, e) = (number(pair.public_key().modulus()), number(pair.public_key().exponent()));
    Rsa { pkcs8, n, e }
}

/// The key that the CI platform signs identities with.
fn issuer_key() -> &'static Rsa {
    static KEY: OnceLock<Rsa> = OnceLock::new();
    KEY.get_or_init(fresh_rsa)
}

/// Returns the keys of the CI platform (RFC 7517).
pub(crate) fn issuer_keys() -> Value {
    let Rsa { n, e, .. } = issuer_key();
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({"keys": [{"kty": "RSA", "alg": "RS256", "kid": "one", "n": number(n), "e": number(e)}]})
}

/// Returns an ID token of the CI platform with these claims, which stand over the usual ones.
pub(crate) fn id_token(changes: &Value) -> String {
    let mut claims = json!({
        "iss": ISSUER, "sub": "repo:acme/core", "aud": AUDIENCE, "exp": now() + 300, "nbf": now() - 60, "iat": now(),
    });
    claims.as_object_mut().expect("object").extend(changes.as_object().expect("object").clone());
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message =
        format!("{}.{}", encode(&json!({"alg": "RS256", "typ": "JWT", "kid": "one"})), encode(&claims));
    let pair = issuer_key().pair();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
        .expect("signature");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Checks an assertion as Entra does against the identity that an application trusts.
fn check_assertion(
    assertion: &str,
    trusts: Option<&(String, String)>,
    issuers: &BTreeMap<String, Value>,
) -> Result<(), String> {
    let malformed = || "AADSTS50027: JWT token is invalid or malformed.".to_owned();
    let [header, payload, signature] = assertion.split('.').collect::<Vec<_>>()[..] else {
        return Err(malformed());
    };
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed());
    let read = |text: &str| serde_json::from_slice::<Value>(&decode(text)?).map_err(|_| malformed());
    let (header, claims) = (read(header)?, read(payload)?);
    let unmatched = |code: &str, what: &str, claim: &str| {
        format!(
            "{code}: No matching federated identity record found for presented assertion {what} {}.",
            claims[claim]
        )
    };
    let trusted = trusts.filter(|(issuer, _)| claims["iss"] == issuer.as_str());
    let (issuer, subject) = trusted.ok_or_else(|| unmatched("AADSTS700211", "issuer", "iss"))?;
    let unsigned = || "AADSTS50013: Assertion failed signature validation.".to_owned();
    let keys = issuers.get(issuer).and_then(|jwks| jwks["keys"].as_array());
    let key =
        keys.and_then(|keys| keys.iter().find(|key| key["kid"] == header["kid"])).ok_or_else(unsigned)?;
    if header["alg"] != "RS256" {
        return Err(unsigned());
    }
    let number = |name: &str| decode(key[name].as_str().unwrap_or_default());
    let message = &assertion[..assertion.rfind('.').expect("dot")];
    RsaPublicKeyComponents { n: number("n")?, e: number("e")? }
        .verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &decode(signature)?)
        .map_err(|_| unsigned())?;
    if claims["aud"] != AUDIENCE {
        return Err(unmatched("AADSTS700212", "audience", "aud"));
    }
    if claims["sub"] != subject.as_str() {
        return Err(unmatched("AADSTS700213", "subject", "sub"));
    }
    let time = |name: &str| claims[name].as_u64().unwrap_or_default();
    if time("exp") <= now() || time("nbf") > now() + 300 {
        return Err("AADSTS700024: Client assertion is not within its valid time range.".to_owned());
    }
    Ok(())
}

fn denied(status: u16, text: &str) -> Reply {
    let error = if status == 401 { "invalid_client" } else { "invalid_request" };
    Reply::json(status, &json!({"error": error, "error_description": text, "error_codes": []}))
}

pub(crate) fn vault_scope(vault: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.KeyVault/vaults/{vault}"
    )
}

pub(crate) fn key_scope(vault: &str, key: &str) -> String {
    format!("{}/keys/{key}", vault_scope(vault))
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn split_ignoring_case<'a>(text: &'a str, at: &str) -> Option<(&'a str, &'a str)> {
    let place = text.to_ascii_lowercase().find(&at.to_ascii_lowercase())?;
    Some((&text[..place], &text[place + at.len()..]))
}

fn random_id() -> Uuid {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("random");
    Uuid::from_bytes(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("time").as_secs()
}
