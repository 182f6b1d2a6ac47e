//! Why a delivery was not stored or fetched.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use protected_bundle::layout::{Digest, LayoutError};
use protected_http::{HttpError, Incoming, RequestLine};
use protected_model::hint::Hint;

use crate::area::{AreaRef, DeliveryRef};

/// Why a delivery was not stored or fetched. Holds no credential.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
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
    /// The delivery is there with another signature.
    #[error("`{delivery}` has the signature {found} over its {part}, where {expected} was expected")]
    OtherSignature {
        /// The delivery.
        delivery: Box<DeliveryRef>,
        /// What is signed.
        part: &'static str,
        /// The digest of the signature that is there.
        found: Digest,
        /// The digest of the one that should be.
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
        source: Arc<HttpError>,
    },
    /// The service said no.
    #[error("the delivery area `{area}` cannot be used: {refused}")]
    Refused {
        /// The area.
        area: Box<AreaRef>,
        /// What it said.
        refused: Refused,
    },
    /// The registry takes the token, and wants one that allows more.
    #[error("the delivery area `{area}` does not let {} `{actions}`", if *.known { "these credentials" } else { "everybody" })]
    NotAllowed {
        /// The area.
        area: Box<AreaRef>,
        /// What was to be done, as registries call it.
        actions: &'static str,
        /// Whether anybody's credential was shown.
        known: bool,
    },
    /// The registry has tokens minted where none may be asked for.
    #[error("the delivery area `{area}` wants a token of {realm}, and the credential is not for that host")]
    TokenHost {
        /// The area.
        area: Box<AreaRef>,
        /// The origin that it names.
        realm: String,
    },
    /// The service answered nothing that can be used.
    #[error("the delivery area `{area}` does not answer as it should: {said}")]
    Service {
        /// The area.
        area: Box<AreaRef>,
        /// What is wrong with it.
        said: String,
    },
    /// Something about the area is not said.
    #[error("nothing says {what} for the delivery area `{area}`")]
    NotConfigured {
        /// The area.
        area: Box<AreaRef>,
        /// What is missing.
        what: &'static str,
        /// How it is given.
        hint: &'static str,
    },
    /// What is said about the area cannot be used.
    #[error("the settings of the delivery area `{area}` cannot be used: {reason}")]
    Settings {
        /// The area.
        area: Box<AreaRef>,
        /// What they are to be.
        reason: &'static str,
    },
}

/// What a service says when it refuses a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{request} was answered {status}{}", self.said().map(|said| format!(", {said}")).unwrap_or_default())]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The request, without its query.
    pub request: String,
    /// The service's own word for it, such as `NoSuchBucket`.
    pub code: Option<String>,
    /// What it said to a person.
    pub message: Option<String>,
}

impl Refused {
    /// Reads the answer of an object store: XML with `Code` and `Message`.
    pub(crate) fn new(status: u16, request: &RequestLine, code: Option<&str>, said: &[u8]) -> Self {
        let said = String::from_utf8_lossy(said);
        let within = |name: &str| {
            let (_, rest) = said.split_once(&format!("<{name}>"))?;
            let (text, _) = rest.split_once(&format!("</{name}>"))?;
            (!text.trim().is_empty()).then(|| one_line(text))
        };
        let code = code.map(one_line).or_else(|| within("Code"));
        Self { status, request: request.to_string(), code, message: within("Message") }
    }

    /// Reads the answer of a registry: JSON with `errors` (OCI distribution-spec, error codes).
    pub(crate) fn by_registry(status: u16, request: &RequestLine, said: &[u8]) -> Self {
        let said: serde_json::Value = serde_json::from_slice(said).unwrap_or_default();
        let within = |name: &str| said.pointer(&format!("/errors/0/{name}"))?.as_str().map(one_line);
        Self { status, request: request.to_string(), code: within("code"), message: within("message") }
    }

    /// Leaves out what repeats a credential.
    pub(crate) fn without(mut self, secrets: &[String]) -> Self {
        for said in [&mut self.code, &mut self.message] {
            said.take_if(|text| secrets.iter().any(|secret| text.contains(secret.as_str())));
        }
        self
    }

    /// Returns what the service said, in one line.
    pub(crate) fn said(&self) -> Option<String> {
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => Some(format!("{code}: {message}")),
            (Some(said), None) | (None, Some(said)) => Some(said.clone()),
            (None, None) => None,
        }
    }

    /// Returns whether the bucket, the container or the repository is not there.
    pub(crate) fn is_of_no_area(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        ["NoSuchBucket", "ContainerNotFound", "NAME_UNKNOWN"].contains(&code)
    }
}

/// The longest text of a service that is repeated, in characters.
const LONGEST_TEXT: usize = 200;

/// Makes what a service said one line that a terminal can show.
pub(crate) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.chars().map(plain).take(LONGEST_TEXT).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Wraps what our client said, so that it is found again among the causes of another library's error.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Unanswered(pub(crate) Arc<HttpError>);

fn what_it_said(message: Option<&str>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

impl StorageError {
    /// Returns whether the same may go better later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http { source, .. } => source.is_transient(),
            Self::Refused { refused, .. } => matches!(refused.status, 408 | 429 | 500 | 502..),
            Self::Service { .. } => true,
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
            Self::NoArea { area, .. } if matches!(**area, AreaRef::Oci(_)) => {
                "check the name of the repository, and whether these credentials may see it"
            }
            Self::NoArea { .. } => "create it, or check its name, the region and the account",
            Self::NotConfigured { hint, .. } => hint,
            Self::TokenHost { .. } => {
                "if that is where tokens for this registry are minted, name the host in PROTECTED_REGISTRY_OCI_TOKEN_HOST"
            }
            Self::NotAllowed { known: true, .. } => {
                "the token that the registry's clients get allows less: check the name of the repository, or have whoever runs the registry allow it"
            }
            Self::NotAllowed { known: false, .. } => LOG_IN,
            Self::Refused { area, refused } if matches!(**area, AreaRef::Oci(_)) => match refused.status {
                401 | 403 => LOG_IN,
                _ => return None,
            },
            Self::Refused { refused, .. } => match (refused.status, refused.code.as_deref()) {
                (_, Some("ExpiredToken" | "RequestTimeTooSkewed")) => {
                    "get the credentials anew just before the command, and check the clock of this machine"
                }
                (400 | 401 | 403, _) => {
                    "let these credentials read and write objects below the area's prefix; docs/delivery-storage.md lists what is needed"
                }
                (501, _) => {
                    "this store cannot write only what is new; where nobody else writes, set AWS_CONDITIONAL_PUT to `disabled`"
                }
                _ => return None,
            },
            Self::OtherDelivery { .. } => {
                "to store it, give the delivery a bundle id of its own; to open it, ask whoever delivered it which one is meant"
            }
            Self::OtherSignature { .. } => {
                "fetch the delivery and verify whose signature lies there: if it is not one of yours, remove it in the area, and repeat the command"
            }
            Self::OtherKeys { .. } => "fetch the delivery again, and wrap the keys of that one anew",
            Self::Bad { .. } | Self::Size { .. } => {
                "what lies there was changed or cut off: remove it there, and store the delivery again from where it was sealed"
            }
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "let the user that runs this write into the delivery area"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    "make room in the delivery area and repeat the command: it goes on where it was"
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(Hint::new(text))
    }
}

/// How a registry gets to know who asks.
const LOG_IN: &str = "log in with `docker login`, or set PROTECTED_REGISTRY_OCI_HOST, PROTECTED_REGISTRY_OCI_USERNAME and PROTECTED_REGISTRY_OCI_PASSWORD; credential helpers are not run";

/// How much of what a service says when it refuses is read, in bytes.
const MAX_REFUSAL: usize = 64 << 10;

/// Reads what a service says when it refuses, as far as it matters.
///
/// Attack: an answer without end to a request whose good answer may be large.
pub(crate) async fn refusal(answer: &mut Incoming) -> Bytes {
    let mut said = Vec::new();
    while let Ok(Some(piece)) = answer.piece().await {
        let room = MAX_REFUSAL - said.len();
        said.extend_from_slice(&piece[..room.min(piece.len())]);
        if piece.len() >= room {
            break;
        }
    }
    said.into()
}
