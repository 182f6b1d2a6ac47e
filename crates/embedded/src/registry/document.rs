//! The body of `PUT /<package>`: one new version with its tarball, or `deprecated` on old versions.
//!
//! Every statement in it that a client could later be shown is checked against the tarball's own bytes, the
//! path and the other statements. What agrees is then not taken from here at all: the metadata that the
//! registry serves comes from the tarball's `package.json` (see [`super::manifest`]), so there is no second
//! manifest to confuse anybody with.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_model::{
    digest::{Integrity, Shasum},
    name::PackageName,
    version::{DistTag, PackageVersion},
};
use sha1::{Digest as _, Sha1};

use super::json::{Json, Object};

/// The most dist-tags that one publish may set.
const MAX_TAGS: usize = 16;
/// How the media type of every Sigstore bundle begins.
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle";
/// The longest reason for a deprecation.
const MAX_DEPRECATION_BYTES: usize = 4096;

/// A document that was read and agrees with itself.
#[derive(Debug)]
pub(crate) enum Document {
    /// A new version.
    Publish(Publish),
    /// No attachment: the whole document of the package as the client would have it.
    Metadata(Metadata),
}

/// A new version of a package.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) version: PackageVersion,
    /// What shall name this version.
    pub(crate) tags: Vec<DistTag>,
    pub(crate) tarball: Vec<u8>,
    pub(crate) integrity: Integrity,
    pub(crate) shasum: Shasum,
    /// A Sigstore bundle, as npm attaches it: judged in [`super::admission`].
    pub(crate) bundle: Option<Bundle>,
}

/// A Sigstore bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// What it says it is.
    pub(crate) media_type: String,
    /// The JSON, byte for byte.
    pub(crate) text: String,
}

/// The state of a package's versions as a client would have it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Every version with the reason why it is deprecated; an empty reason means that it is not.
    pub(crate) deprecated: BTreeMap<PackageVersion, String>,
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("the body is not the JSON document of a package")]
    Json(#[source] serde_json::Error),
    #[error("the document's `{field}` must be {expected}")]
    Shape { field: &'static str, expected: &'static str },
    #[error("the document's {field} is `{actual}`, and this must be `{expected}`")]
    Mismatch { field: Field, actual: String, expected: String },
    #[error("the document must hold exactly one new version, and has {0}")]
    Versions(usize),
    #[error("the document's version is refused")]
    Version(#[from] protected_model::version::PackageVersionError),
    #[error("the document's dist-tag is refused")]
    Tag(#[from] protected_model::version::DistTagError),
    #[error("the document sets {0} dist-tags, and at most {MAX_TAGS} are allowed")]
    Tags(usize),
    #[error("the attachment `{actual}` is refused: expected `{expected}` alone, and a `.sigstore` beside it")]
    Attachment { actual: String, expected: String },
    #[error("the document has no attachment `{0}`")]
    NoTarball(String),
    #[error("the attachment's data is not base64")]
    Base64,
    #[error("`dist.integrity` must be one `sha512-…`, with at most a `sha1-…` beside it")]
    Integrity,
    #[error("the `.sigstore` attachment is not the JSON of a Sigstore bundle")]
    Bundle,
    #[error("a reason for deprecation must be text of at most {MAX_DEPRECATION_BYTES} bytes")]
    Deprecation,
}

/// Returns an error with everything that it rests on, in one line.
pub(crate) fn explained(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Which statement of a document is meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    Id,
    Name,
    VersionName,
    VersionVersion,
    VersionId,
    Tag,
    Length,
    Integrity,
    IntegritySha1,
    Shasum,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "`_id`",
            Self::Name => "`name`",
            Self::VersionName => "`name` in `versions`",
            Self::VersionVersion => "`version` in `versions`",
            Self::VersionId => "`_id` in `versions`",
            Self::Tag => "dist-tag",
            Self::Length => "attachment's `length`",
            Self::Integrity => "`dist.integrity`",
            Self::IntegritySha1 => "SHA-1 in `dist.integrity`",
            Self::Shasum => "`dist.shasum`",
        })
    }
}

/// Reads the body of `PUT /<package>`. Hashes the tarball: `spawn_blocking`.
///
/// # Errors
/// When the document is not strict JSON, contradicts itself or its tarball, or is for another package.
pub(crate) fn parse(body: &[u8], package: &PackageName) -> Result<Document, DocumentError> {
    let Json::Object(document) = Json::parse(body).map_err(DocumentError::Json)? else {
        return Err(DocumentError::Shape { field: "body", expected: "an object" });
    };
    same(Field::Id, document.get("_id"), package.as_str())?;
    same(Field::Name, document.get("name"), package.as_str())?;
    let versions = match document.get("versions") {
        Some(Json::Object(versions)) => versions,
        _ => return Err(DocumentError::Shape { field: "versions", expected: "an object" }),
    };
    match document.get("_attachments") {
        None | Some(Json::Null) => metadata(versions, package).map(Document::Metadata),
        Some(Json::Object(attachments)) if attachments.is_empty() => {
            metadata(versions, package).map(Document::Metadata)
        }
        Some(Json::Object(attachments)) => {
            publish(&document, versions, attachments, package).map(Document::Publish)
        }
        Some(_) => Err(DocumentError::Shape { field: "_attachments", expected: "an object" }),
    }
}

fn publish(
    document: &Object<'_>,
    versions: &Object<'_>,
    attachments: &Object<'_>,
    package: &PackageName,
) -> Result<Publish, DocumentError> {
    let mut members = versions.iter();
    let (Some((key, manifest)), None) = (members.next(), members.next()) else {
        return Err(DocumentError::Versions(versions.len()));
    };
    let version: PackageVersion = key.parse()?;
    let manifest = check_version(manifest, package, &version)?;
    let dist = match manifest.get("dist") {
        Some(Json::Object(dist)) => dist,
        _ => return Err(DocumentError::Shape { field: "dist", expected: "an object" }),
    };

    let tags = match document.get("dist-tags") {
        Some(Json::Object(tags)) if tags.len() > MAX_TAGS => return Err(DocumentError::Tags(tags.len())),
        Some(Json::Object(tags)) => tags,
        _ => return Err(DocumentError::Shape { field: "dist-tags", expected: "an object" }),
    };
    let tags = tags.iter().map(|(tag, target)| {
        same(Field::Tag, Some(target), key)?;
        Ok(tag.parse()?)
    });
    let tags = tags.collect::<Result<Vec<DistTag>, DocumentError>>()?;

    let tarball_name = format!("{package}-{version}.tgz");
    let sigstore_name = format!("{package}-{version}.sigstore");
    let strange = attachments.iter().find(|(name, _)| *name != tarball_name && *name != sigstore_name);
    if let Some((actual, _)) = strange {
        let actual = actual.chars().take(128).flat_map(char::escape_debug).collect();
        return Err(DocumentError::Attachment { actual, expected: tarball_name });
    }
    let Some(attachment) = attachments.object(&tarball_name) else {
        return Err(DocumentError::NoTarball(tarball_name));
    };
    let data = attachment.text("data").ok_or(DocumentError::Base64)?;
    let tarball = STANDARD.decode(data).map_err(|_| DocumentError::Base64)?;
    let length = attachment.get("length").and_then(Json::as_u64);
    if length != Some(tarball.len() as u64) {
        return Err(DocumentError::Mismatch {
            field: Field::Length,
            actual: length.map_or_else(|| "nothing".to_owned(), |length| length.to_string()),
            expected: tarball.len().to_string(),
        });
    }
    let integrity = Integrity::of(&tarball);
    let shasum = Shasum::from_bytes(Sha1::digest(&tarball).into());
    check_integrity(dist, &integrity, &shasum)?;
    if dist.get("shasum").is_some() {
        same(Field::Shasum, dist.get("shasum"), &shasum.to_string())?;
    }
    let bundle = attachments.get(&sigstore_name).map(read_bundle).transpose()?;
    Ok(Publish { version, tags, tarball, integrity, shasum, bundle })
}

/// Reads a Sigstore bundle: its JSON as text, not as base64.
fn read_bundle(attachment: &Json<'_>) -> Result<Bundle, DocumentError> {
    let text = attachment.as_object().and_then(|attachment| attachment.text("data"));
    let text = text.ok_or(DocumentError::Bundle)?;
    let bundle = Json::parse(text.as_bytes()).map_err(DocumentError::Json)?;
    let media_type = bundle.as_object().and_then(|bundle| bundle.text("mediaType"));
    let is_bundle = |media_type: &&str| {
        media_type.starts_with(BUNDLE_TYPE)
            && media_type.len() <= 128
            && media_type.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let media_type = media_type.filter(is_bundle).ok_or(DocumentError::Bundle)?;
    Ok(Bundle { media_type: media_type.to_owned(), text: text.to_owned() })
}

fn metadata(versions: &Object<'_>, package: &PackageName) -> Result<Metadata, DocumentError> {
    let deprecated = versions.iter().map(|(key, manifest)| {
        let version: PackageVersion = key.parse()?;
        let manifest = check_version(manifest, package, &version)?;
        let reason = match manifest.get("deprecated") {
            None | Some(Json::Null | Json::Bool(false)) => String::new(),
            Some(Json::Text(reason)) if reason.len() <= MAX_DEPRECATION_BYTES => reason.clone().into_owned(),
            Some(_) => return Err(DocumentError::Deprecation),
        };
        Ok((version, reason))
    });
    Ok(Metadata { deprecated: deprecated.collect::<Result<_, DocumentError>>()? })
}

/// Checks what a version says about itself.
fn check_version<'m, 'a>(
    manifest: &'m Json<'a>,
    package: &PackageName,
    version: &PackageVersion,
) -> Result<&'m Object<'a>, DocumentError> {
    let Json::Object(manifest) = manifest else {
        return Err(DocumentError::Shape { field: "versions", expected: "an object of objects" });
    };
    same(Field::VersionName, manifest.get("name"), package.as_str())?;
    same(Field::VersionVersion, manifest.get("version"), &version.to_string())?;
    if manifest.get("_id").is_some() {
        same(Field::VersionId, manifest.get("_id"), &format!("{package}@{version}"))?;
    }
    Ok(manifest)
}

/// Checks `dist.integrity`: npm and pnpm send the SHA-512, yarn the SHA-1 and the SHA-512.
fn check_integrity(dist: &Object<'_>, integrity: &Integrity, shasum: &Shasum) -> Result<(), DocumentError> {
    let declared = dist.text("integrity").ok_or(DocumentError::Integrity)?;
    let (mut sha512, mut sha1) = (None, None);
    for hash in declared.split_ascii_whitespace() {
        let place = if hash.starts_with("sha512-") { &mut sha512 } else { &mut sha1 };
        if place.replace(hash).is_some() {
            return Err(DocumentError::Integrity);
        }
    }
    let sha512 = sha512.ok_or(DocumentError::Integrity)?;
    let declared: Integrity = sha512.parse().map_err(|_| DocumentError::Integrity)?;
    if declared != *integrity {
        return Err(mismatch(Field::Integrity, sha512, &integrity.to_string()));
    }
    let Some(sha1) = sha1 else { return Ok(()) };
    let encoded = sha1.strip_prefix("sha1-").ok_or(DocumentError::Integrity)?;
    let bytes = STANDARD.decode(encoded).ok().and_then(|bytes| <[u8; 20]>::try_from(bytes).ok());
    let declared = Shasum::from_bytes(bytes.ok_or(DocumentError::Integrity)?);
    if declared == *shasum {
        return Ok(());
    }
    Err(mismatch(Field::IntegritySha1, &declared.to_string(), &shasum.to_string()))
}

fn same(field: Field, actual: Option<&Json<'_>>, expected: &str) -> Result<(), DocumentError> {
    match actual {
        Some(Json::Text(actual)) if actual == expected => Ok(()),
        Some(Json::Text(actual)) => Err(mismatch(field, actual, expected)),
        Some(_) => Err(mismatch(field, "no text", expected)),
        None => Err(mismatch(field, "nothing", expected)),
    }
}

fn mismatch(field: Field, actual: &str, expected: &str) -> DocumentError {
    let actual = actual.chars().take(128).flat_map(char::escape_debug).collect();
    DocumentError::Mismatch { field, actual, expected: expected.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{super::tarball::tests as archive, *};

    /// A good tarball of `name` at `version`.
    pub(crate) fn tarball(name: &str, version: &str) -> Vec<u8> {
        let manifest = json!({"name": name, "version": version, "main": "index.js"}).to_string();
        archive::tarball(&[
            archive::file("package/package.json", &manifest),
            archive::file("package/index.js", "module.exports = 1;\n"),
        ])
    }

    /// The document with which npm publishes `tarball`.
    pub(crate) fn document(name: &str, version: &str, tarball: &[u8]) -> Value {
        json!({
            "_id": name,
            "name": name,
            "dist-tags": {"latest": version},
            "versions": {version: {
                "name": name,
                "version": version,
                "_id": format!("{name}@{version}"),
                "dist": {
                    "integrity": Integrity::of(tarball),
                    "shasum": hex::encode(Sha1::digest(tarball)),
                    "tarball": format!("http://evil.example/{name}/-/{name}-{version}.tgz"),
                },
            }},
            "access": null,
            "_attachments": {format!("{name}-{version}.tgz"): {
                "content_type": "application/octet-stream",
                "data": STANDARD.encode(tarball),
                "length": tarball.len(),
            }},
        })
    }

    const NAME: &str = "@acme/core";
    const BUNDLE: &str = r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#;

    fn package() -> PackageName {
        NAME.parse().expect("name")
    }

    fn good() -> Value {
        document(NAME, "1.0.0", &tarball(NAME, "1.0.0"))
    }

    fn refusal(document: &Value) -> String {
        parse(document.to_string().as_bytes(), &package())
            .map(drop)
            .map_err(|error| explained(&error))
            .expect_err("refused")
    }

    #[test]
    fn npms_document_is_read() {
        let body = good().to_string();
        let Ok(Document::Publish(publish)) = parse(body.as_bytes(), &package()) else { panic!("refused") };
        assert_eq!(publish.version.to_string(), "1.0.0");
        assert_eq!(publish.tags, [DistTag::latest()]);
        assert_eq!(publish.tarball, tarball(NAME, "1.0.0"));
        assert_eq!(publish.integrity, Integrity::of(&publish.tarball));
        assert!(publish.bundle.is_none());
    }

    #[test]
    fn yarns_two_hashes_and_npms_bundle_are_read() {
        let tarball = tarball(NAME, "1.0.0");
        let mut document = good();
        let sha1 = STANDARD.encode(Sha1::digest(&tarball));
        document["versions"]["1.0.0"]["dist"]["integrity"] =
            format!("sha1-{sha1} {}", Integrity::of(&tarball)).into();
        document["_attachments"]["@acme/core-1.0.0.sigstore"] = json!({
            "content_type": "application/vnd.dev.sigstore.bundle.v0.3+json", "data": BUNDLE, "length": BUNDLE.len(),
        });
        let body = document.to_string();
        let Ok(Document::Publish(publish)) = parse(body.as_bytes(), &package()) else { panic!("refused") };
        let bundle = publish.bundle.expect("bundle");
        assert_eq!((bundle.text.as_str(), bundle.media_type.len()), (BUNDLE, 45));
    }

    #[test]
    fn every_lie_is_refused() {
        type Lie = (&'static str, fn(&mut Value));
        let lies: &[Lie] = &[
            ("`_id` is `@acme/core2`", |d| d["_id"] = "@acme/core2".into()),
            ("`_id` is `nothing`", |d| drop(d.as_object_mut().and_then(|d| d.remove("_id")))),
            ("`name` is `@ACME/core`", |d| d["name"] = "@ACME/core".into()),
            ("`name` is `no text`", |d| d["name"] = json!(["@acme/core"])),
            ("`versions` must be", |d| d["versions"] = json!([])),
            ("exactly one new version, and has 0", |d| d["versions"] = json!({})),
            ("exactly one new version, and has 2", |d| {
                d["versions"]["1.0.1"] = d["versions"]["1.0.0"].clone();
            }),
            ("`name` in `versions` is `@acme/evil`", |d| {
                d["versions"]["1.0.0"]["name"] = "@acme/evil".into()
            }),
            ("`version` in `versions` is `1.0.1`", |d| d["versions"]["1.0.0"]["version"] = "1.0.1".into()),
            ("`_id` in `versions`", |d| d["versions"]["1.0.0"]["_id"] = "@acme/core@9.9.9".into()),
            ("not a semantic version", |d| {
                let mut version = d["versions"]["1.0.0"].take();
                version["version"] = "not-semver".into();
                d["versions"] = json!({"not-semver": version});
            }),
            ("build metadata", |d| {
                let mut version = d["versions"]["1.0.0"].take();
                version["version"] = "1.0.0+a".into();
                d["versions"] = json!({"1.0.0+a": version});
            }),
            ("`dist` must be", |d| d["versions"]["1.0.0"]["dist"] = Value::Null),
            ("`dist.integrity` must be", |d| d["versions"]["1.0.0"]["dist"]["integrity"] = Value::Null),
            ("`dist.integrity` must be", |d| d["versions"]["1.0.0"]["dist"]["integrity"] = "".into()),
            ("`dist.integrity` must be", |d| {
                d["versions"]["1.0.0"]["dist"]["integrity"] = "sha512-AA==".into()
            }),
            ("`dist.integrity` must be", |d| {
                let sha512 = d["versions"]["1.0.0"]["dist"]["integrity"].as_str().map(str::to_owned);
                let sha512 = sha512.unwrap_or_default();
                d["versions"]["1.0.0"]["dist"]["integrity"] = format!("{sha512} {sha512}").into();
            }),
            ("`dist.integrity` must be", |d| {
                let sha512 = d["versions"]["1.0.0"]["dist"]["integrity"].as_str().map(str::to_owned);
                d["versions"]["1.0.0"]["dist"]["integrity"] =
                    format!("{} md5-AAAA", sha512.unwrap_or_default()).into();
            }),
            ("`dist.integrity` must be", |d| {
                d["versions"]["1.0.0"]["dist"]["integrity"] = "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=".into();
            }),
            ("`dist.integrity` is", |d| {
                d["versions"]["1.0.0"]["dist"]["integrity"] = Integrity::of("").to_string().into();
            }),
            ("SHA-1 in `dist.integrity` is", |d| {
                let sha512 = d["versions"]["1.0.0"]["dist"]["integrity"].as_str().map(str::to_owned);
                d["versions"]["1.0.0"]["dist"]["integrity"] =
                    format!("{} sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", sha512.unwrap_or_default()).into();
            }),
            ("`dist.shasum` is", |d| d["versions"]["1.0.0"]["dist"]["shasum"] = "0".repeat(40).into()),
            ("`dist-tags` must be", |d| drop(d.as_object_mut().and_then(|d| d.remove("dist-tags")))),
            ("dist-tag is `0.9.0`", |d| d["dist-tags"]["old"] = "0.9.0".into()),
            ("`1.x` is not a dist-tag", |d| d["dist-tags"]["1.x"] = "1.0.0".into()),
            ("`../x` is not a dist-tag", |d| d["dist-tags"]["../x"] = "1.0.0".into()),
            ("sets 18 dist-tags", |d| {
                (0..17).for_each(|n| d["dist-tags"][format!("t{n}")] = "1.0.0".into());
            }),
            ("`_attachments` must be", |d| d["_attachments"] = json!([1])),
            ("no attachment `@acme/core-1.0.0.tgz`", |d| {
                d["_attachments"] = json!({"@acme/core-1.0.0.sigstore": {"data": "{}"}});
            }),
            ("attachment `../../x.tgz` is refused", |d| d["_attachments"]["../../x.tgz"] = json!({})),
            ("attachment `@acme/other-1.0.0.tgz` is refused", |d| {
                d["_attachments"]["@acme/other-1.0.0.tgz"] =
                    d["_attachments"]["@acme/core-1.0.0.tgz"].clone();
            }),
            ("attachment `core-1.0.0.tgz` is refused", |d| {
                d["_attachments"]["core-1.0.0.tgz"] = d["_attachments"]["@acme/core-1.0.0.tgz"].take();
            }),
            ("data is not base64", |d| d["_attachments"]["@acme/core-1.0.0.tgz"]["data"] = "x y".into()),
            ("data is not base64", |d| d["_attachments"]["@acme/core-1.0.0.tgz"]["data"] = Value::Null),
            ("`length` is `3`", |d| d["_attachments"]["@acme/core-1.0.0.tgz"]["length"] = 3.into()),
            ("`length` is `nothing`", |d| {
                d["_attachments"]["@acme/core-1.0.0.tgz"]["length"] = "250".into();
            }),
            ("not the JSON", |d| {
                d["_attachments"]["@acme/core-1.0.0.sigstore"] = json!({"data": "{", "length": 1});
            }),
            ("of a Sigstore bundle", |d| d["_attachments"]["@acme/core-1.0.0.sigstore"] = "x".into()),
            ("of a Sigstore bundle", |d| {
                d["_attachments"]["@acme/core-1.0.0.sigstore"] = json!({"data": "{}", "length": 2});
            }),
            ("of a Sigstore bundle", |d| {
                let data = r#"{"mediaType":"text/html"}"#;
                d["_attachments"]["@acme/core-1.0.0.sigstore"] = json!({"data": data, "length": 2});
            }),
        ];
        for (reason, lie) in lies {
            let mut document = good();
            lie(&mut document);
            let error = refusal(&document);
            assert!(error.contains(reason), "expected {reason}, got {error}");
        }
    }

    #[test]
    fn json_with_two_readings_is_refused() {
        let good = good().to_string();
        for (from, to) in [
            (r#""_id":"@acme/core","#, r#""_id":"@acme/core","_id":"@acme/evil","#),
            (r#""access":null"#, r#""access":null,"__proto__":{"a":1}"#),
            (r#""access":null"#, r#""access":{"a":{"__proto__":1}}"#),
        ] {
            let body = good.replacen(from, to, 1);
            assert_ne!(body, good);
            assert!(matches!(parse(body.as_bytes(), &package()), Err(DocumentError::Json(_))), "{to}");
        }
        for body in ["", "[]", "null", "{", "{}"] {
            assert!(parse(body.as_bytes(), &package()).is_err(), "{body}");
        }
    }

    #[test]
    fn without_an_attachment_it_is_metadata() {
        let mut document = good();
        document["_attachments"] = json!({});
        document["versions"]["1.0.0"]["deprecated"] = "use 2".into();
        let body = document.to_string();
        let Ok(Document::Metadata(metadata)) = parse(body.as_bytes(), &package()) else { panic!("refused") };
        assert_eq!(metadata.deprecated.values().collect::<Vec<_>>(), ["use 2"]);
        for bad in [json!(1), json!(true), json!(["x"]), json!("x".repeat(5000))] {
            document["versions"]["1.0.0"]["deprecated"] = bad;
            assert!(refusal(&document).contains("deprecation"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn never_panics_on_text(body in "\\PC{0,200}") {
            let _ = parse(body.as_bytes(), &package());
        }

        /// A good document with bytes changed: refused, or with bytes that match their digest.
        #[test]
        fn never_panics_on_a_changed_document(
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        ) {
            let mut body = good().to_string().into_bytes();
            for (at, byte) in changes {
                let at = at % body.len();
                body[at] = byte;
            }
            if let Ok(Document::Publish(publish)) = parse(&body, &package()) {
                prop_assert_eq!(publish.integrity, Integrity::of(tarball(NAME, "1.0.0")));
            }
        }
    }
}
