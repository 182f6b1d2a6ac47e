//! GitHub Actions: also on GitHub Enterprise Server and with data residency, and Forgejo and Gitea, which share
//! its contract.

use std::{fs::File, io, io::Read, time::Duration};

use async_trait::async_trait;
use protected_http::{Client, Retry};
use protected_model::{
    environment::Environment,
    identity::{PlatformKind, RunIdentity},
    secret::{IdToken, RequestToken},
    service_url,
};
use serde::Deserialize;
use url::Url;

use crate::{Level, Platform, dotenv, error::IdTokenError, jwt};

/// Where an ID token is asked for.
const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
/// What is shown there.
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// How long one attempt to get an ID token may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How often and how long it is tried: the endpoint is known to fail in bursts of seconds.
const RETRY: Retry = Retry { attempts: 8, budget: Duration::from_secs(30) };
/// The largest event that is read. Deliveries of webhooks end at 25 MB.
const MAX_EVENT_BYTES: u64 = 25_000_000;

const GITHUB_SNIPPET: &str =
    "add this to the job; where it is in a reusable workflow, to the calling job too:
    permissions:
      contents: read
      id-token: write";
const FORGEJO_SNIPPET: &str = "add this to the job or to the workflow:
    enable-openid-connect: true";
const GITEA_SNIPPET: &str =
    "use a version of Gitea that issues ID tokens to jobs, or give one in FRACTALOPS_ID_TOKEN_FILE";

pub(crate) fn detect(environment: &Environment) -> Option<Box<dyn Platform>> {
    environment.is("GITHUB_ACTIONS", "true").then(|| Box::new(GithubActions::new(environment)) as _)
}

struct GithubActions {
    environment: Environment,
    /// Forgejo sets the flag of all three.
    flavour: Flavour,
}

struct Flavour {
    name: &'static str,
    snippet: &'static str,
}

impl GithubActions {
    fn new(environment: &Environment) -> Self {
        let flavour = if environment.is("FORGEJO_ACTIONS", "true") {
            Flavour { name: "Forgejo Actions", snippet: FORGEJO_SNIPPET }
        } else if environment.is("GITEA_ACTIONS", "true") {
            Flavour { name: "Gitea Actions", snippet: GITEA_SNIPPET }
        } else {
            Flavour { name: PlatformKind::GithubActions.name(), snippet: GITHUB_SNIPPET }
        };
        Self { environment: environment.clone(), flavour }
    }

    /// Returns whether this runs for a pull request whose code is in another repository.
    ///
    /// What cannot be read counts as no fork: this decides only what is said.
    fn is_fork(&self) -> bool {
        let event = self.environment.get("GITHUB_EVENT_NAME").unwrap_or_default();
        event.starts_with("pull_request") && self.event().is_some_and(|event| event.is_fork())
    }

    fn event(&self) -> Option<Event> {
        let path = self.environment.get("GITHUB_EVENT_PATH")?;
        let mut json = Vec::new();
        File::open(path).ok()?.take(MAX_EVENT_BYTES).read_to_end(&mut json).ok()?;
        serde_json::from_slice(&json).ok()
    }

    fn no_token(&self) -> IdTokenError {
        if self.is_fork() {
            return IdTokenError::Fork { platform: self.name(), request: "PR" };
        }
        IdTokenError::Permission { platform: self.name(), snippet: self.flavour.snippet }
    }

    fn append(&self, variable: &str, text: &str) -> io::Result<()> {
        let path = self
            .environment
            .get(variable)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("`{variable}` is not set")))?;
        dotenv::append(path, text)
    }
}

#[async_trait]
impl Platform for GithubActions {
    fn kind(&self) -> PlatformKind {
        PlatformKind::GithubActions
    }

    fn name(&self) -> &'static str {
        self.flavour.name
    }

    async fn id_token(&self, http: &Client, audience: &str) -> Result<IdToken, IdTokenError> {
        let (Some(url), Some(token)) =
            (self.environment.get(REQUEST_URL), self.environment.get(REQUEST_TOKEN).map(RequestToken::new))
        else {
            return Err(self.no_token());
        };
        let endpoint = || IdTokenError::Endpoint { variable: REQUEST_URL };
        let mut url = Url::parse(url).map_err(|_| endpoint())?;
        if !service_url::is_secure(&url) {
            return Err(endpoint());
        }
        url.query_pairs_mut().append_pair("audience", audience);
        let answer = http
            .get(url)
            .bearer(&token)
            .header("accept", "application/json")
            .max_bytes(2 * jwt::MAX_BYTES as u64)
            .timeout(ATTEMPT)
            .retry(RETRY)
            .send()
            .await?;
        match answer.status {
            200 => {
                let Issued { value } = answer.json()?;
                jwt::id_token(&value).map_err(IdTokenError::malformed("what the platform's endpoint sent"))
            }
            status @ (408 | 429 | 500..=599) => {
                Err(IdTokenError::Unavailable { platform: self.name(), status })
            }
            status => Err(IdTokenError::Refused { platform: self.name(), status }),
        }
    }

    fn unverified_identity(&self) -> RunIdentity {
        let get = |name| self.environment.get(name).map(str::to_owned);
        let repository = get("GITHUB_REPOSITORY");
        let subject = repository.clone().unwrap_or_else(|| format!("a run of {}", self.name()));
        let run_url = || {
            let server = self.environment.get("GITHUB_SERVER_URL")?;
            let run = self.environment.get("GITHUB_RUN_ID")?;
            Some(format!("{server}/{}/actions/runs/{run}", self.environment.get("GITHUB_REPOSITORY")?))
        };
        RunIdentity {
            repository,
            repository_id: get("GITHUB_REPOSITORY_ID"),
            owner: get("GITHUB_REPOSITORY_OWNER"),
            owner_id: get("GITHUB_REPOSITORY_OWNER_ID"),
            workflow_ref: get("GITHUB_WORKFLOW_REF"),
            git_ref: get("GITHUB_REF"),
            ref_protected: self.environment.get("GITHUB_REF_PROTECTED").map(|value| value == "true"),
            event: get("GITHUB_EVENT_NAME"),
            sha: get("GITHUB_SHA"),
            run_id: get("GITHUB_RUN_ID"),
            run_attempt: get("GITHUB_RUN_ATTEMPT"),
            run_url: run_url(),
            runner_environment: get("RUNNER_ENVIRONMENT"),
            fork: self.is_fork(),
            ..RunIdentity::new(self.kind(), "", subject)
        }
    }

    fn masks(&self, secret: &str) -> Option<String> {
        (!secret.trim().is_empty()).then(|| format!("::add-mask::{}", data(secret)))
    }

    fn annotation(&self, level: Level, title: &str, message: &str) -> Option<String> {
        let command = match level {
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        Some(format!("::{command} title={}::{}", property(title), data(message)))
    }

    fn group(&self, title: &str) -> Option<(String, String)> {
        Some((format!("::group::{}", data(title)), "::endgroup::".to_owned()))
    }

    /// Writes `name<<delimiter`, the value, and the delimiter, which nobody can guess: a value that contained it
    /// could end itself and set other outputs.
    fn write_output(&self, name: &str, value: &str) -> io::Result<()> {
        if !dotenv::is_name(name) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name cannot be that of an output"));
        }
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let delimiter = format!("output_{}", hex::encode(random));
        if value.contains(&delimiter) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the value contains the delimiter"));
        }
        self.append("GITHUB_OUTPUT", &format!("{name}<<{delimiter}\n{value}\n{delimiter}\n"))
    }

    fn write_summary(&self, markdown: &str) -> io::Result<()> {
        self.append("GITHUB_STEP_SUMMARY", &format!("{}\n", markdown.trim_end_matches('\n')))
    }
}

/// The answer of the ID-token endpoint; every client relies on this member alone.
#[derive(Deserialize)]
struct Issued {
    value: String,
}

/// What of an event tells a fork.
#[derive(Deserialize)]
struct Event {
    pull_request: Option<PullRequest>,
}

#[derive(Deserialize)]
struct PullRequest {
    head: Side,
    base: Option<Side>,
}

#[derive(Deserialize)]
struct Side {
    /// `null` when the fork was deleted.
    repo: Option<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    id: Option<u64>,
    fork: Option<bool>,
}

impl Event {
    /// Compares repositories where the event says which they are: in a fork, a pull request from its own branch
    /// also comes from a repository that is a fork.
    fn is_fork(&self) -> bool {
        let Some(request) = &self.pull_request else { return false };
        let Some(head) = &request.head.repo else { return true };
        let base = request.base.as_ref().and_then(|base| base.repo.as_ref());
        match (head.id, base.and_then(|base| base.id)) {
            (Some(head), Some(base)) => head != base,
            _ => head.fork == Some(true),
        }
    }
}

/// Escapes the data of a workflow command, so that a value cannot end its line and start another command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(pairs: &[(&str, &str)]) -> GithubActions {
        let flag = [("GITHUB_ACTIONS", "true")];
        GithubActions::new(&flag.iter().chain(pairs).copied().collect())
    }

    fn in_file(variable: &str, test: impl FnOnce(&GithubActions)) -> String {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        test(&platform(&[(variable, path.to_str().expect("path"))]));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn forgejo_and_gitea_go_by_their_own_names() {
        assert_eq!(platform(&[]).name(), "GitHub Actions");
        assert_eq!(platform(&[("GITEA_ACTIONS", "true")]).name(), "Gitea Actions");
        let forgejo = platform(&[("GITEA_ACTIONS", "true"), ("FORGEJO_ACTIONS", "true")]);
        assert_eq!(forgejo.name(), "Forgejo Actions");
        assert_eq!(forgejo.kind(), PlatformKind::GithubActions);
        assert!(forgejo.no_token().hint().expect("hint").to_string().contains("enable-openid-connect: true"));
    }

    #[test]
    fn a_value_cannot_start_a_workflow_command() {
        let hostile = "x\n::add-path::/evil\r\n::set-output name=a::b\r%0A::warning::";
        let lines = [
            platform(&[]).annotation(Level::Error, hostile, hostile).expect("annotation"),
            platform(&[]).group(hostile).expect("group").0,
            platform(&[]).masks(hostile).expect("mask"),
        ];
        for line in lines {
            assert!(!line.contains(['\n', '\r']), "{line}");
            assert!(line.contains("%0D%0A::set-output") || line.contains("%0D%0A%3A%3Aset-output"), "{line}");
            assert!(line.contains("%250A"), "{line}");
        }
    }

    #[test]
    fn properties_end_where_they_should() {
        let line = platform(&[]).annotation(Level::Warning, "a,file=x::b", "50% of a: b, c").expect("line");
        assert_eq!(line, "::warning title=a%2Cfile=x%3A%3Ab::50%25 of a: b, c");
    }

    #[test]
    fn an_empty_secret_is_not_masked() {
        assert_eq!(platform(&[]).masks(" \n"), None);
        assert_eq!(platform(&[]).masks("s3"), Some("::add-mask::s3".to_owned()));
    }

    #[test]
    fn outputs_keep_to_themselves() {
        let hostile = "x\ntoken=evil\noutput_00000000000000000000000000000000\nadmin<<E\ntrue\nE";
        let file = in_file("GITHUB_OUTPUT", |platform| {
            platform.write_output("published-packages", hostile).expect("write");
            platform.write_output("integrity", "sha512-AA==").expect("write");
            for name in ["", "a=b", "a<<b", "a b", "a\nb", "1a"] {
                assert!(platform.write_output(name, "x").is_err(), "{name}");
            }
        });
        let outputs = read_outputs(&file);
        assert_eq!(
            outputs,
            [("published-packages", hostile), ("integrity", "sha512-AA==")]
                .map(|(name, value)| { (name.to_owned(), value.to_owned()) })
        );
        let delimiters: Vec<_> = file.lines().filter_map(|line| line.split_once("<<output_")).collect();
        assert_ne!(delimiters[0].1, delimiters[1].1, "{file}");
    }

    /// Reads the file as the runner does.
    fn read_outputs(file: &str) -> Vec<(String, String)> {
        let mut lines = file.lines();
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            let (name, delimiter) = line.split_once("<<").expect("heredoc");
            let value: Vec<_> = lines.by_ref().take_while(|line| *line != delimiter).collect();
            found.push((name.to_owned(), value.join("\n")));
        }
        found
    }

    #[test]
    fn summaries_add_up() {
        let file = in_file("GITHUB_STEP_SUMMARY", |platform| {
            platform.write_summary("# One").expect("write");
            platform.write_summary("two\n\n").expect("write");
        });
        assert_eq!(file, "# One\ntwo\n");
    }

    #[test]
    fn a_runner_without_files_is_an_error() {
        assert!(platform(&[]).write_output("a", "b").is_err());
        assert!(platform(&[]).write_summary("a").is_err());
        assert!(platform(&[("GITHUB_OUTPUT", "/does/not/exist/x")]).write_output("a", "b").is_err());
    }

    #[test]
    fn forks_are_told_by_the_event() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("event.json");
        let fork = |event: &str, json: &str| {
            std::fs::write(&path, json).expect("write");
            let path = path.to_str().expect("path");
            platform(&[("GITHUB_EVENT_NAME", event), ("GITHUB_EVENT_PATH", path)]).is_fork()
        };
        let from = |json: &str| format!(r#"{{"pull_request":{{"head":{{"repo":{json}}}}}}}"#);
        let both = |head: u64, base: u64| {
            format!(
                r#"{{"pull_request":{{"head":{{"repo":{{"id":{head},"fork":true}}}},"base":{{"repo":{{"id":{base}}}}}}}}}"#
            )
        };
        assert!(fork("pull_request", &from(r#"{"fork":true}"#)));
        assert!(fork("pull_request_target", &from(r#"{"fork":true}"#)));
        assert!(fork("pull_request", &from("null")));
        assert!(fork("pull_request", &both(1, 2)));
        assert!(!fork("pull_request", &both(2, 2)));
        assert!(!fork("pull_request", &from(r#"{"fork":false}"#)));
        assert!(!fork("push", &from(r#"{"fork":true}"#)));
        assert!(!fork("pull_request", "{}"));
        assert!(!fork("pull_request", "not json"));
        assert!(!platform(&[("GITHUB_EVENT_NAME", "pull_request")]).is_fork());
    }

    #[test]
    fn the_run_is_described() {
        let identity = platform(&[
            ("GITHUB_REPOSITORY", "acme/core"),
            ("GITHUB_REPOSITORY_ID", "7"),
            ("GITHUB_SERVER_URL", "https://github.example"),
            ("GITHUB_RUN_ID", "9"),
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_REF_PROTECTED", "true"),
        ])
        .unverified_identity();
        assert_eq!(identity.issuer, "");
        assert_eq!(identity.describe(), "acme/core at refs/heads/main");
        assert_eq!(identity.run_url.as_deref(), Some("https://github.example/acme/core/actions/runs/9"));
        assert_eq!((identity.ref_protected, identity.fork), (Some(true), false));
    }
}
