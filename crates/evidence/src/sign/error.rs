//! Why something was not signed.

use std::fmt;

use protected_http::{HttpError, Response};
use protected_model::hint::Hint;

use crate::verify::Refused;

/// The longest text of a service that is repeated, in characters.
const LONGEST_TEXT: usize = 300;

/// What a signature needs from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Gives a certificate for an identity (Fulcio).
    CertificateAuthority,
    /// Holds that something was signed (Rekor).
    Log,
    /// Holds when (RFC 3161).
    TimestampAuthority,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CertificateAuthority => "the certificate authority",
            Self::Log => "the transparency log",
            Self::TimestampAuthority => "the timestamp authority",
        })
    }
}

/// Why something was not signed. Nothing is handed out then.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The token is not one that can be shown to a certificate authority.
    #[error("the identity token cannot be used: {0}")]
    Token(&'static str),
    /// No usable answer came.
    #[error("asking {service}")]
    Http {
        /// Who was asked.
        service: Service,
        /// What happened.
        #[source]
        source: HttpError,
    },
    /// The service said no.
    #[error("{request}: {service} answered {status}{}", said(.message.as_deref()))]
    Refused {
        /// Who was asked.
        service: Service,
        /// What was asked.
        request: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: Option<String>,
    },
    /// The answer is not what was asked for.
    #[error("{request}: what {service} answered cannot be used: {reason}")]
    Answer {
        /// Who was asked.
        service: Service,
        /// What was asked.
        request: String,
        /// What is wrong with it, with both sides.
        reason: String,
    },
    /// The key did not sign.
    #[error("signing with the key {key}")]
    Key {
        /// The key's reference.
        key: String,
        /// Why.
        #[source]
        source: super::KeyFailure,
    },
    /// This machine cannot make a key.
    #[error("cannot make a key to sign with: {0}")]
    Generate(String),
    /// What is to be signed is no statement about an artifact.
    #[error("`{name}` cannot be signed: {reason}")]
    Statement {
        /// The statement's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// What was signed does not verify, so that it was not handed out.
    #[error("`{name}` was signed, and does not verify against the trusted root")]
    NotVerified {
        /// The statement's name.
        name: String,
        /// What was expected and found.
        #[source]
        source: Refused,
    },
}

impl SignError {
    /// Returns whether the same may go better later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http { source, .. } => source.is_transient(),
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Key { source, .. } => source.transient,
            _ => false,
        }
    }

    /// Returns whether a service or the key said no.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. }) && !self.is_transient()
    }

    /// Says what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::Http { source, .. } => return source.hint(),
            Self::Key { source, .. } => return source.hint.clone(),
            Self::Refused { service: Service::CertificateAuthority, status: 400..=403, .. } => {
                "the authority has to take this identity's issuer, with the audience that the token was asked for"
            }
            Self::Refused { service, status: 404, .. } => match service {
                Service::CertificateAuthority => "check `fulcio_url`: the base URL, without /api",
                Service::Log => {
                    "check `rekor_url` and `rekor_version`: a log speaks version 1 or 2, not both"
                }
                Service::TimestampAuthority => {
                    "check `timestamp_url`: the endpoint itself, such as https://tsa.example/api/v1/timestamp"
                }
            },
            Self::NotVerified { .. } => {
                "the trusted root has to be the one of these services; fetch it again if they changed their keys"
            }
            _ => return None,
        };
        Some(Hint::new(text))
    }

    pub(super) fn refused(service: Service, answer: &Response, secret: Option<&str>) -> Self {
        Self::Refused {
            service,
            request: answer.request().to_string(),
            status: answer.status,
            message: message(answer.body(), secret),
        }
    }

    pub(super) fn answer(service: Service, answer: &Response, reason: impl Into<String>) -> Self {
        Self::Answer { service, request: answer.request().to_string(), reason: reason.into() }
    }
}

fn said(message: Option<&str>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

/// Returns the text of an error as the services write it: `message` (gRPC's gateway, Rekor), `error`, or `detail`.
///
/// Attack: a service that was sent a token repeats it, and it stands in a public log. A text with the token, or with
/// anything that looks like one, is left out.
fn message(body: &[u8], secret: Option<&str>) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = ["message", "detail", "error"].iter().find_map(|member| value.get(member)?.as_str())?;
    let repeats = |secret: &str| secret.split('.').any(|part| part.len() > 15 && text.contains(part));
    if text.contains("eyJ") || secret.is_some_and(repeats) {
        return None;
    }
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn repeats_what_was_said_and_never_the_token() {
        let token = "aaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbb.cccccccccccccccccccc";
        let of = |body: &str| message(body.as_bytes(), Some(token));
        assert_eq!(of(r#"{"code":3,"message":"bad\nissuer"}"#).as_deref(), Some("bad issuer"));
        assert_eq!(of(r#"{"detail":"no"}"#).as_deref(), Some("no"));
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(9000));
        assert_eq!(of(&long).map(|text| text.len()), Some(super::LONGEST_TEXT));
        for body in [
            "",
            "<html>",
            "[]",
            r#"{"message":7}"#,
            r#"{"message":""}"#,
            r#"{"message":"bad token bbbbbbbbbbbbbbbbbbbb"}"#,
            r#"{"message":"bad token eyJhbGciOiJub25lIn0.e30."}"#,
        ] {
            assert_eq!(of(body), None, "{body}");
        }
    }
}
