//! Tarballs that somebody else packed: read within limits, refused where a client would be fooled.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use protected_model::{digest::Sha256, integrity::FileDigest};

/// The largest tarball that is published.
pub const MAX_TARBALL_BYTES: u64 = 512 * 1024 * 1024;

/// How much is unpacked. A gzip bomb of 10 MB unpacks to 10 GB: reading stops here.
const LIMITS: Limits = Limits { unpacked_bytes: 2 * 1024 * 1024 * 1024, entries: 100_000 };

#[derive(Clone, Copy)]
struct Limits {
    unpacked_bytes: u64,
    entries: usize,
}

/// Why a tarball is refused.
#[derive(Debug, thiserror::Error)]
pub enum TarballError {
    /// It is no gzip or no tar.
    #[error("it is not a gzipped tarball")]
    Malformed(#[source] io::Error),
    /// It unpacks to too much.
    #[error("it unpacks to more than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// It has too many entries.
    #[error("it has more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// An entry is a link, a device or another thing that is not a file or a folder.
    #[error("`{path}` is {kind}, and only files and folders may be published")]
    NotAFile {
        /// The entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// An entry would be written outside the package.
    #[error("the name `{path}` is absolute, leaves the package, or is not UTF-8")]
    Escapes {
        /// The entry.
        path: String,
    },
    /// Two entries have one name, so that two clients may see two packages.
    #[error("`{path}` stands in it twice, or differs from another name in case only")]
    Duplicate {
        /// The second entry.
        path: String,
    },
    /// Entries do not share their first folder.
    #[error("`{path}` is not in the folder `{root}` that the other entries are in")]
    TwoRoots {
        /// The first entry's folder.
        root: String,
        /// The entry outside it.
        path: String,
    },
    /// More follows where the archive ends, and some readers go on.
    #[error("something follows the end of the archive in it")]
    Trailing,
    /// There is no `package/package.json`.
    #[error("it has no package.json")]
    NoManifest,
}

/// Reads `path`, which may not be larger than [`MAX_TARBALL_BYTES`].
pub(crate) fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_TARBALL_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TARBALL_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_TARBALL_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Walks the entries of `bytes`, shows `each` file's path below the package and its content, and returns their
/// digests.
pub(crate) fn inspect(bytes: &[u8], each: impl FnMut(&str, &[u8])) -> Result<Vec<FileDigest>, TarballError> {
    inspect_within(LIMITS, bytes, each)
}

fn inspect_within(
    limits: Limits,
    bytes: &[u8],
    mut each: impl FnMut(&str, &[u8]),
) -> Result<Vec<FileDigest>, TarballError> {
    let too_large = || TarballError::TooLarge { limit_bytes: limits.unpacked_bytes };
    // Node goes on with what follows the first gzip member, and so does this reader.
    let mut archive = tar::Archive::new(MultiGzDecoder::new(bytes).take(limits.unpacked_bytes));
    let mut root: Option<String> = None;
    let mut seen = HashSet::new();
    let mut files = Vec::new();
    let mut unpacked = 0_u64;
    let mut content = Vec::new();
    for (index, entry) in archive.entries().map_err(TarballError::Malformed)?.enumerate() {
        let mut entry = entry.map_err(TarballError::Malformed)?;
        if index >= limits.entries {
            return Err(TarballError::TooMany { limit: limits.entries });
        }
        let shown = String::from_utf8_lossy(&entry.path_bytes()).chars().take(200).collect::<String>();
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue; // `git archive` writes one
        }
        if let Some(kind) = refused(kind) {
            return Err(TarballError::NotAFile { path: shown, kind });
        }
        let escapes = || TarballError::Escapes { path: shown.clone() };
        let path = std::str::from_utf8(&entry.path_bytes()).map_err(|_| escapes())?.to_owned();
        let (first, rest) = below_root(&path).ok_or_else(escapes)?;
        let root = root.get_or_insert_with(|| first.to_owned());
        if root != first {
            return Err(TarballError::TwoRoots { root: root.clone(), path: shown });
        }
        if kind.is_dir() {
            continue;
        }
        if rest.is_empty() {
            return Err(escapes());
        }
        // One case-insensitive disk would hold one file for both names.
        if !seen.insert(rest.to_lowercase()) {
            return Err(TarballError::Duplicate { path: shown });
        }
        unpacked = unpacked.saturating_add(entry.size());
        if unpacked > limits.unpacked_bytes {
            return Err(too_large());
        }
        content.clear();
        entry.read_to_end(&mut content).map_err(TarballError::Malformed)?;
        let mode = if entry.header().mode().map_err(TarballError::Malformed)? & 0o100 == 0 {
            "0644"
        } else {
            "0755"
        };
        let (sha256, size) = (Sha256::of(&content), content.len() as u64);
        files.push(FileDigest { path: rest.to_owned(), sha256, size, mode: mode.to_owned() });
        each(rest, &content);
    }
    // tar pads with zeros.
    let mut rest = archive.into_inner();
    let mut chunk = [0; 16 * 1024];
    loop {
        match rest.read(&mut chunk).map_err(TarballError::Malformed)? {
            0 if rest.limit() == 0 => return Err(too_large()),
            0 => return Ok(files),
            read if chunk[..read].iter().any(|byte| *byte != 0) => return Err(TarballError::Trailing),
            _ => {}
        }
    }
}

fn refused(kind: tar::EntryType) -> Option<&'static str> {
    match kind {
        tar::EntryType::Regular | tar::EntryType::Directory => None,
        tar::EntryType::Symlink => Some("a symbolic link"),
        tar::EntryType::Link => Some("a hard link"),
        tar::EntryType::Block | tar::EntryType::Char => Some("a device"),
        tar::EntryType::Fifo => Some("a pipe"),
        _ => Some("of an unknown kind"),
    }
}

/// Splits a path into the archive's first folder and what is below it. `None`: it is not plainly below.
fn below_root(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let plain = path.split('/').all(|name| !matches!(name, "" | "." | ".."));
    if !plain || path.contains(['\\', '\0']) {
        return None;
    }
    Some(path.split_once('/').unwrap_or((path, "")))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use bytes::Bytes;
    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::pack::{PackError, Packed};

    const MANIFEST: &str = r#"{"name":"@acme/core","version":"1.0.0"}"#;

    /// An archive of entries: kind, name as it is, content or target.
    fn archive(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (kind, name, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            let data = if *kind == tar::EntryType::Regular { content.as_bytes() } else { &[] };
            header.set_size(data.len() as u64);
            // The crate would not write the names of interest.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            if kind.is_symlink() || kind.is_hard_link() {
                header.set_link_name_literal(content).expect("link");
            }
            header.set_cksum();
            archive.append(&header, data).expect("entry");
        }
        archive.into_inner().and_then(GzEncoder::finish).expect("archive")
    }

    fn read(bytes: Vec<u8>) -> Result<Packed, PackError> {
        Packed::from_bytes(Bytes::from(bytes), Path::new("x.tgz"))
    }

    fn refusal(entries: &[(tar::EntryType, &str, &str)]) -> TarballError {
        let file = tar::EntryType::Regular;
        let mut all = vec![(file, "package/package.json", MANIFEST)];
        all.extend_from_slice(entries);
        match read(archive(&all)) {
            Err(PackError::Tarball { source, .. }) => source,
            other => panic!("{entries:?}: {other:?}"),
        }
    }

    #[test]
    fn reads_a_plain_package() {
        let (file, folder) = (tar::EntryType::Regular, tar::EntryType::Directory);
        let packed = read(archive(&[
            (folder, "package/", ""),
            (file, "package/lib/b.js", "b"),
            (file, "package/package.json", MANIFEST),
            (file, "package/README.md", "# Hi"),
        ]))
        .expect("package");
        let paths: Vec<&str> = packed.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["README.md", "lib/b.js", "package.json"]);
        assert_eq!((packed.name.as_str(), packed.manifest["readme"].as_str()), ("@acme/core", Some("# Hi")));
        // As GitHub and some builds name the folder.
        assert!(read(archive(&[(file, "core-main/package.json", MANIFEST)])).is_ok());
    }

    #[test]
    fn refuses_what_is_no_file() {
        use tar::EntryType as Kind;
        for (kind, target, shown) in [
            (Kind::Symlink, "/etc/passwd", "a symbolic link"),
            (Kind::Link, "package/package.json", "a hard link"),
            (Kind::Char, "", "a device"),
            (Kind::Block, "", "a device"),
            (Kind::Fifo, "", "a pipe"),
            (Kind::Continuous, "", "of an unknown kind"),
        ] {
            let refusal = refusal(&[(kind, "package/x", target)]);
            assert!(matches!(refusal, TarballError::NotAFile { kind, .. } if kind == shown), "{refusal}");
        }
    }

    #[test]
    fn refuses_names_that_leave_the_package() {
        let file = tar::EntryType::Regular;
        for name in [
            "package/../evil.js",
            "package/lib/../../evil.js",
            "/package/x",
            "../package/x",
            "package//x",
            "package/./x",
            "package\\x",
            "package/a\\..\\x",
            "package",
        ] {
            let refusal = refusal(&[(file, name, "x")]);
            assert!(matches!(refusal, TarballError::Escapes { .. }), "{name}: {refusal}");
        }
        assert!(matches!(refusal(&[(file, "other/x", "x")]), TarballError::TwoRoots { .. }));
    }

    #[test]
    fn refuses_two_files_of_one_name() {
        let file = tar::EntryType::Regular;
        for name in ["package/package.json", "package/Package.JSON"] {
            let refusal = refusal(&[(file, name, "{}")]);
            assert!(matches!(refusal, TarballError::Duplicate { .. }), "{name}: {refusal}");
        }
    }

    #[test]
    fn refuses_what_is_no_package() {
        let file = tar::EntryType::Regular;
        for bytes in [b"not gzip".to_vec(), Vec::new(), archive(&[]), archive(&[(file, "package/x", "x")])] {
            assert!(matches!(read(bytes), Err(PackError::Tarball { .. })));
        }
        let mut cut = archive(&[(file, "package/package.json", MANIFEST)]);
        cut.truncate(cut.len() / 2);
        assert!(matches!(read(cut), Err(PackError::Tarball { .. })));
        assert!(matches!(
            read(archive(&[(file, "package/package.json", "{\"name\":\"x\"}")])),
            Err(PackError::PackageJson(_))
        ));
    }

    #[test]
    fn sees_what_other_readers_see() {
        let file = tar::EntryType::Regular;
        let plain = |entries: &[(tar::EntryType, &str, &str)]| {
            let mut tar = Vec::new();
            MultiGzDecoder::new(&archive(entries)[..]).read_to_end(&mut tar).expect("tar");
            tar
        };
        let gzip = |tar: &[u8]| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(tar).expect("gzip");
            gzip.finish().expect("gzip")
        };
        let (first, second) =
            (plain(&[(file, "package/package.json", MANIFEST)]), plain(&[(file, "package/evil.js", "evil")]));
        // Behind the end of the archive, in the same gzip member and in another.
        let behind = gzip(&[&first[..], &second[..]].concat());
        let member = [gzip(&first), gzip(&second)].concat();
        for bytes in [behind, member] {
            let error = read(bytes).expect_err("trailing");
            assert!(matches!(error, PackError::Tarball { source: TarballError::Trailing, .. }), "{error}");
        }
        // In another member, before the end.
        let open = &first[..first.len() - 1024];
        let packed = read([gzip(open), gzip(&second)].concat()).expect("package");
        assert_eq!(packed.files.len(), 2);
        // Padding is no content, garbage is no gzip.
        assert!(read(gzip(&[&first[..], &[0; 8192]].concat())).is_ok());
        assert!(read([&gzip(&first)[..], b"garbage"].concat()).is_err());
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let file = tar::EntryType::Regular;
        let limits = Limits { unpacked_bytes: 64 * 1024, entries: 10 };
        let inspect = |bytes: &[u8]| inspect_within(limits, bytes, |_, _| {});
        let half = "x".repeat(40 * 1024);
        assert!(inspect(&archive(&[(file, "package/a", &half)])).is_ok());
        let large = archive(&[(file, "package/a", &half), (file, "package/b", &half)]);
        assert!(matches!(inspect(&large), Err(TarballError::TooLarge { .. })));

        let mut zeros = GzEncoder::new(Vec::new(), Compression::fast());
        zeros.write_all(&vec![0; 1024 * 1024]).expect("zeros");
        let zeros = zeros.finish().expect("zeros");
        assert!(matches!(inspect(&zeros), Err(TarballError::TooLarge { .. })));

        let names: Vec<String> = (0..11).map(|number| format!("package/{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (file, name.as_str(), "")).collect();
        assert!(matches!(inspect(&archive(&many)), Err(TarballError::TooMany { .. })));
    }

    #[test]
    fn what_an_entry_claims_is_not_believed() {
        let mut header = tar::Header::new_ustar();
        header.set_path("package/zeros").expect("path");
        header.set_mode(0o644);
        header.set_size(LIMITS.unpacked_bytes + 1);
        header.set_cksum();
        let mut claims = GzEncoder::new(Vec::new(), Compression::fast());
        claims.write_all(header.as_bytes()).expect("header");
        let error = read(claims.finish().expect("archive")).expect_err("a bomb");
        assert!(matches!(error, PackError::Tarball { source: TarballError::TooLarge { .. }, .. }), "{error}");
    }
}
