//! Signed statements over a delivery, as artifacts of the layout: where cosign and its like look for them.

use std::collections::BTreeMap;

use protected_model::{
    api::evidence::BUNDLE_TYPE,
    delivery::{DELIVERY_STATEMENT, KEYS_STATEMENT},
};

use super::{Blob, LayoutError, Manifest, expect_type, read_manifest};

/// The largest signature that is read, in bytes. One over a delivery has about ten kilobytes.
///
/// Attack: a signature of a gigabyte, which whoever only looks at the delivery would read.
pub const MAX_SIGNATURE_BYTES: u64 = 256 << 10;

/// What of a delivery is signed. Each has at most one signature.
///
/// Attack: ten thousand signatures, for whoever verifies each. A second one of a kind is refused, and what others signed
/// about the delivery is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The manifest of the bundle: descriptor and sealed content.
    Bundle,
    /// The manifest of the keys, which is another one when they are wrapped anew.
    Keys,
}

impl Part {
    /// Both, in the order in which they are checked.
    pub const ALL: [Self; 2] = [Self::Bundle, Self::Keys];

    /// Returns the predicate type of the statement over it.
    pub fn predicate_type(self) -> &'static str {
        match self {
            Self::Bundle => DELIVERY_STATEMENT,
            Self::Keys => KEYS_STATEMENT,
        }
    }

    /// Returns what people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Keys => "keys",
        }
    }
}

/// The manifests of the signatures of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures {
    /// That over the bundle.
    pub bundle: Option<Blob>,
    /// That over the keys.
    pub keys: Option<Blob>,
}

impl Signatures {
    /// Returns the signature of a part.
    pub fn of(&self, part: Part) -> Option<&Blob> {
        match part {
            Part::Bundle => self.bundle.as_ref(),
            Part::Keys => self.keys.as_ref(),
        }
    }

    /// Returns those that are there, and of the `others` those that are not.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        Self {
            bundle: self.bundle.clone().or_else(|| others.bundle.clone()),
            keys: self.keys.clone().or_else(|| others.keys.clone()),
        }
    }

    /// Finds the signature of a part among what an index names. It says by an annotation of what it is.
    ///
    /// # Errors
    /// When there are several.
    pub fn find<'a>(
        part: Part,
        index: impl IntoIterator<Item = &'a Blob>,
    ) -> Result<Option<Blob>, LayoutError> {
        let is_it = |blob: &&Blob| {
            blob.artifact_type.as_deref() == Some(BUNDLE_TYPE)
                && blob.annotations.get(PREDICATE_TYPE).is_some_and(|it| it == part.predicate_type())
        };
        let mut found = index.into_iter().filter(is_it);
        match (found.next(), found.next()) {
            (_, Some(_)) => {
                Err(LayoutError::Form(format!("there is more than one signature of its {}", part.name())))
            }
            (found, None) => Ok(found.map(|blob| Blob { annotations: BTreeMap::new(), ..blob.clone() })),
        }
    }

    /// Returns what an index names of them.
    pub(super) fn listed(&self) -> impl Iterator<Item = Blob> {
        let listed = |part| self.of(part).map(|blob| listed(part, blob));
        Part::ALL.into_iter().filter_map(listed)
    }
}

/// Returns a signature as an index names it.
pub fn listed(part: Part, blob: &Blob) -> Blob {
    Blob { annotations: annotations(part), ..blob.clone() }
}

/// The annotations by which cosign knows what a bundle holds (cosign, specs/BUNDLE_SPEC.md).
const CONTENT_KIND: &str = "dev.sigstore.bundle.content";
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";

pub(super) fn annotations(part: Part) -> BTreeMap<String, String> {
    [(CONTENT_KIND, "dsse-envelope"), (PREDICATE_TYPE, part.predicate_type())]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Returns what the manifest of a signature over `subject` names: the empty configuration, and the Sigstore bundle.
///
/// # Errors
/// When the bytes are not the manifest, or it is not one of such a signature, or it is over another part, or over that of
/// another delivery.
pub fn blobs_of_signature(
    part: Part,
    blob: &Blob,
    bytes: &[u8],
    subject: &Blob,
) -> Result<[Blob; 2], LayoutError> {
    let Manifest { config, layers, subject: of, annotations: said, .. } =
        read_manifest(blob, bytes, BUNDLE_TYPE)?;
    let refuse = |why: String| Err(LayoutError::Form(format!("the signature of its {} {why}", part.name())));
    // Attack: the signature of other keys, older ones perhaps, or of another delivery, laid beside these. What is signed
    // would say so too; it is refused before anybody is asked to believe it.
    if of.map(|of| of.digest) != Some(subject.digest) {
        return refuse("is over another one".to_owned());
    }
    if said.get(PREDICATE_TYPE).is_none_or(|said| said != part.predicate_type()) {
        return refuse("says that it is of something else".to_owned());
    }
    let [layer]: [Blob; 1] = match layers.try_into() {
        Ok(one) => one,
        Err(layers) => return refuse(format!("is of {} documents", Vec::<Blob>::len(&layers))),
    };
    expect_type(&layer, BUNDLE_TYPE)?;
    if layer.size > MAX_SIGNATURE_BYTES {
        return refuse(format!("has {} bytes, more than {MAX_SIGNATURE_BYTES}", layer.size));
    }
    Ok([config, layer])
}
