//! Tokens for a Docker registry: pushed and pulled with Debian's docker-registry and skopeo, which nobody here wrote.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use protected_http::Response;
use protected_model::{
    api::audit::{AuditEvent, Decision},
    digest::Sha256,
    secret::{AccessToken, Secret as _},
    time::{after, numeric_date, whole_seconds},
};
use serde_json::{Value, json};

use super::service::{Service, wanted};
use crate::audit::FLUSH_EVERY;

/// What the configuration calls the registry.
const SERVICE: &str = "registry.example";

/// A Docker registry that trusts one service, with its data in memory.
struct Registry {
    process: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program of the system.
#[expect(clippy::disallowed_methods, reason = "a peer is where the system keeps its programs")]
fn program(name: &str) -> Command {
    let paths = std::env::var_os("PATH").expect("PATH");
    let found = std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file());
    let path = found
        .unwrap_or_else(|| panic!("`{name}` is missing: run `cargo xtask tools`, or apt-get install {name}"));
    let mut command = Command::new(path);
    command.env_clear().env("PATH", paths).stdin(Stdio::null());
    command
}

impl Registry {
    async fn start(service: &Service) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let root = get(service, ".well-known/oci-root.pem", &[]).await;
        assert_eq!(root.status, 200);
        fs::write(folder.path().join("root.pem"), root.body()).expect("written");
        let config = json!({
            "version": "0.1",
            "log": {"accesslog": {"disabled": true}},
            "storage": {"inmemory": {}, "delete": {"enabled": true}},
            "http": {"addr": "127.0.0.1:0"},
            "auth": {"token": {
                "realm": service.url.join("token"),
                "service": SERVICE,
                "issuer": service.issuer(),
                "rootcertbundle": folder.path().join("root.pem"),
            }},
        });
        let file = folder.path().join("config.yml");
        // JSON is YAML.
        fs::write(&file, config.to_string()).expect("written");
        let mut process = program("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let address = lines.find_map(|line| {
            let line = line.expect("a line");
            let rest = line.split_once("listening on ")?.1;
            Some(rest.split('"').next()?.to_owned())
        });
        // It must not stand still because nobody reads what it says.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: address.expect("docker-registry listens"), folder }
    }

    fn image(&self, name: &str) -> String {
        format!("docker://{}/{name}:1", self.address)
    }

    /// Makes an image of one small file, once.
    fn layout(&self) -> PathBuf {
        let layout = self.folder.path().join("layout");
        if layout.exists() {
            return layout;
        }
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("folder");
        let blob = |media_type: &str, content: &[u8]| {
            let digest = Sha256::of(content).to_string();
            fs::write(blobs.join(&digest), content).expect("written");
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len()})
        };
        let layer = blob("application/vnd.oci.image.layer.v1.tar", &[0; 1024]);
        let diff = &layer["digest"];
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]}});
        let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let mut manifest =
            blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.join("index.json"), index.to_string()).expect("written");
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
        layout
    }

    /// Pushes the image as `name`, and returns what the client prints when it is refused.
    async fn push(&self, name: &str, token: &str) -> Result<(), String> {
        let from = format!("oci:{}:1", self.layout().display());
        let to = self.image(name);
        self.skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds", &login(token), &from, &to]).await
    }

    /// Pulls an image.
    async fn pull(&self, name: &str, token: &str) -> Result<(), String> {
        let from = self.image(name);
        let to = self.folder.path().join("pulled");
        let to = format!("dir:{}", to.display());
        self.skopeo(&["copy", "--src-tls-verify=false", "--src-creds", &login(token), &from, &to]).await
    }

    async fn skopeo(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = program("skopeo");
        command.env("HOME", self.folder.path()).env("TMPDIR", self.folder.path());
        command.env("XDG_RUNTIME_DIR", self.folder.path());
        command.arg("--insecure-policy").args(arguments);
        // The service that it asks runs on this thread.
        let output =
            tokio::task::spawn_blocking(move || command.output().expect("skopeo")).await.expect("run");
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8(output.stderr).expect("UTF-8")),
        }
    }

    /// Asks the registry itself for a manifest, and returns the status and the challenge.
    async fn ask(&self, service: &Service, name: &str, token: &str) -> (u16, String) {
        let url = format!("http://{}/v2/{name}/manifests/1", self.address).parse().expect("url");
        let accept = "application/vnd.oci.image.manifest.v1+json";
        let request = service.http.get(url).header("accept", accept).bearer(&AccessToken::new(token));
        let response = request.send().await.expect("answer");
        (response.status, response.header("www-authenticate").unwrap_or_default().to_owned())
    }
}

/// Credentials as a client is given them. The name means nothing.
fn login(token: &str) -> String {
    format!("fractalops:{token}")
}

async fn get(service: &Service, path: &str, headers: &[(&str, &str)]) -> Response {
    let url = service.issuer() + "/" + path;
    let mut request = service.http.get(url.parse().expect("url"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await.expect("answer")
}

fn basic(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(login(token)))
}

/// Asks for a token with a session.
async fn asked(service: &Service, token: &str, scopes: &[&str]) -> Response {
    let mut path = format!("token?service={SERVICE}&account=fractalops");
    scopes.iter().for_each(|scope| path.push_str(&format!("&scope={scope}")));
    get(service, &path, &[("authorization", &basic(token))]).await
}

/// The token of an answer.
fn minted(response: &Response) -> String {
    assert_eq!(response.status, 200, "{:?}", response.body());
    let value: Value = response.json().expect("json");
    value["token"].as_str().expect("token").to_owned()
}

fn scope_of(response: &Response) -> String {
    assert_eq!(response.status, 200, "{:?}", response.body());
    response.json::<Value>().expect("json")["scope"].as_str().expect("scope").to_owned()
}

fn claims_of(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("json")
}

/// A refusal as Docker's clients read it: the status, the code and the text.
#[track_caller]
fn refused(response: &Response, status: u16, code: &str, text: &str) {
    let body = String::from_utf8_lossy(response.body());
    assert_eq!(response.status, status, "{body}");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let basic = (status == 401).then_some(r#"Basic realm="fractalops""#);
    assert_eq!(response.header("www-authenticate"), basic);
    let body: Value = response.json().expect("json");
    assert_eq!(body["errors"][0]["code"], code, "{body}");
    let message = body["errors"][0]["message"].as_str().expect("message");
    assert!(message.contains(text), "{text}: {message}");
    assert_eq!(body["error"].as_str().map(|error| message.starts_with(error)), Some(true), "{body}");
}

#[track_caller]
fn is_refused(result: Result<(), String>, printed: &str) {
    let text = result.expect_err(printed);
    assert!(text.contains(printed), "{printed}: {text}");
}

async fn mints(service: &Service) -> Vec<AuditEvent> {
    service.events().await.into_iter().filter(|event| event.action == "oci_token.mint").collect()
}

#[tokio::test]
async fn a_release_pushes_and_a_customer_pulls() {
    let service = Service::start().await;
    let registry = Registry::start(&service).await;
    let session = service.session("release").await;
    for name in ["acme/core/globex/greeter", "acme/core/tools", "acme/core/internal"] {
        registry.push(name, session.reveal()).await.expect(name);
        registry.pull(name, session.reveal()).await.expect(name);
    }
    let maintainer = service.person("maintainer").await;
    registry.push("acme/core/by-hand", maintainer.reveal()).await.expect("pushed by a maintainer");
    let customer = service.person("customer").await;
    for name in ["acme/core/globex/greeter", "acme/core/tools"] {
        registry.pull(name, customer.reveal()).await.expect(name);
    }
    let event = mints(&service).await.pop().expect("an event");
    assert_eq!((event.decision, event.actor.sub.as_str()), (Decision::Allow, "gina"));
    assert_eq!(event.policy_id.as_deref(), Some("globex-2026"));
    let target = serde_json::to_value(&event.target).expect("json");
    let granted = json!([{"name": "acme/core/tools", "asked": ["pull"], "granted": ["pull"]}]);
    assert_eq!(target["repositories"], granted);
}

#[tokio::test]
async fn a_client_with_an_identity_token_posts_it() {
    let service = Service::start().await;
    let registry = Registry::start(&service).await;
    let session = service.session("release").await;
    registry.push("acme/core/greeter", session.reveal()).await.expect("pushed");
    let file = registry.folder.path().join("auth.json");
    let write = |token: &str| {
        let auth = json!({"auths": {&registry.address: {"auth": STANDARD.encode("fractalops:"), "identitytoken": token}}});
        fs::write(&file, auth.to_string()).expect("written");
    };
    let file_path = file.to_str().expect("UTF-8");
    let image = registry.image("acme/core/greeter");
    let inspect = ["inspect", "--tls-verify=false", "--authfile", file_path, &image];
    // skopeo sends the form in chunks, without a length.
    write(session.reveal());
    registry.skopeo(&inspect).await.expect("inspected");
    let agent = mints(&service).await.pop().expect("event").user_agent.expect("agent");
    assert!(agent.starts_with("skopeo/"), "{agent}");
    assert_eq!(service.revoke(session.reveal()).await.status, 200);
    is_refused(registry.skopeo(&inspect).await, "unauthorized: the token was revoked");
}

#[tokio::test]
async fn a_client_is_told_why_it_gets_nothing() {
    const DENIED: &str = "requested access to the resource is denied";
    let service = Service::start_with(|text| {
        text.replace("# revoked_licences = []", "revoked_licences = [\"globex-2026\"]")
    })
    .await;
    let registry = Registry::start(&service).await;
    let session = service.session("release").await;
    let (other, rival) = (service.session("other").await, service.session("rival").await);
    registry.push("acme/core/greeter", session.reveal()).await.expect("pushed");
    registry.push("acme/other/app", other.reveal()).await.expect("pushed");
    registry.push("rival/core/app", rival.reveal()).await.expect("pushed");
    // Another project, another tenant, and names that share letters with what is allowed.
    for name in [
        "acme/other/app",
        "rival/core/app",
        "acme/core2/app",
        "acme/core-evil/app",
        "acme/cor/app",
        "evil/acme/core/app",
        "core/app",
        "acme/core",
    ] {
        is_refused(registry.push(name, session.reveal()).await, DENIED);
        let event = mints(&service).await.pop().expect("event");
        assert_eq!((event.decision, event.code.expect("code").as_str()), (Decision::Deny, "action_denied"));
        assert_eq!(event.target.repositories[0].name.as_str(), name);
    }
    is_refused(registry.pull("rival/core/app", session.reveal()).await, DENIED);
    is_refused(registry.pull("acme/core/greeter", rival.reveal()).await, DENIED);
    is_refused(registry.pull("acme/core/greeter", other.reveal()).await, DENIED);
    // Its plan has one repository by its name, and nothing below it.
    is_refused(registry.push("acme/other/app/more", other.reveal()).await, DENIED);
    let customer = service.person("customer").await;
    let blocked = registry.pull("acme/core/globex/greeter", customer.reveal()).await;
    is_refused(blocked, "denied: licence `globex-2026` was revoked");
    // The event of a refused `GET` is gathered for a moment.
    tokio::time::sleep(2 * FLUSH_EVERY).await;
    let event = mints(&service).await.pop().expect("event");
    assert_eq!((event.decision, event.code.expect("code").as_str()), (Decision::Deny, "licence_revoked"));
    assert_eq!(event.actor.sub, "gina");
    let member = service.person("member").await;
    let unlicensed = registry.pull("acme/core/greeter", member.reveal()).await;
    is_refused(unlicensed, "denied: no licence lets this caller have tokens");
    let nobody = service.person("nobody").await;
    is_refused(
        registry.pull("acme/core/greeter", nobody.reveal()).await,
        "denied: this person has no entitlement",
    );
    // Credentials that are none here.
    let mint = service.mint(&session, &wanted("@acme/plain", "install")).await;
    let npm = mint.json::<Value>().expect("json")["token"].as_str().expect("token").to_owned();
    let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
    let own = minted(&asked(&service, session.reveal(), &["repository:acme/core/greeter:pull"]).await);
    for (token, printed) in [
        (npm.as_str(), "unauthorized: "),
        (&own, "unauthorized: "),
        (service.operator().reveal(), "unauthorized: "),
        (&id_token, "unauthorized: this is a CI job's ID token: exchange it for a session first"),
        ("nonsense", "unauthorized: "),
        ("a.b.c", "unauthorized: "),
    ] {
        is_refused(registry.pull("acme/core/greeter", token).await, printed);
    }
    let image = registry.image("acme/core/greeter");
    let anonymous = registry.skopeo(&["inspect", "--tls-verify=false", &image]).await;
    is_refused(anonymous, "unauthorized: no credential; log in with a FractalOps session token");
    assert_eq!(service.revoke(session.reveal()).await.status, 200);
    is_refused(
        registry.pull("acme/core/greeter", session.reveal()).await,
        "unauthorized: the token was revoked",
    );
    service.pass(16 * 60);
    is_refused(
        registry.pull("acme/other/app", other.reveal()).await,
        "unauthorized: the token is refused: the token has expired",
    );
}

#[tokio::test]
async fn a_licence_ends_while_the_service_runs() {
    let until = whole_seconds(after(Timestamp::now(), 1000));
    let service = Service::start_with(|text| {
        let held = "holders = [\"globex\"]\n";
        assert!(text.contains(held));
        text.replace(held, &format!("{held}until = \"{until}\"\n"))
    })
    .await;
    let customer = || service.person("customer");
    let scope = "repository:acme/core/globex/greeter:pull";
    let first = asked(&service, customer().await.reveal(), &[scope]).await;
    assert_eq!(first.json::<Value>().expect("json")["expires_in"], 300);
    // In its last seconds no token is longer than it.
    service.pass(985);
    let last = asked(&service, customer().await.reveal(), &[scope]).await;
    assert_eq!(scope_of(&last), scope);
    let left = last.json::<Value>().expect("json")["expires_in"].as_u64().expect("seconds");
    assert!((1..=15).contains(&left), "{left}");
    assert_eq!(claims_of(&minted(&last))["exp"], numeric_date(until));
    service.pass(15);
    for scopes in [&[scope][..], &["repository:acme/core/internal:pull"], &[]] {
        let response = asked(&service, customer().await.reveal(), scopes).await;
        refused(
            &response,
            401,
            "DENIED",
            &format!("licence `globex-2026` ended at {until}; an administrator"),
        );
    }
    // Others go on.
    let session = service.session("release").await;
    assert_eq!(scope_of(&asked(&service, session.reveal(), &[scope]).await), scope);
    tokio::time::sleep(2 * FLUSH_EVERY).await;
    let events = mints(&service).await;
    let denied = events.iter().rfind(|event| event.decision == Decision::Deny).expect("an event");
    assert_eq!(denied.code.clone().expect("code").as_str(), "licence_expired");
}

#[tokio::test]
async fn a_customer_only_pulls_what_its_plan_names() {
    const DENIED: &str = "requested access to the resource is denied";
    let service = Service::start().await;
    let registry = Registry::start(&service).await;
    let session = service.session("release").await;
    for name in
        ["acme/core/globex/greeter", "acme/core/globex2/greeter", "acme/core/tools/x", "acme/core/globex"]
    {
        registry.push(name, session.reveal()).await.expect(name);
    }
    let customer = service.person("customer").await;
    is_refused(registry.push("acme/core/globex/greeter", customer.reveal()).await, DENIED);
    let event = mints(&service).await.pop().expect("event");
    let target = serde_json::to_value(&event.target).expect("json");
    let part = json!([{"name": "acme/core/globex/greeter", "asked": ["pull", "push"], "granted": ["pull"]}]);
    assert_eq!((event.decision, &target["repositories"]), (Decision::Allow, &part));
    for name in ["acme/core/globex2/greeter", "acme/core/tools/x", "acme/core/globex"] {
        is_refused(registry.pull(name, customer.reveal()).await, DENIED);
    }
    // And nothing but tokens for the registry.
    let response = service.mint(&customer, &wanted("@acme/plain", "install")).await;
    assert_eq!(response.status, 403, "{:?}", response.body());
}

#[tokio::test]
async fn everything_is_only_given_by_a_plan_that_says_so() {
    let service = Service::start().await;
    let registry = Registry::start(&service).await;
    let session = service.session("release").await;
    registry.push("acme/core/greeter", session.reveal()).await.expect("pushed");
    let scope = |name: &str, actions: &str| format!("repository:{name}:{actions}");
    for (actions, granted) in
        [("*", ""), ("pull,*", "pull"), ("delete", ""), ("admin,push", "push"), ("PULL", ""), ("", "")]
    {
        let response = asked(&service, session.reveal(), &[&scope("acme/core/greeter", actions)]).await;
        let expected = if granted.is_empty() { String::new() } else { scope("acme/core/greeter", granted) };
        assert_eq!(scope_of(&response), expected, "{actions}");
    }
    let delete = |image: String, token: &AccessToken| {
        let login = login(token.reveal());
        vec!["delete".to_owned(), "--tls-verify=false".to_owned(), "--creds".to_owned(), login, image]
    };
    let arguments = delete(registry.image("acme/core/greeter"), &session);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    is_refused(registry.skopeo(&arguments).await, "authentication required");
    // The other project's plan says `*`.
    let other = service.session("other").await;
    registry.push("acme/other/app", other.reveal()).await.expect("pushed");
    let response = asked(&service, other.reveal(), &[&scope("acme/other/app", "*,pull")]).await;
    assert_eq!(scope_of(&response), scope("acme/other/app", "pull,*"));
    let arguments = delete(registry.image("acme/other/app"), &other);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    registry.skopeo(&arguments).await.expect("deleted");
    // A registry takes `*` for everything, whoever signs it: that is why it is not passed through.
    let everything = minted(&asked(&service, other.reveal(), &[&scope("acme/other/app", "*")]).await);
    assert_eq!(claims_of(&everything)["access"][0]["actions"], json!(["*"]));
    assert_eq!(registry.ask(&service, "acme/other/app", &everything).await.0, 404, "allowed, and deleted");
}

/// Signs with the service's own key what it would not.
fn stolen(data: &Path, header: &Value, claims: &Value) -> String {
    let kept: Value =
        serde_json::from_slice(&fs::read(data.join("keys/oci-keys.json")).expect("file")).expect("json");
    let pkcs8 = STANDARD.decode(kept["pkcs8"].as_str().expect("key")).expect("base64");
    let key = RsaKeyPair::from_pkcs8(&pkcs8).expect("key");
    let message = message(header, claims);
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("signed");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn message(header: &Value, claims: &Value) -> String {
    let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", part(header), part(claims))
}

#[tokio::test]
async fn a_registry_takes_nothing_that_was_not_minted_for_it() {
    let service = Service::start().await;
    let registry = Registry::start(&service).await;
    let session = service.session("release").await;
    let name = "acme/core/greeter";
    registry.push(name, session.reveal()).await.expect("pushed");
    let good = minted(&asked(&service, session.reveal(), &[&format!("repository:{name}:pull")]).await);
    assert_eq!(registry.ask(&service, name, &good).await.0, 200);
    let header: Value = {
        let header = good.split('.').next().expect("header");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).expect("base64")).expect("json")
    };
    assert_eq!((&header["alg"], &header["typ"]), (&json!("RS256"), &json!("fo-oci+jwt")));
    let claims = claims_of(&good);
    let with = |value: &Value, member: &str, new: Value| {
        let mut value = value.clone();
        value[member] = new;
        value
    };
    let data = service.data();
    assert_eq!(registry.ask(&service, name, &stolen(&data, &header, &claims)).await.0, 200, "as it is");
    let root = get(&service, ".well-known/oci-root.pem", &[]).await;
    let certificate = STANDARD.decode(header["x5c"][0].as_str().expect("x5c")).expect("base64");
    let hs256 = |secret: &[u8]| {
        let message = message(&with(&header, "alg", json!("HS256")), &claims);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let none = with(&header, "alg", json!("none"));
    let mint = service.mint(&session, &wanted("@acme/plain", "install")).await;
    let npm = mint.json::<Value>().expect("json")["token"].as_str().expect("token").to_owned();
    let (signed, _) = good.rsplit_once('.').expect("signature");
    // A certificate of somebody else's, and a key that the token brings.
    let stranger = Service::start().await;
    let foreign = {
        let session = stranger.session("release").await;
        minted(&asked(&stranger, session.reveal(), &[&format!("repository:{name}:pull")]).await)
    };
    let foreign_jwk = get(&stranger, ".well-known/oci-jwks.json", &[]).await.json::<Value>().expect("json");
    let own_jwk = with(&with(&header, "x5c", json!([])), "jwk", foreign_jwk["keys"][0].clone());
    let long_ago = claims["exp"].as_u64().expect("exp") - 400;
    for (what, token) in [
        ("an npm token", npm),
        ("a session", session.reveal().to_owned()),
        ("alg none", format!("{}.", message(&none, &claims))),
        ("alg none, signed", stolen(&data, &none, &claims)),
        ("HS256 with the root", hs256(root.body())),
        ("HS256 with the certificate", hs256(&certificate)),
        ("no signature", format!("{signed}.")),
        ("another service's", foreign.clone()),
        ("another service's, as ours", stolen(&stranger.data(), &header, &claims)),
        ("a key of its own", stolen(&stranger.data(), &own_jwk, &claims)),
        ("a list of audiences", stolen(&data, &header, &with(&claims, "aud", json!([SERVICE])))),
        ("another audience", stolen(&data, &header, &with(&claims, "aud", json!("fractalops-api")))),
        ("another issuer", stolen(&data, &header, &with(&claims, "iss", json!("https://evil.example")))),
        ("expired", stolen(&data, &header, &with(&claims, "exp", json!(long_ago)))),
        ("no end", stolen(&data, &header, &with(&claims, "exp", json!(null)))),
    ] {
        let (status, challenge) = registry.ask(&service, name, &token).await;
        assert_eq!(status, 401, "{what}");
        assert!(challenge.contains(r#"error="invalid_token""#), "{what}: {challenge}");
    }
    // What it asks for beyond the token.
    for name in ["acme/core/greeter2", "acme/core", "rival/core/app"] {
        let (status, challenge) = registry.ask(&service, name, &good).await;
        assert_eq!(status, 401, "{name}");
        assert!(challenge.contains(r#"error="insufficient_scope""#), "{name}: {challenge}");
    }
    // skopeo with such a token in hand.
    let image = registry.image(name);
    let bearer =
        |token| ["inspect", "--tls-verify=false", "--registry-token", token, &image].map(str::to_owned);
    for (token, expected) in [(&good, None), (&foreign, Some("unauthorized"))] {
        let arguments = bearer(token.as_str());
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        match expected {
            None => registry.skopeo(&arguments).await.expect("inspected"),
            Some(printed) => is_refused(registry.skopeo(&arguments).await, printed),
        }
    }
}

#[tokio::test]
async fn a_token_is_over_after_its_five_minutes() {
    // By the service's clock it is 6 minutes and a bit ago: by the registry's, what it mints has expired.
    let service = Service::start_ago(370).await;
    let registry = Registry::start(&service).await;
    let session = service.session("release").await;
    let token = minted(&asked(&service, session.reveal(), &["repository:acme/core/greeter:pull"]).await);
    let claims = claims_of(&token);
    assert_eq!(claims["exp"].as_u64().expect("exp") - claims["iat"].as_u64().expect("iat"), 300);
    let (status, challenge) = registry.ask(&service, "acme/core/greeter", &token).await;
    assert!(status == 401 && challenge.contains(r#"error="invalid_token""#), "{status} {challenge}");
    is_refused(registry.push("acme/core/greeter", session.reveal()).await, "authentication required");
    service.pass(370);
    let session = service.session("release").await;
    registry.push("acme/core/greeter", session.reveal()).await.expect("pushed");
}

#[tokio::test]
async fn a_new_key_takes_over_while_the_registry_runs() {
    const DAYS: i64 = 30 * 24 * 60 * 60;
    let service = Service::start_ago(DAYS).await;
    let registry = Registry::start(&service).await;
    let root = get(&service, ".well-known/oci-root.pem", &[]).await;
    service.pass(DAYS - 30);
    let session = service.session("release").await;
    let scope = "repository:acme/core/greeter:pull,push";
    let old = minted(&asked(&service, session.reveal(), &[scope]).await);
    registry.push("acme/core/greeter", session.reveal()).await.expect("pushed");
    service.pass(45);
    let service = service.restart().await;
    let new = minted(&asked(&service, session.reveal(), &[scope]).await);
    let kid = |token: &str| {
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().expect("header")).expect("base64");
        serde_json::from_slice::<Value>(&header).expect("json")["kid"].clone()
    };
    assert_ne!(kid(&new), kid(&old));
    let listed = get(&service, ".well-known/oci-jwks.json", &[]).await.json::<Value>().expect("json");
    let listed: Vec<_> =
        listed["keys"].as_array().expect("keys").iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(listed, [kid(&new), kid(&old)]);
    assert_eq!(get(&service, ".well-known/oci-root.pem", &[]).await.body(), root.body());
    for token in [&old, &new] {
        assert_eq!(registry.ask(&service, "acme/core/greeter", token).await.0, 200);
    }
    registry.push("acme/core/greeter", session.reveal()).await.expect("pushed");
}

#[tokio::test]
async fn the_answer_is_what_the_specification_says() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let response = asked(&service, session.reveal(), &["repository:acme/core/a:pull,push"]).await;
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let answer: Value = response.json().expect("json");
    assert_eq!(answer["token"], answer["access_token"]);
    assert_eq!(
        (&answer["expires_in"], &answer["scope"]),
        (&json!(300), &json!("repository:acme/core/a:pull,push"))
    );
    let issued_at: jiff::Timestamp = answer["issued_at"].as_str().expect("time").parse().expect("RFC 3339");
    let claims = claims_of(answer["token"].as_str().expect("token"));
    assert_eq!(
        (&claims["iat"], &claims["nbf"]),
        (&json!(issued_at.as_second()), &json!(issued_at.as_second()))
    );
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(service.issuer()), &json!(SERVICE)));
    assert_eq!(
        (&claims["tenant_id"], &claims["sub"]),
        (&json!("acme"), &json!("repo:acme/core:ref:refs/heads/main"))
    );
    let event = service.last_event().await;
    assert_eq!(claims["jti"], json!(event.token_jti.expect("jti")));
    assert_eq!(event.project_slug.expect("project").as_str(), "core");
    // More than one, in either way, of which one is of nobody here; and a login, which asks for none.
    let (a, b, c) =
        ("repository:acme/core/a:pull", "repository:acme/core/b:push", "repository:rival/core/a:pull");
    for scopes in [vec![a, b, c], vec![&*format!("{a}+{b}+{c}")], vec![&*format!("{a}%20{b}"), c, a]] {
        let response = asked(&service, session.reveal(), &scopes).await;
        assert_eq!(scope_of(&response), format!("{a} {b}"), "{scopes:?}");
    }
    let login = asked(&service, session.reveal(), &[]).await;
    assert_eq!((scope_of(&login), claims_of(&minted(&login))["access"].clone()), (String::new(), json!([])));
    assert_eq!(service.last_event().await.decision, Decision::Allow);
    for scope in
        ["registry:catalog:*", "repository(plugin):acme/core/a:pull", "repository:host:5000/a:pull", "x"]
    {
        assert_eq!(scope_of(&asked(&service, session.reveal(), &[scope]).await), "", "{scope}");
    }
    // A bearer, and forms.
    let path = format!("token?service={SERVICE}&scope={a}");
    let bearer = format!("Bearer {}", session.reveal());
    assert_eq!(scope_of(&get(&service, &path, &[("authorization", &bearer)]).await), a);
    let url = service.url.join("token");
    for (grant, member) in [("refresh_token", "refresh_token"), ("password", "password")] {
        let form = [
            ("grant_type", grant),
            (member, session.reveal()),
            ("service", SERVICE),
            ("client_id", "docker"),
            ("username", "anybody"),
            ("scope", a),
            ("scope", b),
        ];
        let response = service.http.post(url.clone()).form(&form).send().await.expect("answer");
        assert_eq!(scope_of(&response), format!("{a} {b}"), "{grant}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_dockers_words() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let basic = basic(session.reveal());
    let ten = "&scope=repository:acme/core/a:pull".repeat(11);
    for (query, status, code, text) in [
        ("", 400, "UNSUPPORTED", "a required member is missing"),
        ("?service=other.example", 400, "UNSUPPORTED", "`service`: expected `registry.example`"),
        ("?service=registry.example&service=registry.example", 400, "UNSUPPORTED", "given twice"),
        (&format!("?service=registry.example{ten}"), 400, "UNSUPPORTED", "more than 10 repositories"),
    ] {
        let response = get(&service, &format!("token{query}"), &[("authorization", &basic)]).await;
        refused(&response, status, code, text);
    }
    let path = format!("token?service={SERVICE}");
    for (authorization, text) in [
        ("", "expected `Authorization: Bearer <token>`"),
        ("Basic", "expected `Authorization: Bearer <token>`"),
        ("Basic !", "expected `Authorization: Basic` with a user name and a token"),
        ("Basic ZnJhY3RhbG9wcw==", "expected `Authorization: Basic` with a user name and a token"),
        ("Basic ZnJhY3RhbG9wczo=", "the password is empty"),
        ("Digest x", "expected `Authorization: Bearer <token>`"),
        ("Bearer ${TOKEN}", "placeholder"),
    ] {
        let response = get(&service, &path, &[("authorization", authorization)]).await;
        refused(&response, 401, "UNAUTHORIZED", text);
    }
    refused(&get(&service, &path, &[]).await, 401, "UNAUTHORIZED", "no credential");
    // A credential in a URL is none.
    let query = format!("{path}&grant_type=password&password={}", session.reveal());
    refused(&get(&service, &query, &[]).await, 401, "UNAUTHORIZED", "no credential");
    let url = service.url.join("token");
    for (form, header, status, text) in [
        (vec![("service", SERVICE)], None, 400, "`grant_type`: expected"),
        (
            vec![("service", SERVICE), ("grant_type", "authorization_code")],
            None,
            400,
            "`grant_type`: expected",
        ),
        (vec![("service", SERVICE), ("grant_type", "password")], None, 401, "no credential"),
        (
            vec![("service", SERVICE), ("grant_type", "password"), ("password", session.reveal())],
            Some(&basic),
            400,
            "two credentials",
        ),
        (
            vec![("service", SERVICE), ("grant_type", "password"), ("password", "a"), ("password", "b")],
            None,
            400,
            "given twice",
        ),
    ] {
        let mut request = service.http.post(url.clone()).form(&form);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let response = request.send().await.expect("answer");
        let code = if status == 401 { "UNAUTHORIZED" } else { "UNSUPPORTED" };
        refused(&response, status, code, text);
    }
}

#[tokio::test]
async fn a_revoked_token_is_on_record_and_a_registry_does_not_know() {
    let service = Service::start().await;
    let registry = Registry::start(&service).await;
    let session = service.session("release").await;
    let name = "acme/core/greeter";
    registry.push(name, session.reveal()).await.expect("pushed");
    let token = minted(&asked(&service, session.reveal(), &[&format!("repository:{name}:pull")]).await);
    assert_eq!(service.revoke(&token).await.status, 200);
    let event = service.last_event().await;
    assert_eq!(
        (event.action.as_str(), event.token_jti),
        ("token.revoke", claims_of(&token)["jti"].as_str().map(str::to_owned))
    );
    assert_eq!(event.tenant_id.expect("tenant").as_str(), "acme");
    assert_eq!(
        registry.ask(&service, name, &token).await.0,
        200,
        "it asks nobody, until the five minutes are over"
    );
}

#[tokio::test]
async fn without_a_registry_there_is_nothing() {
    let without = |text: String| {
        let from = text.find("# A Docker registry whose clients").expect("begins");
        let to = text.find("# An issuer that imitates CI platforms").expect("ends");
        let (head, tail) = (&text[..from], &text[to..]);
        let tail = tail.split("[[oci_plan]]").map(|part| {
            match part.find("\n[[tenant]]\n").or(part.find("\n[[local_issuer")) {
                Some(end) if part.starts_with("\nid = \"") => &part[end..],
                _ => part,
            }
        });
        head.to_owned() + &tail.collect::<String>()
    };
    let service = Service::start_with(without).await;
    let session = service.session("release").await;
    let response = asked(&service, session.reveal(), &["repository:acme/core/a:pull"]).await;
    refused(&response, 404, "UNSUPPORTED", "no Docker registry is configured here");
    for path in [".well-known/oci-root.pem", ".well-known/oci-jwks.json"] {
        assert_eq!(get(&service, path, &[]).await.status, 404);
    }
}
