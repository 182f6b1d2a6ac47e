//! Claims of each platform, reduced to one shape.

mod generic;
mod github;
mod gitlab;
pub(crate) mod jenkins;

use protected_model::identity::{PlatformKind, RunIdentity};
use serde_json::{Map, Value};

use crate::issuer::Issuer;

/// What a platform's claims mean.
struct Platform {
    /// The claims that may be shown to whoever brought the token, and nothing else.
    shown: &'static [&'static str],
    /// Fills in what the claims say.
    fill: fn(&mut RunIdentity, &Claims<'_>),
}

/// One line for each platform.
fn platform(kind: PlatformKind) -> Platform {
    match kind {
        PlatformKind::GithubActions => Platform { shown: github::SHOWN, fill: github::fill },
        PlatformKind::GitlabCi => Platform { shown: gitlab::SHOWN, fill: gitlab::fill },
        PlatformKind::Jenkins => Platform { shown: jenkins::SHOWN, fill: jenkins::fill },
        PlatformKind::Generic => Platform { shown: generic::SHOWN, fill: generic::fill },
    }
}

/// Says which run verified claims describe, when they have a subject.
pub(crate) fn identity(issuer: &Issuer, claims: &Map<String, Value>) -> Option<RunIdentity> {
    let claims = Claims(claims);
    let subject = claims.given("sub")?;
    let Platform { shown, fill } = platform(issuer.platform);
    let mut identity = RunIdentity::new(issuer.platform, issuer.url.clone(), subject);
    fill(&mut identity, &claims);
    identity.claims =
        shown.iter().filter_map(|name| claims.text(name).map(|value| ((*name).to_owned(), value))).collect();
    Some(identity)
}

/// Returns the URL of the server that holds a run's repository, without a `/` at its end, where the platform has one.
pub fn server(identity: &RunIdentity) -> Option<String> {
    match identity.platform {
        PlatformKind::GithubActions => github::server(&identity.issuer).or_else(|| origin(&identity.issuer)),
        PlatformKind::GitlabCi => Some(identity.issuer.trim_end_matches('/').to_owned()),
        PlatformKind::Jenkins | PlatformKind::Generic => None,
    }
}

fn origin(url: &str) -> Option<String> {
    let origin = url::Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// Claims whose signature was verified.
struct Claims<'a>(&'a Map<String, Value>);

impl Claims<'_> {
    /// Returns a claim as text. GitHub and GitLab write numbers and truth values as texts, Jenkins writes numbers as
    /// numbers; a list or an object is no text.
    fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Returns a claim that is there and not empty.
    fn given(&self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// Returns `"true"` and `"false"` as what they say; whatever else is there says nothing.
    fn truth(&self, name: &str) -> Option<bool> {
        match self.text(name)?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}
