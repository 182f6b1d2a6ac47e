//! Why the authority cannot do its work, and what a client is told of it.

use protected_model::api::problem::Code;
use protected_trust::mint::KeyFileError;

use crate::{problem::Refusal, store::StoreError, x509::X509Error};

/// Why the authority cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The keys on disk.
    #[error("cannot load or keep the keys")]
    Keys(#[from] KeyFileError),
    /// A key cannot be made, or cannot sign.
    #[error("cannot make a key or sign with it")]
    Key,
    /// A certificate, a token or a time that DER cannot hold.
    #[error("cannot encode what is to be signed")]
    Encoding(#[from] der::Error),
    /// A certificate.
    #[error("cannot make a certificate")]
    X509(#[from] X509Error),
    /// The data folder.
    #[error("cannot read or write the log")]
    Store(#[from] StoreError),
    /// The log was changed by somebody else.
    #[error("the log is not the one that was signed here: {0}")]
    Log(&'static str),
}

impl From<AuthorityError> for Refusal {
    fn from(error: AuthorityError) -> Self {
        // The reason is for the operator's log: it may name files of this machine.
        tracing::error!(error = &error as &dyn std::error::Error, "the Sigstore authority failed");
        match error {
            AuthorityError::Store(error) => error.into(),
            AuthorityError::Log(what) => {
                Self::new(Code::INTERNAL, format!("the log is not the one that was signed here: {what}"))
                    .hint("the operator compares it with a backup; nothing is added until then")
            }
            _ => Self::new(Code::INTERNAL, "the Sigstore authority could not sign"),
        }
    }
}
