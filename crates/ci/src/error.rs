//! Why there is no ID token.

use std::io;

use protected_http::HttpError;
use protected_model::hint::Hint;

use crate::jwt::Malformed;

/// Why there is no ID token.
#[derive(Debug, thiserror::Error)]
pub enum IdTokenError {
    /// The code comes from a fork, and the platform keeps its identity from it.
    #[error(
        "fork {request}: {platform} gives no ID token to code from a fork, so nothing can be published from here"
    )]
    Fork {
        /// The platform.
        platform: &'static str,
        /// `PR` or `MR`.
        request: &'static str,
    },
    /// The job did not ask for the permission.
    #[error("{platform} offers this job no ID token (`ACTIONS_ID_TOKEN_REQUEST_URL` is not set)")]
    Permission {
        /// The platform.
        platform: &'static str,
        /// What to write into the workflow.
        snippet: &'static str,
    },
    /// The job did not bring one.
    #[error("{platform} gave this job no ID token (`{variable}` is not set)")]
    Missing {
        /// The platform.
        platform: &'static str,
        /// The variable that was looked for.
        variable: &'static str,
        /// What to write into the pipeline.
        snippet: String,
    },
    /// The address to ask for one is no address, or not one that a credential may be sent to.
    #[error("`{variable}` is not an https URL, or an http URL on a loopback address")]
    Endpoint {
        /// The variable.
        variable: &'static str,
    },
    /// The platform was asked, and said no.
    #[error("{platform} refuses to issue an ID token: its endpoint answered {status}")]
    Refused {
        /// The platform.
        platform: &'static str,
        /// The answer's status.
        status: u16,
    },
    /// The platform was asked, and cannot just now.
    #[error("{platform} could not issue an ID token: its endpoint answered {status}, also when asked again")]
    Unavailable {
        /// The platform.
        platform: &'static str,
        /// The status of the last answer.
        status: u16,
    },
    /// The platform could not be asked, or did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// There is something, and it is no token.
    #[error("{origin} is not an ID token: {reason}")]
    Malformed {
        /// Where it came from.
        origin: &'static str,
        /// What is wrong with it.
        reason: Malformed,
    },
    /// The token's file cannot be read.
    #[error("cannot read the file that `{variable}` names")]
    File {
        /// The variable.
        variable: &'static str,
        /// What the system said. The path is not repeated: a token may have been put there by mistake.
        source: io::Error,
    },
    /// There are two.
    #[error("both `{0}` and `{1}` are set")]
    Ambiguous(&'static str, &'static str),
}

impl IdTokenError {
    /// Says of what came from `origin` why it is no token.
    pub(crate) fn malformed(origin: &'static str) -> impl FnOnce(Malformed) -> Self {
        move |reason| Self::Malformed { origin, reason }
    }

    /// Returns whether asking again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Http(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::Fork { .. } => {
                "run this step only for branches and tags of the repository itself, not for requests from forks"
            }
            Self::Permission { snippet, .. } => snippet,
            Self::Missing { snippet, .. } => snippet,
            Self::Endpoint { .. } => "leave this variable as the platform sets it",
            Self::Refused { status: 401 | 403, .. } => {
                "an ID token can be asked for only while the job runs, and for some hours at most: start the job again"
            }
            Self::Http(error) => return error.hint(),
            Self::Malformed { reason: Malformed::Path, .. } => {
                "a token's value goes into FRACTALOPS_ID_TOKEN, a file's path into FRACTALOPS_ID_TOKEN_FILE"
            }
            Self::Ambiguous(..) => "set one of them",
            Self::Refused { .. } | Self::Unavailable { .. } | Self::Malformed { .. } | Self::File { .. } => {
                return None;
            }
        };
        Some(Hint::new(text))
    }
}
