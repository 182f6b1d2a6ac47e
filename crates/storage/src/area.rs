//! Where deliveries lie, as it is written.

use std::{fmt, path::PathBuf, str::FromStr};

use protected_bundle::layout::Digest;
use protected_model::{
    key_ref::{looks_like_key_material, path_looks_like_key_material},
    name::BundleId,
    oci::RepositoryName,
};

/// The delivery area of a project.
///
/// Each form has one grammar, checked from the first character to the last, and none is read as a URL: a URL parser
/// drops blanks and line ends, and turns `a/../b` into `b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AreaRef {
    /// A folder on this machine or a mounted one.
    Folder(PathBuf),
    /// `s3://<bucket>[/<prefix>]`
    S3(Bucket),
    /// `gs://<bucket>[/<prefix>]`
    Gcs(Bucket),
    /// `az://<account>/<container>[/<prefix>]`
    Azure {
        /// The storage account.
        account: String,
        /// The container, and the prefix in it.
        container: Bucket,
    },
    /// `oci://<host>[:<port>]/<repository>`
    Oci(Repository),
}

/// A bucket or container, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What stands before each name in it: nothing, or parts with `/` between them.
    pub prefix: String,
}

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// `<host>` or `<host>:<port>`.
    pub authority: String,
    /// Its name there.
    pub name: String,
}

/// A delivery in an area, as it stands in the manifest of the delivery.
///
/// A folder is none: the paths of one machine say nothing on another, and a manifest from elsewhere is never to name a
/// file here. [`AreaRef::delivery`] names a delivery in any area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRef {
    /// Where it lies.
    pub area: AreaRef,
    /// Which one it is.
    pub address: Address,
}

/// Which delivery of an area it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The one of this name.
    Bundle(BundleId),
    /// The one whose manifest has this digest. Only registries find one so.
    Digest(Digest),
}

/// Why a text names no area and no delivery. Never repeats the text: it may be a token that was pasted by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AreaRefError {
    /// It has a scheme that is not known.
    #[error("expected a folder, s3://, gs://, az:// or oci://")]
    Scheme,
    /// A manifest names a folder.
    #[error("expected s3://, gs://, az:// or oci://: a delivery in a folder is named by the folder")]
    NotRemote,
    /// What stands behind the scheme is not in its grammar.
    #[error("expected the form {0}")]
    Form(&'static str),
    /// `s3://key:secret@...`
    #[error("a delivery area may not carry a username or password")]
    Userinfo,
    /// `?...` or `#...`
    #[error("a delivery area may not carry a query or a fragment")]
    Query,
    /// A part of it looks like a key.
    #[error("this looks like a key or a token, where the name of a place is expected")]
    KeyMaterial,
}

const S3: &str = "s3://<bucket>, or with /<prefix> behind it";
const GCS: &str = "gs://<bucket>, or with /<prefix> behind it";
const AZURE: &str = "az://<account>/<container>, or with /<prefix> behind it";
const OCI: &str = "oci://<host>/<repository>, the host with :<port> or without";
const DELIVERY: &str = "<area>/<bundle id>";
const OCI_DELIVERY: &str = "oci://<host>/<repository>@sha256:<digest>, or :<bundle id>";

/// The most characters of a prefix: object names have at most 1024, and ours come behind it.
const MAX_PREFIX: usize = 512;

impl AreaRef {
    /// Returns the delivery of this name.
    pub fn delivery(&self, bundle: &BundleId) -> DeliveryRef {
        DeliveryRef { area: self.clone(), address: Address::Bundle(bundle.clone()) }
    }
}

impl DeliveryRef {
    /// Returns what a manifest says of where the delivery is: nothing of a folder.
    pub fn uri(&self) -> Option<String> {
        match self.area {
            AreaRef::Folder(_) => None,
            _ => Some(self.to_string()),
        }
    }
}

impl FromStr for AreaRef {
    type Err = AreaRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((scheme, rest)) = text.split_once("://") else { return folder(text) };
        let parts = plain(rest)?;
        match (scheme, parts.as_slice()) {
            ("s3", [bucket, prefix @ ..]) if is_bucket(bucket, "-.", 63) => {
                bucket_in(bucket, prefix).map(Self::S3).ok_or(AreaRefError::Form(S3))
            }
            ("s3", _) => Err(AreaRefError::Form(S3)),
            ("gs", [bucket, prefix @ ..]) if is_bucket(bucket, "-_.", 222) => {
                bucket_in(bucket, prefix).map(Self::Gcs).ok_or(AreaRefError::Form(GCS))
            }
            ("gs", _) => Err(AreaRefError::Form(GCS)),
            ("az", [account, container, prefix @ ..])
                if is_bucket(account, "", 24)
                    && is_bucket(container, "-", 63)
                    && !container.contains("--") =>
            {
                let container = bucket_in(container, prefix).ok_or(AreaRefError::Form(AZURE))?;
                Ok(Self::Azure { account: (*account).to_owned(), container })
            }
            ("az", _) => Err(AreaRefError::Form(AZURE)),
            ("oci", [authority, name @ ..]) if is_authority(authority) && is_repository(name) => {
                Ok(Self::Oci(Repository { authority: (*authority).to_owned(), name: name.join("/") }))
            }
            ("oci", _) => Err(AreaRefError::Form(OCI)),
            _ => Err(AreaRefError::Scheme),
        }
    }
}

impl FromStr for DeliveryRef {
    type Err = AreaRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((scheme, rest)) = text.split_once("://") else { return Err(AreaRefError::NotRemote) };
        if scheme == "oci" {
            return oci_delivery(text, rest);
        }
        plain(rest)?;
        let (area, bundle) = text.rsplit_once('/').ok_or(AreaRefError::Form(DELIVERY))?;
        let area: AreaRef = area.parse().map_err(|error| match error {
            AreaRefError::Scheme => AreaRefError::NotRemote,
            _ => AreaRefError::Form(DELIVERY),
        })?;
        let bundle = bundle.parse().map_err(|_| AreaRefError::Form(DELIVERY))?;
        Ok(Self { area, address: Address::Bundle(bundle) })
    }
}

fn oci_delivery(text: &str, rest: &str) -> Result<DeliveryRef, AreaRefError> {
    const REFUSED: AreaRefError = AreaRefError::Form(OCI_DELIVERY);
    let (area, address) = if let Some((area, digest)) = text.split_once("@sha256:") {
        let digest = digest.parse().map_err(|_| REFUSED)?;
        (area, Address::Digest(Digest(digest)))
    } else {
        plain(rest)?;
        let (area, tag) = text.rsplit_once(':').ok_or(REFUSED)?;
        (area, Address::Bundle(tag.parse().map_err(|_| REFUSED)?))
    };
    Ok(DeliveryRef { area: area.parse()?, address })
}

impl fmt::Display for AreaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3(bucket) => write!(f, "s3://{bucket}"),
            Self::Gcs(bucket) => write!(f, "gs://{bucket}"),
            Self::Azure { account, container } => write!(f, "az://{account}/{container}"),
            Self::Oci(Repository { authority, name }) => write!(f, "oci://{authority}/{name}"),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{}{slash}{}", self.name, self.prefix)
    }
}

impl fmt::Display for DeliveryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = match (&self.area, &self.address) {
            (_, Address::Digest(_)) => "@",
            (AreaRef::Oci(_), Address::Bundle(_)) => ":",
            (_, Address::Bundle(_)) => "/",
        };
        match &self.address {
            Address::Digest(digest) => write!(f, "{}{between}{digest}", self.area),
            Address::Bundle(bundle) => write!(f, "{}{between}{bundle}", self.area),
        }
    }
}

/// A folder of this machine. It may be anywhere: whoever names it may write there.
fn folder(text: &str) -> Result<AreaRef, AreaRefError> {
    if path_looks_like_key_material(text) {
        return Err(AreaRefError::KeyMaterial);
    }
    // `s3:bucket` is a slip, and not a folder; `C:\deliveries` is one.
    let scheme = text.split(['/', '\\']).next().unwrap_or_default().split_once(':');
    if scheme.is_some_and(|(drive, _)| drive.len() != 1) || text.is_empty() || text.contains('\0') {
        return Err(AreaRefError::Scheme);
    }
    Ok(AreaRef::Folder(PathBuf::from(text)))
}

/// Splits what stands behind the scheme, when nothing in it is out of place.
fn plain(rest: &str) -> Result<Vec<&str>, AreaRefError> {
    if rest.contains('@') {
        return Err(AreaRefError::Userinfo);
    }
    if rest.contains(['?', '#']) {
        return Err(AreaRefError::Query);
    }
    // The name of a delivery in a registry stands behind a colon.
    if rest.split(['/', ':']).any(looks_like_key_material) {
        return Err(AreaRefError::KeyMaterial);
    }
    Ok(rest.split('/').collect())
}

fn is_bucket(name: &str, between: &str, longest: usize) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=longest).contains(&name.len())
        && name.chars().all(|c| plain(c) || between.contains(c))
        && name.starts_with(plain)
        && name.ends_with(plain)
        && !name.contains("..")
}

fn bucket_in(name: &str, prefix: &[&str]) -> Option<Bucket> {
    let fits = |part: &&str| {
        part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.=+".contains(c))
            && !part.is_empty()
            && !part.chars().all(|c| c == '.')
    };
    let joined = prefix.join("/");
    (prefix.iter().all(fits) && joined.len() <= MAX_PREFIX)
        .then(|| Bucket { name: name.to_owned(), prefix: joined })
}

/// `registry.example`, `registry.example:5000`, `127.0.0.1:5000`, `[::1]:5000`.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (
            address.parse::<std::net::Ipv6Addr>().is_ok(),
            port.strip_prefix(':').or(port.is_empty().then_some("443")),
        ),
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, "443"));
            (is_host(host), Some(port))
        }
    };
    let is_port = |port: &str| {
        !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    host && port.is_some_and(is_port)
}

/// A host name of lower-case letters, or an IPv4 address in its usual writing.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        (1..=63).contains(&label.len())
            && label.chars().all(|c| plain(c) || c == '-')
            && label.starts_with(plain)
            && label.ends_with(plain)
    };
    // Attack: `2130706433`, `0x7f.1` and the like, which are 127.0.0.1 to a URL parser (WHATWG URL, IPv4 parser).
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = last.starts_with(|c: char| c.is_ascii_digit());
    host.len() <= 253 && host.split('.').all(label) && (!number || host.parse::<std::net::Ipv4Addr>().is_ok())
}

/// The grammar of names in the OCI distribution-spec.
fn is_repository(parts: &[&str]) -> bool {
    parts.join("/").parse::<RepositoryName>().is_ok()
}
