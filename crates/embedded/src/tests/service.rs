//! A service on a free port, with its own folder and a clock that the test moves.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use protected_http::{Client, Response, Settings};
use protected_model::{
    api::{
        audit::{AuditEvent, AuditPage},
        oauth::{ACCESS_TOKEN_TYPE, GRANT_TYPE, ID_TOKEN_TYPE},
        problem::Problem,
    },
    environment::Environment,
    secret::AccessToken,
    service_url::ServiceUrl,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{Config, ServeError, audit, server::serve_at, store::Store};

pub(super) struct Service {
    pub(super) url: ServiceUrl,
    pub(super) http: Client,
    folder: Arc<tempfile::TempDir>,
    ahead_seconds: Arc<AtomicI64>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ServeError>>,
}

/// A package of the test's own beside the example's.
pub(super) const PACKAGES: &str = r#"
[[package]]
name = "@acme/plain"
project = "core"
repository = "npm-hosted"
install = ["acme-core-release", "acme-maintainers", "members"]
publish = ["acme-core-release", "acme-maintainers", "members"]

[[package]]
name = "@acme/install-only"
project = "core"
repository = "npm-hosted"
install = ["acme-core-release", "reader"]
publish = ["somebody-else"]

[[package]]
name = "@acme/no-policy"
project = "core"
repository = "npm-hosted"
install = ["acme-core-release"]

[[package]]
name = "@acme/disabled"
project = "core"
repository = "npm-hosted"
status = "disabled"
install = ["acme-core-release"]
publish = ["acme-core-release"]

[[package]]
name = "@acme/archived"
project = "core"
repository = "npm-hosted"
status = "archived"
archived_install = "allow"
install = ["acme-core-release"]
publish = ["acme-core-release"]

[[package]]
name = "@acme/sealed"
project = "core"
repository = "npm-hosted"
artifact_policy = ["encrypted_delivery"]
install = ["acme-core-release"]
publish = ["acme-core-release"]

[[project]]
tenant = "acme"
slug = "other"

[[package]]
name = "@acme/other"
project = "other"
repository = "npm-hosted"
install = ["other-release"]
publish = ["other-release"]

[[trusted_publisher]]
id = "other-release"
tenant_id = "acme"
project_slug = "other"
packages = ["@acme/other"]
actions = ["install", "publish"]
issuer = "local:github-actions"
github = { repository_owner_id = "1001", repository_id = "9999", workflow = "release.yml", ref_pattern = "refs/heads/main" }

[[trusted_publisher]]
id = "somebody-else"
tenant_id = "acme"
project_slug = "core"
packages = ["@acme/install-only"]
actions = ["publish"]
issuer = "local:github-actions"
github = { repository_owner_id = "1001", repository_id = "2002", workflow = "other.yml", ref_pattern = "refs/heads/main" }

[[entitlement]]
id = "members"
tenant_id = "acme"
project_slug = "core"
issuer = "local:generic"
sub = "member"
packages = ["@acme/plain"]
actions = ["install", "publish"]

[[entitlement]]
id = "reader"
tenant_id = "acme"
project_slug = "core"
issuer = "local:generic"
sub = "member"
packages = ["@acme/install-only"]
actions = ["install"]

[[oci_plan]]
id = "other-release"
tenant_id = "acme"
project_slug = "other"
repositories = [{ name = "acme/other/app", actions = ["*"] }]

[[oci_licence]]
id = "other-internal"
plan = "other-release"
holders = ["other-release"]

[[tenant]]
id = "rival"

[[project]]
tenant = "rival"
slug = "core"

[[repository]]
name = "rival-hosted"
tenant = "rival"
scopes = ["@rival"]

[[package]]
name = "@rival/core"
project = "core"
repository = "rival-hosted"
install = ["rival-release"]
publish = ["rival-release"]

[[trusted_publisher]]
id = "rival-release"
tenant_id = "rival"
project_slug = "core"
packages = ["@rival/core"]
actions = ["install", "publish"]
issuer = "local:github-actions"
github = { repository_owner_id = "5001", repository_id = "6002", workflow = "release.yml", ref_pattern = "refs/heads/main" }

[[oci_plan]]
id = "rival-release"
tenant_id = "rival"
project_slug = "core"
repositories = [{ below = "rival/core", actions = ["pull", "push"] }]

[[oci_licence]]
id = "rival-internal"
plan = "rival-release"
holders = ["rival-release"]

[[local_issuer.run]]
name = "pull-request"
platform = "github-actions"
claims = { sub = "repo:acme/core:pull_request", repository = "acme/core", repository_id = "2002", repository_owner = "acme", repository_owner_id = "1001", workflow_ref = "acme/core/.github/workflows/release.yml@refs/pull/1/merge", job_workflow_ref = "acme/core/.github/workflows/release.yml@refs/pull/1/merge", event_name = "pull_request", ref = "refs/pull/1/merge", sha = "abc", run_id = "1" }

[[local_issuer.run]]
name = "stranger"
platform = "github-actions"
claims = { sub = "repo:evil/core:ref:refs/heads/main", repository = "evil/core", repository_id = "7", repository_owner = "evil", repository_owner_id = "8", workflow_ref = "evil/core/.github/workflows/release.yml@refs/heads/main", job_workflow_ref = "evil/core/.github/workflows/release.yml@refs/heads/main", event_name = "push", ref = "refs/heads/main", sha = "abc", run_id = "1" }

[[local_issuer.run]]
name = "rival"
platform = "github-actions"
claims = { sub = "repo:rival/core:ref:refs/heads/main", repository = "rival/core", repository_id = "6002", repository_owner = "rival", repository_owner_id = "5001", workflow_ref = "rival/core/.github/workflows/release.yml@refs/heads/main", job_workflow_ref = "rival/core/.github/workflows/release.yml@refs/heads/main", event_name = "push", ref = "refs/heads/main", ref_type = "branch", sha = "abc", run_id = "1" }

[[local_issuer.run]]
name = "other"
platform = "github-actions"
claims = { sub = "repo:acme/other:ref:refs/heads/main", repository = "acme/other", repository_id = "9999", repository_owner = "acme", repository_owner_id = "1001", workflow_ref = "acme/other/.github/workflows/release.yml@refs/heads/main", job_workflow_ref = "acme/other/.github/workflows/release.yml@refs/heads/main", event_name = "push", ref = "refs/heads/main", ref_type = "branch", sha = "abc", run_id = "1" }

[[local_issuer.run]]
name = "member"
platform = "generic"
claims = { sub = "member" }

[[local_issuer.run]]
name = "nobody"
platform = "generic"
claims = { sub = "nobody" }
"#;

/// The example with the test's packages, on a free port, in `folder`.
pub(super) fn configuration(folder: &Path) -> String {
    const ALL: &str = r#"packages = ["@acme/core", "@acme/plain", "@acme/install-only", "@acme/no-policy", "@acme/disabled", "@acme/archived", "@acme/sealed"]"#;
    let example = Config::example()
        .replace("127.0.0.1:8787", "127.0.0.1:0")
        .replace(r#"packages = ["@acme/core"]"#, ALL)
        .replace("fractalops-data", folder.join("data").to_str().expect("utf-8"));
    example + PACKAGES
}

impl Service {
    pub(super) async fn start() -> Self {
        Self::start_with(|text| text).await
    }

    /// Starts with a changed configuration.
    pub(super) async fn start_with(change: impl FnOnce(String) -> String) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("folder"));
        let text = change(configuration(folder.path()));
        Self::start_in(folder, &text, 0).await
    }

    /// Starts with a clock that is behind.
    pub(super) async fn start_ago(seconds: i64) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("folder"));
        let text = configuration(folder.path());
        Self::start_in(folder, &text, -seconds).await
    }

    /// Ends it gracefully, and starts it again on its folder and the same port.
    pub(super) async fn restart(self) -> Self {
        let text = configuration(self.folder.path()).replace("127.0.0.1:0", &self.url.authority());
        let ahead = self.ahead_seconds.load(Ordering::SeqCst);
        let folder = self.stop().await;
        Self::start_in(folder, &text, ahead).await
    }

    async fn start_in(folder: Arc<tempfile::TempDir>, text: &str, ahead_seconds: i64) -> Self {
        let config = Config::parse(text).unwrap_or_else(|error| panic!("{error}"));
        let listener = TcpListener::bind(config.server.listen).await.expect("listen");
        let url = format!("http://{}/", listener.local_addr().expect("address")).parse().expect("url");
        let (stop, stopped) = oneshot::channel();
        let (is_ready, ready) = oneshot::channel();
        let ahead_seconds = Arc::new(AtomicI64::new(ahead_seconds));
        let ahead = Arc::clone(&ahead_seconds);
        let clock = move || Timestamp::now() + SignedDuration::from_secs(ahead.load(Ordering::SeqCst));
        let running = tokio::spawn(serve_at(
            config,
            listener,
            Arc::new(clock),
            move |_| {
                let _ = is_ready.send(());
                Ok(())
            },
            async {
                let _ = stopped.await;
            },
        ));
        if ready.await.is_err() {
            panic!("{:?}", running.await);
        }
        let settings = Settings::from_environment(&Environment::default(), None, "test/1").expect("settings");
        Self { url, http: Client::new(&settings).expect("client"), folder, ahead_seconds, stop, running }
    }

    /// Moves the service's clock.
    pub(super) fn pass(&self, seconds: i64) {
        self.ahead_seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The same with a changed configuration.
    pub(super) async fn restart_with(self, change: impl FnOnce(String) -> String) -> Self {
        let text = change(configuration(self.folder.path())).replace("127.0.0.1:0", &self.url.authority());
        let ahead = self.ahead_seconds.load(Ordering::SeqCst);
        let folder = self.stop().await;
        Self::start_in(folder, &text, ahead).await
    }

    /// Starts again after its data folder was changed.
    pub(super) async fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        let text = configuration(self.folder.path()).replace("127.0.0.1:0", &self.url.authority());
        let ahead = self.ahead_seconds.load(Ordering::SeqCst);
        let folder = self.stop().await;
        change(&folder.path().join("data"));
        Self::start_in(folder, &text, ahead).await
    }

    /// Ends it gracefully, and returns the folder that `data` is in.
    pub(super) async fn stop(self) -> Arc<tempfile::TempDir> {
        let _ = self.stop.send(());
        self.running.await.expect("task").expect("served");
        self.folder
    }

    pub(super) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    pub(super) fn issuer(&self) -> String {
        self.url.audience()
    }

    /// Asks the local issuer for an ID token of a run.
    pub(super) async fn id_token(&self, platform: &str, run: &str, audience: &str) -> String {
        let file = self.data().join(format!("local-issuer/{run}.request-token"));
        let bearer = AccessToken::new(std::fs::read_to_string(file).expect("request token"));
        let mut url = self.url.join(&format!("local-issuer/{platform}/token/{run}?api-version=2.0"));
        url.query_pairs_mut().append_pair("audience", audience);
        let response = self.http.get(url).bearer(&bearer).send().await.expect("answer");
        assert_eq!(response.status, 200, "{:?}", response.body());
        let value: Value = response.json().expect("json");
        value["value"].as_str().expect("value").to_owned()
    }

    pub(super) async fn exchange_form(&self, form: &[(&str, &str)], key: Option<&str>) -> Response {
        let mut request = self.http.post(self.url.join("v1/oauth/token")).form(form);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.send().await.expect("answer")
    }

    pub(super) async fn exchange(&self, id_token: &str, key: Option<&str>) -> Response {
        let form = [
            ("grant_type", GRANT_TYPE),
            ("subject_token", id_token),
            ("subject_token_type", ID_TOKEN_TYPE),
            ("requested_token_type", ACCESS_TOKEN_TYPE),
        ];
        self.exchange_form(&form, key).await
    }

    /// Exchanges a run's ID token for a session.
    pub(super) async fn session(&self, run: &str) -> AccessToken {
        let id_token = self.id_token("github-actions", run, &self.issuer()).await;
        let response = self.exchange(&id_token, None).await;
        assert_eq!(response.status, 200, "{:?}", response.body());
        let value: Value = response.json().expect("json");
        AccessToken::new(value["access_token"].as_str().expect("token"))
    }

    /// A person's token.
    pub(super) async fn person(&self, run: &str) -> AccessToken {
        AccessToken::new(self.id_token("generic", run, &self.issuer()).await)
    }

    pub(super) async fn post(&self, path: &str, bearer: &AccessToken, body: &Value) -> Response {
        self.http.post(self.url.join(path)).bearer(bearer).json(body).send().await.expect("answer")
    }

    pub(super) async fn get(&self, path: &str, bearer: &AccessToken) -> Response {
        self.http.get(self.url.join(path)).bearer(bearer).send().await.expect("answer")
    }

    pub(super) async fn mint(&self, bearer: &AccessToken, body: &Value) -> Response {
        self.post("v1/packages/registry/tokens/npm", bearer, body).await
    }

    pub(super) async fn revoke(&self, token: &str) -> Response {
        let url = self.url.join("v1/oauth/revoke");
        self.http.post(url).form(&[("token", token)]).send().await.expect("answer")
    }

    pub(super) fn operator(&self) -> AccessToken {
        AccessToken::new(std::fs::read_to_string(self.data().join("admin-token")).expect("admin token"))
    }

    /// Every audit event.
    pub(super) async fn events(&self) -> Vec<AuditEvent> {
        let response = self.get("v1/audit/events", &self.operator()).await;
        assert_eq!(response.status, 200, "{:?}", response.body());
        response.json::<AuditPage>().expect("page").items
    }

    /// The last audit event.
    pub(super) async fn last_event(&self) -> AuditEvent {
        self.events().await.pop().expect("an event")
    }
}

/// Opens the folder of a service that has ended, and checks its audit chain.
pub(super) fn chain_length(data: &Path) -> u64 {
    let store = Store::open(data).expect("store");
    audit::verify_chain(&store.read().expect("read")).expect("whole")
}

/// A refusal with this status and code.
#[track_caller]
pub(super) fn refused(response: &Response, status: u16, code: &str) -> Problem {
    let text = String::from_utf8_lossy(response.body());
    assert_eq!(response.status, status, "{text}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let problem: Problem = response.json().expect("problem");
    assert_eq!((problem.status, problem.code.as_str()), (status, code), "{text}");
    assert!(response.header("npm-notice").is_some_and(|it| !it.is_empty()), "{text}");
    assert_eq!(problem.correlation_id.as_deref(), response.header("x-correlation-id"));
    assert_eq!(status == 401, response.header("www-authenticate").is_some());
    problem
}

/// A request for an npm token.
pub(super) fn wanted(package: &str, mode: &str) -> Value {
    json!({"project_slug": "core", "package_name": package, "action_mode": mode})
}
