//! Tarballs and publish documents, made by hand as any client could.

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use sha1::Digest as _;

/// Packs a package whose one file holds `payload`.
pub(crate) fn tarball(name: &str, version: &str, payload: &[u8]) -> Vec<u8> {
    let manifest = format!("{{\"name\": \"{name}\", \"version\": \"{version}\", \"main\": \"index.js\"}}");
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in [("package/package.json", manifest.as_bytes()), ("package/index.js", payload)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(499_162_500);
        archive.append_data(&mut header, path, content).expect("append");
    }
    archive.into_inner().expect("tar").finish().expect("gzip")
}

pub(crate) fn integrity(tarball: &[u8]) -> String {
    format!("sha512-{}", STANDARD.encode(sha2::Sha512::digest(tarball)))
}

/// The document of `PUT /<package>`, as npm sends it.
pub(crate) fn publish(name: &str, version: &str, tag: &str, tarball: &[u8]) -> Vec<u8> {
    let base = name.rsplit('/').next().expect("name");
    let shasum: String = sha1::Sha1::digest(tarball).iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!({
        "_id": name,
        "name": name,
        "dist-tags": {tag: version},
        "versions": {version: {
            "name": name,
            "version": version,
            "main": "index.js",
            "_id": format!("{name}@{version}"),
            "dist": {
                "integrity": integrity(tarball),
                "shasum": shasum,
                "tarball": format!("http://registry.example/{name}/-/{base}-{version}.tgz"),
            },
        }},
        "access": null,
        "_attachments": {format!("{name}-{version}.tgz"): {
            "content_type": "application/octet-stream",
            "data": STANDARD.encode(tarball),
            "length": tarball.len(),
        }},
    })
    .to_string()
    .into_bytes()
}
