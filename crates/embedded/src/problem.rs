//! Refusals on the wire: what a handler returns, and how it becomes a response that stock npm can show.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use protected_model::api::problem::{Code, MEDIA_TYPE, NOTICE_HEADER, Problem, RuleResult};
use serde_json::json;

use crate::{audit::NewEvent, request::RequestInfo, store::StoreError};

/// The longest `npm-notice`: npm prints it on one line.
const NOTICE_BYTES: usize = 900;

/// A request that is refused, or that failed.
///
/// It is an empty response with itself inside until [`crate::finish::finish`] writes the audit event that
/// [`Refusal::about`] left with it, and renders it with the request's correlation id.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    problem: Box<Problem>,
    event: Option<Box<NewEvent>>,
    retry_after_seconds: Option<u64>,
    location: Option<HeaderValue>,
    style: Style,
}

/// Whose clients read the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Ours, and npm.
    Problem,
    /// npm at its trusted-publishing endpoint.
    NpmMessage,
    /// Docker's.
    Docker,
}

/// What a handler returns.
pub(crate) type Answer<T = Response> = Result<T, Refusal>;

impl Refusal {
    /// Refuses with `code` for the reason `message`, a sentence without full stop that never holds a secret.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            error: message.into(),
            ..Problem::default()
        };
        Self {
            problem: Box::new(problem),
            event: None,
            retry_after_seconds: None,
            location: None,
            style: Style::Problem,
        }
    }

    /// Uses another status than the code's own: a policy unmet is 409 at the mint and 422 at the upload.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.problem.status = status.as_u16();
        self
    }

    /// Makes it an OAuth error (RFC 6749 section 5.2): `error` is the word, `error_description` the text.
    pub(crate) fn oauth(mut self, error: &'static str) -> Self {
        self.problem.error_description = Some(std::mem::replace(&mut self.problem.error, error.to_owned()));
        self
    }

    /// Adds `message`, the one member that npm reads at its trusted-publishing endpoint.
    pub(crate) fn npm_message(mut self) -> Self {
        self.style = Style::NpmMessage;
        self
    }

    /// Adds `errors`, the one member that Docker's clients read, and asks for HTTP Basic, which they know.
    ///
    /// Of a 403 they print no more than the number (skopeo 1.9). So that is a 401 here: to a registry's protocol it is
    /// a credential that is not good enough.
    pub(crate) fn docker(mut self) -> Self {
        self.style = Style::Docker;
        if self.problem.status == 403 {
            self.problem.status = 401;
        }
        self
    }

    /// Says what to change, and who can.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }

    /// Shows the rules of the policy that came nearest.
    pub(crate) fn rules(mut self, nearest: Option<String>, rules: Vec<RuleResult>) -> Self {
        self.problem.nearest_policy = nearest;
        self.problem.rules = rules;
        self
    }

    /// Asks the client to come back after `seconds`.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Says where what is asked for is already.
    pub(crate) fn location(mut self, location: HeaderValue) -> Self {
        self.location = Some(location);
        self
    }

    /// Changes further members of the problem.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Problem)) -> Self {
        change(&mut self.problem);
        self
    }

    /// Leaves the audit event of this denial, which is written before the response goes out.
    ///
    /// The first event stays: whoever is nearest to the decision knows it best.
    pub(crate) fn about(mut self, event: NewEvent) -> Self {
        if self.problem.audit_event_id.is_none() && self.event.is_none() {
            self.event = Some(Box::new(event.denied(self.problem.code.clone())));
        }
        self
    }

    /// Notes that the denial is already in the audit trail.
    pub(crate) fn recorded(mut self, decision_id: &str, audit_event_id: &str) -> Self {
        self.event = None;
        self.problem.decision_id = Some(decision_id.to_owned());
        self.problem.audit_event_id = Some(audit_event_id.to_owned());
        self
    }

    /// Returns why.
    pub(crate) fn code(&self) -> &Code {
        &self.problem.code
    }

    /// Returns why, for people.
    pub(crate) fn message(&self) -> &str {
        self.problem.message()
    }

    /// Takes the audit event that still has to be written.
    pub(crate) fn take_event(&mut self) -> Option<NewEvent> {
        self.event.take().map(|event| *event)
    }

    /// Renders the response.
    pub(crate) fn render(mut self, request: &RequestInfo) -> Response {
        self.problem.correlation_id = Some(request.correlation_id.clone());
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = serde_json::to_value(&self.problem).unwrap_or_default();
        match self.style {
            Style::Problem => {}
            Style::NpmMessage => body["message"] = self.problem.message().into(),
            Style::Docker => {
                let code = self.docker_code();
                body["errors"] = json!([{"code": code, "message": self.notice(), "detail": null}]);
            }
        }
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        // Newer clients of Docker's read no other type than JSON's own.
        let media_type = if self.style == Style::Docker { "application/json" } else { MEDIA_TYPE };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(NOTICE_HEADER, visible(&self.notice()));
        if status == StatusCode::UNAUTHORIZED && self.style == Style::Docker {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="fractalops""#));
        } else if status == StatusCode::UNAUTHORIZED {
            // npm shows no body beside this header: the notice above has to carry the text.
            let challenge = format!(
                r#"Bearer realm="fractalops", error="invalid_token", error_description="{}""#,
                self.problem.message().replace(['"', '\\'], "'")
            );
            headers.insert(header::WWW_AUTHENTICATE, visible(&challenge));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(location) = self.location {
            headers.insert(header::LOCATION, location);
        }
        response
    }

    /// Returns the code in the words of the distribution-spec ("Error Codes").
    fn docker_code(&self) -> &'static str {
        match self.problem.code.status() {
            401 => "UNAUTHORIZED",
            403 => "DENIED",
            503 => "UNAVAILABLE",
            400..500 => "UNSUPPORTED",
            _ => "UNKNOWN",
        }
    }

    fn notice(&self) -> String {
        let mut notice = self.problem.message().to_owned();
        if let Some(hint) = &self.problem.hint {
            notice.push_str(&format!("; {hint}"));
        }
        if let Some(id) = &self.problem.audit_event_id {
            notice.push_str(&format!(" (audit event {id})"));
        }
        notice
    }
}

/// Makes a header value of `text`: visible ASCII and spaces, on one line, cut to a bearable length.
fn visible(text: &str) -> HeaderValue {
    let bytes: Vec<u8> = text
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c as u8 } else { b'?' })
        .take(NOTICE_BYTES)
        .collect();
    HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static("refused"))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        // The reason is for the operator's log: it may name files of this machine.
        tracing::error!(error = &error as &dyn std::error::Error, "storage failed");
        Self::new(Code::INTERNAL, "the service could not read or write its data; nothing was changed")
            .retry_after(5)
    }
}
