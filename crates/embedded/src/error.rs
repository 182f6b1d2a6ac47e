//! Why the service cannot start.

use std::net::SocketAddr;

use protected_model::service_url::ServiceUrlError;
use protected_trust::mint::KeyFileError;

use crate::{oci::keys::OciError, sigstore::error::AuthorityError, store::StoreError};

/// Why the service cannot start or has to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder.
    #[error("cannot use the data folder")]
    Store(#[from] StoreError),
    /// The URL.
    #[error("cannot make a public URL of the address {address}")]
    PublicUrl {
        /// Where it listens.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: ServiceUrlError,
    },
    /// The signing keys.
    #[error("cannot load or create the signing keys")]
    Keys(#[source] KeyFileError),
    /// The keys of tokens for the Docker registry.
    #[error("cannot set up the keys of registry tokens")]
    Oci(#[from] OciError),
    /// The Sigstore authority.
    #[error("cannot set up the Sigstore authority")]
    Sigstore(#[from] AuthorityError),
    /// The HTTP client that asks issuers for their keys.
    #[error("cannot set up the HTTP client that asks issuers for their keys")]
    Http(#[source] protected_http::HttpError),
    /// A file that the configuration names.
    #[error("cannot read {path}, which the configuration names")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What provenance is verified with.
    #[error("cannot use a trusted root of [provenance]")]
    Trust(#[source] protected_evidence::verify::TrustError),
    /// The socket.
    #[error("cannot listen")]
    Listen(#[source] std::io::Error),
}
