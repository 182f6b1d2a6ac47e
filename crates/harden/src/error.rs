//! Why a package could not be hardened.

use std::{fmt, io, path::PathBuf};

use protected_model::hint::Hint;

/// Why a package could not be hardened.
#[derive(Debug, thiserror::Error)]
pub enum HardenError {
    /// The caller asked to stop.
    #[error("the hardened build was cancelled")]
    Cancelled,
    /// A file could not be read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("could not write `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `package.json` is not one.
    #[error("package.json: {0}")]
    Manifest(String),
    /// A `tsconfig.json` is not one, or asks for what is not supported.
    #[error("`{}`: {reason}", path.display())]
    TsConfig {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A path that would leave the package or stands in it twice.
    #[error("the file path `{path}` {reason}")]
    Path {
        /// Which.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// Source code in an encoding that JavaScript engines do not read.
    #[error("`{path}` is not UTF-8: byte {offset} starts no character")]
    Encoding {
        /// Which.
        path: String,
        /// The first such byte.
        offset: usize,
    },
    /// Source code that is not in its language.
    #[error("{0}")]
    Syntax(CodeFrame),
    /// Source code that is right, and that this build cannot keep right.
    #[error("{0}")]
    Unsupported(CodeFrame, &'static str),
    /// A module that loads what is not there.
    #[error("{0}")]
    Unresolved(CodeFrame),
    /// Source code nested deeper than can be worked on.
    #[error("`{path}` is nested more than {limit} levels deep")]
    TooDeep {
        /// Which.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// Two files that would become one.
    #[error("`{first}` and `{second}` would both be published as `{published}`")]
    Collision {
        /// The one that is there.
        first: String,
        /// The other.
        second: String,
        /// Their path.
        published: String,
    },
    /// The compiler failed on a file.
    #[error("{step} failed on `{path}`: {reason}")]
    Compiler {
        /// The step.
        step: &'static str,
        /// The file.
        path: String,
        /// What it said.
        reason: String,
    },
    /// A pattern of file names that is none.
    #[error("a pattern of `files`: {0}")]
    Pattern(String),
    /// No threads.
    #[error("could not start the build's threads: {0}")]
    Threads(String),
}

impl HardenError {
    /// Says what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::Unsupported(_, hint) => *hint,
            Self::Collision { .. } => {
                "leave one of them out of `files` in package.json, or build into a folder of its own"
            }
            Self::Encoding { .. } => "save the file as UTF-8",
            Self::Unresolved(_) => {
                "correct the import, or list the file that it means in `files` in package.json"
            }
            Self::Syntax(_) => {
                "run the project's own build, or leave the file out of `files` in package.json"
            }
            Self::TooDeep { .. } => {
                "leave the file out of `files` in package.json, or split its longest expression"
            }
            _ => return None,
        };
        Some(Hint::new(text))
    }
}

/// A place in a source file, with what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeFrame {
    /// The file.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The lines around it.
    pub excerpt: String,
}

impl fmt::Display for CodeFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, message, excerpt } = self;
        write!(f, "{path}:{line}:{column}: {message}\n{excerpt}")
    }
}
