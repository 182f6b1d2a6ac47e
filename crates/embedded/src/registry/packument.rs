//! The documents of a package as clients get them: rendered and compressed once per revision, never changed.

use std::{collections::BTreeMap, io::Write as _};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::HeaderValue;
use protected_model::{
    digest::{Integrity, Sha256, Shasum},
    name::PackageName,
    service_url::ServiceUrl,
    version::{DistTag, PackageVersion},
};
use serde::Serialize;

use super::{
    json::Json,
    row::{Artifact, Attestation, PackageRow, Signature, VersionRow},
};

/// What a package says about itself as a whole: what its latest version says.
const OF_LATEST: &[&str] =
    &["description", "license", "homepage", "repository", "bugs", "author", "keywords"];
/// How the predicate type of every provenance begins.
const PROVENANCE: &str = "https://slsa.dev/provenance/";
/// The media type of the abbreviated form.
pub(crate) const ABBREVIATED_TYPE: &str = "application/vnd.npm.install-v1+json";

/// One representation, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Representation {
    pub(crate) plain: Bytes,
    pub(crate) gzip: Bytes,
    pub(crate) etag: HeaderValue,
    pub(crate) gzip_etag: HeaderValue,
}

/// Everything that is ever read of one revision of a package.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) full: Representation,
    pub(crate) abbreviated: Representation,
    pub(crate) tags: Bytes,
    pub(crate) artifacts: BTreeMap<PackageVersion, Artifact>,
    pub(crate) attestations: BTreeMap<PackageVersion, Vec<Attestation>>,
    dist_tags: BTreeMap<DistTag, PackageVersion>,
    /// Each version's full metadata, as a part of `full`.
    versions: BTreeMap<PackageVersion, Bytes>,
    /// What a search shows.
    pub(crate) found: Bytes,
    /// What a search looks at: name, description and keywords in lower case.
    searched: String,
}

/// Why stored rows cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[error("the stored metadata of {package} is not JSON")]
pub(crate) struct RenderError {
    package: PackageName,
    #[source]
    source: serde_json::Error,
}

impl Rendered {
    /// Renders the documents of `package`. Compresses: `spawn_blocking`.
    ///
    /// # Errors
    /// When a row holds what no publish has written.
    pub(crate) fn new(
        package: &PackageName,
        row: &PackageRow,
        versions: &BTreeMap<PackageVersion, VersionRow>,
        registry_url: &ServiceUrl,
    ) -> Result<Self, RenderError> {
        let failed = |source| RenderError { package: package.clone(), source };
        let json = |value: &dyn ToJson| value.to_json().map_err(failed);
        let tarball = |version| registry_url.join(&format!("{package}/-/{}", package.tarball(version)));
        let mut full = BTreeMap::new();
        let mut abbreviated = BTreeMap::new();
        for (version, it) in versions {
            let provenance =
                it.attestations.iter().find(|it| it.npm && it.predicate_type.starts_with(PROVENANCE));
            let attestations_url =
                registry_url.join(&format!("-/npm/v1/attestations/{}@{version}", package.escaped()));
            let added = json(&Added {
                deprecated: it.deprecated.as_deref(),
                dist: Dist {
                    integrity: it.integrity,
                    shasum: it.shasum,
                    tarball: tarball(version).as_str(),
                    file_count: it.files,
                    unpacked_size: it.unpacked_bytes,
                    attestations: provenance.map(|it| Attestations {
                        url: attestations_url.as_str(),
                        provenance: Provenance { predicate_type: &it.predicate_type },
                    }),
                    signatures: it.signature.as_slice(),
                },
            })?;
            full.insert(version.clone(), joined(&it.full, &added));
            abbreviated.insert(version.clone(), joined(&it.abbreviated, &added));
        }
        let latest = row.tags.get(&DistTag::latest());
        let of_latest = latest.and_then(|latest| versions.get(latest)).map_or("{}", |latest| &latest.full);
        let of_latest = Json::parse(of_latest.as_bytes()).map_err(failed)?;
        let said = |key: &str| of_latest.as_object().and_then(|latest| latest.get(key));

        let name = json(package)?;
        let tags = json(&row.tags)?;
        let modified = json(&row.modified)?;
        let mut time =
            vec![("created".to_owned(), json(&row.created)?), ("modified".to_owned(), modified.clone())];
        for (version, it) in versions {
            time.push((version.to_string(), json(&it.published)?));
        }
        let mut members = vec![("_id", name.clone()), ("_rev", json(&row.rev())?), ("name", name.clone())];
        for key in OF_LATEST {
            if let Some(value) = said(key) {
                members.push((key, json(value)?));
            }
        }
        members.push(("dist-tags", tags.clone()));
        members.push(("versions", object(&full)));
        members.push(("time", object(time.iter().map(|(key, value)| (key, value)))));
        let full_body = object(members.iter().map(|(key, value)| (key, value)));
        let abbreviated_body = object([
            ("name", &name),
            ("modified", &modified),
            ("dist-tags", &tags),
            ("versions", &object(&abbreviated)),
        ]);
        let keywords = match said("keywords") {
            Some(Json::List(keywords)) => keywords.as_slice(),
            _ => &[],
        };
        // npm's search reads `maintainers` without looking whether it is there.
        let mut found = vec![("name", name), ("date", modified), ("maintainers", "[]".to_owned())];
        if let Some(version) = latest.or(versions.keys().next_back()) {
            found.push(("version", json(version)?));
        }
        for key in ["description", "keywords"] {
            if let Some(value) = said(key) {
                found.push((key, json(value)?));
            }
        }
        Ok(Self {
            full: Representation::new(full_body),
            abbreviated: Representation::new(abbreviated_body),
            tags: tags.into(),
            artifacts: versions.iter().map(|(version, row)| (version.clone(), row.artifact())).collect(),
            attestations: versions
                .iter()
                .map(|(version, row)| (version.clone(), row.attestations.clone()))
                .collect(),
            dist_tags: row.tags.clone(),
            searched: [Some(package.as_str()), said("description").and_then(Json::as_text)]
                .into_iter()
                .flatten()
                .chain(keywords.iter().filter_map(Json::as_text))
                .flat_map(|text| [text, " "])
                .collect::<String>()
                .to_lowercase(),
            found: object(found.iter().map(|(key, value)| (key, value))).into(),
            versions: full.into_iter().map(|(version, document)| (version, document.into())).collect(),
        })
    }

    /// Returns the full metadata of a version, by its number or by a tag.
    pub(crate) fn version(&self, wanted: &str) -> Option<&Bytes> {
        let version = match wanted.parse::<PackageVersion>() {
            Ok(version) => version,
            Err(_) => self.dist_tags.get(&wanted.parse::<DistTag>().ok()?)?.clone(),
        };
        self.versions.get(&version)
    }

    /// Returns whether each word of `text` is in the name, the description or the keywords.
    pub(crate) fn is_found_by(&self, text: &str) -> bool {
        text.to_lowercase().split_whitespace().all(|word| self.searched.contains(word))
    }

    /// Returns about how much memory this takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let bodies = [&self.full, &self.abbreviated].map(|body| body.plain.len() + body.gzip.len());
        let versions: usize = self.versions.values().map(|version| version.len() + 256).sum();
        // An attestation is a digest and a predicate type.
        let attestations: usize = self.attestations.values().map(|them| 64 + them.len() * 160).sum();
        bodies[0] + bodies[1] + versions + attestations + self.tags.len() + self.found.len() + 512
    }
}

impl PackageRow {
    /// Returns the `_rev` of this state, which a client that removes something has to know.
    pub(crate) fn rev(&self) -> String {
        format!("{}-{}", self.revision, &Sha256::of(self.modified.to_string()).to_string()[..16])
    }
}

impl Representation {
    fn new(plain: String) -> Self {
        let digest = &Sha256::of(&plain).to_string()[..32];
        // Digits and letters in quotes are always a header value.
        let etag = |suffix: &str| {
            HeaderValue::from_str(&format!("\"{digest}{suffix}\""))
                .unwrap_or(HeaderValue::from_static("\"\""))
        };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing into memory does not fail; were it to, the empty body would never be sent as one.
        let gzip = encoder.write_all(plain.as_bytes()).and_then(|()| encoder.finish()).unwrap_or_default();
        Self { etag: etag(""), gzip_etag: etag("-gzip"), gzip: gzip.into(), plain: plain.into() }
    }
}

/// What the registry says about a version, beside what its tarball says.
#[derive(Serialize)]
struct Added<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecated: Option<&'a str>,
    dist: Dist<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dist<'a> {
    integrity: Integrity,
    shasum: Shasum,
    tarball: &'a str,
    file_count: u64,
    unpacked_size: u64,
    /// Only what stock npm can verify: it takes anything else for tampering.
    #[serde(skip_serializing_if = "Option::is_none")]
    attestations: Option<Attestations<'a>>,
    #[serde(skip_serializing_if = "<[Signature]>::is_empty")]
    signatures: &'a [Signature],
}

/// Where a version's attestations are, as npm looks for them.
#[derive(Serialize)]
struct Attestations<'a> {
    url: &'a str,
    provenance: Provenance<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Provenance<'a> {
    predicate_type: &'a str,
}

/// Joins two JSON objects that have at least a member each. They are not parsed: for a package of a thousand
/// versions that would be most of the work.
fn joined(first: &str, second: &str) -> String {
    format!("{},{}", first.strip_suffix('}').unwrap_or(first), second.strip_prefix('{').unwrap_or(second))
}

/// Makes a JSON object of keys that need no escape and values that are JSON already.
fn object<K: std::fmt::Display, V: AsRef<str>>(members: impl IntoIterator<Item = (K, V)>) -> String {
    let mut text = String::from("{");
    for (key, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&format!("\"{key}\":"));
        text.push_str(value.as_ref());
    }
    text.push('}');
    text
}

/// What can be written as JSON, whatever its type.
trait ToJson {
    fn to_json(&self) -> Result<String, serde_json::Error>;
}

impl<T: Serialize> ToJson for T {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn row(version: &str, deprecated: Option<&str>) -> VersionRow {
        let full = json!({"name": "@acme/core", "version": version, "description": version, "main": "a.js"});
        let abbreviated = json!({"name": "@acme/core", "version": version});
        VersionRow {
            published: "2026-01-02T03:04:05Z".parse().expect("time"),
            jti: "jti".to_owned(),
            sha256: Sha256::of(version),
            size_bytes: 5,
            integrity: Integrity::of(version),
            shasum: Shasum::from_bytes([1; 20]),
            files: 2,
            unpacked_bytes: 7,
            deprecated: deprecated.map(str::to_owned),
            signature: None,
            attestations: Vec::new(),
            full: full.to_string(),
            abbreviated: abbreviated.to_string(),
        }
    }

    fn rendered(versions: &[(&str, Option<&str>)], latest: &str) -> Rendered {
        let name = "@acme/core".parse().expect("name");
        let url = "https://npm.example/repository/npm/".parse().expect("url");
        let package = PackageRow {
            revision: 3,
            created: "2026-01-01T00:00:00Z".parse().expect("time"),
            modified: "2026-01-02T03:04:05Z".parse().expect("time"),
            tags: BTreeMap::from([(DistTag::latest(), latest.parse().expect("version"))]),
        };
        let versions = versions
            .iter()
            .map(|(version, deprecated)| (version.parse().expect("version"), row(version, *deprecated)));
        Rendered::new(&name, &package, &versions.collect(), &url).expect("rendered")
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("json")
    }

    #[test]
    fn the_full_form() {
        let rendered = rendered(&[("1.0.0", Some("use \"2\"")), ("1.1.0", None)], "1.1.0");
        let full = json(&rendered.full.plain);
        assert!(full["_rev"].as_str().is_some_and(|rev| rev.starts_with("3-")));
        assert_eq!(full["description"], "1.1.0");
        assert_eq!(full["dist-tags"], json!({"latest": "1.1.0"}));
        assert_eq!(
            full["time"],
            json!({
                "created": "2026-01-01T00:00:00Z", "modified": "2026-01-02T03:04:05Z",
                "1.0.0": "2026-01-02T03:04:05Z", "1.1.0": "2026-01-02T03:04:05Z",
            })
        );
        assert_eq!(
            full["versions"]["1.0.0"],
            json!({
                "name": "@acme/core", "version": "1.0.0", "description": "1.0.0", "main": "a.js",
                "deprecated": "use \"2\"",
                "dist": {
                    "integrity": Integrity::of("1.0.0"), "shasum": "01".repeat(20), "fileCount": 2,
                    "unpackedSize": 7,
                    "tarball": "https://npm.example/repository/npm/@acme/core/-/core-1.0.0.tgz",
                },
            })
        );
        assert!(full["versions"]["1.1.0"].get("deprecated").is_none());
    }

    #[test]
    fn what_is_signed_is_shown_and_only_what_npm_verifies() {
        let name = "@acme/core".parse().expect("name");
        let url = "https://npm.example/repository/npm/".parse().expect("url");
        let time: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        let package = PackageRow { revision: 1, created: time, modified: time, tags: BTreeMap::new() };
        let attestation = |predicate_type: &str, npm| Attestation {
            predicate_type: predicate_type.to_owned(),
            sha256: Sha256::of("a"),
            size_bytes: 1,
            npm,
        };
        let dist = |attestations: Vec<Attestation>| {
            let signature = Some(Signature { keyid: "SHA256:k".to_owned(), sig: "MEUC".to_owned() });
            let row = VersionRow { signature, attestations, ..row("1.0.0", None) };
            let versions = BTreeMap::from([("1.0.0".parse().expect("version"), row)]);
            let rendered = Rendered::new(&name, &package, &versions, &url).expect("rendered");
            let full = json(&rendered.full.plain)["versions"]["1.0.0"]["dist"].take();
            assert_eq!(full, json(&rendered.abbreviated.plain)["versions"]["1.0.0"]["dist"]);
            full
        };
        let provenance = "https://slsa.dev/provenance/v1";
        let shown = dist(vec![attestation("https://example/other", true), attestation(provenance, true)]);
        assert_eq!(shown["signatures"], json!([{"keyid": "SHA256:k", "sig": "MEUC"}]));
        assert_eq!(
            shown["attestations"],
            json!({
                "url": "https://npm.example/repository/npm/-/npm/v1/attestations/@acme%2fcore@1.0.0",
                "provenance": {"predicateType": provenance},
            })
        );
        for attestations in [vec![], vec![attestation(provenance, false)]] {
            assert!(dist(attestations).get("attestations").is_none());
        }
    }

    #[test]
    fn the_abbreviated_form() {
        let rendered = rendered(&[("1.0.0", None)], "1.0.0");
        let mut abbreviated = json(&rendered.abbreviated.plain);
        assert!(abbreviated["versions"]["1.0.0"]["dist"].take().is_object());
        assert_eq!(
            abbreviated,
            json!({
                "name": "@acme/core", "modified": "2026-01-02T03:04:05Z", "dist-tags": {"latest": "1.0.0"},
                "versions": {"1.0.0": {"name": "@acme/core", "version": "1.0.0", "dist": null}},
            })
        );
    }

    #[test]
    fn gzip_holds_the_same_under_its_own_etag() {
        let rendered = rendered(&[("1.0.0", None)], "1.0.0");
        for body in [&rendered.full, &rendered.abbreviated] {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(body.gzip.as_ref()).read_to_end(&mut unpacked).expect("gzip");
            assert_eq!(unpacked, body.plain);
            assert_ne!(body.etag, body.gzip_etag);
        }
        assert_ne!(rendered.full.etag, rendered.abbreviated.etag);
    }

    #[test]
    fn versions_by_number_and_tag() {
        let rendered = rendered(&[("1.0.0", None), ("1.1.0-rc.1", None)], "1.0.0");
        assert_eq!(json(rendered.version("latest").expect("latest"))["version"], "1.0.0");
        assert_eq!(json(rendered.version("1.1.0-rc.1").expect("version"))["version"], "1.1.0-rc.1");
        for missing in ["2.0.0", "next", "^1", "1.x", "", "__proto__"] {
            assert!(rendered.version(missing).is_none(), "{missing}");
        }
        assert_eq!(json(&rendered.found)["version"], "1.0.0");
    }

    #[test]
    fn rows_that_are_not_json_are_an_error() {
        let name = "@acme/core".parse().expect("name");
        let url = "https://npm.example/".parse().expect("url");
        let time: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        let tags = BTreeMap::from([(DistTag::latest(), "1.0.0".parse().expect("version"))]);
        let package = PackageRow { revision: 1, created: time, modified: time, tags };
        for broken in ["", "{", "x}"] {
            let versions = BTreeMap::from([(
                "1.0.0".parse().expect("version"),
                VersionRow { full: broken.to_owned(), ..row("1.0.0", None) },
            )]);
            assert!(Rendered::new(&name, &package, &versions, &url).is_err(), "{broken}");
        }
    }
}
