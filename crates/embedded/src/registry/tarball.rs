//! The archive of a package: opened and walked to its end before a byte of it is stored.
//!
//! Extractors disagree about archives, and each disagreement is a place to hide a file or to show one manifest
//! to the registry and another to the client. So this accepts the plain form that every packer writes (one
//! gzip member, one `package/` folder, files and folders, pax or GNU long names) and refuses the rest instead
//! of interpreting it.

use std::{
    collections::HashMap,
    io::{self, Read},
};

use flate2::bufread::GzDecoder;
use protected_model::{name::PackageName, version::PackageVersion};
use tar::EntryType;

use super::json::{Json, Object};

/// The folder that holds every file.
const ROOT: &str = "package";
/// The package's own description.
const MANIFEST: &str = "package/package.json";
/// The largest manifest that is read.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// The most files and folders. Attack: a few kilobytes of archive that cost every client a million inodes.
pub(crate) const MAX_ENTRIES: usize = 50_000;
/// The longest path of a file, as most file systems have it.
const MAX_PATH_BYTES: usize = 1024;
/// The largest extension header; a long name is all that it is needed for.
const MAX_EXTENSION_BYTES: u64 = 64 << 10;
/// How much larger than the archive its content may be. Attack: gzip packs zeros a thousandfold, and a
/// megabyte then fills the disk of every client.
const MAX_RATIO: u64 = 100;
/// What [`MAX_RATIO`] never makes less of: small packages of repetitive text.
const MIN_UNPACKED_BYTES: u64 = 16 << 20;
/// What [`MAX_RATIO`] never makes more of.
const MAX_UNPACKED_BYTES: u64 = 512 << 20;

/// What is known of an archive that was walked to its end.
#[derive(Debug)]
pub(crate) struct Inspected {
    /// `package.json`, as it stands in the archive.
    pub(crate) manifest: Vec<u8>,
    /// Files.
    pub(crate) files: u64,
    /// Their sizes together.
    pub(crate) unpacked_bytes: u64,
    /// Whether there is a `binding.gyp`, which npm builds on install without a script.
    pub(crate) native_build: bool,
    /// Whether there is an `npm-shrinkwrap.json`.
    pub(crate) shrinkwrap: bool,
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarballError {
    #[error("the tarball is not one gzip stream with a tar archive in it")]
    Unreadable(#[source] io::Error),
    #[error("the tarball has something after its gzip stream")]
    AfterGzip,
    #[error("the tarball has something after the end of its archive")]
    AfterArchive,
    #[error("the tarball unpacks to more than the {limit} bytes allowed for {packed}")]
    Bomb { limit: u64, packed: u64 },
    #[error("the tarball holds more than {MAX_ENTRIES} files")]
    TooMany,
    #[error("the tarball's `{path}` is {kind}; only files and folders may stand in a package")]
    Kind { path: String, kind: &'static str },
    #[error("the tarball's path `{path}` is refused: {reason}")]
    Path { path: String, reason: &'static str },
    #[error("the tarball's path `{path}` stands twice, or differs from another in case alone")]
    Twice { path: String },
    #[error("the tarball's extension header is refused: {0}")]
    Extension(&'static str),
    #[error("the tarball has no `{MANIFEST}`")]
    NoManifest,
    #[error("the tarball's `package.json` is larger than {MAX_MANIFEST_BYTES} bytes")]
    LargeManifest,
    #[error("the tarball's `package.json` is refused")]
    Manifest(#[source] serde_json::Error),
    #[error("the tarball's `package.json` is not an object")]
    NotObject,
    #[error("the tarball's `package.json` says {field} `{actual}`, and `{expected}` is being published")]
    Other { field: &'static str, actual: String, expected: String },
}

impl Inspected {
    /// Reads the manifest, which must be that of `package` at `version`.
    ///
    /// # Errors
    /// When it does not parse strictly, or is another package's.
    pub(crate) fn manifest(
        &self,
        package: &PackageName,
        version: &PackageVersion,
    ) -> Result<Object<'_>, TarballError> {
        // npm takes a byte order mark before the manifest for nothing.
        let text = self.manifest.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.manifest);
        let Json::Object(manifest) = Json::parse(text).map_err(TarballError::Manifest)? else {
            return Err(TarballError::NotObject);
        };
        for (field, expected) in [("name", package.to_string()), ("version", version.to_string())] {
            let actual = manifest.text(field).unwrap_or("nothing");
            if actual != expected {
                let actual = actual.chars().take(64).collect();
                return Err(TarballError::Other { field, actual, expected });
            }
        }
        Ok(manifest)
    }
}

/// Walks `tarball` to its end. Takes time in proportion to what it unpacks to: `spawn_blocking`.
///
/// # Errors
/// When it is anything but the plain archive of a package.
pub(crate) fn inspect(tarball: &[u8]) -> Result<Inspected, TarballError> {
    let packed = tarball.len() as u64;
    let limit = (packed * MAX_RATIO).clamp(MIN_UNPACKED_BYTES, MAX_UNPACKED_BYTES);
    let mut rest = tarball;
    // One byte more than allowed tells too much from just enough.
    let mut unpacked = GzDecoder::new(&mut rest).take(limit + 1);
    let walked = walk(&mut unpacked);
    if unpacked.limit() == 0 {
        return Err(TarballError::Bomb { limit, packed });
    }
    let inspected = walked?;
    // Attack: some readers stop at the first block of zeros and others at the second; between them is room
    // for a second manifest. The same goes for a second gzip member.
    let mut block = [0; 8192];
    loop {
        match unpacked.read(&mut block).map_err(TarballError::Unreadable)? {
            0 => break,
            read if block[..read].iter().any(|byte| *byte != 0) => return Err(TarballError::AfterArchive),
            _ => {}
        }
    }
    if unpacked.limit() == 0 {
        return Err(TarballError::Bomb { limit, packed });
    }
    if !rest.is_empty() {
        return Err(TarballError::AfterGzip);
    }
    Ok(inspected)
}

fn walk(unpacked: impl Read) -> Result<Inspected, TarballError> {
    let mut archive = tar::Archive::new(unpacked);
    let mut inspected = Inspected {
        manifest: Vec::new(),
        files: 0,
        unpacked_bytes: 0,
        native_build: false,
        shrinkwrap: false,
    };
    let mut tree = Tree::default();
    let mut found_manifest = false;
    let mut long_name: Option<String> = None;
    // Raw: the crate would resolve extension headers by its own rules, and clients have theirs.
    for entry in archive.entries().map_err(TarballError::Unreadable)?.raw(true) {
        let mut entry = entry.map_err(TarballError::Unreadable)?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XHeader | EntryType::GNULongName) {
            if long_name.is_some() {
                return Err(TarballError::Extension("two of them stand before one file"));
            }
            let size = entry.size();
            if size > MAX_EXTENSION_BYTES {
                return Err(TarballError::Extension("it is too long"));
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(TarballError::Unreadable)?;
            if content.len() as u64 != size {
                return Err(TarballError::Extension("it ends early"));
            }
            let pax = kind == EntryType::XHeader;
            long_name = Some(if pax { pax_path(&content)? } else { gnu_path(&content)? }.unwrap_or_default());
            continue;
        }
        let own = text(&entry.path_bytes())?;
        // An extension header without a path leaves the entry's own.
        let path = long_name.take().filter(|long| !long.is_empty()).unwrap_or(own);
        let folder = match kind {
            EntryType::Regular => false,
            EntryType::Directory => true,
            other => return Err(TarballError::Kind { path: shown(&path), kind: name_of(other) }),
        };
        let path = if folder { path.strip_suffix('/').unwrap_or(&path) } else { &path };
        check_path(path)?;
        tree.add(path, folder)?;
        if folder {
            if entry.size() != 0 {
                return Err(TarballError::Kind { path: shown(path), kind: "a folder with content" });
            }
            continue;
        }
        let size = entry.size();
        inspected.files += 1;
        inspected.unpacked_bytes = inspected.unpacked_bytes.saturating_add(size);
        match path {
            MANIFEST if size > MAX_MANIFEST_BYTES => return Err(TarballError::LargeManifest),
            MANIFEST => {
                found_manifest = true;
                entry.read_to_end(&mut inspected.manifest).map_err(TarballError::Unreadable)?;
                if inspected.manifest.len() as u64 != size {
                    return Err(TarballError::Unreadable(io::ErrorKind::UnexpectedEof.into()));
                }
            }
            "package/binding.gyp" => inspected.native_build = true,
            "package/npm-shrinkwrap.json" => inspected.shrinkwrap = true,
            _ => {}
        }
    }
    if long_name.is_some() {
        return Err(TarballError::Extension("no file follows it"));
    }
    if found_manifest { Ok(inspected) } else { Err(TarballError::NoManifest) }
}

/// The paths so far, folded as a file system that ignores case would fold them.
#[derive(Default)]
struct Tree {
    /// Whether each is a folder, and how it was first written.
    paths: HashMap<String, (bool, String)>,
    entries: usize,
}

impl Tree {
    fn add(&mut self, path: &str, folder: bool) -> Result<(), TarballError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(TarballError::TooMany);
        }
        for (end, _) in path.match_indices('/') {
            self.claim(&path[..end], true)?;
        }
        self.claim(path, folder)
    }

    fn claim(&mut self, path: &str, folder: bool) -> Result<(), TarballError> {
        // A folder may be named as often as it has files, by one spelling: `Lib/a` beside `lib/a` is a trap.
        let known = self.paths.entry(fold(path)).or_insert_with(|| (folder, String::new()));
        let fresh = known.1.is_empty();
        if fresh {
            known.1 = path.to_owned();
        }
        if fresh || (known.0 && folder && known.1 == path) {
            return Ok(());
        }
        Err(TarballError::Twice { path: shown(path) })
    }
}

/// Folds case as loosely as any file system does: `K` (the Kelvin sign) and `ſ` are `k` and `s` to some.
fn fold(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    path.to_uppercase().to_lowercase()
}

/// Refuses a path that any system would read as another one.
fn check_path(path: &str) -> Result<(), TarballError> {
    let refuse = |reason| Err(TarballError::Path { path: shown(path), reason });
    if path.len() > MAX_PATH_BYTES {
        return refuse("it is too long");
    }
    if path != ROOT && !path.strip_prefix(ROOT).is_some_and(|rest| rest.starts_with('/')) {
        return refuse("every file must stand in the one folder `package`");
    }
    for segment in path.split('/') {
        if matches!(segment, "" | "." | "..") {
            return refuse("a part of it is empty, `.` or `..`");
        }
        if segment.ends_with(['.', ' ']) {
            return refuse("a part of it ends in a full stop or a space, which Windows drops");
        }
    }
    if path.chars().any(|c| c.is_control() || matches!(c, '\\' | ':')) {
        return refuse("it holds a control character, a backslash or a colon");
    }
    if path.chars().any(is_lookalike) {
        return refuse("it holds an invisible character, or one that normalises to `.`, `/`, `\\` or `:`");
    }
    Ok(())
}

/// Returns whether `c` cannot be seen, reorders what is, or becomes part of the path's syntax under NFKC.
fn is_lookalike(c: char) -> bool {
    matches!(c,
        // Invisible and bidirectional controls, and the replacement character of a lossy decoding.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}'
        // One, two and three dot leaders; fraction and division slashes; small and full-width forms.
        | '\u{2024}'..='\u{2026}' | '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{29f9}'
        | '\u{fe52}' | '\u{fe55}' | '\u{fe68}' | '\u{ff0e}' | '\u{ff0f}' | '\u{ff1a}' | '\u{ff3c}' | '\u{fe13}')
}

/// Reads a pax extended header (POSIX.1-2017, pax, "pax Extended Header") for the path in it.
fn pax_path(content: &[u8]) -> Result<Option<String>, TarballError> {
    let malformed = || TarballError::Extension("it is not a list of pax records");
    let mut path = None;
    let mut rest = content;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let digits = std::str::from_utf8(&rest[..space]).map_err(|_| malformed())?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.starts_with('0') {
            return Err(malformed());
        }
        let length: usize = digits.parse().map_err(|_| malformed())?;
        let record = rest.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n"));
        let record = text(record.ok_or_else(malformed)?)?;
        let (key, value) = record.split_once('=').ok_or_else(malformed)?;
        match key {
            "path" if path.is_some() => return Err(TarballError::Extension("it has two paths")),
            "path" if value.is_empty() => return Err(TarballError::Extension("its path is empty")),
            "path" => path = Some(value.to_owned()),
            "size" => return Err(TarballError::Extension("it changes the size of a file")),
            "linkpath" => return Err(TarballError::Extension("it makes a link")),
            _ if key.starts_with("GNU.sparse") => {
                return Err(TarballError::Extension("it makes a sparse file"));
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(path)
}

/// Reads GNU tar's long name: text with one NUL after it.
fn gnu_path(content: &[u8]) -> Result<Option<String>, TarballError> {
    let path = text(content.strip_suffix(b"\0").unwrap_or(content))?;
    if path.is_empty() { Err(TarballError::Extension("its path is empty")) } else { Ok(Some(path)) }
}

fn text(bytes: &[u8]) -> Result<String, TarballError> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.map(str::to_owned).ok_or_else(|| TarballError::Path {
        path: shown(&String::from_utf8_lossy(bytes)),
        reason: "it is not UTF-8, or holds a NUL",
    })
}

/// Returns `path` as it may stand in a message.
fn shown(path: &str) -> String {
    path.chars().take(128).flat_map(char::escape_debug).collect()
}

fn name_of(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "a hard link",
        EntryType::Symlink => "a symbolic link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a sparse file",
        EntryType::XGlobalHeader => "a global header",
        EntryType::GNULongLink => "a long link name",
        _ => "of an unknown kind",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use tar::Header;

    use super::*;

    /// One entry of an archive that no packer would write.
    pub(crate) struct Entry<'a> {
        pub(crate) path: &'a [u8],
        pub(crate) kind: EntryType,
        pub(crate) content: &'a [u8],
    }

    pub(crate) fn file<'a>(path: &'a str, content: &'a str) -> Entry<'a> {
        Entry { path: path.as_bytes(), kind: EntryType::Regular, content: content.as_bytes() }
    }

    /// Builds the blocks of an archive without its end.
    pub(crate) fn blocks(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in entries {
            let mut header = Header::new_ustar();
            header.as_mut_bytes()[..entry.path.len()].copy_from_slice(entry.path);
            header.set_entry_type(entry.kind);
            header.set_size(entry.content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(entry.content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes
    }

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("gzip");
        encoder.finish().expect("gzip")
    }

    pub(crate) fn tarball(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut bytes = blocks(entries);
        bytes.resize(bytes.len() + 1024, 0);
        gzip(&bytes)
    }

    const JSON: &str = r#"{"name":"@acme/core","version":"1.0.0"}"#;

    fn refusal(tarball: &[u8]) -> String {
        inspect(tarball).expect_err("refused").to_string()
    }

    fn refused_beside_manifest(entries: impl IntoIterator<Item = Entry<'static>>) -> String {
        let mut all = vec![file(MANIFEST, JSON)];
        all.extend(entries);
        refusal(&tarball(&all))
    }

    fn pax(records: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let plain = key.len() + value.len() + 3;
            let mut length = plain + 1;
            while length != plain + length.to_string().len() {
                length += 1;
            }
            bytes.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
        }
        bytes
    }

    fn entry<'a>(path: &'a str, kind: EntryType, content: &'a [u8]) -> Entry<'a> {
        Entry { path: path.as_bytes(), kind, content }
    }

    #[test]
    fn a_plain_package_passes() {
        let long = format!("package/{}/a.js", "d".repeat(200));
        let header = pax(&[("mtime", "1.5"), ("path", &long)]);
        let gnu = format!("package/{}.js\0", "g".repeat(150));
        let inspected = inspect(&tarball(&[
            entry("package/", EntryType::Directory, b""),
            file(MANIFEST, JSON),
            file("package/binding.gyp", "{}"),
            file("package/lib/a.js", "1"),
            file("package/lib/日本語.js", "1"),
            entry("PaxHeader/a.js", EntryType::XHeader, &header),
            file("package/short.js", "22"),
            entry("././@LongLink", EntryType::GNULongName, gnu.as_bytes()),
            file("package/short.js", "22"),
        ]))
        .expect("plain");
        assert_eq!((inspected.files, inspected.unpacked_bytes), (6, JSON.len() as u64 + 8));
        assert!(inspected.native_build && !inspected.shrinkwrap);
        let name = "@acme/core".parse().expect("name");
        assert!(inspected.manifest(&name, &"1.0.0".parse().expect("version")).is_ok());
        let error = inspected.manifest(&name, &"1.0.1".parse().expect("version")).expect_err("version");
        assert!(error.to_string().contains("version `1.0.0`, and `1.0.1`"), "{error}");
        let other = "@acme/other".parse().expect("name");
        assert!(inspected.manifest(&other, &"1.0.0".parse().expect("version")).is_err());
    }

    #[test]
    fn links_and_devices_are_refused() {
        for (kind, name) in [
            (EntryType::Symlink, "a symbolic link"),
            (EntryType::Link, "a hard link"),
            (EntryType::Char, "a device"),
            (EntryType::Block, "a device"),
            (EntryType::Fifo, "a pipe"),
            (EntryType::GNUSparse, "a sparse file"),
            (EntryType::Continuous, "of an unknown kind"),
            (EntryType::XGlobalHeader, "a global header"),
            (EntryType::GNULongLink, "a long link name"),
            (EntryType::new(b'Z'), "of an unknown kind"),
        ] {
            let error = refused_beside_manifest([entry("package/x", kind, b"")]);
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in [
            "/etc/passwd",
            "package/../x",
            "../package/x",
            "package/./x",
            "package//x",
            "package/..",
            "package\\x",
            "package/a\\b",
            "package/C:x",
            "C:/x",
            "package/x.",
            "package/package.json ",
            "package/a\nb",
            "package/a\u{7f}",
            "package/\u{202e}x",
            "package/x\u{200b}",
            "package/\u{ff0e}\u{ff0e}/x",
            "package/\u{2025}/x",
            "package/a\u{2215}b",
            "other/x",
            "packages/x",
            "Package/x",
            "x",
        ] {
            let mut all = vec![file(MANIFEST, JSON)];
            all.push(file(path, "x"));
            let error = refusal(&tarball(&all));
            assert!(error.contains("is refused") || error.contains("stands twice"), "{path}: {error}");
        }
        let not_utf8 = Entry { path: b"package/\xff", kind: EntryType::Regular, content: b"" };
        assert!(refused_beside_manifest([not_utf8]).contains("not UTF-8"));
    }

    #[test]
    fn one_path_is_one_file() {
        for path in [
            MANIFEST,
            "package/PACKAGE.json",
            "package/pac\u{212a}age.json",
            "package/package.j\u{17f}on",
            "package/package.json/x",
        ] {
            let error = refusal(&tarball(&[file(MANIFEST, JSON), file(path, "{}")]));
            assert!(error.contains("stands twice"), "{path}: {error}");
        }
        let error = refused_beside_manifest([file("package/Lib/a.js", ""), file("package/lib/b.js", "")]);
        assert!(error.contains("`package/lib` stands twice"), "{error}");
        let error = refused_beside_manifest([file("package/a/b", ""), file("package/a", "")]);
        assert!(error.contains("`package/a` stands twice"), "{error}");
        let error = refused_beside_manifest([file("package/stra\u{df}e", ""), file("package/STRASSE", "")]);
        assert!(error.contains("stands twice"), "{error}");
    }

    #[test]
    fn extension_headers_have_one_reading() {
        for (records, reason) in [
            (&[("path", "package/a"), ("path", "package/b")] as &[_], "two paths"),
            (&[("size", "0")], "changes the size"),
            (&[("linkpath", "/etc/passwd")], "makes a link"),
            (&[("GNU.sparse.name", "package/package.json")], "sparse file"),
            (&[("path", "")], "path is empty"),
            (&[("path", "/etc/passwd")], "must stand in the one folder"),
            (&[("path", MANIFEST)], "stands twice"),
        ] {
            let header = pax(records);
            let error = refusal(&tarball(&[
                file(MANIFEST, JSON),
                entry("PaxHeader/x", EntryType::XHeader, &header),
                file("package/x", "x"),
            ]));
            assert!(error.contains(reason), "{error}");
        }
        for header in
            ["x", "5 a=b", "99 a=b\n", "06 a=b\n", "-6 a=b\n", "6 ab\n", "99999999999999999999999 a=b\n"]
        {
            let error = refusal(&tarball(&[
                entry("PaxHeader/x", EntryType::XHeader, header.as_bytes()),
                file(MANIFEST, JSON),
            ]));
            assert!(error.contains("pax records"), "{header}: {error}");
        }
        let name = pax(&[("path", "package/y")]);
        let two = refusal(&tarball(&[
            entry("PaxHeader/x", EntryType::XHeader, &name),
            entry("././@LongLink", EntryType::GNULongName, b"package/z\0"),
            file(MANIFEST, JSON),
        ]));
        assert!(two.contains("two of them"), "{two}");
        let alone = refusal(&tarball(&[file(MANIFEST, JSON), entry("p", EntryType::XHeader, &name)]));
        assert!(alone.contains("no file follows"), "{alone}");
        let nul = refusal(&tarball(&[
            entry("././@LongLink", EntryType::GNULongName, b"package/z\0/../x\0"),
            file(MANIFEST, JSON),
        ]));
        assert!(nul.contains("NUL"), "{nul}");
    }

    #[test]
    fn nothing_hides_behind_the_end() {
        let mut hidden = blocks(&[file(MANIFEST, JSON)]);
        hidden.resize(hidden.len() + 512, 0);
        hidden.extend(blocks(&[file(MANIFEST, r#"{"name":"evil"}"#)]));
        hidden.resize(hidden.len() + 1024, 0);
        assert!(matches!(inspect(&gzip(&hidden)), Err(TarballError::AfterArchive)));

        let plain = tarball(&[file(MANIFEST, JSON)]);
        let twice = [plain.as_slice(), plain.as_slice()].concat();
        assert!(matches!(inspect(&twice), Err(TarballError::AfterGzip)));
        let garbage = [plain.as_slice(), b"x"].concat();
        assert!(matches!(inspect(&garbage), Err(TarballError::AfterGzip)));
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let plain = tarball(&[file(MANIFEST, JSON)]);
        for bad in
            [&b""[..], b"x", b"PK\x03\x04", &plain[..plain.len() - 1], &plain[..20], &gzip(b"not a tar")]
        {
            assert!(inspect(bad).is_err());
        }
        let mut broken = plain.clone();
        let crc = broken.len() - 6;
        broken[crc] ^= 1;
        assert!(matches!(inspect(&broken), Err(TarballError::Unreadable(_))));
        assert!(matches!(inspect(&tarball(&[])), Err(TarballError::NoManifest)));
        assert!(matches!(inspect(&tarball(&[file("package/a.js", "")])), Err(TarballError::NoManifest)));
        let truncated = &blocks(&[file(MANIFEST, JSON)])[..520];
        assert!(inspect(&gzip(truncated)).is_err());
        let truncated =
            [&blocks(&[file(MANIFEST, JSON)]), &blocks(&[file("package/a", "abc")])[..514]].concat();
        assert!(inspect(&gzip(&truncated)).is_err());
        let mut wrong = blocks(&[file(MANIFEST, JSON)]);
        wrong[0] ^= 1;
        wrong.resize(wrong.len() + 1024, 0);
        assert!(inspect(&gzip(&wrong)).is_err(), "checksum");
    }

    #[test]
    fn bombs_are_refused_before_they_are_unpacked() {
        let zeros = vec![0_u8; (MIN_UNPACKED_BYTES + 1) as usize];
        let mut bytes = blocks(&[file(MANIFEST, JSON)]);
        bytes.extend(blocks(&[Entry { path: b"package/zeros", kind: EntryType::Regular, content: &zeros }]));
        bytes.resize(bytes.len() + 1024, 0);
        assert!(matches!(inspect(&gzip(&bytes)), Err(TarballError::Bomb { .. })));
        // Zeros after the archive unpack as well.
        let mut bytes = blocks(&[file(MANIFEST, JSON)]);
        bytes.extend(&zeros);
        assert!(matches!(inspect(&gzip(&bytes)), Err(TarballError::Bomb { .. })));

        let many: Vec<String> = (0..=MAX_ENTRIES).map(|n| format!("package/{n}")).collect();
        let mut bytes = Vec::new();
        for path in &many {
            bytes.extend(blocks(&[file(path, "")]));
        }
        // Noise makes the ratio harmless, so that the number alone decides.
        let noise: Vec<u8> =
            (0..600_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let noise = Entry { path: b"package/noise", kind: EntryType::Regular, content: &noise };
        let all = [blocks(&[noise]), bytes, vec![0; 1024]].concat();
        assert!(matches!(inspect(&gzip(&all)), Err(TarballError::TooMany)));

        let large = format!("{{\"name\":\"{}\"}}", "x".repeat(MAX_MANIFEST_BYTES as usize));
        assert!(matches!(inspect(&tarball(&[file(MANIFEST, &large)])), Err(TarballError::LargeManifest)));
    }

    #[test]
    fn manifests_have_one_reading() {
        let name: PackageName = "@acme/core".parse().expect("name");
        let version: PackageVersion = "1.0.0".parse().expect("version");
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"name":"@acme/core"}"#,
            r#"{"name":"@acme/core","version":1}"#,
            r#"{"name":"@acme/core","version":"1.0.0","name":"@acme/core"}"#,
            r#"{"name":"@acme/core","version":"1.0.0","scripts":{"a":"1","a":"2"}}"#,
            r#"{"name":"@acme/core","version":"v1.0.0"}"#,
            r#"{"name":"@acme/core","version":"1.0.0 "}"#,
            r#"{"name":"@ACME/core","version":"1.0.0"}"#,
            r#"{"name":"@acme/core","version":"1.0.0","__proto__":{}}"#,
        ] {
            let inspected = inspect(&tarball(&[file(MANIFEST, bad)])).expect("archive");
            assert!(inspected.manifest(&name, &version).is_err(), "{bad}");
        }
        let marked = format!("\u{feff}{JSON}");
        let inspected = inspect(&tarball(&[file(MANIFEST, &marked)])).expect("archive");
        assert!(inspected.manifest(&name, &version).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = inspect(&noise);
            let _ = inspect(&gzip(&noise));
        }

        /// Bytes of a good archive changed at random: refused, or still the same package.
        #[test]
        fn never_panics_on_a_changed_archive(
            changes in proptest::collection::vec((0_usize..4096, any::<u8>()), 1..6),
        ) {
            let header = pax(&[("path", "package/long.js")]);
            let mut bytes = blocks(&[
                file(MANIFEST, JSON),
                entry("PaxHeader/x", EntryType::XHeader, &header),
                file("package/a.js", "a"),
            ]);
            bytes.resize(bytes.len() + 1024, 0);
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(inspected) = inspect(&gzip(&bytes)) {
                prop_assert!(inspected.files >= 1);
            }
        }
    }
}
