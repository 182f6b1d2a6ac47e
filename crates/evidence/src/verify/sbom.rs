//! Whether a bill of materials is that of the package: its name, its tarball, and every file in it.

use std::collections::BTreeMap;

use protected_model::{
    digest::{Integrity, Sha256, Shasum},
    integrity::FileDigest,
};
use serde::Serialize;
use serde_json::Value;

use super::{Check, Refused};
use crate::{sbom::verification_code, statement::Subject};

/// How deep components are looked into.
const MAX_DEPTH: usize = 16;

/// The package that a bill of materials has to be of.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    /// Its purl and digests.
    pub subject: &'a Subject,
    /// SHA-256 of the tarball.
    pub sha256: &'a Sha256,
    /// SHA-512 of the tarball.
    pub sha512: &'a Integrity,
    /// The files in it.
    pub files: &'a [FileDigest],
    /// SHA-1 of each by its path.
    pub sha1: &'a BTreeMap<String, Shasum>,
}

/// What a bill of materials says, after it was held against the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// `CycloneDX 1.6` or `SPDX-2.3`.
    pub format: String,
    /// How many components it lists.
    pub components: usize,
    /// How many files of the package it accounts for.
    pub files: usize,
    /// Whether it lists files at all, as an SPDX document need not.
    pub lists_files: bool,
}

/// Holds a CycloneDX or SPDX document (JSON) against a package: the root component's purl, the tarball's digests, and
/// every file with its digest; a file that is listed and not there is refused as one that is there and not listed.
///
/// # Errors
/// The first thing that is not as it has to be.
pub fn sbom(document: &Value, package: &Package<'_>) -> Result<Counted, Refused> {
    match document.get("bomFormat").and_then(Value::as_str) {
        Some("CycloneDX") => cyclonedx(document, package),
        _ if document.get("spdxVersion").is_some() => spdx(document, package),
        _ => Err(refuse("a CycloneDX or SPDX document", "neither")),
    }
}

fn refuse(expected: impl Into<String>, found: impl Into<String>) -> Refused {
    Refused::new(Check::Sbom, expected, found)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn cyclonedx(document: &Value, package: &Package<'_>) -> Result<Counted, Refused> {
    let root = document.pointer("/metadata/component").ok_or_else(|| refuse("a root component", "none"))?;
    purl(text(root, "purl"), package)?;
    let digests = list(root, "hashes").iter().map(|hash| (text(hash, "alg"), text(hash, "content")));
    tarball(digests, package)?;
    let mut listed = BTreeMap::new();
    files(root, 0, &mut listed)?;
    accounted(&listed, package)?;
    Ok(Counted {
        format: format!("CycloneDX {}", text(document, "specVersion")),
        components: list(document, "components").len(),
        files: package.files.len(),
        lists_files: true,
    })
}

/// Collects the files within a component that have a digest: those that are shipped. A source file that went into one
/// has none, because it is not shipped.
fn files<'a>(
    component: &'a Value,
    depth: usize,
    into: &mut BTreeMap<&'a str, &'a str>,
) -> Result<(), Refused> {
    if depth > MAX_DEPTH {
        return Err(refuse(format!("components at most {MAX_DEPTH} deep"), "deeper ones"));
    }
    for part in list(component, "components") {
        let digest = list(part, "hashes").iter().find(|hash| text(hash, "alg") == "SHA-256");
        if let (Some(digest), "file") = (digest, text(part, "type")) {
            let name = text(part, "name");
            if into.insert(name, text(digest, "content")).is_some() {
                return Err(refuse(format!("`{name}` once"), "twice"));
            }
        }
        files(part, depth + 1, into)?;
    }
    Ok(())
}

fn accounted(listed: &BTreeMap<&str, &str>, package: &Package<'_>) -> Result<(), Refused> {
    for file in package.files {
        let expected = format!("`{}` with SHA-256 {}", file.path, file.sha256);
        match listed.get(file.path.as_str()) {
            Some(digest) if *digest == file.sha256.to_string() => {}
            Some(digest) => return Err(refuse(expected, format!("SHA-256 {digest}"))),
            None => return Err(refuse(expected, "a bill of materials without it")),
        }
    }
    let there = |path: &str| package.files.iter().any(|file| file.path == path);
    match listed.keys().find(|path| !there(path)) {
        Some(path) => Err(refuse("files of the package alone", format!("`{path}`, which is not in it"))),
        None => Ok(()),
    }
}

fn spdx(document: &Value, package: &Package<'_>) -> Result<Counted, Refused> {
    let described = list(document, "documentDescribes").first().and_then(Value::as_str);
    let related = list(document, "relationships")
        .iter()
        .find(|it| text(it, "relationshipType") == "DESCRIBES")
        .map(|it| text(it, "relatedSpdxElement"));
    let id = described.or(related).ok_or_else(|| refuse("a package that the document describes", "none"))?;
    let packages = list(document, "packages");
    let root = packages
        .iter()
        .find(|it| text(it, "SPDXID") == id)
        .ok_or_else(|| refuse(format!("the package `{id}`, which is described"), "none"))?;
    let reference = list(root, "externalRefs").iter().find(|it| text(it, "referenceType") == "purl");
    purl(reference.map_or("", |it| text(it, "referenceLocator")), package)?;
    let digests =
        list(root, "checksums").iter().map(|sum| (text(sum, "algorithm"), text(sum, "checksumValue")));
    tarball(digests, package)?;
    let mut listed = BTreeMap::new();
    for file in list(document, "files") {
        let name = text(file, "fileName");
        let name = name.strip_prefix("./").unwrap_or(name);
        let digest = |algorithm: &str| {
            let sum = list(file, "checksums").iter().find(|sum| text(sum, "algorithm") == algorithm)?;
            Some(text(sum, "checksumValue"))
        };
        if let (Some(found), Some(known)) = (digest("SHA1"), package.sha1.get(name))
            && found != known.to_string()
        {
            return Err(refuse(format!("`{name}` with SHA-1 {known}"), format!("SHA-1 {found}")));
        }
        // Attack: a file by its SHA-1 alone, which is all that the specification asks for.
        if digest("SHA1").is_some() && !package.sha1.contains_key(name) {
            return Err(refuse("files of the package alone", format!("`{name}`, which is not in it")));
        }
        if let Some(digest) = digest("SHA256")
            && listed.insert(name, digest).is_some()
        {
            return Err(refuse(format!("`{name}` once"), "twice"));
        }
    }
    let lists_files = !listed.is_empty();
    if lists_files {
        accounted(&listed, package)?;
    }
    let code = root.pointer("/packageVerificationCode/packageVerificationCodeValue").and_then(Value::as_str);
    let expected = verification_code(package.sha1);
    if let Some(code) = code.filter(|code| lists_files && *code != expected) {
        return Err(refuse(format!("the verification code {expected} of its files"), code));
    }
    Ok(Counted {
        format: text(document, "spdxVersion").to_owned(),
        components: packages.len().saturating_sub(1),
        files: listed.len(),
        lists_files,
    })
}

fn purl(found: &str, package: &Package<'_>) -> Result<(), Refused> {
    let expected = &package.subject.name;
    if found == expected {
        return Ok(());
    }
    let found = if found.is_empty() { "none" } else { found };
    Err(refuse(format!("a bill of materials of {expected}"), format!("one of {found}")))
}

/// Every digest of the tarball that is there has to be its own, and one has to be there.
fn tarball<'a>(
    digests: impl Iterator<Item = (&'a str, &'a str)>,
    package: &Package<'_>,
) -> Result<(), Refused> {
    let mut seen = false;
    for (algorithm, digest) in digests {
        let expected = match algorithm {
            "SHA-256" | "SHA256" => package.sha256.to_string(),
            "SHA-512" | "SHA512" => package.sha512.hex(),
            _ => continue,
        };
        if digest != expected {
            return Err(refuse(format!("the tarball's {algorithm} {expected}"), digest));
        }
        seen = true;
    }
    if seen { Ok(()) } else { Err(refuse("the tarball's SHA-256 or SHA-512", "neither")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Holds `document` against a package of two files.
    fn held(document: &Value) -> Result<Counted, Refused> {
        let (name, version) = ("@acme/core".parse().expect("name"), "1.2.3".parse().expect("version"));
        let (sha256, sha512) = (Sha256::of("a"), Integrity::of("a"));
        let subject = Subject::npm(&name, &version, &sha256, &sha512);
        let file = |path: &str| FileDigest {
            path: path.to_owned(),
            sha256: Sha256::of(path),
            size: 1,
            mode: "0644".to_owned(),
        };
        let files = [file("index.js"), file("package.json")];
        let sha1 = sha1();
        let package =
            Package { subject: &subject, sha256: &sha256, sha512: &sha512, files: &files, sha1: &sha1 };
        sbom(document, &package)
    }

    /// SHA-1 of both files.
    fn sha1() -> BTreeMap<String, Shasum> {
        let sum = |digit: u8| Shasum::from_bytes([digit; 20]);
        [("index.js".to_owned(), sum(2)), ("package.json".to_owned(), sum(1))].into()
    }

    fn bom() -> Value {
        let file = |path: &str| {
            json!({
                "type": "file", "name": path,
                "hashes": [{"alg": "SHA-256", "content": Sha256::of(path)}],
                "components": [{"type": "file", "name": format!("src/{path}")}],
            })
        };
        json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6",
            "metadata": {"component": {
                "purl": "pkg:npm/%40acme/core@1.2.3",
                "hashes": [{"alg": "SHA-256", "content": Sha256::of("a")}, {"alg": "SHA-512", "content": Integrity::of("a").hex()}],
                "components": [file("index.js"), file("package.json")],
            }},
            "components": [{"name": "left-pad"}],
        })
    }

    fn spdx_document() -> Value {
        let file = |path: &str| {
            json!({"fileName": format!("./{path}"), "checksums": [
                {"algorithm": "SHA1", "checksumValue": sha1()[path]},
                {"algorithm": "SHA256", "checksumValue": Sha256::of(path)},
            ]})
        };
        json!({
            "spdxVersion": "SPDX-2.3", "documentDescribes": ["SPDXRef-core"],
            "files": [file("index.js"), file("package.json")],
            "packages": [{
                "SPDXID": "SPDXRef-core",
                "packageVerificationCode": {"packageVerificationCodeValue": verification_code(&sha1())},
                "externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:npm/%40acme/core@1.2.3"}],
                "checksums": [{"algorithm": "SHA256", "checksumValue": Sha256::of("a")}],
            }, {"SPDXID": "SPDXRef-left-pad"}],
        })
    }

    #[test]
    fn counts_what_it_accounts_for() {
        let counted = held(&bom()).expect("CycloneDX");
        let expected = (String::from("CycloneDX 1.6"), 1, 2, true);
        assert_eq!((counted.format, counted.components, counted.files, counted.lists_files), expected);
        let counted = held(&spdx_document()).expect("SPDX");
        let expected = (String::from("SPDX-2.3"), 1, 2, true);
        assert_eq!((counted.format, counted.components, counted.files, counted.lists_files), expected);
        // Those of others may list none.
        let mut without = spdx_document();
        without["files"] = json!([]);
        let counted = held(&without).expect("SPDX");
        let expected = (String::from("SPDX-2.3"), 1, 0, false);
        assert_eq!((counted.format, counted.components, counted.files, counted.lists_files), expected);
    }

    #[test]
    fn refuses_what_is_not_the_packages() {
        let root = "/metadata/component";
        for (pointer, lie) in [
            ("/bomFormat", json!("other")),
            (&format!("{root}/purl") as &str, json!("pkg:npm/%40acme/core@1.2.4")),
            (&format!("{root}/hashes/0/content"), json!(Sha256::of("b"))),
            (&format!("{root}/hashes/1/content"), json!(Integrity::of("b").hex())),
            (&format!("{root}/hashes"), json!([])),
            (&format!("{root}/hashes"), json!([{"alg": "MD5", "content": "0"}])),
            (&format!("{root}/components/0/hashes/0/content"), json!(Sha256::of("b"))),
            (&format!("{root}/components/0/name"), json!("other.js")),
            (&format!("{root}/components/0"), json!({"type": "file", "name": "index.js"})),
            (&format!("{root}/components/1"), bom()["metadata"]["component"]["components"][0].clone()),
            ("/metadata", json!({})),
        ] {
            let mut bad = bom();
            *bad.pointer_mut(pointer).expect(pointer) = lie.clone();
            assert_eq!(held(&bad).expect_err("CycloneDX").check, Check::Sbom, "{pointer} {lie}");
        }
        let mut more = bom();
        let files = more.pointer_mut("/metadata/component/components").and_then(Value::as_array_mut);
        files
            .expect("files")
            .push(json!({"type": "file", "name": "more.js", "hashes": [{"alg": "SHA-256", "content": "0"}]}));
        let refused = held(&more).expect_err("a file too many");
        assert_eq!(refused.found, "`more.js`, which is not in it");
        for (pointer, lie) in [
            ("/packages/0/SPDXID", json!("SPDXRef-other")),
            ("/packages/0/externalRefs", json!([])),
            ("/packages/0/externalRefs/0/referenceLocator", json!("pkg:npm/other@1.2.3")),
            ("/packages/0/checksums/0/checksumValue", json!(Sha256::of("b"))),
            ("/packages/0/checksums", json!([])),
            ("/documentDescribes", json!([])),
            ("/files/0/fileName", json!("./other.js")),
            ("/files/0/checksums/0/checksumValue", json!("0".repeat(40))),
            ("/files/0/checksums/1/checksumValue", json!(Sha256::of("b"))),
            ("/files/1/checksums/1/algorithm", json!("SHA512")),
            ("/files/1", spdx_document()["files"][0].clone()),
            ("/packages/0/packageVerificationCode/packageVerificationCodeValue", json!("0".repeat(40))),
        ] {
            let mut bad = spdx_document();
            *bad.pointer_mut(pointer).expect(pointer) = lie.clone();
            assert_eq!(held(&bad).expect_err("SPDX").check, Check::Sbom, "{pointer} {lie}");
        }
    }
}
