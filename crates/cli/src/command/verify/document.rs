//! A document about a package, as it was found: in a folder, or with others in what a registry serves.

use std::{fs, path::Path};

use serde_json::Value;

use crate::error::{CommandError, Kind};

/// How the names of signed documents end.
pub(super) const SIGNED: &str = ".sigstore.json";

/// A document that was found, and not looked at.
pub(super) struct Document {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// Reads one.
///
/// # Errors
/// When it cannot be read.
pub(super) fn document(path: &Path) -> Result<Document, CommandError> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let bytes = fs::read(path).map_err(|error| cannot_read(path, &error))?;
    Ok(Document { name, bytes })
}

/// Takes the bundles out of what npm's registry serves: `{"attestations": [{"predicateType", "bundle"}]}`.
pub(super) fn attestations(document: Document) -> Vec<Document> {
    let parsed: Option<Value> = serde_json::from_slice(&document.bytes).ok();
    let list = parsed.as_ref().and_then(|it| it.get("attestations")).and_then(Value::as_array);
    let Some(list) = list else { return vec![document] };
    let bundles = list.iter().filter_map(|it| it.get("bundle")).enumerate();
    bundles
        .map(|(index, bundle)| Document {
            name: format!("{}#{index}", document.name),
            bytes: bundle.to_string().into_bytes(),
        })
        .collect()
}

pub(super) fn cannot_read(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::new(Kind::BadInput, format!("cannot read `{}`: {error}", path.display()))
}
