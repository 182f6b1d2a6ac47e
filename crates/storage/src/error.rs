//! Why a delivery was not stored or fetched.

use std::{io, path::PathBuf};

use protected_bundle::layout::{Digest, LayoutError};
use protected_http::HttpError;
use protected_model::hint::Hint;

use crate::area::{AreaRef, DeliveryRef};

/// Why a delivery was not stored or fetched. Holds no credential.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The form is known and not supported yet.
    #[error("the delivery area `{0}` cannot be used: this version stores in folders")]
    Unsupported(Box<AreaRef>),
    /// The delivery on this machine is not right, or cannot be written here.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The area is not there.
    #[error("the delivery area `{area}` is not there{}", what_it_said(.said.as_deref()))]
    NoArea {
        /// The area.
        area: Box<AreaRef>,
        /// What the service said.
        said: Option<String>,
    },
    /// There is no such delivery.
    #[error("there is no delivery `{0}`")]
    NoDelivery(Box<DeliveryRef>),
    /// Another delivery has the name.
    #[error("`{delivery}` is another delivery: it is {found}, where {expected} was expected")]
    OtherDelivery {
        /// The name.
        delivery: Box<DeliveryRef>,
        /// The digest of what is there.
        found: Digest,
        /// The digest of what should be.
        expected: Digest,
    },
    /// The delivery is there with other keys.
    #[error("`{delivery}` has the keys {found}, where {expected} were expected")]
    OtherKeys {
        /// The delivery.
        delivery: Box<DeliveryRef>,
        /// The digest of the keys that are there.
        found: Digest,
        /// The digest of those that should be.
        expected: Digest,
    },
    /// What the area has is not a delivery, or not the one that its digests say.
    #[error("what lies at `{delivery}` is not used")]
    Bad {
        /// The delivery.
        delivery: Box<DeliveryRef>,
        /// Why.
        #[source]
        source: Box<LayoutError>,
    },
    /// What the area has for a part of it is larger than it can be.
    #[error("`{name}` of `{delivery}` has {found}, where {expected} was expected")]
    Size {
        /// The delivery.
        delivery: Box<DeliveryRef>,
        /// The part.
        name: String,
        /// How large it is.
        found: String,
        /// How large it should be.
        expected: String,
    },
    /// The area finds deliveries by name.
    #[error("`{0}` cannot be asked for: only a registry finds a delivery by its digest")]
    NoDigests(Box<DeliveryRef>),
    /// A file of an area in a folder cannot be used.
    #[error("`{}` of the delivery area cannot be {action}: {source}", .path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The service did not answer.
    #[error("asking the delivery area `{area}`")]
    Http {
        /// The area.
        area: Box<AreaRef>,
        /// What happened.
        #[source]
        source: Box<HttpError>,
    },
}

fn what_it_said(message: Option<&str>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

impl StorageError {
    /// Returns whether the same may go better later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http { source, .. } => source.is_transient(),
            _ => false,
        }
    }

    /// Says what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::Http { source, .. } => return source.hint(),
            Self::NoArea { area, .. } if matches!(**area, AreaRef::Folder(_)) => {
                "create the folder, or mount it: a delivery area is not made by a delivery"
            }
            Self::OtherDelivery { .. } => "give the delivery a bundle id of its own",
            Self::OtherKeys { .. } => "fetch the delivery again, and wrap the keys of that one anew",
            Self::Bad { .. } | Self::Size { .. } => {
                "store the delivery again from where it was sealed; what lies there was changed or cut off"
            }
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "let the user that runs this write into the delivery area"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "make room in the delivery area and repeat the command: it goes on where it was"
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(Hint::new(text))
    }
}
