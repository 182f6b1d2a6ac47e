//! What is asked of the registry as a whole: who am I, what is there, what is known to be vulnerable.

use axum::{body::Body, response::Response};
use protected_model::api::problem::Code;
use url::form_urlencoded;

use super::{Request, read::json};
use crate::{
    body::read_body,
    problem::{Answer, Refusal},
};

/// The largest list of packages to be audited.
const AUDIT_BYTES: u64 = 4 << 20;
/// The longest text to search for.
const TEXT_BYTES: usize = 256;

/// Answers that the registry is there.
pub(super) fn ping() -> Response {
    json("{}")
}

/// Answers who the token was minted for.
pub(super) fn whoami(request: &Request<'_>) -> Response {
    let name = request.claims().map_or("operator", |claims| &claims.sub);
    json(serde_json::json!({"username": name}).to_string())
}

/// Answers a search with what the token may see: its own package, or nothing. Attack: a search that lists all
/// packages tells the bearer of any token what
/// the tenant works on.
pub(super) async fn search(request: &Request<'_>, query: Option<&str>) -> Answer {
    let text = parameter(query, "text").unwrap_or_default();
    if text.len() > TEXT_BYTES {
        return Err(Refusal::new(Code::INVALID_REQUEST, format!("`text` is longer than {TEXT_BYTES} bytes")));
    }
    let skipped = parameter(query, "from").is_some_and(|from| from != "0");
    let mut objects = Vec::new();
    // The place of a request that is about no one package is the token's own.
    let documents = request.registry.documents(request.app, request.repository, &request.place).await?;
    if let Some(documents) = documents.filter(|documents| !skipped && documents.is_found_by(&text)) {
        let found = std::str::from_utf8(&documents.found).unwrap_or("{}");
        let score = r#"{"final":1,"detail":{"quality":1,"popularity":1,"maintenance":1}}"#;
        objects.push(format!(r#"{{"package":{found},"score":{score},"searchScore":1}}"#));
    }
    let (total, time) = (objects.len(), request.app.now());
    Ok(json(format!(r#"{{"objects":[{}],"total":{total},"time":"{time}"}}"#, objects.join(","))))
}

/// Answers `npm audit`: this registry knows no advisories. The list of packages is read and thrown away.
pub(super) async fn bulk_advisories(request: &Request<'_>, body: Body) -> Answer {
    read_body(request.headers, body, AUDIT_BYTES).await?;
    Ok(json("{}"))
}

/// Answers the older form of the same, which pnpm asks.
pub(super) async fn quick_audit(request: &Request<'_>, body: Body) -> Answer {
    read_body(request.headers, body, AUDIT_BYTES).await?;
    Ok(json(concat!(
        r#"{"actions":[],"advisories":{},"muted":[],"metadata":{"vulnerabilities":"#,
        r#"{"info":0,"low":0,"moderate":0,"high":0,"critical":0},"#,
        r#""dependencies":0,"devDependencies":0,"optionalDependencies":0,"totalDependencies":0}}"#,
    )))
}

fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    form_urlencoded::parse(query?.as_bytes())
        .find_map(|(own, value)| (own == name).then(|| value.into_owned()))
}
