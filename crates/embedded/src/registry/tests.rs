//! The registry over a real socket, mostly refusing.

use std::{
    io::Read as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use jiff::Timestamp;
use protected_model::{
    action::{Action, ArtifactPolicy},
    api::{audit::AuditEvent, build},
    claims::{NPM_TOKEN_TYPE, RegistryClaims, SESSION_AUDIENCE, SESSION_TOKEN_TYPE, SessionClaims},
    digest::Integrity,
    identity::{PlatformKind, RunIdentity},
    name::PackageName,
};
use protected_trust::mint::SigningKeys;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

pub(crate) use super::document::tests::{document as published_document, tarball};
use super::{
    document::tests::document,
    tarball::tests::{self as archive, file},
};
use crate::{config::Config, server::serve_at, tests::builds::build as recorded};

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
public_url = "https://npm.example"
data = "data"
[limits]
body_bytes = 4194304
[[tenant]]
id = "acme"
[[tenant]]
id = "evil"
[[project]]
tenant = "acme"
slug = "core"
[[project]]
tenant = "evil"
slug = "core"
[[repository]]
name = "npm-hosted"
tenant = "acme"
scopes = ["@acme"]
packages = ["plain"]
[[repository]]
name = "npm-second"
tenant = "acme"
scopes = ["@acme"]
[[repository]]
name = "npm-open"
tenant = "acme"
scopes = ["@open"]
allow_unpublish = true
[[repository]]
name = "npm-evil"
tenant = "evil"
scopes = ["@acme"]
[[package]]
name = "@acme/core"
project = "core"
repository = "npm-hosted"
[[package]]
name = "@acme/other"
project = "core"
repository = "npm-hosted"
[[package]]
name = "@acme/core2"
project = "core"
repository = "npm-hosted"
[[package]]
name = "@acme/cor"
project = "core"
repository = "npm-hosted"
[[package]]
name = "@acme/second"
project = "core"
repository = "npm-second"
[[package]]
name = "plain"
project = "core"
repository = "npm-hosted"
[[package]]
name = "@acme/hard"
project = "core"
repository = "npm-hosted"
artifact_policy = ["hardened"]
publish = ["release"]
[[package]]
name = "@acme/sealed"
project = "core"
repository = "npm-hosted"
artifact_policy = ["encrypted_delivery"]
[[package]]
name = "@acme/off"
project = "core"
repository = "npm-hosted"
status = "disabled"
[[package]]
name = "@acme/old"
project = "core"
repository = "npm-hosted"
status = "archived"
archived_install = "allow"
[[package]]
name = "@acme/gone"
project = "core"
repository = "npm-hosted"
status = "archived"
[[package]]
name = "@open/core"
project = "core"
repository = "npm-open"
[[package]]
name = "@acme/evil"
project = "core"
repository = "npm-evil"
[[issuer]]
url = "https://ci.example"
platform = "github-actions"
[[trusted_publisher]]
id = "release"
tenant_id = "acme"
project_slug = "core"
packages = ["@acme/hard"]
actions = ["publish"]
issuer = "https://ci.example"
[trusted_publisher.github]
repository_id = "1"
repository_owner_id = "2"
repository = "acme/core"
workflow = "release.yml"
ref_pattern = "refs/heads/main"
"#;
/// A running server.
struct Server {
    folder: tempfile::TempDir,
    address: SocketAddr,
    keys: SigningKeys,
    now: Arc<AtomicI64>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let now = Arc::new(AtomicI64::new(Timestamp::now().as_second()));
        let keys =
            SigningKeys::load_or_create(&folder.path().join("data/keys"), Timestamp::now()).expect("keys");
        let address = ([127, 0, 0, 1], 0).into();
        let mut server = Self { folder, address, keys, now, running: None };
        server.run().await;
        server
    }

    async fn run(&mut self) {
        self.run_with(CONFIG).await;
    }

    async fn run_with(&mut self, config: &str) {
        let mut config = Config::parse(config).expect("config");
        config.server.data = self.folder.path().join("data");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        self.address = listener.local_addr().expect("address");
        let now = Arc::clone(&self.now);
        let clock = Arc::new(move || Timestamp::from_second(now.load(Ordering::SeqCst)).expect("time"));
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let task = tokio::spawn(async move {
            let ready = move |_: &str| {
                let _ = ready.send(());
                Ok(())
            };
            serve_at(config, listener, clock, ready, async { drop(stopped.await) }).await.expect("serve");
        });
        is_ready.await.expect("ready");
        self.running = Some((stop, task));
    }

    async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    async fn stop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            let _ = stop.send(());
            task.await.expect("end");
        }
        // The thread that writes ends a moment after the last way in to it.
        while redb::Database::open(self.folder.path().join("data/state.redb")).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    fn claims(&self, package: &str, actions: &[Action]) -> RegistryClaims {
        let now = u64::try_from(self.now.load(Ordering::SeqCst)).expect("time");
        let package: PackageName = package.parse().expect("name");
        RegistryClaims {
            iss: "https://npm.example".to_owned(),
            aud: "https://npm.example/repository/npm-hosted".to_owned(),
            sub: "repo:acme/core".to_owned(),
            iat: now,
            nbf: now,
            exp: now + 300,
            jti: ulid::Ulid::generate().to_string(),
            tenant_id: "acme".parse().expect("tenant"),
            project_slug: "core".parse().expect("project"),
            package_scope: package.scope(),
            package_name: package,
            allowed_actions: actions.to_vec(),
            entitlement_snapshot_id: "snap".parse().expect("snapshot"),
            artifact_policy: Vec::new(),
            version: None,
            integrity: None,
            publisher: None,
        }
    }

    fn sign(&self, claims: &RegistryClaims) -> String {
        self.keys.sign(NPM_TOKEN_TYPE, claims).expect("token")
    }

    fn token(&self, package: &str, actions: &[Action]) -> String {
        self.sign(&self.claims(package, actions))
    }

    fn publisher(&self) -> String {
        self.token("@acme/core", &[Action::Publish])
    }

    fn installer(&self) -> String {
        self.token("@acme/core", &[Action::Install])
    }

    fn operator(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("data/admin-token")).expect("token").trim().to_owned()
    }

    /// Sends exactly `head` and `body`, and reads to the end.
    async fn raw(&self, head: &str, body: &[u8]) -> Reply {
        let mut socket = TcpStream::connect(self.address).await.expect("connect");
        socket.write_all(head.as_bytes()).await.expect("send");
        // A refusal may come, and the connection close, before all of it is sent.
        let _ = socket.write_all(body).await;
        read(socket).await
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: evil.example:99\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.raw(&head, body).await
    }

    async fn get(&self, token: &str, path: &str) -> Reply {
        self.send("GET", &in_hosted(path), &[("authorization", &format!("Bearer {token}"))], b"").await
    }

    async fn put(&self, token: &str, path: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {token}");
        self.send("PUT", &in_hosted(path), &[("authorization", &bearer)], body.to_string().as_bytes()).await
    }

    async fn publish(&self, version: &str) -> Reply {
        let document = document("@acme/core", version, &tarball("@acme/core", version));
        self.put(&self.publisher(), "/@acme%2fcore", &document).await
    }

    async fn events(&self, action: &str) -> Vec<AuditEvent> {
        // Events of reads are gathered for a moment.
        tokio::time::sleep(crate::audit::FLUSH_EVERY * 2).await;
        let bearer = format!("Bearer {}", self.operator());
        let reply = self.send("GET", "/v1/audit/events?limit=1000", &[("authorization", &bearer)], b"").await;
        let items = reply.json()["items"].take();
        let events: Vec<AuditEvent> = serde_json::from_value(items).expect("events");
        events.into_iter().filter(|event| event.action == action).collect()
    }
}

fn in_hosted(path: &str) -> String {
    if path.starts_with("/repository/") { path.to_owned() } else { format!("/repository/npm-hosted{path}") }
}

async fn read(mut socket: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // The connection is reset when something that was sent was not read; the answer is there all the same.
    let _ = socket.read_to_end(&mut bytes).await;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("head").to_ascii_lowercase();
    let status = head[9..12].parse().expect("status");
    let mut body = bytes[end + 4..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        body = dechunk(&body);
    }
    Reply { status, head, body }
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).expect("size");
        let size = usize::from_str_radix(size, 16).expect("size");
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix))
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }

    /// What every refusal has, and stock clients need.
    fn is_refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{self:?}");
        assert!(!self.error().is_empty() && self.header("npm-notice").is_some(), "{self:?}");
        assert_eq!(self.header("www-authenticate").is_some(), status == 401, "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_published_and_read_in_every_form() {
    let server = Server::start().await;
    let token = server.publisher();
    let reply = server.get(&token, "/@acme%2fcore").await;
    reply.is_refused(404, "not_found");
    assert_eq!(server.publish("1.0.0").await.status, 201);

    let packed = tarball("@acme/core", "1.0.0");
    let installer = server.installer();
    for path in ["/@acme/core", "/@acme%2fcore", "/@acme%2Fcore", "/%40acme%2fcore"] {
        let reply = server.get(&installer, path).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
        let document = reply.json();
        let dist = &document["versions"]["1.0.0"]["dist"];
        assert_eq!(dist["integrity"], json!(Integrity::of(&packed)));
        // From the configuration, whatever the Host header says.
        assert_eq!(dist["tarball"], "https://npm.example/repository/npm-hosted/@acme/core/-/core-1.0.0.tgz");
        assert!(document["time"]["1.0.0"].is_string() && document["_rev"].is_string());
        let reply = server.get(&installer, &format!("{path}/-/core-1.0.0.tgz")).await;
        assert_eq!((reply.status, &reply.body), (200, &packed));
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
        assert_eq!(reply.header("cache-control"), Some("private, no-store"));
    }
    for (path, expected) in [
        ("/@acme/core/1.0.0", "\"version\":\"1.0.0\""),
        ("/@acme/core/latest", "\"version\":\"1.0.0\""),
        ("/-/package/@acme%2fcore/dist-tags", "{\"latest\":\"1.0.0\"}"),
        ("/-/package/@acme%2fcore/visibility", "{\"public\":false}"),
        ("/-/ping", "{}"),
        ("/-/whoami", "{\"username\":\"repo:acme/core\"}"),
    ] {
        let reply = server.get(&installer, path).await;
        let body = String::from_utf8_lossy(&reply.body);
        assert!(reply.status == 200 && body.contains(expected), "{path}: {body}");
    }
    for path in ["/@acme/core/2.0.0", "/@acme/core/next", "/@acme/core/-/core-2.0.0.tgz", "/-/npm/v1/hooks"] {
        server.get(&installer, path).await.is_refused(404, "not_found");
    }
    // One install of one version by one token is one event.
    let installs = server.events("registry.install").await;
    assert_eq!(installs.len(), 1, "{installs:?}");
    let published = server.events("registry.publish").await;
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].target.version.as_ref().map(ToString::to_string).as_deref(), Some("1.0.0"));
    assert!(published[0].token_jti.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_encodings_and_entity_tags() {
    let server = Server::start().await;
    assert_eq!(server.publish("1.0.0").await.status, 201);
    let bearer = format!("Bearer {}", server.installer());
    let get = async |headers: &[(&str, &str)]| {
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        server.send("GET", "/repository/npm-hosted/@acme%2fcore", &headers, b"").await
    };
    let abbreviated = ("accept", "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*");
    let short = get(&[abbreviated]).await;
    assert_eq!(short.header("content-type"), Some("application/vnd.npm.install-v1+json"));
    assert!(short.json().get("time").is_none() && short.json()["modified"].is_string());
    assert_eq!(short.header("vary"), Some("accept, accept-encoding, authorization"));
    assert_eq!(short.header("cache-control"), Some("private, no-store"));
    let packed = get(&[abbreviated, ("accept-encoding", "gzip, br")]).await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, short.body);

    let etag = short.header("etag").expect("etag").to_owned();
    let unchanged = get(&[abbreviated, ("if-none-match", &etag)]).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let full = get(&[("if-none-match", &etag)]).await;
    assert_eq!(full.status, 200, "the tag of another form");
    assert_eq!(server.publish("1.1.0").await.status, 201);
    let changed = get(&[abbreviated, ("if-none-match", &etag)]).await;
    assert_eq!(changed.status, 200);
    assert_eq!(changed.json()["dist-tags"]["latest"], "1.1.0");

    let head =
        server.send("HEAD", "/repository/npm-hosted/@acme%2fcore", &[("authorization", &bearer)], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_none() {
    let server = Server::start().await;
    assert_eq!(server.publish("1.0.0").await.status, 201);
    let good = server.installer();
    let at = "/repository/npm-hosted/@acme%2fcore";
    let now = server.claims("@acme/core", &[Action::Install]);
    let changed = |change: fn(&mut RegistryClaims)| {
        let mut claims = now.clone();
        change(&mut claims);
        format!("Bearer {}", server.sign(&claims))
    };
    let wrong_type = server.keys.sign(SESSION_TOKEN_TYPE, &now).expect("token");
    let mut broken = good.clone();
    broken.truncate(good.len() - 4);
    let claims = good.split('.').nth(1).expect("claims");
    let none =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"fo-npm+jwt"}"#);
    for bearer in [
        format!("Basic {}", STANDARD.encode("ci:x")),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer ${NPM_TOKEN}".to_owned(),
        "Bearer x".to_owned(),
        format!("Bearer {}", "a".repeat(9000)),
        format!("Bearer {broken}AAAA"),
        format!("Bearer {none}.{claims}."),
        format!("Bearer {wrong_type}"),
        format!("Bearer {}", server.operator()),
        changed(|claims| claims.iss = "https://other.example".to_owned()),
        changed(|claims| claims.aud = "https://npm.example".to_owned()),
        changed(|claims| claims.aud = "https://npm.example/repository/npm-open".to_owned()),
        changed(|claims| claims.aud = "https://npm.example/repository/npm-hosted/".to_owned()),
        changed(|claims| claims.aud = SESSION_AUDIENCE.to_owned()),
    ] {
        let reply = server.send("GET", at, &[("authorization", &bearer)], b"").await;
        reply.is_refused(401, "unauthenticated");
    }
    server.send("GET", at, &[], b"").await.is_refused(401, "unauthenticated");
    let good = format!("Bearer {good}");
    let two = [("authorization", good.as_str()), ("authorization", good.as_str())];
    server.send("GET", at, &two, b"").await.is_refused(401, "unauthenticated");
    assert_eq!(server.send("GET", at, &two[..1], b"").await.status, 200);
    // Ten minutes later.
    server.now.fetch_add(600, Ordering::SeqCst);
    server.send("GET", at, &two[..1], b"").await.is_refused(401, "token_expired");
    assert_eq!(server.events("registry.request").await.len(), 1, "noise is not written down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_does_nothing() {
    let server = Server::start().await;
    let token = server.publisher();
    server.get(&token, "/@acme%2fcore").await.is_refused(404, "not_found");
    let form = format!("token={token}");
    let head = format!(
        "POST /v1/oauth/revoke HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        form.len()
    );
    assert_eq!(server.raw(&head, form.as_bytes()).await.status, 200);
    server.get(&token, "/@acme%2fcore").await.is_refused(401, "token_revoked");
    let document = document("@acme/core", "1.0.0", &tarball("@acme/core", "1.0.0"));
    server.put(&token, "/@acme%2fcore", &document).await.is_refused(401, "token_revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_for_its_package_alone() {
    let server = Server::start().await;
    assert_eq!(server.publish("1.0.0").await.status, 201);
    let token = server.token("@acme/core", &[Action::Install, Action::Publish]);
    // Configured, published or neither: the same answer.
    let mut answers = Vec::new();
    for package in
        ["@acme/other", "@acme/core2", "@acme/cor", "@acmeevil/core", "plain", "core", "@acme/evil"]
    {
        let escaped = package.replace('/', "%2f");
        for path in [
            format!("/{escaped}"),
            format!("/{escaped}/1.0.0"),
            format!("/{package}/-/{}-1.0.0.tgz", package.rsplit('/').next().expect("base")),
            format!("/-/package/{escaped}/dist-tags"),
        ] {
            let reply = server.get(&token, &path).await;
            reply.is_refused(403, "out_of_scope");
            answers.push(without_ids(&reply));
        }
        let upload = document(package, "1.0.0", &tarball(package, "1.0.0"));
        let reply = server.put(&token, &format!("/{escaped}"), &upload).await;
        reply.is_refused(403, "out_of_scope");
        answers.push(without_ids(&reply));
        let reply =
            server.put(&token, &format!("/-/package/{escaped}/dist-tags/next"), &json!("1.0.0")).await;
        answers.push(without_ids(&reply));
    }
    // And with the other one published.
    let other = server.token("@acme/other", &[Action::Publish]);
    let upload = document("@acme/other", "1.0.0", &tarball("@acme/other", "1.0.0"));
    assert_eq!(server.put(&other, "/@acme%2fother", &upload).await.status, 201);
    answers.push(without_ids(&server.get(&token, "/@acme%2fother").await));
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

fn without_ids(reply: &Reply) -> Value {
    let mut body = reply.json();
    for id in ["decision_id", "audit_event_id", "correlation_id"] {
        assert!(body[id].take().is_string(), "{id}");
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_and_projects_are_apart() {
    let server = Server::start().await;
    assert_eq!(server.publish("1.0.0").await.status, 201);
    let get = async |change: fn(&mut RegistryClaims), path: &str| {
        let mut claims = server.claims("@acme/core", &[Action::Install]);
        change(&mut claims);
        server.get(&server.sign(&claims), path).await
    };
    let at = "/@acme%2fcore";
    get(|claims| claims.tenant_id = "evil".parse().expect("tenant"), at)
        .await
        .is_refused(403, "out_of_scope");
    get(|claims| claims.project_slug = "core2".parse().expect("project"), at)
        .await
        .is_refused(403, "out_of_scope");
    get(|claims| claims.package_scope = "@other".parse().expect("scope"), at)
        .await
        .is_refused(403, "out_of_scope");
    get(|claims| claims.package_scope = "".parse().expect("scope"), at).await.is_refused(403, "out_of_scope");
    // A package that nobody has configured, whatever the token says.
    get(|claims| claims.package_name = "@acme/nowhere".parse().expect("name"), "/@acme%2fnowhere")
        .await
        .is_refused(403, "out_of_scope");
    // A package of the tenant that is in another repository.
    get(|claims| claims.package_name = "@acme/second".parse().expect("name"), "/@acme%2fsecond")
        .await
        .is_refused(403, "out_of_scope");
    // The other tenant's repository takes the scope as well, and has nothing of ours.
    let evil = |claims: &mut RegistryClaims| {
        claims.tenant_id = "evil".parse().expect("tenant");
        claims.aud = "https://npm.example/repository/npm-evil".to_owned();
    };
    get(evil, "/repository/npm-evil/@acme%2fcore").await.is_refused(403, "out_of_scope");
    get(|_| (), "/repository/npm-evil/@acme%2fcore").await.is_refused(401, "unauthenticated");
    get(|_| (), "/repository/npm-hosted2/@acme%2fcore").await.is_refused(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_what_the_token_says() {
    let server = Server::start().await;
    assert_eq!(server.publish("1.0.0").await.status, 201);
    let (installer, publisher) = (server.installer(), server.publisher());
    // A publish token reads its own metadata and no tarball.
    assert_eq!(server.get(&publisher, "/@acme%2fcore").await.status, 200);
    assert_eq!(server.get(&publisher, "/-/package/@acme%2fcore/dist-tags").await.status, 200);
    let reply = server.get(&publisher, "/@acme/core/-/core-1.0.0.tgz").await;
    reply.is_refused(403, "action_denied");
    assert_eq!(reply.json()["allowed_actions"], json!(["publish"]));
    // An install token writes nothing.
    let upload = document("@acme/core", "1.1.0", &tarball("@acme/core", "1.1.0"));
    server.put(&installer, "/@acme%2fcore", &upload).await.is_refused(403, "action_denied");
    server
        .put(&installer, "/-/package/@acme%2fcore/dist-tags/next", &json!("1.0.0"))
        .await
        .is_refused(403, "action_denied");
    // Neither takes anything back.
    for token in [&installer, &publisher] {
        let bearer = format!("Bearer {token}");
        for (method, path) in [
            ("DELETE", "/@acme%2fcore/-rev/1-a"),
            ("PUT", "/@acme%2fcore/-rev/1-a"),
            ("DELETE", "/@acme/core/-/core-1.0.0.tgz/-rev/1-a"),
        ] {
            let reply = server.send(method, &in_hosted(path), &[("authorization", &bearer)], b"").await;
            reply.is_refused(403, "out_of_scope");
        }
        for (method, path) in [
            ("PUT", "/-/user/org.couchdb.user:ci"),
            ("POST", "/-/v1/login"),
            ("GET", "/-/npm/v1/tokens"),
            ("DELETE", "/-/user/token/x"),
            ("GET", "/-/all"),
            ("POST", "/-/stage/package/@acme%2fcore"),
            ("POST", "/-/package/@acme%2fcore/trust"),
            ("POST", "/-/package/@acme%2fcore/access"),
        ] {
            let reply = server.send(method, &in_hosted(path), &[("authorization", &bearer)], b"").await;
            reply.is_refused(403, "out_of_scope");
        }
    }
    let bearer = format!("Bearer {publisher}");
    for (method, path) in [("DELETE", "/@acme%2fcore"), ("POST", "/@acme%2fcore"), ("POST", "/-/ping")] {
        let reply = server.send(method, &in_hosted(path), &[("authorization", &bearer)], b"").await;
        reply.is_refused(405, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_uploaded_is_refused_before_it_is_sent() {
    let server = Server::start().await;
    let refused = [
        (server.installer(), "/@acme%2fcore", 1000, 403),
        (server.publisher(), "/@acme%2fother", 1000, 403),
        ("x".to_owned(), "/@acme%2fcore", 1000, 401),
        (server.publisher(), "/@acme%2fcore", 4_194_305, 413),
    ];
    for (token, path, length, status) in refused {
        for expect in ["", "expect: 100-continue\r\n"] {
            let head = format!(
                "PUT /repository/npm-hosted{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{expect}content-length: {length}\r\n\r\n"
            );
            // Nothing of the body is ever sent.
            let reply = server.raw(&head, b"").await;
            assert_eq!(reply.status, status, "{reply:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_is_switched_off() {
    let server = Server::start().await;
    let both = [Action::Install, Action::Publish];
    for (package, get, put) in [
        ("@acme/off", "package_disabled", "package_disabled"),
        ("@acme/gone", "package_archived", "package_archived"),
        ("@acme/old", "not_found", "package_archived"),
    ] {
        let token = server.token(package, &both);
        let path = format!("/{}", package.replace('/', "%2f"));
        assert_eq!(server.get(&token, &path).await.code(), get, "{package}");
        let upload = document(package, "1.0.0", &tarball(package, "1.0.0"));
        assert_eq!(server.put(&token, &path, &upload).await.code(), put, "{package}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_have_two_readings() {
    let server = Server::start().await;
    let token = server.token("@acme/core", &[Action::Install, Action::Publish]);
    for path in [
        "/@acme%252fcore",
        "/@acme//core",
        "//@acme/core",
        "/./@acme/core",
        "/@acme/./core",
        "/@acme/x/../core",
        "/@acme/core/",
        "/@acme%5ccore",
        "/@acme/core%00",
        "/@ACME/core",
        "/@acme/c%6fre",
        "/@acme/core/-/package.json",
        "/@acme/core/-/other-1.0.0.tgz",
        "/..%2fnpm-open/@open/core",
        "/@acme%2f..%2f..%2fnpm-open",
        "/_x",
        "/node_modules",
        "/__proto__",
        "/@acme",
    ] {
        server.get(&token, path).await.is_refused(400, "invalid_request");
    }
    assert_eq!(server.get(&token, "/").await.status, 404);
    assert_eq!(server.get(&token, "/repository/npm-hosted").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_and_tarballs_that_lie() {
    let server = Server::start().await;
    let token = server.publisher();
    let with = |packed: Vec<u8>| document("@acme/core", "1.0.0", &packed);
    let manifest = json!({"name": "@acme/core", "version": "1.0.0"}).to_string();
    let entry = |path: &'static str, kind| archive::Entry { path: path.as_bytes(), kind, content: b"" };
    let mut lies = vec![
        ("tarball of another package", with(tarball("@acme/other", "1.0.0"))),
        ("tarball of another version", with(tarball("@acme/core", "1.0.1"))),
        ("no gzip", with(b"not gzip".to_vec())),
        ("no archive", with(archive::gzip(b"not tar"))),
        ("no manifest", with(archive::tarball(&[file("package/x", "")]))),
        (
            "two manifests",
            with(archive::tarball(&[
                file("package/package.json", &manifest),
                file("package/package.json", &manifest),
            ])),
        ),
        (
            "two roots",
            with(archive::tarball(&[file("package/package.json", &manifest), file("other/x", "")])),
        ),
        (
            "a way out",
            with(archive::tarball(&[file("package/package.json", &manifest), file("package/../../x", "")])),
        ),
        (
            "a link",
            with(archive::tarball(&[
                file("package/package.json", &manifest),
                entry("package/x", tar::EntryType::Symlink),
            ])),
        ),
    ];
    let good = with(tarball("@acme/core", "1.0.0"));
    let mut lie = |name, change: fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        lies.push((name, document));
    };
    lie("wrong integrity", |d| {
        d["versions"]["1.0.0"]["dist"]["integrity"] = Integrity::of("").to_string().into();
    });
    lie("no integrity", |d| d["versions"]["1.0.0"]["dist"]["integrity"] = Value::Null);
    lie("wrong length", |d| d["_attachments"]["@acme/core-1.0.0.tgz"]["length"] = 1.into());
    lie("another name", |d| d["name"] = "@acme/other".into());
    lie("another name inside", |d| d["versions"]["1.0.0"]["name"] = "@acme/other".into());
    lie("another version inside", |d| d["versions"]["1.0.0"]["version"] = "1.0.1".into());
    lie("a way out in the attachment", |d| {
        d["_attachments"]["../../x.tgz"] = d["_attachments"]["@acme/core-1.0.0.tgz"].take();
    });
    lie("another package's attachment", |d| {
        d["_attachments"]["@acme/other-1.0.0.tgz"] = d["_attachments"]["@acme/core-1.0.0.tgz"].clone();
    });
    lie("build metadata", |d| {
        let mut version = d["versions"]["1.0.0"].take();
        version["version"] = "1.0.0+a".into();
        d["versions"] = json!({"1.0.0+a": version});
        d["dist-tags"] = json!({"latest": "1.0.0+a"});
    });
    lie("a range for a tag", |d| d["dist-tags"] = json!({"^1.0.0": "1.0.0"}));
    lie("a tag to a missing version", |d| d["dist-tags"]["old"] = "0.9.0".into());
    lie("a prerelease for everybody", |d| {
        *d = document("@acme/core", "1.0.0-rc.1", &tarball("@acme/core", "1.0.0-rc.1"));
    });
    for (name, document) in lies {
        let reply = server.put(&token, "/@acme%2fcore", &document).await;
        assert_eq!((reply.status, reply.code().as_str()), (422, "invalid_document"), "{name}: {reply:?}");
    }
    let bearer = format!("Bearer {token}");
    let proto = good.to_string().replacen(r#""access":null"#, r#""__proto__":{}"#, 1);
    for body in [proto.as_bytes(), b"x", b"[]", b"{}", "[".repeat(100_000).as_bytes()] {
        let reply =
            server.send("PUT", &in_hosted("/@acme%2fcore"), &[("authorization", &bearer)], body).await;
        reply.is_refused(422, "invalid_document");
    }
    let reply = server
        .send(
            "PUT",
            &in_hosted("/@acme%2fcore"),
            &[("authorization", &bearer), ("content-encoding", "gzip")],
            &archive::gzip(good.to_string().as_bytes()),
        )
        .await;
    reply.is_refused(415, "invalid_request");
    // Nothing of all that is there, and nothing is in the way.
    server.get(&token, "/@acme%2fcore").await.is_refused(404, "not_found");
    assert_eq!(server.put(&token, "/@acme%2fcore", &good).await.status, 201);
    let events = server.events("registry.publish").await;
    let allowed = events.iter().filter(|event| event.code.is_none()).count();
    assert!(allowed == 1 && events.len() > 20, "{} of {}", allowed, events.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_comes_from_the_tarball() {
    let server = Server::start().await;
    let manifest = json!({
        "name": "@acme/core", "version": "1.0.0", "dependencies": {"evil": "1"}, "scripts": {"postinstall": "x"},
    });
    let packed = archive::tarball(&[file("package/package.json", &manifest.to_string())]);
    let mut document = document("@acme/core", "1.0.0", &packed);
    document["versions"]["1.0.0"]["dependencies"] = json!({"harmless": "1"});
    document["versions"]["1.0.0"]["scripts"] = json!({});
    document["versions"]["1.0.0"]["hasInstallScript"] = json!(false);
    assert_eq!(server.put(&server.publisher(), "/@acme%2fcore", &document).await.status, 201);
    let served = server.get(&server.installer(), "/@acme/core/1.0.0").await.json();
    assert_eq!(served["dependencies"], json!({"evil": "1"}));
    assert_eq!((&served["scripts"]["postinstall"], &served["hasInstallScript"]), (&json!("x"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_again() {
    let mut server = Server::start().await;
    let token = server.publisher();
    let packed = tarball("@acme/core", "1.0.0");
    let good = document("@acme/core", "1.0.0", &packed);
    assert_eq!(server.put(&token, "/@acme%2fcore", &good).await.status, 201);
    // The same token with the same bytes: the answer was lost, and npm sends it again. Also after a restart.
    assert_eq!(server.put(&token, "/@acme%2fcore", &good).await.status, 201);
    server.restart().await;
    assert_eq!(server.put(&token, "/@acme%2fcore", &good).await.status, 201);
    assert_eq!(server.events("registry.publish").await.len(), 1);

    let reply = server.put(&server.publisher(), "/@acme%2fcore", &good).await;
    reply.is_refused(409, "version_exists");
    assert!(reply.error().contains("with the same content"), "{reply:?}");
    assert_eq!(reply.json()["rules"][0]["ok"], true);
    assert_eq!(reply.json()["rules"][0]["expected"], json!(Integrity::of(&packed)));

    let other = archive::tarball(&[file(
        "package/package.json",
        r#"{"name":"@acme/core","version":"1.0.0","description":"other"}"#,
    )]);
    for token in [&token, &server.publisher()] {
        let reply = server.put(token, "/@acme%2fcore", &document("@acme/core", "1.0.0", &other)).await;
        reply.is_refused(409, "version_exists");
        assert!(reply.error().contains("with different content"), "{reply:?}");
        assert_eq!(reply.json()["rules"][0]["ok"], false);
    }
    let reply = server.get(&server.installer(), "/@acme/core/-/core-1.0.0.tgz").await;
    assert_eq!(reply.body, packed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_publishes_one_artifact() {
    let server = Server::start().await;
    let packed = tarball("@acme/core", "1.0.0");
    let mut claims = server.claims("@acme/core", &[Action::Publish]);
    claims.version = Some("1.0.0".parse().expect("version"));
    claims.integrity = Some(Integrity::of(&packed));
    let token = server.sign(&claims);
    let other = archive::tarball(&[file(
        "package/package.json",
        r#"{"name":"@acme/core","version":"1.0.0","description":"other"}"#,
    )]);
    for (version, packed) in [("1.0.0", other), ("1.0.1", tarball("@acme/core", "1.0.1"))] {
        let reply = server.put(&token, "/@acme%2fcore", &document("@acme/core", version, &packed)).await;
        reply.is_refused(403, "out_of_scope");
        assert!(reply.error().contains("the token is bound to"), "{reply:?}");
    }
    let good = document("@acme/core", "1.0.0", &packed);
    assert_eq!(server.put(&token, "/@acme%2fcore", &good).await.status, 201);
    // It names its own version, and no other.
    assert_eq!(server.publish("1.1.0").await.status, 201);
    let set = async |tag: &str, version: &str| {
        server.put(&token, &format!("/-/package/@acme%2fcore/dist-tags/{tag}"), &json!(version)).await
    };
    assert_eq!(set("stable", "1.0.0").await.status, 201);
    set("stable", "1.1.0").await.is_refused(403, "out_of_scope");
    let free = server.publisher();
    assert_eq!(
        server.put(&free, "/-/package/@acme%2fcore/dist-tags/next", &json!("1.1.0")).await.status,
        201
    );
    let bearer = format!("Bearer {token}");
    let remove = async |tag: &str| {
        let path = in_hosted(&format!("/-/package/@acme%2fcore/dist-tags/{tag}"));
        server.send("DELETE", &path, &[("authorization", &bearer)], b"").await
    };
    remove("next").await.is_refused(403, "out_of_scope");
    assert_eq!(remove("stable").await.status, 200);
    let tags = server.get(&free, "/-/package/@acme%2fcore/dist-tags").await.json();
    assert_eq!(tags, json!({"latest": "1.1.0", "next": "1.1.0"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn dist_tags() {
    let server = Server::start().await;
    let token = server.publisher();
    let set = async |tag: &str, body: &Value| {
        server.put(&token, &format!("/-/package/@acme%2fcore/dist-tags/{tag}"), body).await
    };
    set("next", &json!("1.0.0")).await.is_refused(404, "not_found");
    for version in ["1.0.0", "2.0.0"] {
        assert_eq!(server.publish(version).await.status, 201);
    }
    // A publish of an older version for everybody is refused whole.
    server.publish("1.5.0").await.is_refused(422, "invalid_document");
    let mut older = document("@acme/core", "1.5.0", &tarball("@acme/core", "1.5.0"));
    older["dist-tags"] = json!({"v1-lts": "1.5.0"});
    server.put(&token, "/@acme%2fcore", &older).await.is_refused(422, "invalid_document");
    older["dist-tags"] = json!({"lts": "1.5.0"});
    assert_eq!(server.put(&token, "/@acme%2fcore", &older).await.status, 201);
    let mut prerelease = document("@acme/core", "3.0.0-rc.1", &tarball("@acme/core", "3.0.0-rc.1"));
    prerelease["dist-tags"] = json!({"next": "3.0.0-rc.1"});
    assert_eq!(server.put(&token, "/@acme%2fcore", &prerelease).await.status, 201);

    set("latest", &json!("1.0.0")).await.is_refused(422, "invalid_document");
    set("next", &json!("9.0.0")).await.is_refused(404, "not_found");
    for bad in [json!("^1"), json!(1), json!({}), json!("1.0.0+a"), json!("x".repeat(2000))] {
        assert!([400, 413].contains(&set("next", &bad).await.status), "{bad}");
    }
    set("1.x", &json!("1.0.0")).await.is_refused(400, "invalid_request");
    assert_eq!(set("latest", &json!("3.0.0-rc.1")).await.status, 201, "asked for by name");
    let tags = server.get(&token, "/-/package/@acme%2fcore/dist-tags").await.json();
    assert_eq!(tags, json!({"latest": "3.0.0-rc.1", "lts": "1.5.0", "next": "3.0.0-rc.1"}));
    let bearer = format!("Bearer {token}");
    for (tag, status) in [("latest", 400), ("lts", 200), ("lts", 404)] {
        let path = in_hosted(&format!("/-/package/@acme%2fcore/dist-tags/{tag}"));
        assert_eq!(
            server.send("DELETE", &path, &[("authorization", &bearer)], b"").await.status,
            status,
            "{tag}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_needs_a_build_on_record() {
    let server = Server::start().await;
    let token = server.token("@acme/hard", &[Action::Publish]);
    let packed = tarball("@acme/hard", "1.0.0");
    let upload = document("@acme/hard", "1.0.0", &packed);
    server.put(&token, "/@acme%2fhard", &upload).await.is_refused(422, "artifact_policy_unmet");
    // The token may ask for more than the configuration.
    let mut claims = server.claims("@acme/core", &[Action::Publish]);
    claims.artifact_policy = vec![ArtifactPolicy::Hardened];
    let core = document("@acme/core", "1.0.0", &tarball("@acme/core", "1.0.0"));
    let reply = server.put(&server.sign(&claims), "/@acme%2fcore", &core).await;
    reply.is_refused(422, "artifact_policy_unmet");
    let sealed = document("@acme/sealed", "1.0.0", &tarball("@acme/sealed", "1.0.0"));
    let reply =
        server.put(&server.token("@acme/sealed", &[Action::Publish]), "/@acme%2fsealed", &sealed).await;
    reply.is_refused(422, "artifact_policy_unmet");

    // The same bytes on record as another version are not this one.
    record_build(&server, "@acme/hard", "1.0.1", &packed).await;
    server.put(&token, "/@acme%2fhard", &upload).await.is_refused(422, "artifact_policy_unmet");
    record_build(&server, "@acme/hard", "1.0.0", &packed).await;
    let other = archive::tarball(&[file(
        "package/package.json",
        r#"{"name":"@acme/hard","version":"1.0.0","description":"not hardened"}"#,
    )]);
    let reply = server.put(&token, "/@acme%2fhard", &document("@acme/hard", "1.0.0", &other)).await;
    reply.is_refused(422, "artifact_policy_unmet");
    assert_eq!(server.put(&token, "/@acme%2fhard", &upload).await.status, 201);
}

async fn record_build(server: &Server, package: &str, version: &str, packed: &[u8]) {
    let mut identity = RunIdentity::new(PlatformKind::GithubActions, "https://ci.example", "repo:acme/core");
    identity.repository = Some("acme/core".to_owned());
    identity.repository_id = Some("1".to_owned());
    identity.owner_id = Some("2".to_owned());
    identity.workflow_ref = Some("acme/core/.github/workflows/release.yml@refs/heads/main".to_owned());
    identity.job_workflow_ref = identity.workflow_ref.clone();
    identity.event = Some("push".to_owned());
    identity.git_ref = Some("refs/heads/main".to_owned());
    let now = u64::try_from(server.now.load(Ordering::SeqCst)).expect("time");
    let session = SessionClaims {
        iss: "https://npm.example".to_owned(),
        aud: SESSION_AUDIENCE.to_owned(),
        sub: "repo:acme/core".to_owned(),
        iat: now,
        nbf: now,
        exp: now + 300,
        jti: "session".to_owned(),
        tenant_id: "acme".parse().expect("tenant"),
        identity,
    };
    let bearer = format!("Bearer {}", server.keys.sign(SESSION_TOKEN_TYPE, &session).expect("token"));
    let mut body = recorded(version, packed);
    let name: PackageName = package.parse().expect("name");
    body["package_name"] = package.into();
    body["artifact"]["filename"] = name.tarball(&version.parse().expect("version")).into();
    let path = format!("/{}", build::PATH);
    let reply = server.send("POST", &path, &[("authorization", &bearer)], body.to_string().as_bytes()).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_twenty_uploads_of_one_version_one_wins() {
    let server = Arc::new(Server::start().await);
    for round in 0..10 {
        let version = format!("1.0.{round}");
        let uploads = (0..20).map(|n| {
            let (server, version) = (Arc::clone(&server), version.clone());
            tokio::spawn(async move {
                let manifest =
                    json!({"name": "@acme/core", "version": version, "description": format!("{n}")});
                let packed = archive::tarball(&[file("package/package.json", &manifest.to_string())]);
                let upload = document("@acme/core", &version, &packed);
                (server.put(&server.publisher(), "/@acme%2fcore", &upload).await, packed)
            })
        });
        let mut won = Vec::new();
        for upload in uploads.collect::<Vec<_>>() {
            let (reply, packed) = upload.await.expect("upload");
            match reply.status {
                201 => won.push(packed),
                _ => reply.is_refused(409, "version_exists"),
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        let installer = server.installer();
        let stored = server.get(&installer, &format!("/@acme/core/-/core-{version}.tgz")).await.body;
        assert_eq!(stored, won[0], "round {round}");
        let said = server.get(&installer, &format!("/@acme/core/{version}")).await.json();
        assert_eq!(said["dist"]["integrity"], json!(Integrity::of(&stored)));
    }
    let events = server.events("registry.publish").await;
    assert_eq!(events.iter().filter(|event| event.code.is_none()).count(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_versions_at_once_all_appear() {
    let mut server = Server::start().await;
    let shared = Arc::new(server);
    let uploads: Vec<_> = (0..20)
        .map(|n| {
            let server = Arc::clone(&shared);
            tokio::spawn(async move {
                let version = format!("1.0.{n}");
                let mut upload = document("@acme/core", &version, &tarball("@acme/core", &version));
                upload["dist-tags"] = json!({format!("t{n}"): version});
                server.put(&server.publisher(), "/@acme%2fcore", &upload).await.status
            })
        })
        .collect();
    for upload in uploads {
        assert_eq!(upload.await.expect("upload"), 201);
    }
    server = Arc::into_inner(shared).expect("alone");
    for _ in 0..2 {
        let document = server.get(&server.installer(), "/@acme%2fcore").await.json();
        assert_eq!(document["versions"].as_object().map(serde_json::Map::len), Some(20));
        assert_eq!(document["dist-tags"].as_object().map(serde_json::Map::len), Some(20));
        // And the same after a restart.
        server.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tarball_too_large_for_the_memory_is_streamed() {
    let server = Server::start().await;
    let noise: Vec<u8> = (0..500_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes())
        .collect();
    let packed = archive::tarball(&[
        file("package/package.json", r#"{"name":"@acme/core","version":"1.0.0"}"#),
        archive::Entry { path: b"package/noise", kind: tar::EntryType::Regular, content: &noise },
    ]);
    assert!(packed.len() > 1 << 20, "{}", packed.len());
    let upload = document("@acme/core", "1.0.0", &packed);
    assert_eq!(server.put(&server.publisher(), "/@acme%2fcore", &upload).await.status, 201);
    let reply = server.get(&server.installer(), "/@acme/core/-/core-1.0.0.tgz").await;
    assert!(reply.body == packed);
    assert_eq!(reply.header("content-length"), Some(packed.len().to_string().as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn search_and_audit_know_the_tokens_package_alone() {
    let server = Server::start().await;
    assert_eq!(server.publish("1.0.0").await.status, 201);
    let other = server.token("@acme/other", &[Action::Publish]);
    let upload = document("@acme/other", "1.0.0", &tarball("@acme/other", "1.0.0"));
    assert_eq!(server.put(&other, "/@acme%2fother", &upload).await.status, 201);
    let token = server.installer();
    for (query, names) in [
        ("text=core&size=20&from=0", vec!["@acme/core"]),
        ("text=acme&size=20&from=0", vec!["@acme/core"]),
        ("text=", vec!["@acme/core"]),
        ("text=acme+core", vec!["@acme/core"]),
        ("text=other&size=20&from=0", vec![]),
        ("text=core&from=20", vec![]),
    ] {
        let found = server.get(&token, &format!("/-/v1/search?{query}")).await.json();
        let objects = found["objects"].as_array().expect("objects");
        let found: Vec<&str> = objects.iter().filter_map(|it| it["package"]["name"].as_str()).collect();
        assert_eq!(found, names, "{query}");
    }
    let bearer = format!("Bearer {token}");
    for (path, answer) in
        [("/-/npm/v1/security/advisories/bulk", json!({})), ("/-/npm/v1/security/audits/quick", json!([]))]
    {
        let body = archive::gzip(br#"{"@acme/core":["1.0.0"]}"#);
        let headers = [("authorization", bearer.as_str()), ("content-encoding", "gzip")];
        let reply = server.send("POST", &in_hosted(path), &headers, &body).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json().get("actions").cloned().unwrap_or(json!({})), answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_back_is_for_the_operator_where_it_is_allowed() {
    let server = Server::start().await;
    let mut claims = server.claims("@open/core", &[Action::Publish, Action::Install]);
    claims.aud = "https://npm.example/repository/npm-open".to_owned();
    let token = server.sign(&claims);
    let at = "/repository/npm-open/@open%2fcore";
    for version in ["1.0.0", "1.1.0", "2.0.0-rc.1"] {
        let mut upload = document("@open/core", version, &tarball("@open/core", version));
        if version.contains("rc") {
            upload["dist-tags"] = json!({"next": version});
        }
        assert_eq!(server.put(&token, at, &upload).await.status, 201);
    }
    let operator = server.operator();
    let bearer = format!("Bearer {operator}");
    let document = async |token: &str| server.get(token, &format!("{at}?write=true")).await.json();

    // Deprecating: the whole document back, with a reason.
    let mut changed = document(&operator).await;
    changed["versions"]["1.0.0"]["deprecated"] = "use 1.1".into();
    changed["versions"]["1.0.0"]["description"] = "changed".into();
    changed["dist-tags"]["latest"] = "1.0.0".into();
    server.put(&token, at, &changed).await.is_refused(403, "out_of_scope");
    assert_eq!(server.put(&operator, at, &changed).await.status, 200);
    let now = document(&operator).await;
    assert_eq!(now["versions"]["1.0.0"]["deprecated"], "use 1.1");
    assert_eq!(now["versions"]["1.0.0"].get("description"), None);
    assert_eq!(now["dist-tags"]["latest"], "1.1.0");
    let mut stranger = changed.clone();
    let mut version = stranger["versions"]["1.0.0"].clone();
    version["version"] = "9.0.0".into();
    version["_id"] = "@open/core@9.0.0".into();
    stranger["versions"]["9.0.0"] = version;
    assert_eq!(server.put(&operator, at, &stranger).await.status, 409);

    // Taking one version back.
    let mut left = document(&operator).await;
    let rev = left["_rev"].as_str().expect("rev").to_owned();
    left["versions"].as_object_mut().expect("versions").remove("1.1.0");
    server.put(&token, &format!("{at}/-rev/{rev}"), &left).await.is_refused(403, "out_of_scope");
    assert_eq!(server.put(&operator, &format!("{at}/-rev/1-stale"), &left).await.status, 409);
    assert_eq!(server.put(&operator, &format!("{at}/-rev/{rev}"), &left).await.status, 200);
    let now = document(&operator).await;
    assert_eq!(now["dist-tags"], json!({"latest": "1.0.0", "next": "2.0.0-rc.1"}));
    let rev = now["_rev"].as_str().expect("rev").to_owned();
    let tarball_at = |version: &str| format!("/repository/npm-open/@open/core/-/core-{version}.tgz");
    assert_eq!(server.get(&token, &tarball_at("1.1.0")).await.status, 404);
    let delete = async |path: String| server.send("DELETE", &path, &[("authorization", &bearer)], b"").await;
    assert_eq!(delete(format!("{}/-rev/{rev}", tarball_at("1.1.0"))).await.status, 200);
    assert_eq!(delete(format!("{}/-rev/{rev}", tarball_at("1.0.0"))).await.status, 409);
    // Its number stays used.
    let again = super::document::tests::document("@open/core", "1.1.0", &tarball("@open/core", "1.1.0"));
    server.put(&token, at, &again).await.is_refused(409, "version_exists");
    // The operator publishes nothing, and installs nothing.
    let new = super::document::tests::document("@open/core", "1.2.0", &tarball("@open/core", "1.2.0"));
    server.put(&operator, at, &new).await.is_refused(403, "out_of_scope");
    server.get(&operator, &tarball_at("1.0.0")).await.is_refused(403, "out_of_scope");

    // All of it.
    assert_eq!(delete(format!("{at}/-rev/{rev}")).await.status, 200);
    assert_eq!(server.get(&token, at).await.status, 404);
    let again = super::document::tests::document("@open/core", "1.0.0", &tarball("@open/core", "1.0.0"));
    server.put(&token, at, &again).await.is_refused(409, "version_exists");
    let versions = server.events("registry.unpublish").await.into_iter().filter(|event| event.code.is_none());
    assert_eq!(versions.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_document_is_never_served_after_a_publish() {
    let server = Arc::new(Server::start().await);
    assert_eq!(server.publish("1.0.0").await.status, 201);
    let reading = Arc::clone(&server);
    let readers = tokio::spawn(async move {
        for _ in 0..100 {
            assert_eq!(reading.get(&reading.installer(), "/@acme%2fcore").await.status, 200);
        }
    });
    for n in 1..30 {
        let version = format!("1.0.{n}");
        assert_eq!(server.publish(&version).await.status, 201);
        let tags = server.get(&server.installer(), "/-/package/@acme%2fcore/dist-tags").await.json();
        assert_eq!(tags["latest"], version);
    }
    readers.await.expect("readers");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_says_of_a_version_is_signed_served_and_kept() {
    use protected_evidence::{
        statement::{STATEMENT_TYPE, STATEMENT_TYPE_0_1, Subject},
        verify::{self, Expected, Trust},
    };
    let server = Server::start().await;
    let packed = tarball("@acme/core", "1.0.0");
    let upload = document("@acme/core", "1.0.0", &packed);
    assert_eq!(server.put(&server.publisher(), "/@acme%2fcore", &upload).await.status, 201);
    let token = server.installer();
    let keys = server.get(&token, "/-/npm/v1/keys").await.json();
    let spki = keys["keys"][0]["key"].as_str().expect("key");
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &spki[..64], &spki[64..]);
    let root = server.send("GET", "/sigstore/trusted_root.json", &[], b"").await.json();
    let trust = Trust::from_trusted_root(root.to_string().as_bytes()).expect("root");
    let trust = trust.with_key(&pem, keys["keys"][0]["keyid"].as_str().map(str::to_owned)).expect("key");
    let (name, version) = ("@acme/core".parse().expect("name"), "1.0.0".parse().expect("version"));
    let subject =
        Subject::npm(&name, &version, &protected_model::digest::Sha256::of(&packed), &Integrity::of(&packed));
    let other = Subject::npm(&name, &version, &protected_model::digest::Sha256::of("x"), &Integrity::of("x"));
    // npm takes a bundle that is not logged for tampering: it is not served where npm looks.
    server.get(&token, "/-/npm/v1/attestations/@acme%2fcore@1.0.0").await.is_refused(404, "not_found");
    let packument = server.get(&token, "/@acme%2fcore").await.json();
    assert!(packument["versions"]["1.0.0"]["dist"].get("attestations").is_none());
    let served = server.get(&token, "/-/protected-registry/v1/attestations/@acme%2fcore@1.0.0").await;
    assert_eq!((served.status, served.header("cache-control")), (200, Some("private, no-store")));
    let attestations = served.json()["attestations"].as_array().expect("attestations").clone();
    assert_eq!(
        attestations.iter().map(|it| it["predicateType"].as_str().expect("type")).collect::<Vec<_>>(),
        super::admission::OWN
    );
    let mut statements = Vec::new();
    for attestation in &attestations {
        let bundle = attestation["bundle"].to_string();
        let predicate_type = attestation["predicateType"].as_str();
        let expected = Expected { subject: &subject, predicate_type, identity: None };
        let verified = verify::bundle(bundle.as_bytes(), &trust, &expected).expect("verified");
        // Logged, and at a time that an authority says.
        assert_eq!((verified.log.len(), verified.times.len()), (1, 1));
        statements.push(verified.statement.expect("statement"));
        let wrong = Expected { subject: &other, ..expected.clone() };
        assert!(verify::bundle(bundle.as_bytes(), &trust, &wrong).is_err());
        assert!(verify::bundle(bundle.as_bytes(), &Trust::public_good().expect("root"), &expected).is_err());
    }
    assert_eq!(
        (statements[0].kind.as_str(), statements[1].kind.as_str()),
        (STATEMENT_TYPE_0_1, STATEMENT_TYPE)
    );
    assert_eq!(
        statements[0].predicate,
        json!({"name": "@acme/core", "version": "1.0.0", "registry": "https://npm.example/repository/npm-hosted"})
    );
    // Nothing was shown of how it was built, so that no more than level 0 is claimed.
    let summary = &statements[1].predicate;
    assert_eq!(summary["verifiedLevels"], json!(["SLSA_BUILD_LEVEL_0"]));
    assert_eq!(summary["verificationResult"], "PASSED");
    assert_eq!(summary["verifier"]["id"], "https://npm.example");
    assert_eq!(summary["resourceUri"], "pkg:npm/%40acme/core@1.0.0");
    assert!(summary.get("inputAttestations").is_none());
    let bearer = format!("Bearer {}", server.operator());
    let get = async |path: &str| server.send("GET", path, &[("authorization", &bearer)], b"").await;
    for (attestation, kind) in attestations.iter().zip(["publish-attestation", "vsa"]) {
        let found = get(&format!("/v1/evidence?type={kind}")).await.json();
        let [record] = found["items"].as_array().expect("items").as_slice() else { panic!("{found}") };
        assert_eq!(record["media_type"], "application/vnd.dev.sigstore.bundle.v0.3+json");
        assert_eq!(record["subject"]["sha512"], json!(Integrity::of(&packed)));
        let content = format!("/v1/evidence/{}/content", record["id"].as_str().expect("id"));
        assert_eq!(&get(&content).await.json(), &attestation["bundle"]);
    }
}

/// Attaches a bundle to a publish document, as npm does.
fn with_bundle(mut upload: Value, bundle: &str) -> Value {
    upload["_attachments"]["@acme/core-1.0.0.sigstore"] = json!({
        "content_type": "application/vnd.dev.sigstore.bundle.v0.3+json", "data": bundle, "length": bundle.len(),
    });
    upload
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_does_not_verify_refuses_the_publish_and_leaves_nothing() {
    let server = Server::start().await;
    let packed = tarball("@acme/core", "1.0.0");
    let upload = document("@acme/core", "1.0.0", &packed);
    // The registry's own, good and signed by a key: no provenance of a run.
    let other = document("@acme/other", "1.0.0", &tarball("@acme/other", "1.0.0"));
    assert_eq!(
        server.put(&server.token("@acme/other", &[Action::Publish]), "/@acme%2fother", &other).await.status,
        201
    );
    let reader = server.token("@acme/other", &[Action::Install]);
    let own = server.get(&reader, "/-/protected-registry/v1/attestations/@acme%2fother@1.0.0").await.json();
    let own = own["attestations"][0]["bundle"].to_string();
    for bundle in [
        r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#,
        r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{},"dsseEnvelope":{}}"#,
        own.as_str(),
    ] {
        let reply =
            server.put(&server.publisher(), "/@acme%2fcore", &with_bundle(upload.clone(), bundle)).await;
        reply.is_refused(422, "provenance_refused");
        let rule = &reply.json()["rules"][0];
        assert!(rule["expected"].is_string() && rule["actual"].is_string() && rule["ok"] == false, "{rule}");
    }
    let large = format!(
        r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","more":"{}"}}"#,
        "x".repeat(3 << 20)
    );
    let reply = server.put(&server.publisher(), "/@acme%2fcore", &with_bundle(upload.clone(), &large)).await;
    reply.is_refused(422, "provenance_refused");
    // Nothing of it is there, and without the bundle the same bytes are taken.
    assert_eq!(server.get(&server.installer(), "/@acme%2fcore").await.status, 404);
    assert_eq!(
        server.events("registry.publish").await.iter().filter(|event| event.code.is_some()).count(),
        4
    );
    assert_eq!(server.put(&server.publisher(), "/@acme%2fcore", &upload).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_can_ask_for_provenance() {
    let mut server = Server::start().await;
    server.stop().await;
    let required = CONFIG.replacen("slug = \"core\"", "slug = \"core\"\nrequire_provenance = true", 1);
    server.run_with(&required).await;
    let reply = server.publish("1.0.0").await;
    reply.is_refused(422, "provenance_required");
    assert!(reply.json()["hint"].as_str().is_some_and(|hint| hint.contains("protected-registry publish")));
    assert_eq!(server.get(&server.installer(), "/@acme%2fcore").await.status, 404);
}

/// The key of this id, as clients are told, and whether it has signed `message`.
fn is_signed(keys: &Value, signature: &Value, message: &str) -> bool {
    use protected_trust::registry_key::RegistryKey;
    let listed = keys["keys"].as_array().expect("keys");
    let Some(key) = listed.iter().find(|key| key["keyid"] == signature["keyid"]) else { return false };
    assert_eq!(
        (&key["keytype"], &key["scheme"]),
        (&json!("ecdsa-sha2-nistp256"), &json!("ecdsa-sha2-nistp256"))
    );
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let key = RegistryKey {
        id: text(&key["keyid"]),
        spki: text(&key["key"]),
        created: Timestamp::UNIX_EPOCH,
        expires: None,
    };
    key.verifies(message.as_bytes(), &STANDARD.decode(text(&signature["sig"])).expect("base64"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_signed_and_the_key_is_for_who_may_read() {
    let mut server = Server::start().await;
    for version in ["1.0.0", "1.1.0"] {
        assert_eq!(server.publish(version).await.status, 201);
    }
    let token = server.installer();
    let keys = server.get(&token, "/-/npm/v1/keys").await.json();
    let full = server.get(&token, "/@acme%2fcore").await;
    let document = full.json();
    for version in ["1.0.0", "1.1.0"] {
        let dist = &document["versions"][version]["dist"];
        let integrity = dist["integrity"].as_str().expect("integrity");
        let signature = &dist["signatures"][0];
        assert!(is_signed(&keys, signature, &format!("@acme/core@{version}:{integrity}")));
        assert!(!is_signed(&keys, signature, &format!("@acme/core@9.9.9:{integrity}")));
        assert!(dist.get("attestations").is_none());
        let one = server.get(&token, &format!("/@acme%2fcore/{version}")).await.json();
        assert_eq!(&one["dist"], dist);
    }
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("accept", "application/vnd.npm.install-v1+json")];
    let short = server.send("GET", &in_hosted("/@acme%2fcore"), &headers, b"").await.json();
    assert_eq!(short["versions"]["1.0.0"]["dist"], document["versions"]["1.0.0"]["dist"]);

    // Not signed anew: the same bytes and tag after a restart, and an unchanged document is not sent again.
    let etag = full.header("etag").expect("etag").to_owned();
    server.restart().await;
    let again = server.get(&token, "/@acme%2fcore").await;
    assert_eq!((again.header("etag"), &again.body), (Some(etag.as_str()), &full.body));
    let headers = [("authorization", bearer.as_str()), ("if-none-match", etag.as_str())];
    assert_eq!(server.send("GET", &in_hosted("/@acme%2fcore"), &headers, b"").await.status, 304);

    server.send("GET", &in_hosted("/-/npm/v1/keys"), &[], b"").await.is_refused(401, "unauthenticated");
    server.get("nonsense", "/-/npm/v1/keys").await.is_refused(401, "unauthenticated");
    server.get(&token, "/repository/npm-second/-/npm/v1/keys").await.is_refused(401, "unauthenticated");
    let other = server.token("@acme/other", &[Action::Install]);
    for path in [
        "/-/npm/v1/attestations/@acme%2fcore@1.0.0",
        "/-/protected-registry/v1/attestations/@acme/core@1.0.0",
    ] {
        server.send("GET", &in_hosted(path), &[], b"").await.is_refused(401, "unauthenticated");
        // The same whether there is such a version or not.
        let refusal = server.get(&other, path).await;
        refusal.is_refused(403, "out_of_scope");
        let missing = server.get(&other, &path.replace("1.0.0", "7.0.0")).await;
        missing.is_refused(403, "out_of_scope");
        assert_eq!(missing.error(), refusal.error());
        server.get(&token, &path.replace("1.0.0", "7.0.0")).await.is_refused(404, "not_found");
    }
    server.get(&token, "/-/npm/v1/attestations/@acme%2fcore@1.0.0").await.is_refused(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_replaced_stays_known_and_its_signatures_with_it() {
    const DAY: i64 = 24 * 60 * 60;
    let mut server = Server::start().await;
    assert_eq!(server.publish("1.0.0").await.status, 201);
    let before = server.get(&server.installer(), "/-/npm/v1/keys").await.json();
    assert_eq!(before["keys"].as_array().map(Vec::len), Some(1));
    assert_eq!(before["keys"][0]["expires"], Value::Null);
    server.restart().await;
    server.now.fetch_add(181 * DAY, Ordering::SeqCst);
    let since = std::time::Instant::now();
    let after = loop {
        // The key of tokens is another one by then: the test's tokens are signed with the first.
        server.keys = SigningKeys::load_or_create(&server.folder.path().join("data/keys"), Timestamp::now())
            .expect("keys");
        let reply = server.get(&server.installer(), "/-/npm/v1/keys").await;
        if reply.status == 200 && reply.json()["keys"].as_array().map(Vec::len) == Some(2) {
            break reply.json();
        }
        assert!(since.elapsed().as_secs() < 60, "no new key");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert_eq!(after["keys"][0]["expires"], Value::Null);
    assert_eq!(after["keys"][1]["key"], before["keys"][0]["key"]);
    let expires: Timestamp = after["keys"][1]["expires"].as_str().expect("expires").parse().expect("time");
    assert_eq!(server.publish("1.1.0").await.status, 201);
    let document = server.get(&server.installer(), "/@acme%2fcore").await.json();
    for (version, key) in [("1.0.0", &after["keys"][1]), ("1.1.0", &after["keys"][0])] {
        let dist = &document["versions"][version]["dist"];
        let message = format!("@acme/core@{version}:{}", dist["integrity"].as_str().expect("integrity"));
        assert!(is_signed(&after, &dist["signatures"][0], &message), "{version}");
        assert_eq!(dist["signatures"][0]["keyid"], key["keyid"]);
    }
    // npm's rule: a key is believed for what was published before it expired.
    let published: Timestamp = document["time"]["1.0.0"].as_str().expect("time").parse().expect("time");
    assert!(published < expires);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_release_that_did_not_sign_are_signed_at_the_start() {
    let mut server = Server::start().await;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        assert_eq!(server.publish(version).await.status, 201);
    }
    server.stop().await;
    {
        use redb::ReadableTable as _;
        // As an older release has left them, and one of them with other bytes on the disk.
        const VERSIONS: redb::TableDefinition<'_, (&str, &str, &str), &[u8]> =
            redb::TableDefinition::new("registry_versions");
        let database = redb::Database::open(server.folder.path().join("data/state.redb")).expect("database");
        let txn = database.begin_write().expect("transaction");
        for version in ["1.0.0", "1.1.0"] {
            let key = ("acme/npm-hosted", "@acme/core", version);
            let mut table = txn.open_table(VERSIONS).expect("table");
            let mut row: Value =
                serde_json::from_slice(table.get(key).expect("get").expect("row").value()).expect("JSON");
            assert!(row.as_object_mut().expect("object").remove("signature").is_some());
            row.as_object_mut().expect("object").remove("attestations");
            table.insert(key, row.to_string().as_bytes()).expect("insert");
            if version == "1.1.0" {
                let hex = row["sha256"].as_str().expect("digest");
                let blob = server.folder.path().join("data/blobs/sha256").join(&hex[..2]).join(hex);
                std::fs::write(blob, b"other bytes").expect("write");
            }
        }
        txn.commit().expect("commit");
    }
    server.run().await;
    let token = server.installer();
    let keys = server.get(&token, "/-/npm/v1/keys").await.json();
    let document = server.get(&token, "/@acme%2fcore").await.json();
    let dist = |version: &str| document["versions"][version]["dist"].clone();
    for version in ["1.0.0", "1.2.0"] {
        let message =
            format!("@acme/core@{version}:{}", dist(version)["integrity"].as_str().expect("integrity"));
        assert!(is_signed(&keys, &dist(version)["signatures"][0], &message), "{version}");
    }
    assert!(dist("1.1.0").get("signatures").is_none(), "bytes that are not the published ones were signed");
}
