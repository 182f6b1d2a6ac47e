//! What a command fails with: a kind that decides the exit code, a message, advice, and the rules of a refusal.

use std::{error::Error, fmt, process::ExitCode};

use protected_fractalops::FractalOpsError;
use protected_model::{
    api::problem::{Code, Problem},
    hint::Hint,
};

/// The kinds of failure. Few, and documented in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything else.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// There is no CI identity here.
    NoIdentity,
    /// The server said no.
    Refused,
    /// Something could not be reached: the same command may work later.
    Unavailable,
    /// The version exists with other content.
    Conflict,
    /// The package or its source is bad.
    BadInput,
    /// What was looked at is not what it should be, or not known.
    NotProven,
    /// A signal came.
    Cancelled(Signal),
}

/// The signals that cancel a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C, and the first that a CI runner sends.
    Interrupt,
    /// The second that a CI runner sends.
    Terminate,
}

impl Kind {
    pub(crate) fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoIdentity => 3,
            Self::Refused => 4,
            Self::Unavailable => 5,
            Self::Conflict => 6,
            Self::BadInput => 7,
            Self::NotProven => 8,
            Self::Cancelled(Signal::Interrupt) => 130,
            Self::Cancelled(Signal::Terminate) => 143,
        })
    }

    /// Returns the word for this kind in JSON output.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NoIdentity => "no-identity",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::BadInput => "bad-input",
            Self::NotProven => "not-proven",
            Self::Cancelled(_) => "cancelled",
        }
    }
}

/// Codes that say: it is there already, and is something else.
const CONFLICTS: &[Code] =
    &[Code::BUILD_CONFLICT, Code::VERSION_EXISTS, Code::BUNDLE_CONFLICT, Code::GRANT_CONFLICT];

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) kind: Kind,
    /// What was being done, to what, and what is wrong.
    pub(crate) message: String,
    pub(crate) hints: Vec<Hint>,
    /// What the server said, when it was the server.
    pub(crate) problem: Option<Box<Problem>>,
    /// What the command found before it failed, as members beside the error in JSON output.
    pub(crate) details: serde_json::Value,
}

impl CommandError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hints: Vec::new(),
            problem: None,
            details: serde_json::Value::Null,
        }
    }

    /// Makes one of `error` and its sources, each after a colon.
    pub(crate) fn from_error(kind: Kind, doing: &str, error: &(dyn Error + 'static)) -> Self {
        Self::new(kind, format!("{doing}: {}", chain(error)))
    }

    pub(crate) fn hint(mut self, hint: impl Into<Option<Hint>>) -> Self {
        self.hints.extend(hint.into());
        self
    }

    pub(crate) fn with_details(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }

    /// Adds advice in so many words.
    pub(crate) fn advise(self, text: impl Into<String>) -> Self {
        self.hint(Hint::new(text))
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn cancelled(signal: Signal) -> Self {
        Self::new(Kind::Cancelled(signal), "cancelled")
    }

    /// Returns the id under which the server knows what it said, else that of this command.
    pub(crate) fn correlation_id<'a>(&'a self, own: Option<&'a str>) -> Option<&'a str> {
        self.problem.as_ref().and_then(|problem| problem.correlation_id.as_deref()).or(own)
    }

    /// Makes one of what the control plane answered to `doing`.
    pub(crate) fn from_fractalops(doing: &str, error: FractalOpsError) -> Self {
        let hint = error.hint();
        match error {
            FractalOpsError::Refused(problem) => {
                let kind = match &problem.code {
                    code if CONFLICTS.contains(code) => Kind::Conflict,
                    // Another address than that of FractalOps.
                    code if *code == Code::NOT_FOUND => Kind::Usage,
                    _ => Kind::Refused,
                };
                let said = problem.hint.as_deref().map(Hint::new);
                let mut made = Self::new(kind, format!("{doing}: {}", problem.message())).hint(said.clone());
                if said != hint {
                    made = made.hint(hint);
                }
                made.problem = Some(problem);
                made
            }
            other => {
                let kind = if other.is_transient() { Kind::Unavailable } else { Kind::Failed };
                Self::from_error(kind, doing, &other).hint(hint)
            }
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Joins an error and its sources, leaving out a source whose text the one before already ends with.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
