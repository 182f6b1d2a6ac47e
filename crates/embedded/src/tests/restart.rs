//! What is still so after a restart, and after a kill at any moment.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use protected_http::{Client, Settings};
use protected_model::{
    digest::Sha256,
    environment::Environment,
    secret::{AccessToken, Secret as _},
    service_url::ServiceUrl,
};
use serde_json::Value;

use super::{
    builds::build,
    service::{Service, chain_length, configuration, refused, wanted},
};
use crate::{Config, StoreError, server::serve, store::Store};

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let operator = service.operator();
    let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
    assert_eq!(service.exchange(&id_token, Some("key")).await.status, 200);
    assert_eq!(
        service.post("v1/packages/protection/builds", &session, &build("1.0.0", b"one")).await.status,
        201
    );
    let before = service.events().await;
    let service = service.restart().await;
    assert_eq!(service.operator().reveal(), operator.reveal());
    assert_eq!(service.events().await, before);
    // The session still verifies, the build is still on record, and the ID token is still used up: its answer was
    // kept in memory alone.
    let mut publish = wanted("@acme/core", "publish");
    publish["artifact_sha512"] = protected_model::digest::Integrity::of(b"one").to_string().into();
    assert_eq!(service.mint(&session, &publish).await.status, 201);
    let problem = refused(&service.exchange(&id_token, Some("key")).await, 400, "token_replayed");
    assert!(problem.hint.expect("hint").contains("fresh"));
}

#[tokio::test]
async fn what_was_gathered_is_written_at_the_end() {
    let service = Service::start().await;
    let session = service.session("release").await;
    for _ in 0..20 {
        refused(&service.get("v1/evidence/nothing", &session).await, 404, "not_found");
    }
    // At once: the next flush would have come later.
    let service = service.restart().await;
    let read = service.events().await.into_iter().filter(|event| event.action == "evidence.read");
    assert_eq!(read.count(), 20);
}

#[tokio::test]
async fn a_folder_has_one_process() {
    let service = Service::start().await;
    let second = Store::open(&service.data());
    assert!(matches!(second, Err(StoreError::InUse(_))));
    service.stop().await;
}

#[tokio::test]
async fn what_a_kill_leaves_is_swept() {
    let service = Service::start().await;
    let session = service.session("release").await;
    assert_eq!(
        service.post("v1/packages/protection/builds", &session, &build("1.0.0", b"one")).await.status,
        201
    );
    let folder = service.stop().await;
    let data = folder.path().join("data");
    let document = Sha256::of(r#"{"files":[]}"#);
    let orphan = {
        let store = Store::open(&data).expect("store");
        let orphan = store.blobs().put(b"no transaction ever referred to this").expect("put");
        let (orphan, closed) = (store.blobs().path(&orphan), store.closed());
        drop(store);
        closed.await;
        orphan
    };
    assert!(orphan.exists());
    let temporary = data.join("blobs/tmp/half-written");
    fs::write(&temporary, "half").expect("written");
    let store = Store::open(&data).expect("store");
    assert!(!orphan.exists() && !temporary.exists());
    assert_eq!(store.blobs().get(&document).expect("kept"), br#"{"files":[]}"#);
}

/// A service in a process of its own, for [`a_kill_loses_nothing_acknowledged`]; its folder is the current one.
#[tokio::test]
#[ignore = "serves until it is killed"]
async fn serve_until_killed() {
    let config = Config::parse(&fs::read_to_string("config.toml").expect("config")).expect("config");
    let listener = tokio::net::TcpListener::bind(config.server.listen).await.expect("listen");
    let ready = |url: &str| fs::write("ready.tmp", url).and_then(|()| fs::rename("ready.tmp", "ready"));
    serve(config, listener, ready, std::future::pending()).await.expect("served");
}

/// A service in a process of its own. It ends by SIGKILL, here or when this is dropped.
pub(super) struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts [`serve_until_killed`], and returns once it serves.
pub(super) async fn started(folder: &Path) -> (Killed, ServiceUrl) {
    let _ = fs::remove_file(folder.join("ready"));
    let child = Command::new(std::env::current_exe().expect("exe"))
        .args(["--ignored", "--exact", "tests::restart::serve_until_killed"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Killed)
        .expect("child");
    let start = Instant::now();
    loop {
        if let Ok(url) = fs::read_to_string(folder.join("ready")) {
            return (child, url.parse().expect("url"));
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it never served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_kill_loses_nothing_acknowledged() {
    const ROUNDS: usize = 12;
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("config.toml"), configuration(folder.path())).expect("config");
    let settings = Settings::from_environment(&Environment::default(), None, "test/1").expect("settings");
    // What was said to be on record, with its content.
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    let mut number = 0;
    for round in 0..ROUNDS {
        let (child, url) = started(folder.path()).await;
        let http = Client::new(&settings).expect("client");
        let client = Remote { url, http, data: folder.path().join("data") };
        // Whatever was acknowledged in the rounds before is there.
        for (id, content) in &acknowledged {
            let response = client.get(&format!("v1/evidence/{id}/content")).await.expect("answer");
            assert_eq!((response.status, response.body().as_ref()), (200, content.as_bytes()));
        }
        let at_work = tokio::sync::Notify::new();
        let work = async {
            let session = client.session().await.expect("a session");
            at_work.notify_one();
            loop {
                number += 1;
                let version = format!("1.0.{number}");
                let body = build(&version, version.as_bytes());
                let request =
                    client.http.post(client.url.join("v1/packages/protection/builds")).bearer(&session);
                let Ok(response) = request.json(&body).send().await else { return };
                assert_eq!(response.status, 201, "{:?}", response.body());
                let value: Value = response.json().expect("json");
                let id = |value: &Value| value["evidence"][0]["id"].as_str().expect("id").to_owned();
                acknowledged.push((id(&value), r#"{"files":[]}"#.to_owned()));
                // And a document of its own, whose file is written within the moments that are tried.
                let sbom = format!(r#"{{"bomFormat":"CycloneDX","version":"{version}"}}"#);
                let body = attachment(&version, &sbom);
                let request = client.http.post(client.url.join("v1/evidence/attachments")).bearer(&session);
                let Ok(response) = request.json(&body).send().await else { return };
                // A kill between commit and answer: what is sent again is known.
                assert!([200, 201].contains(&response.status), "{:?}", response.body());
                acknowledged.push((id(&response.json().expect("json")), sbom));
            }
        };
        let kill = async {
            // From then on, so that a busy machine does not make every round an empty one.
            at_work.notified().await;
            let moment = (round as u64 * 37) % 300;
            tokio::time::sleep(Duration::from_millis(moment)).await;
            drop(child);
        };
        tokio::join!(work, kill);
    }
    assert!(acknowledged.len() >= ROUNDS / 2, "{}", acknowledged.len());
    assert!(chain_length(&folder.path().join("data")) >= acknowledged.len() as u64);
}

fn attachment(version: &str, sbom: &str) -> Value {
    serde_json::json!({
        "project_slug": "core", "package_name": "@acme/core", "version": version,
        "documents": [{
            "type": "sbom", "media_type": "application/vnd.cyclonedx+json", "sha256": Sha256::of(sbom), "inline": sbom,
        }],
    })
}

pub(super) struct Remote {
    pub(super) url: ServiceUrl,
    pub(super) http: Client,
    pub(super) data: std::path::PathBuf,
}

impl Remote {
    async fn get(&self, path: &str) -> Option<protected_http::Response> {
        let operator = AccessToken::new(fs::read_to_string(self.data.join("admin-token")).ok()?);
        self.http.get(self.url.join(path)).bearer(&operator).send().await.ok()
    }

    pub(super) async fn session(&self) -> Option<AccessToken> {
        let token = fs::read_to_string(self.data.join("local-issuer/release.request-token")).ok()?;
        let mut url = self.url.join("local-issuer/github-actions/token/release");
        url.query_pairs_mut().append_pair("audience", &self.url.audience());
        let issued: Value =
            self.http.get(url).bearer(&AccessToken::new(token)).send().await.ok()?.json().ok()?;
        let form = [
            ("grant_type", protected_model::api::oauth::GRANT_TYPE),
            ("subject_token", issued["value"].as_str()?),
            ("subject_token_type", protected_model::api::oauth::ID_TOKEN_TYPE),
        ];
        let answer = self.http.post(self.url.join("v1/oauth/token")).form(&form).send().await.ok()?;
        let answer: Value = answer.json().ok()?;
        Some(AccessToken::new(answer["access_token"].as_str()?))
    }
}
