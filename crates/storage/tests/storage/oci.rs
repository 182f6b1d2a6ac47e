//! Delivery areas in a registry: Debian's docker-registry, and skopeo as another client of it.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_bundle::layout::{Delivery, Digest, referrers_tag};
use protected_model::secret::AccessToken;
use protected_storage::{Address, Area, DeliveryRef, StorageError, TokenService};
use serde_json::{Value, json};

use crate::{
    SIZE, connect, digest, fetch, holds_one, holds_signatures,
    peers::{Cutter, HASH, Lie, Way, client, liar, made, registry},
    sample::{BUNDLE, content, copy, layout, layout_of, names, rewrap, same, unwatched},
    told,
};

fn area(address: SocketAddr, environment: &[(&str, &str)]) -> Area {
    connect(&format!("oci://{address}/acme/core").parse().expect("area"), environment).expect("connected")
}

fn skopeo(arguments: &[&str]) {
    let mut command = Command::new("skopeo");
    let output = command.arg("--insecure-policy").args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("skopeo: {error}; run `apt-get install skopeo`"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn deliveries_lie_in_a_registry() {
    let (peer, _folder) = registry(None).await;
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    let area = area(peer.address, &[]);
    let (sealed, stored) = holds_one(&area, folder.path()).await;
    let uri = stored.delivery.uri().expect("uri");
    assert_eq!(uri, format!("oci://{}/acme/core@{}", peer.address, digest(&sealed)));
    // By the digest, as its manifest names it.
    let pinned: DeliveryRef = uri.parse().expect("reference");
    area.fetch(&pinned.address, Some(&digest(&sealed).0), &at("pinned"), &unwatched).await.expect("fetched");
    same(&sealed, &at("pinned"));

    let other = at("other");
    let missing = Address::Digest(digest(&other));
    let error = area.fetch(&missing, None, &at("no"), &unwatched).await.expect_err("missing");
    assert!(matches!(error, StorageError::NoDelivery(_)), "{error:?}");

    // Keys.
    let (one, two) = (copy(&sealed, &at("one")), copy(&sealed, &at("two")));
    let read = rewrap(&one, 2);
    rewrap(&two, 3);
    assert_eq!(area.replace_keys(&one, &read).await.expect("replaced").sent, 3);
    assert_eq!(area.replace_keys(&one, &read).await.expect("repeated").sent, 0);
    let error = area.replace_keys(&two, &read).await.expect_err("others");
    assert!(matches!(error, StorageError::OtherKeys { .. }), "{error:?}");
    let error = area.store(&sealed, &unwatched).await.expect_err("older keys");
    assert!(matches!(error, StorageError::OtherKeys { .. }), "{error:?}");
    fetch(&area, &at("rewrapped")).await.expect("fetched");
    same(&one, &at("rewrapped"));
    let error = area.replace_keys(&other, &read).await.expect_err("not there");
    assert!(matches!(error, StorageError::NoDelivery(_)), "{error:?}");

    holds_signatures(&area, folder.path()).await;

    // Connections that end in the middle.
    let big = layout_of(&at("big"), "big", SIZE, 3);
    let cutter = Cutter::start(peer.address, Way::Up, 3 << 20, 2).await;
    let through = self::area(cutter.address, &[]);
    through.store(&big, &unwatched).await.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(cutter.left(), 0, "no connection was cut");
    let cutter = Cutter::start(peer.address, Way::Down, 5 << 20, 2).await;
    let through = self::area(cutter.address, &[]);
    let address = Address::Bundle("big".parse().expect("id"));
    let fetched = through.fetch(&address, None, &at("cut"), &unwatched).await;
    fetched.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(cutter.left(), 0, "no connection was cut");
    same(&big, &at("cut"));
    let hidden = names(folder.path()).into_iter().filter(|name| name.starts_with('.')).count();
    assert_eq!(hidden, 0, "nothing is left behind");
}

/// A registry may say that a broken upload goes on, and not know it any more when it does.
#[tokio::test]
async fn an_upload_that_a_registry_gave_up_is_begun_again() {
    let (peer, _folder) = registry(None).await;
    let folder = tempfile::tempdir().expect("folder");
    let sealed = layout(&folder.path().join("sealed"), 100_000, 1);
    let (chunks, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, started) = (chunks.clone(), begun.clone());
    let address = crate::peers::gate(peer.address, move |head| match head.split(' ').next() {
        Some("POST") => {
            started.fetch_add(1, Ordering::SeqCst);
            None
        }
        Some("PATCH") => match seen.fetch_add(1, Ordering::SeqCst) {
            0 => Some(String::new()),
            1 => Some("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()),
            _ => None,
        },
        _ => None,
    })
    .await;
    let stored = area(address, &[]).store(&sealed, &unwatched).await;
    stored.unwrap_or_else(|error| panic!("{}", told(&error)));
    // Four blobs, one of them in three attempts, of which the second was with the first.
    assert_eq!((chunks.load(Ordering::SeqCst), begun.load(Ordering::SeqCst)), (6, 5));
    fetch(&area(peer.address, &[]), &folder.path().join("fetched")).await.expect("fetched");
    same(&sealed, &folder.path().join("fetched"));
}

/// Attack: keys that were wrapped anew while somebody else still sends the delivery as it was sealed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_that_were_replaced_during_an_upload_stay() {
    let (peer, _folder) = registry(None).await;
    let folder = tempfile::tempdir().expect("folder");
    let sealed = layout(&folder.path().join("sealed"), 100_000, 1);
    let newer = copy(&sealed, &folder.path().join("newer"));
    let read = rewrap(&newer, 2);
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let waits = Mutex::new((begun, may_go_on));
    let address = crate::peers::gate(peer.address, move |head| {
        if head.starts_with("PATCH ") {
            let (begun, may_go_on) = &*waits.lock().expect("lock");
            if begun.send(()).is_ok() {
                let _ = may_go_on.recv();
            }
        }
        None
    })
    .await;
    let slow = area(address, &[]);
    let elsewhere = sealed.clone();
    let storing = tokio::spawn(async move { slow.store(&elsewhere, &unwatched).await });
    tokio::task::spawn_blocking(move || has_begun.recv().expect("begun")).await.expect("begun");
    let other = area(peer.address, &[]);
    other.store(&sealed, &unwatched).await.expect("stored");
    other.replace_keys(&newer, &read).await.expect("replaced");
    drop(go_on);
    let error = storing.await.expect("joined").expect_err("refused");
    assert!(matches!(error, StorageError::OtherKeys { .. }), "{error:?}");
    fetch(&other, &folder.path().join("fetched")).await.expect("fetched");
    same(&newer, &folder.path().join("fetched"));
}

#[tokio::test]
async fn other_tools_read_what_we_store_and_we_what_they_do() {
    let (peer, _folder) = registry(None).await;
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    let sealed = layout(&at("sealed"), 100_000, 1);
    let ours = area(peer.address, &[]);
    ours.store(&sealed, &unwatched).await.expect("stored");
    let remote = format!("docker://{}/acme/core", peer.address);
    let pulled = at("pulled");
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        &format!("{remote}:{BUNDLE}"),
        &format!("oci:{}:x", pulled.display()),
    ]);
    let content = content(&sealed);
    let name = content.file_name().expect("name");
    assert!(
        fs::read(pulled.join("blobs/sha256").join(name)).expect("blob") == fs::read(&content).expect("blob")
    );
    // Copied to another repository by its two tags.
    let theirs = format!("docker://{}/acme/copied", peer.address);
    for tag in [BUNDLE.to_owned(), referrers_tag(&digest(&sealed))] {
        let from = format!("oci:{}:{tag}", sealed.display());
        skopeo(&["copy", "--dest-tls-verify=false", &from, &format!("{theirs}:{tag}")]);
    }
    let copied = format!("oci://{}/acme/copied", peer.address);
    let copied = connect(&copied.parse().expect("area"), &[]).expect("connected");
    fetch(&copied, &at("fetched")).await.expect("fetched");
    same(&sealed, &at("fetched"));
}

#[tokio::test]
async fn others_referrers_stay_as_they_were() {
    let (peer, _folder) = registry(None).await;
    let folder = tempfile::tempdir().expect("folder");
    let sealed = layout(&folder.path().join("sealed"), 1000, 1);
    let area = area(peer.address, &[]);
    area.store(&sealed, &unwatched).await.expect("stored");
    let url = peer.url(&format!("/v2/acme/core/manifests/{}", referrers_tag(&digest(&sealed))));
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = client().get(url.clone()).header("accept", media_type).send().await.expect("answer");
    let mut index: Value = index.json().expect("index");
    // The bundle itself stands in for a signature of somebody's: it is there.
    let signature = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(&sealed),
        "size": Delivery::open(&sealed).expect("delivery").bundle().size,
        "artifactType": "application/vnd.example.signature",
        "annotations": {"a": "b"},
    });
    index["manifests"].as_array_mut().expect("list").push(signature.clone());
    let body = serde_json::to_vec(&index).expect("json");
    made(&client().put(url.clone()).body(body.into(), media_type).send().await.expect("answer"));
    let read = rewrap(&sealed, 2);
    area.replace_keys(&sealed, &read).await.expect("replaced");
    let index = client().get(url).header("accept", media_type).send().await.expect("answer");
    let index: Value = index.json().expect("index");
    let listed = index["manifests"].as_array().expect("list");
    assert_eq!(listed.len(), 2, "{index}");
    assert!(listed.contains(&signature), "{index}");
    fetch(&area, &folder.path().join("fetched")).await.expect("fetched");
    same(&sealed, &folder.path().join("fetched"));
}

#[tokio::test]
async fn a_password_comes_from_the_environment_or_from_docker() {
    let (peer, _folder) = registry(Some(HASH)).await;
    let folder = tempfile::tempdir().expect("folder");
    let sealed = layout(&folder.path().join("sealed"), 1000, 1);
    let config = |name: &str, text: String| {
        let at = folder.path().join(name);
        fs::create_dir(&at).expect("folder");
        fs::write(at.join("config.json"), text).expect("file");
        at.to_str().expect("path").to_owned()
    };
    let auth = STANDARD.encode("ci:hunter2");
    let good = config("good", json!({"auths": {peer.address.to_string(): {"auth": auth}}}).to_string());
    let other = config("other", json!({"auths": {"registry.example": {"auth": auth}}}).to_string());
    let helper = config(
        "helper",
        json!({"credsStore": "evil", "credHelpers": {peer.address.to_string(): "evil"}}).to_string(),
    );
    let broken = config("broken", format!("{{\"auths\": {{\"{}\": {{\"auth\": \"hunter2\"", peer.address));
    let file = format!("{good}/config.json");
    let address = peer.address.to_string();
    let host = ("PROTECTED_REGISTRY_OCI_HOST", address.as_str());
    let user = ("PROTECTED_REGISTRY_OCI_USERNAME", "ci");
    let password = ("PROTECTED_REGISTRY_OCI_PASSWORD", "hunter2");
    for environment in [
        vec![host, user, password],
        vec![("DOCKER_CONFIG", good.as_str())],
        vec![("REGISTRY_AUTH_FILE", file.as_str())],
    ] {
        area(peer.address, &environment).store(&sealed, &unwatched).await.expect("stored");
    }
    for environment in [
        vec![],
        vec![host, user, ("PROTECTED_REGISTRY_OCI_PASSWORD", "hunter3")],
        // One for another registry is not shown to this one, though it is the right one.
        vec![("PROTECTED_REGISTRY_OCI_HOST", "registry.example"), user, password],
        vec![("DOCKER_CONFIG", other.as_str())],
        vec![("DOCKER_CONFIG", helper.as_str())],
        vec![("DOCKER_CONFIG", "/nowhere")],
    ] {
        let error = area(peer.address, &environment).store(&sealed, &unwatched).await.expect_err("refused");
        let told = told(&error);
        assert!(told.contains("was answered 401, UNAUTHORIZED: "), "{told}");
        assert!(told.contains("docker login") && !told.contains("hunter"), "{told}");
    }
    let reference: protected_storage::AreaRef =
        format!("oci://{}/acme/core", peer.address).parse().expect("area");
    let half = [vec![user], vec![password], vec![user, password], vec![host, user]];
    for environment in half.into_iter().chain([vec![("DOCKER_CONFIG", broken.as_str())]]) {
        let error = connect(&reference, &environment).err().expect("refused");
        assert!(!format!("{} {error:?}", told(&error)).contains("hunter"), "{error:?}");
    }
}

/// A registry that wants a token for each kind of access, before one that wants none.
struct Gate {
    address: SocketAddr,
    tokens: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    async fn start(registry: SocketAddr, realm_host: &str) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let minted = liar(move |line| {
            seen.lock().expect("seen").push(line.to_owned());
            let scope = if line.contains("pull%2Cpush") { "push" } else { "pull" };
            // By either name: services write it as Docker has it, as OAuth 2 has it, or both.
            let token = format!("hunter2-{scope}");
            let body = match scope {
                "push" => json!({"token": token, "expires_in": 300}),
                _ => json!({"access_token": token, "expires_in": 300}),
            }
            .to_string();
            Lie::Answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
        })
        .await;
        let realm = format!("http://{realm_host}:{}/token", minted.port());
        let tokens = realm.clone();
        let address = crate::peers::gate(registry, move |head| {
            let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
            let token = header("authorization: Bearer hunter2-");
            // It calls itself by the address that it is spoken to by, as a registry does that takes sessions' tokens.
            let service = header("host: ").unwrap_or_default();
            let pushes = !["GET", "HEAD"].contains(&head.split(' ').next().unwrap_or_default());
            match token {
                Some("push") => None,
                Some("pull") if !pushes => None,
                _ => Some(format!("HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"{realm}\",service=\"{service}\",scope=\"registry:catalog:*\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")),
            }
        })
        .await;
        Self { address, tokens, asked }
    }
}

#[tokio::test]
async fn a_token_is_asked_for_what_is_needed_and_of_nobody_else() {
    let (peer, _folder) = registry(None).await;
    let folder = tempfile::tempdir().expect("folder");
    let sealed = layout(&folder.path().join("sealed"), 1000, 1);
    let credential = |host: &'static str| {
        [
            ("PROTECTED_REGISTRY_OCI_HOST", host),
            ("PROTECTED_REGISTRY_OCI_USERNAME", "ci"),
            ("PROTECTED_REGISTRY_OCI_PASSWORD", "hunter2"),
        ]
    };
    let gate = Gate::start(peer.address, "127.0.0.1").await;
    let host = gate.address.to_string().leak();
    let environment = credential(host);
    let stored = area(gate.address, &environment);
    stored.store(&sealed, &unwatched).await.unwrap_or_else(|error| panic!("{}", told(&error)));
    let token = |actions: &str| {
        let service = host.replace(':', "%3A");
        format!("GET /token?service={service}&scope=repository%3Aacme%2Fcore%3A{actions} HTTP/1.1")
    };
    let (push, pull) = (token("pull%2Cpush"), token("pull"));
    assert_eq!(
        *gate.asked.lock().expect("asked"),
        std::slice::from_ref(&push),
        "once, whatever the challenge says"
    );
    let fetched = area(gate.address, &environment);
    fetch(&fetched, &folder.path().join("fetched")).await.expect("fetched");
    assert_eq!(*gate.asked.lock().expect("asked"), [push, pull]);
    // Another host has to be named.
    let gate = Gate::start(peer.address, "localhost").await;
    let host = gate.address.to_string().leak();
    let environment = credential(host);
    let error = area(gate.address, &environment).store(&sealed, &unwatched).await.expect_err("refused");
    assert!(told(&error).contains("wants a token of http://localhost:"), "{}", told(&error));
    assert!(gate.asked.lock().expect("asked").is_empty());
    // Nor does a session with that host make it one that a password is for.
    let mut with_session = area(gate.address, &environment);
    with_session.set_token_service(TokenService {
        url: gate.tokens.parse().expect("url"),
        session: AccessToken::new("hunter2-session"),
    });
    let error = with_session.store(&sealed, &unwatched).await.expect_err("refused");
    assert!(matches!(error, StorageError::TokenHost { .. }), "{error:?}");
    assert!(gate.asked.lock().expect("asked").is_empty());
    let named = |host: &'static str, tokens: &'static str| {
        [&credential(host)[..], &[("PROTECTED_REGISTRY_OCI_TOKEN_HOST", tokens)]].concat()
    };
    let named_here = named(host, "localhost");
    area(gate.address, &named_here).store(&sealed, &unwatched).await.expect("stored");
    // And neither does a credential travel in clear, nor to a name that only looks like this machine.
    for realm in [
        "http://evil.example/token",
        "http://127.0.0.1.evil.example/token",
        "http://127.0.0.1@evil.example/",
        "file:///etc/passwd",
        "x",
    ] {
        let challenge = format!("www-authenticate: Bearer realm=\"{realm}\"\r\n");
        let address = liar(move |_| {
            Lie::Answer(format!("HTTP/1.1 401 Unauthorized\r\n{challenge}content-length: 0\r\n\r\n"))
        })
        .await;
        let error = area(address, &named(address.to_string().leak(), "evil.example"))
            .store(&sealed, &unwatched)
            .await
            .expect_err(realm);
        assert!(matches!(error, StorageError::TokenHost { .. } | StorageError::Service { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_registry_that_lies_is_not_believed() {
    let folder = tempfile::tempdir().expect("folder");
    let (peer, data) = registry(None).await;
    let sealed = layout(&folder.path().join("sealed"), 100_000, 1);
    let area = area(peer.address, &[]);
    area.store(&sealed, &unwatched).await.expect("stored");
    let delivery = Delivery::open(&sealed).expect("delivery");
    let blob = |digest: &Digest| {
        let hex = digest.0.to_string();
        data.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    };
    let pinned = delivery.content().digest;
    let bytes = fs::read(blob(&pinned)).expect("blob");
    let mut flipped = bytes.clone();
    flipped[50_000] ^= 1;
    let into = folder.path().join("fetched");
    for (what, changed, expected) in [
        ("another byte", flipped, "where sha256:"),
        ("cut off", bytes[..99_999].to_vec(), "99999 bytes, where 100000 bytes was expected"),
        ("longer", [bytes.as_slice(), b"x"].concat(), "has more, where 100000 bytes was expected"),
    ] {
        fs::write(blob(&pinned), changed).expect("blob");
        let error = fetch(&area, &into).await.expect_err(what);
        assert!(told(&error).contains(expected), "{what}: {}", told(&error));
        assert!(!into.exists());
    }
    fs::write(blob(&pinned), &bytes).expect("blob");
    // A manifest whose digest is another, and a document of a gigabyte.
    let manifest = delivery.bundle().digest;
    let document = fs::read(blob(&manifest)).expect("blob");
    let text = String::from_utf8(document.clone()).expect("text");
    let other = layout(&folder.path().join("other"), 10, 7);
    let swapped =
        fs::read(other.join(Delivery::open(&other).expect("delivery").bundle().path())).expect("manifest");
    for (what, changed, expected) in [
        ("another manifest", swapped, "is another delivery"),
        (
            "a manifest that is changed",
            text.replace("\"size\":2}", "\"size\":3}").into_bytes(),
            "is another delivery",
        ),
    ] {
        fs::write(blob(&manifest), changed).expect("blob");
        let address = Address::Digest(manifest);
        let error = area.fetch(&address, None, &into, &unwatched).await.expect_err(what);
        assert!(told(&error).contains(expected), "{what}: {}", told(&error));
        assert!(!into.exists());
    }
    let endless =
        liar(|_| Lie::Endless("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n".to_owned())).await;
    let error = fetch(&self::area(endless, &[]), &into).await.expect_err("endless");
    assert!(told(&error).contains("larger than the 8388608 bytes"), "{}", told(&error));
    // An upload is sent nowhere else, and neither is what a redirect would have.
    let thief = liar(|_| panic!("asked")).await;
    let elsewhere = liar(move |line| match line.split(' ').next() {
        Some("POST") => Lie::Answer(format!(
            "HTTP/1.1 202 Accepted\r\nlocation: http://{thief}/upload\r\ncontent-length: 0\r\n\r\n"
        )),
        _ => Lie::Answer("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()),
    })
    .await;
    let error = self::area(elsewhere, &[]).store(&sealed, &unwatched).await.expect_err("elsewhere");
    assert!(told(&error).contains("which is another server"), "{}", told(&error));
}
