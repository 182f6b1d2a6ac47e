//! SPDX JSON 2.3 (ISO/IEC 5962 describes 2.2.1): <https://spdx.github.io/spdx-spec/v2.3/>.
//!
//! The files that are shipped stand in `files`. What each was made of stands in the CycloneDX document alone: SPDX 2.3
//! asks for a SHA-1 of every file it names, and the source is not the reader's to hash.

use std::collections::{BTreeMap, HashSet};

use protected_model::{
    digest::Shasum,
    integrity::{FileDigest, canonical},
};
use serde::Serialize;

use super::{
    About,
    cyclonedx::{UNKNOWN, uuid_of},
    graph::{Algorithm, Component, Graph, Scope},
    licence::Licence,
    lock::Origin,
    manifest::Party,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    document_describes: Vec<String>,
    packages: Vec<Package>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<File>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    has_extracted_licensing_infos: Vec<Extracted>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
    license_list_version: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<String>,
    supplier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    originator: Option<String>,
    download_location: String,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_verification_code: Option<VerificationCode>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    license_info_from_files: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<String>,
    license_concluded: String,
    license_declared: String,
    copyright_text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    external_refs: Vec<ExternalRef>,
    primary_package_purpose: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerificationCode {
    package_verification_code_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(rename = "SPDXID")]
    id: String,
    file_name: String,
    checksums: [Checksum; 2],
    license_concluded: &'static str,
    license_info_in_files: [&'static str; 1],
    copyright_text: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extracted {
    license_id: String,
    name: String,
    extracted_text: String,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

impl Graph {
    /// Writes an SPDX document as canonical JSON (RFC 8785).
    pub fn spdx(&self, about: &About<'_>) -> Vec<u8> {
        let root = self.root();
        let mut taken = HashSet::new();
        let ids: Vec<String> = self.components.iter().map(|component| id(component, &mut taken)).collect();
        let files = files(about, &mut taken);
        let mut extracted: BTreeMap<String, String> = BTreeMap::new();
        let packages = self.components.iter().zip(&ids).enumerate();
        let packages: Vec<Package> = packages
            .map(|(index, (component, id))| {
                let mut package = package(component, id.clone(), &mut extracted);
                if let Some(artifact) = about.artifact.filter(|_| index == 0) {
                    package.checksums = vec![
                        Checksum { algorithm: "SHA256", checksum_value: artifact.sha256.to_string() },
                        Checksum { algorithm: "SHA512", checksum_value: artifact.integrity.hex() },
                    ];
                }
                if index == 0 && !files.is_empty() {
                    package.files_analyzed = true;
                    let package_verification_code_value = verification_code(about.sha1);
                    package.package_verification_code =
                        Some(VerificationCode { package_verification_code_value });
                    package.license_info_from_files = vec![UNKNOWN];
                }
                package
            })
            .collect();
        let tool = format!("Tool: protected-registry-{}", about.tool_version);
        let author = root.author.as_ref().map(|author| party("Organization", author));
        let comment = (!self.gaps.is_empty()).then(|| format!("Incomplete: {}", self.gaps.join("; ")));
        let mut document = Document {
            spdx_version: "SPDX-2.3",
            data_license: "CC0-1.0",
            id: "SPDXRef-DOCUMENT",
            name: format!("{}@{}", root.name, root.version),
            document_namespace: String::new(),
            creation_info: CreationInfo {
                created: about.created.to_string(),
                creators: std::iter::once(tool).chain(author).collect(),
                // Without its last part, as the specification has it.
                license_list_version: spdx::license_version()
                    .rsplit_once('.')
                    .map_or("", |(list, _)| list)
                    .to_owned(),
            },
            comment,
            document_describes: vec![ids[0].clone()],
            packages,
            has_extracted_licensing_infos: extracted
                .into_iter()
                .map(|(license_id, text)| Extracted { license_id, name: text.clone(), extracted_text: text })
                .collect(),
            relationships: self.relationships(&ids, &files),
            files,
        };
        // The namespace of a document that is made of its content stays when the content does.
        let uuid = uuid_of(&document);
        let name = root.name.trim_start_matches('@').replace('/', "-");
        let name = format!("{}-{}", simple(&name), simple(&root.version));
        document.document_namespace = format!("https://spdx.org/spdxdocs/{name}-{uuid}");
        canonical(&document)
    }

    fn relationships(&self, ids: &[String], files: &[File]) -> Vec<Relationship> {
        let relate = |from: &str, kind, to: &str| Relationship {
            spdx_element_id: from.to_owned(),
            relationship_type: kind,
            related_spdx_element: to.to_owned(),
        };
        let mut all = vec![relate("SPDXRef-DOCUMENT", "DESCRIBES", &ids[0])];
        all.extend(files.iter().map(|file| relate(&ids[0], "CONTAINS", &file.id)));
        for (from, needs) in self.edges.iter().enumerate() {
            all.extend(needs.iter().map(|(to, scope)| match scope {
                Scope::Required => relate(&ids[from], "DEPENDS_ON", &ids[*to]),
                Scope::Optional => relate(&ids[*to], "OPTIONAL_DEPENDENCY_OF", &ids[from]),
                Scope::Development => relate(&ids[*to], "DEV_DEPENDENCY_OF", &ids[from]),
            }));
        }
        all.sort();
        all
    }
}

/// Returns an identifier for a component, in the letters that SPDX allows.
fn id(component: &Component, taken: &mut HashSet<String>) -> String {
    unique(format!("SPDXRef-{}-{}", simple(&component.name), simple(&component.version)), taken)
}

fn unique(base: String, taken: &mut HashSet<String>) -> String {
    let mut id = base.clone();
    let mut count = 1;
    while !taken.insert(id.clone()) {
        count += 1;
        id = format!("{base}-{count}");
    }
    id
}

/// The files that are shipped; none where the SHA-1 of one is not known.
fn files(about: &About<'_>, taken: &mut HashSet<String>) -> Vec<File> {
    let file = |file: &FileDigest| {
        let sha1 = about.sha1.get(&file.path)?.to_string();
        Some(File {
            id: unique(format!("SPDXRef-File-{}", simple(&file.path)), taken),
            file_name: format!("./{}", file.path),
            checksums: [
                Checksum { algorithm: "SHA1", checksum_value: sha1 },
                Checksum { algorithm: "SHA256", checksum_value: file.sha256.to_string() },
            ],
            license_concluded: UNKNOWN,
            license_info_in_files: [UNKNOWN],
            copyright_text: UNKNOWN,
        })
    };
    about.files.iter().map(file).collect::<Option<_>>().unwrap_or_default()
}

/// One digest for all files: that of their digests, sorted (SPDX 2.3, section 7.9).
pub(crate) fn verification_code(sha1: &BTreeMap<String, Shasum>) -> String {
    let mut sums: Vec<String> = sha1.values().map(ToString::to_string).collect();
    sums.sort();
    hex::encode(<sha1::Sha1 as sha1::Digest>::digest(sums.concat()))
}

/// Letters, digits, `.` and `-` alone.
fn simple(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect::<String>()
}

fn package(component: &Component, id: String, extracted: &mut BTreeMap<String, String>) -> Package {
    let licence = component.licence.as_ref().map(|licence| match licence {
        Licence::Id(text) => text.clone(),
        Licence::Expression(text) => {
            // An identifier of the author's own has to be explained in the document.
            let own = |word: &&str| word.starts_with("LicenseRef-");
            for name in text.split(|c: char| c.is_whitespace() || "()".contains(c)).filter(own) {
                extracted.entry(name.to_owned()).or_insert_with(|| name.to_owned());
            }
            text.clone()
        }
        Licence::Name(text) => {
            let id = format!("LicenseRef-{}", simple(text).chars().take(60).collect::<String>());
            let mut unique = id.clone();
            let mut count = 1;
            while extracted.get(&unique).is_some_and(|known| known != text) {
                count += 1;
                unique = format!("{id}-{count}");
            }
            extracted.insert(unique.clone(), text.clone());
            unique
        }
    });
    let (declared, concluded) = match (licence, component.licence_is_concluded) {
        (Some(licence), true) => (UNKNOWN.to_owned(), licence),
        (Some(licence), false) => (licence, UNKNOWN.to_owned()),
        (None, _) => (UNKNOWN.to_owned(), UNKNOWN.to_owned()),
    };
    let download = match &component.origin {
        Origin::Registry(Some(url)) | Origin::Tarball(url) => url.clone(),
        // SPDX writes `git+scheme://host/path`, and knows no `git@host:path`.
        Origin::Git(url) if url.starts_with("git+") && url.contains("://") => url.clone(),
        Origin::Git(_) | Origin::Registry(None) | Origin::Local => UNKNOWN.to_owned(),
    };
    let checksum = |(algorithm, value): (&Algorithm, &String)| Checksum {
        algorithm: match algorithm {
            Algorithm::Sha512 => "SHA512",
            Algorithm::Sha384 => "SHA384",
            Algorithm::Sha256 => "SHA256",
            Algorithm::Sha1 => "SHA1",
        },
        checksum_value: value.clone(),
    };
    let purl = ExternalRef {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: component.purl.clone(),
    };
    Package {
        id,
        name: component.name.clone(),
        version_info: Some(component.version.clone()).filter(|version| !version.is_empty()),
        supplier: component
            .supplier
            .as_ref()
            .map_or_else(|| UNKNOWN.to_owned(), |supplier| party("Organization", supplier)),
        originator: component.author.as_ref().map(|author| party("Person", author)),
        download_location: download,
        files_analyzed: false,
        package_verification_code: None,
        license_info_from_files: Vec::new(),
        checksums: component.hashes.iter().map(checksum).collect(),
        homepage: component.homepage.clone(),
        license_concluded: concluded,
        license_declared: declared,
        copyright_text: component.copyright.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        description: component.description.clone(),
        external_refs: vec![purl],
        primary_package_purpose: "LIBRARY",
    }
}

/// Writes somebody as SPDX does: `Person: Name (email)`. Parentheses hold the address alone.
fn party(kind: &str, party: &Party) -> String {
    let name: String = party.name.chars().filter(|c| !"()".contains(*c)).collect();
    let name = if name.trim().is_empty() { UNKNOWN } else { name.trim() };
    match &party.email {
        Some(email) if !email.contains(['(', ')']) => format!("{kind}: {name} ({email})"),
        _ => format!("{kind}: {name}"),
    }
}
