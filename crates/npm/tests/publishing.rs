//! Publishing against a registry that answers what real ones do, the bad days included.

mod peer;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use peer::{Answer, Asked, Peer};
use protected_http::{Client, Settings};
use protected_model::{environment::Environment, name::PackageName, secret::RegistryToken, version::DistTag};
use protected_npm::{
    pack::{self, Packed},
    upload::{self, PublishError, PublishOptions, Published, Status},
};
use serde_json::{Value, json};

const TOKEN: &str = "npm.token-of-a-test";

fn packed(version: &str, manifest: &str) -> Packed {
    let folder = tempfile::tempdir().expect("folder");
    let text = format!("{{\"name\":\"@acme/core\",\"version\":\"{version}\"{manifest}}}");
    fs::write(folder.path().join("package.json"), text).expect("file");
    fs::write(folder.path().join("index.js"), "module.exports = 1\n".repeat(10_000)).expect("file");
    fs::write(folder.path().join("README.md"), "# Core").expect("file");
    pack::pack(folder.path()).expect("pack")
}

fn has(packed: &Packed, latest: &str) -> Value {
    let version = packed.version.to_string();
    json!({
        "name": "@acme/core",
        "dist-tags": {"latest": latest},
        "versions": {version: {"dist": {"integrity": packed.integrity.to_string(), "shasum": packed.shasum.to_string()}}}
    })
}

fn not_found() -> Answer {
    Answer::json(404, &json!({"error": "no such package available"}))
}

fn client() -> Client {
    let settings = Settings::from_environment(&Environment::default(), None, "test").expect("settings");
    Client::new(&settings).expect("client")
}

async fn publish(peer: &Peer, packed: &Packed) -> Result<Published, PublishError> {
    publish_with(peer, "/repository/npm-hosted/", packed, &PublishOptions::default()).await
}

async fn publish_with(
    peer: &Peer,
    path: &str,
    packed: &Packed,
    options: &PublishOptions,
) -> Result<Published, PublishError> {
    let http = client();
    upload::publish(&http, &peer.url(path), &RegistryToken::new(TOKEN), packed, options).await
}

/// Answers the `PUT` with `put`, and a `GET` with `before` until there was a `PUT`, with `after` from then on.
async fn registry(before: Answer, put: Answer, after: Answer) -> Peer {
    let puts = Arc::new(AtomicUsize::new(0));
    Peer::start(move |asked| match asked.method.as_str() {
        "PUT" => {
            puts.fetch_add(1, Ordering::SeqCst);
            put.clone()
        }
        _ if puts.load(Ordering::SeqCst) == 0 => before.clone(),
        _ => after.clone(),
    })
    .await
}

fn put(peer: &Peer) -> Asked {
    peer.asked().into_iter().find(|asked| asked.method == "PUT").expect("a PUT")
}

#[tokio::test]
async fn sends_the_document_that_npm_sends() {
    let packed = packed("1.0.0", r#","bin":"./cli.js","main":"index.js","description":"d""#);
    let ok = Answer::json(201, &json!({"ok": true, "success": true})).header("npm-notice", "audit 1234");
    let peer = registry(not_found(), ok, not_found()).await;
    let published = publish(&peer, &packed).await.expect("published");
    assert_eq!(published.status, Status::Published);
    assert_eq!((published.tag, published.tagged), (DistTag::latest(), true));
    assert_eq!(published.integrity, packed.integrity);
    assert_eq!(published.notice.as_deref(), Some("audit 1234"));

    let path = "/repository/npm-hosted/@acme%2fcore";
    assert_eq!(peer.lines(), [format!("GET {path}"), format!("PUT {path}")]);
    let asked = put(&peer);
    assert_eq!(asked.headers["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(asked.headers["content-length"], asked.body.len().to_string());
    assert_eq!(asked.headers["content-type"], "application/json");
    let mut document: Value = serde_json::from_slice(&asked.body).expect("json");
    let attachment = document["_attachments"]["@acme/core-1.0.0.tgz"].take();
    let data = STANDARD.decode(attachment["data"].as_str().expect("text")).expect("base64");
    assert_eq!(data, packed.bytes);
    assert_eq!(attachment["length"], packed.bytes.len());
    document.as_object_mut().expect("object").remove("_attachments");
    assert_eq!(
        document,
        json!({
            "_id": "@acme/core",
            "name": "@acme/core",
            "description": "d",
            "dist-tags": {"latest": "1.0.0"},
            "access": null,
            "versions": {"1.0.0": {
                "name": "@acme/core",
                "version": "1.0.0",
                "description": "d",
                "main": "index.js",
                "bin": {"core": "cli.js"},
                "readme": "# Core",
                "readmeFilename": "README.md",
                "_id": "@acme/core@1.0.0",
                "dist": {
                    "integrity": packed.integrity.to_string(),
                    "shasum": packed.shasum.to_string(),
                    "tarball": format!("{}/repository/npm-hosted/@acme/core/-/core-1.0.0.tgz", peer.origin()),
                },
            }},
        })
    );
}

#[tokio::test]
async fn a_provenance_goes_along_as_npm_sends_it() {
    let packed = packed("1.0.0", "");
    let peer = registry(not_found(), Answer::json(201, &json!({"ok": true})), not_found()).await;
    // With everything in it that JSON has to escape, and characters of more than a byte.
    let bundle =
        json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "a": "\"\\\n\u{1f511}é"})
            .to_string();
    let options = PublishOptions { provenance: Some(bundle.clone()), ..PublishOptions::default() };
    publish_with(&peer, "/repository/npm-hosted/", &packed, &options).await.expect("published");
    let asked = put(&peer);
    assert_eq!(asked.headers["content-length"], asked.body.len().to_string());
    let document: Value = serde_json::from_slice(&asked.body).expect("json");
    let attachments = document["_attachments"].as_object().expect("attachments");
    assert_eq!(attachments.keys().collect::<Vec<_>>(), ["@acme/core-1.0.0.sigstore", "@acme/core-1.0.0.tgz"]);
    assert_eq!(
        attachments["@acme/core-1.0.0.sigstore"],
        json!({
            "content_type": "application/vnd.dev.sigstore.bundle.v0.3+json", "data": bundle, "length": bundle.len(),
        })
    );
    let data = attachments["@acme/core-1.0.0.tgz"]["data"].as_str().expect("text");
    assert_eq!(STANDARD.decode(data).expect("base64"), packed.bytes);
}

#[tokio::test]
async fn the_length_is_right_for_every_remainder() {
    for extra in 0..4 {
        let mut packed = packed("1.0.0", "");
        let mut bytes = packed.bytes.to_vec();
        bytes.extend(std::iter::repeat_n(7, 100_000 + extra));
        packed.bytes = bytes.into();
        let peer = registry(not_found(), Answer::json(201, &json!({})), not_found()).await;
        publish(&peer, &packed).await.expect("published");
        let document: Value = serde_json::from_slice(&put(&peer).body).expect("json");
        let data =
            document["_attachments"]["@acme/core-1.0.0.tgz"]["data"].as_str().expect("text").to_owned();
        assert_eq!(STANDARD.decode(data).expect("base64"), packed.bytes);
    }
}

#[tokio::test]
async fn the_same_bytes_again_are_success_without_sending() {
    let packed = packed("1.0.0", "");
    let there = Answer::json(200, &has(&packed, "1.0.0"));
    let peer = registry(there.clone(), not_found(), there).await;
    let published = publish(&peer, &packed).await.expect("there");
    assert_eq!((published.status, published.tagged), (Status::AlreadyPublished, true));
    assert_eq!(peer.lines().len(), 1);
    // Also for a version below `latest`: nothing moves.
    let there = Answer::json(200, &has(&packed, "2.0.0"));
    let peer = registry(there.clone(), not_found(), there).await;
    let published = publish(&peer, &packed).await.expect("there");
    assert_eq!((published.status, published.tagged), (Status::AlreadyPublished, false));
}

#[tokio::test]
async fn other_bytes_of_a_version_are_never_sent() {
    let (first, other) = (packed("1.0.0", ""), packed("1.0.0", r#","main":"index.js""#));
    let there = Answer::json(200, &has(&first, "1.0.0"));
    let peer = registry(there.clone(), Answer::json(200, &json!({})), there).await;
    let error = publish(&peer, &other).await.expect_err("conflict");
    assert!(error.is_conflict() && !error.is_transient());
    let text = error.to_string();
    assert!(
        text.contains(&first.integrity.to_string()) && text.contains(&other.integrity.to_string()),
        "{text}"
    );
    assert!(error.hint().expect("hint").to_string().contains("raise the version"));
    assert_eq!(peer.lines().len(), 1);
}

#[tokio::test]
async fn an_old_registry_is_compared_by_sha1() {
    let packed = packed("1.0.0", "");
    for (shasum, is_there) in [(packed.shasum.to_string(), true), ("0".repeat(40), false)] {
        let there = json!({"versions": {"1.0.0": {"dist": {"shasum": shasum}}}});
        let peer = registry(Answer::json(200, &there), not_found(), not_found()).await;
        assert_eq!(publish(&peer, &packed).await.is_ok(), is_there);
    }
    let bare = json!({"versions": {"1.0.0": {}}});
    let peer = registry(Answer::json(200, &bare), not_found(), not_found()).await;
    assert!(publish(&peer, &packed).await.expect_err("unknown").is_conflict());
}

#[tokio::test]
async fn what_came_of_a_failed_request_is_looked_up() {
    let packed = packed("1.0.0", "");
    let there = Answer::json(200, &has(&packed, "1.0.0"));
    // The registry committed, then failed to say so; or another job was first; or Nexus forbids it.
    let nexus = json!({"success": false, "error": "Repository does not allow updating assets: npm-hosted"});
    for (failure, status) in [
        (Answer::Reset, Status::Published),
        (Answer::json(503, &json!({})), Status::Published),
        (Answer::json(409, &json!({"error": "this package is already present"})), Status::AlreadyPublished),
        (Answer::json(400, &nexus), Status::AlreadyPublished),
        (Answer::json(403, &json!({"error": "cannot publish over"})), Status::AlreadyPublished),
        (Answer::json(200, &nexus), Status::AlreadyPublished),
    ] {
        let peer = registry(not_found(), failure, there.clone()).await;
        assert_eq!(publish(&peer, &packed).await.expect("there").status, status);
    }
    // The same answers, and it is not there: the first error stands.
    for (failure, shown) in [
        (Answer::json(409, &json!({"error": "already present"})), "answered 409: already present"),
        (Answer::json(400, &nexus), "answered 400: Repository does not allow updating assets: npm-hosted"),
        (Answer::json(200, &nexus), "answered 200: Repository does not allow updating assets: npm-hosted"),
    ] {
        let peer = registry(not_found(), failure, not_found()).await;
        let error = publish(&peer, &packed).await.expect_err("refused").to_string();
        assert!(error.ends_with(shown), "{error}");
    }
    // Another's bytes won.
    let other = Answer::json(200, &has(&self::packed("1.0.0", r#","main":"x""#), "1.0.0"));
    let peer = registry(not_found(), Answer::json(409, &json!({})), other).await;
    assert!(matches!(publish(&peer, &packed).await, Err(PublishError::Conflict { .. })));
}

#[tokio::test]
async fn gives_up_within_its_budget_and_says_so() {
    let packed = packed("1.0.0", "");
    let peer = registry(not_found(), Answer::json(503, &json!({"error": "down"})), not_found()).await;
    let error = publish(&peer, &packed).await.expect_err("down");
    assert!(error.is_transient() && !error.is_conflict());
    let puts = peer.asked().iter().filter(|asked| asked.method == "PUT").count();
    assert!((2..=5).contains(&puts), "{puts}");
}

#[tokio::test]
async fn latest_never_moves_backwards() {
    let packed = packed("1.0.0", "");
    let newer = Answer::json(200, &json!({"dist-tags": {"latest": "2.0.0"}, "versions": {"2.0.0": {}}}));
    for tag in [None, Some(DistTag::latest())] {
        let peer = registry(newer.clone(), Answer::json(201, &json!({})), not_found()).await;
        let options = PublishOptions { tag, ..PublishOptions::default() };
        let error = publish_with(&peer, "/", &packed, &options).await.expect_err("backwards");
        assert_eq!(error.to_string(), "`latest` is `2.0.0`, and would go back to `1.0.0`");
        assert!(error.hint().is_some());
        assert_eq!(peer.lines().len(), 1);
    }
    let peer = registry(newer, Answer::json(201, &json!({})), not_found()).await;
    let tag: DistTag = "release-1.x".parse().expect("tag");
    let options = PublishOptions { tag: Some(tag.clone()), ..PublishOptions::default() };
    assert_eq!(publish_with(&peer, "/", &packed, &options).await.expect("published").tag, tag);
    let document: Value = serde_json::from_slice(&put(&peer).body).expect("json");
    assert_eq!(document["dist-tags"], json!({"release-1.x": "1.0.0"}));
}

#[tokio::test]
async fn a_prerelease_needs_a_tag() {
    let peer = registry(not_found(), Answer::json(201, &json!({})), not_found()).await;
    let error = publish(&peer, &packed("1.0.0-beta.1", "")).await.expect_err("no tag");
    assert_eq!(error.to_string(), "`1.0.0-beta.1` is a prerelease, and no dist-tag was given for it");
    assert!(peer.asked().is_empty());
    let tagged = packed("1.0.0-beta.1", r#","publishConfig":{"tag":"next","access":"restricted"}"#);
    assert_eq!(publish(&peer, &tagged).await.expect("published").tag.as_str(), "next");
    let document: Value = serde_json::from_slice(&put(&peer).body).expect("json");
    assert_eq!(
        (&document["dist-tags"], &document["access"]),
        (&json!({"next": "1.0.0-beta.1"}), &json!("restricted"))
    );
}

#[tokio::test]
async fn the_packages_own_registry_decides_nothing() {
    let evil = Peer::start(|_| Answer::json(201, &json!({}))).await;
    let config = format!(
        r#","publishConfig":{{"registry":"{0}","@acme:registry":"{0}","//127.0.0.1/:_authToken":"x"}}"#,
        evil.origin()
    );
    let peer = registry(not_found(), Answer::json(201, &json!({})), not_found()).await;
    publish(&peer, &packed("1.0.0", &config)).await.expect("published");
    assert!(evil.asked().is_empty());
}

#[tokio::test]
async fn a_private_package_is_not_sent() {
    let peer = registry(not_found(), Answer::json(201, &json!({})), not_found()).await;
    let error = publish(&peer, &packed("1.0.0", r#","private":true"#)).await.expect_err("private");
    assert!(matches!(error, PublishError::Private { .. }));
    assert!(peer.asked().is_empty());
}

#[tokio::test]
async fn refusals_are_readable_and_carry_no_secret() {
    let nexus = "BASIC realm=\"Sonatype Nexus Repository Manager\"";
    for (path, answer, shown, advice) in [
        (
            "/",
            Answer::json(403, &json!({"error": format!("wrong package for {TOKEN}\u{1b}[31m"), "audit": 1}))
                .header("npm-notice", "audit 77"),
            "answered 403: wrong package for *** [31m (notice: audit 77)",
            "one package, version and content",
        ),
        (
            "/",
            Answer::json(401, &json!({"error": "expired"})),
            "answered 401: expired",
            "run the command again",
        ),
        (
            "/repository/npm-hosted/",
            Answer::Reply {
                status: 401,
                headers: vec![("www-authenticate".to_owned(), nexus.to_owned())],
                body: vec![],
            },
            "answered 401",
            "npm Bearer Token Realm",
        ),
        (
            "/repository/npm-group/",
            Answer::Reply { status: 403, headers: vec![], body: b"<html>licence</html>".to_vec() },
            "answered 403",
            "a Nexus group can only be read",
        ),
        (
            "/repository/npm-hosted/",
            Answer::json(400, &json!({"success": false, "error": "Repository is read only: npm-hosted"})),
            "answered 400: Repository is read only: npm-hosted",
            "who keeps the registry",
        ),
        (
            "/",
            Answer::json(413, &json!({"error": "too large"})),
            "answered 413: too large",
            "smaller packages",
        ),
        (
            "/",
            Answer::json(404, &json!({"error": "not here"})),
            "answered 404: not here",
            "/repository/<name>/",
        ),
        (
            "/",
            Answer::json(422, &json!({"message": "the body is wrong"})),
            "answered 422: the body is wrong",
            "",
        ),
    ] {
        let peer = registry(not_found(), answer, not_found()).await;
        let error = publish_with(&peer, path, &packed("1.0.0", ""), &PublishOptions::default())
            .await
            .expect_err("refused");
        let text = error.to_string();
        assert!(text.ends_with(shown), "{text}");
        let hint = error.hint().map(|hint| hint.to_string()).unwrap_or_default();
        assert!(hint.contains(advice), "{hint}");
        assert!(!format!("{text}{hint}{error:?}").contains(TOKEN));
    }
}

#[tokio::test]
async fn a_registry_that_does_not_say_what_it_has_gets_nothing() {
    for answer in [
        Answer::json(401, &json!({"error": "expired"})),
        Answer::json(403, &json!({"error": "wrong package"})),
        Answer::Reply { status: 200, headers: vec![], body: b"<html>log in</html>".to_vec() },
        Answer::json(200, &json!({"versions": "none"})),
    ] {
        let peer = registry(answer, Answer::json(201, &json!({})), not_found()).await;
        assert!(publish(&peer, &packed("1.0.0", "")).await.is_err());
        assert_eq!(peer.lines().len(), 1);
    }
}

#[tokio::test]
async fn asking_first_saves_the_question() {
    let packed = packed("1.0.0", "");
    let peer = registry(not_found(), Answer::json(201, &json!({})), not_found()).await;
    let http = client();
    let name: PackageName = "@acme/core".parse().expect("name");
    let existing =
        upload::existing(&http, &peer.url("/"), &RegistryToken::new(TOKEN), &name).await.expect("existing");
    assert!(!existing.has(&packed.version) && existing.latest().is_none());
    let options = PublishOptions { existing: Some(existing), ..PublishOptions::default() };
    publish_with(&peer, "/", &packed, &options).await.expect("published");
    assert_eq!(peer.lines(), ["GET /@acme%2fcore", "PUT /@acme%2fcore"]);
}
