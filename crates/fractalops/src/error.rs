//! What can go wrong with the control plane, and what an answer means.

use std::{fmt, time::Duration};

use protected_http::{Failure, HttpError, RequestLine, Response};
use protected_model::{
    action::Action,
    api::problem::{Code, MEDIA_TYPE, Problem},
    digest::Sha256,
    hint::Hint,
    service_url::ServiceUrl,
};

/// The longest text of a problem that is kept.
const LONGEST_TEXT: usize = 2000;

/// Why the control plane did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FractalOpsError {
    /// It said no.
    #[error("{}", said(.0))]
    Refused(Box<Problem>),
    /// It is overloaded or down, and was so through all attempts.
    #[error("{request}: FractalOps is unavailable, it answered {status}{}", .problem.as_ref().map(|problem| format!(": {}", problem.message())).unwrap_or_default())]
    Unavailable {
        /// The request.
        request: RequestLine,
        /// The status of the last answer.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
        /// What it said.
        problem: Option<Box<Problem>>,
    },
    /// No answer came.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The answer is not FractalOps'.
    #[error("{request}: the answer {status} is not one of FractalOps: {oddity}")]
    Unexpected {
        /// The request.
        request: RequestLine,
        /// The answer's status.
        status: u16,
        /// What is wrong with it.
        oddity: Oddity,
        /// The base URL in use.
        base: String,
    },
    /// The system has no random numbers for an idempotency key.
    #[error("cannot make an idempotency key")]
    Randomness(#[source] getrandom::Error),
}

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Oddity {
    /// HTML.
    WebPage,
    /// Another media type than JSON, or none.
    MediaType(Option<String>),
    /// JSON, and not the document it should be.
    Document(String),
    /// A refusal that does not say what is refused.
    NoReason,
    /// A token was asked for.
    NoToken,
    /// No token was asked for.
    TokenFromDryRun,
    /// A token that is no bearer token.
    TokenType,
    /// The token does not allow this, which was asked for.
    MissingAction(Action),
    /// The next page is the same page again.
    Endless,
    /// Another document than the record's.
    OtherDocument {
        /// The record's digest.
        expected: Sha256,
        /// The document's.
        actual: Sha256,
    },
    /// A manifest whose digest is not that of its documents.
    TornManifest,
    /// Another delivery, or a grant for another or on another key, than the one that was asked for.
    OtherDelivery,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WebPage => f.write_str("it is a web page"),
            Self::MediaType(Some(found)) => write!(f, "expected JSON, got `{found}`"),
            Self::MediaType(None) => f.write_str("expected JSON, got a body without a type"),
            Self::Document(reason) => f.write_str(reason),
            Self::NoReason => f.write_str("it gives no reason"),
            Self::NoToken => f.write_str("it holds no token"),
            Self::TokenFromDryRun => f.write_str("it holds a token, though this was a dry run"),
            Self::TokenType => f.write_str("its token is no bearer token"),
            Self::MissingAction(action) => write!(f, "its token does not allow to {action}"),
            Self::Endless => f.write_str("its list has no end"),
            Self::OtherDocument { expected, actual } => {
                write!(f, "the document has SHA-256 {actual}, and its record says {expected}")
            }
            Self::TornManifest => f.write_str("the manifest's digest is not that of the documents in it"),
            Self::OtherDelivery => f.write_str("it is about another delivery, or a grant on another key"),
        }
    }
}

impl Oddity {
    /// Says why the body of `answer` is not the document it should be, given what reading it came to.
    pub(crate) fn of_body(answer: &Response, error: HttpError) -> Self {
        match (not_json(answer), error) {
            (Some(oddity), _) => oddity,
            (None, HttpError::Json { reason, .. }) => Self::Document(reason),
            (None, other) => Self::Document(other.to_string()),
        }
    }
}

impl FractalOpsError {
    pub(crate) fn unexpected(answer: &Response, base: &ServiceUrl, oddity: Oddity) -> Self {
        Self::Unexpected {
            request: answer.request().clone(),
            status: answer.status,
            oddity,
            base: base.to_string(),
        }
    }

    /// Returns whether the same call may fare better later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Http(error) => error.is_transient(),
            Self::Refused(_) | Self::Unexpected { .. } | Self::Randomness(_) => false,
        }
    }

    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Refused(problem) => problem.hint.as_deref().map(Hint::new),
            Self::Unavailable { retry_after: Some(wait), .. } => {
                Some(Hint::new(format!("try again in {} s", wait.as_secs().max(1))))
            }
            Self::Http(error) => error.hint().or_else(|| match error {
                HttpError::Failed { failure: Failure::Connect, .. } => {
                    Some(Hint::new("check FRACTALOPS_BASE_URL, and that the service runs"))
                }
                _ => None,
            }),
            Self::Unexpected { oddity: Oddity::WebPage, status, base, .. } if *status != 404 => {
                Some(Hint::new(format!(
                    "check FRACTALOPS_BASE_URL: at `{base}` a login page or a proxy answers in FractalOps' place; CI jobs \
                     must reach it without them"
                )))
            }
            Self::Unexpected {
                oddity: Oddity::WebPage | Oddity::MediaType(_) | Oddity::NoReason | Oddity::Document(_),
                base,
                ..
            } => Some(Hint::new(format!(
                "check FRACTALOPS_BASE_URL: `{base}` must be the address below which FractalOps serves \
                 `v1/oauth/token`"
            ))),
            Self::Unavailable { retry_after: None, .. } | Self::Unexpected { .. } | Self::Randomness(_) => {
                None
            }
        }
    }
}

fn said(problem: &Problem) -> String {
    format!("FractalOps refuses ({}): {}", problem.status, problem.message())
}

/// Sorts `answer`: a success is handed back, everything else becomes an error.
pub(crate) fn judge(
    answer: Response,
    base: &ServiceUrl,
    correlation_id: &str,
) -> Result<Response, FractalOpsError> {
    if answer.is_success() {
        return Ok(answer);
    }
    let problem = problem(&answer, correlation_id);
    let unavailable = matches!(answer.status, 408 | 429 | 500..=599);
    match problem {
        problem if unavailable => Err(FractalOpsError::Unavailable {
            request: answer.request().clone(),
            status: answer.status,
            retry_after: answer.retry_after(),
            problem: problem.ok(),
        }),
        Ok(problem) if (400..500).contains(&answer.status) => Err(FractalOpsError::Refused(problem)),
        Ok(_) => Err(FractalOpsError::unexpected(&answer, base, Oddity::NoReason)),
        Err(oddity) => Err(FractalOpsError::unexpected(&answer, base, oddity)),
    }
}

/// Reads the problem in `answer` (RFC 9457, or the error of RFC 6749 section 5.2).
fn problem(answer: &Response, correlation_id: &str) -> Result<Box<Problem>, Oddity> {
    if let Some(oddity) = not_json(answer) {
        return Err(oddity);
    }
    let mut problem: Problem = answer.json().map_err(|error| Oddity::of_body(answer, error))?;
    if problem.message().is_empty() {
        return Err(Oddity::NoReason);
    }
    problem.status = answer.status;
    problem.correlation_id.get_or_insert_with(|| correlation_id.to_owned());
    clean(&mut problem);
    Ok(Box::new(problem))
}

/// Returns what `answer` is when it is not JSON by its own word.
fn not_json(answer: &Response) -> Option<Oddity> {
    let header = answer.header("content-type").unwrap_or_default();
    let essence = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | MEDIA_TYPE => None,
        "text/html" | "application/xhtml+xml" => Some(Oddity::WebPage),
        "" => Some(Oddity::MediaType(None)),
        other => Some(Oddity::MediaType(Some(printable(other).chars().take(80).collect()))),
    }
}

/// Makes every text of `problem` one printable line of bounded length.
///
/// CI runners obey lines that start with a command, such as `::add-path::`, wherever they come from: an answer
/// with a line break in it could otherwise give the runner orders through our error message.
fn clean(problem: &mut Problem) {
    if !problem.code.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
        problem.code = Code::default();
    }
    let texts = [
        Some(&mut problem.kind),
        Some(&mut problem.title),
        Some(&mut problem.error),
        problem.error_description.as_mut(),
        problem.hint.as_mut(),
        problem.nearest_policy.as_mut(),
        problem.current_snapshot_id.as_mut(),
        problem.decision_id.as_mut(),
        problem.audit_event_id.as_mut(),
        problem.correlation_id.as_mut(),
    ];
    let rules = problem.rules.iter_mut().flat_map(|rule| {
        [Some(&mut rule.rule), Some(&mut rule.claim), Some(&mut rule.expected), rule.actual.as_mut()]
    });
    for text in texts.into_iter().chain(rules).flatten() {
        *text = printable(text);
    }
}

fn printable(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
