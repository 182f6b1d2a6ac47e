//! The package on its way through the steps: files on disk, and what is known of each.
//!
//! The files stand in the artifact folder from the start and each step changes them there, so that memory holds
//! only the files being worked on. Source maps stand in the escrow folder, never in the artifact.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use protected_model::{
    digest::Sha256,
    integrity::{FileDigest, tree_sha256},
};

use crate::{
    HardenError, Request, SourceFile,
    format::{PackageTypes, code},
    obfuscate::has_directives,
    source_map::SourceMap,
    workers::Workers,
};

/// The folder of the maps within the escrow folder.
pub(crate) const MAPS: &str = "maps";

/// The package at one moment.
pub(crate) struct Tree {
    artifact: PathBuf,
    /// Where the maps stand. Steps read them, so they are made even where none is to be left.
    escrow: PathBuf,
    files: BTreeMap<String, Entry>,
    /// Published path by original path, of the files that got another name.
    pub(crate) renamed: BTreeMap<String, String>,
    /// The source files that a file was made of, where that is not the one of its own path.
    made_of: BTreeMap<String, BTreeSet<String>>,
    /// Licence comments that left the code, by the path of the file they stood in.
    pub(crate) legal: BTreeMap<String, Vec<String>>,
    /// Whether a source says how its functions are to be obfuscated.
    pub(crate) has_directives: bool,
    /// What is published less protected than asked, and why.
    pub(crate) unprotected: BTreeMap<String, String>,
    /// Code and declarations that stay files of their own though no entry point needs that, and why.
    pub(crate) kept_apart: BTreeMap<String, String>,
    /// Files that are no more because nothing reaches them.
    pub(crate) shaken: BTreeSet<String>,
}

/// A file as it stands now.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    sha256: Sha256,
    size: u64,
    mode: u32,
    /// Whether the escrow folder holds a map for it.
    mapped: bool,
}

/// What a step makes of a file.
pub(crate) struct Rewritten {
    pub(crate) path: String,
    pub(crate) code: String,
    /// From the file's text before to `code`, or nothing where every character kept its place.
    pub(crate) map: Option<SourceMap>,
}

impl Tree {
    /// Copies the request's files into the artifact folder.
    pub(crate) fn gather(request: &Request<'_>, workers: &Workers<'_>) -> Result<Self, HardenError> {
        let mut tree = Self {
            artifact: request.artifact.to_owned(),
            escrow: request.escrow.to_owned(),
            files: BTreeMap::new(),
            renamed: BTreeMap::new(),
            made_of: BTreeMap::new(),
            legal: BTreeMap::new(),
            has_directives: false,
            unprotected: BTreeMap::new(),
            kept_apart: BTreeMap::new(),
            shaken: BTreeSet::new(),
        };
        check_paths(request.files)?;
        let copied = workers.each(request.files, |file| {
            if file.path == "package.json" {
                return Ok(None);
            }
            let content = fs::read(&file.absolute)
                .map_err(|source| HardenError::Read { path: PathBuf::from(&file.path), source })?;
            let directives = has_directives(&content);
            tree.store(&file.path, &content, file.mode)
                .map(|entry| Some((file.path.clone(), entry, directives)))
        })?;
        for (path, entry, directives) in copied.into_iter().flatten() {
            tree.has_directives |= directives && code(&path).is_some();
            tree.files.insert(path, entry);
        }
        tree.write("package.json", request.package_json.as_bytes(), 0o644)?;
        Ok(tree)
    }

    /// Returns the paths, in the order of their bytes.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Returns the paths that `wanted` names, the largest file first, so that no thread starts it last.
    pub(crate) fn largest_first(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found: Vec<(&String, &Entry)> = self.files.iter().filter(|(path, _)| wanted(path)).collect();
        found.sort_by(|a, b| b.1.size.cmp(&a.1.size).then_with(|| a.0.cmp(b.0)));
        found.into_iter().map(|(path, _)| path.clone()).collect()
    }

    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, HardenError> {
        let place = self.artifact.join(path);
        fs::read(&place).map_err(|source| HardenError::Read { path: PathBuf::from(path), source })
    }

    /// Reads source code. A byte order mark goes: no engine needs it.
    pub(crate) fn read_text(&self, path: &str) -> Result<String, HardenError> {
        let text = String::from_utf8(self.read(path)?).map_err(|error| HardenError::Encoding {
            path: path.to_owned(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        Ok(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        })
    }

    /// Writes a file that is new or has new content.
    pub(crate) fn write(&mut self, path: &str, content: &[u8], mode: u32) -> Result<(), HardenError> {
        let entry = self.store(path, content, mode)?;
        self.files.insert(path.to_owned(), entry);
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &str) -> Result<(), HardenError> {
        fs::remove_file(self.artifact.join(path))
            .map_err(|source| HardenError::Write { path: PathBuf::from(path), source })?;
        self.files.remove(path);
        Ok(())
    }

    /// Changes files on all threads: `work` gets each path and returns what becomes of it, if anything.
    ///
    /// The map of a file that an earlier step changed is continued, so that the escrow leads from the original
    /// to what is published. Returns how many files changed.
    pub(crate) fn rewrite(
        &mut self,
        workers: &Workers<'_>,
        paths: &[String],
        work: impl Fn(&Self, &str) -> Result<Option<Rewritten>, HardenError> + Sync,
    ) -> Result<u64, HardenError> {
        let tree = &*self;
        let changed = workers.each(paths, |path| {
            let Some(rewritten) = work(tree, path)? else { return Ok(None) };
            let mut entry = tree.store(&rewritten.path, rewritten.code.as_bytes(), tree.mode(path))?;
            entry.mapped = match rewritten.map {
                Some(map) => tree.store_map(&rewritten.path, map)?,
                None => tree.files.get(path).is_some_and(|before| before.mapped),
            };
            Ok(Some((path.clone(), rewritten.path, entry)))
        })?;
        let changed: Vec<_> = changed.into_iter().flatten().collect();
        let kept: BTreeSet<&String> = changed.iter().map(|(_, path, _)| path).collect();
        for (before, _, _) in changed.iter().filter(|(before, ..)| !kept.contains(before)) {
            self.remove(before)?;
        }
        let count = changed.len() as u64;
        for (before, after, entry) in changed {
            if before != after {
                let sources = self.sources(&before);
                self.made_of.insert(after.clone(), sources);
                self.renamed.insert(before, after.clone());
            }
            self.files.insert(after, entry);
        }
        Ok(count)
    }

    /// Makes files out of several others on all threads; `work` gets each of `parts`, which share no file.
    ///
    /// Afterwards the files of `gone` are no more, and neither are their maps.
    pub(crate) fn merge<T: Sync>(
        &mut self,
        workers: &Workers<'_>,
        parts: &[T],
        gone: &BTreeSet<String>,
        work: impl Fn(&Self, &T) -> Result<Rewritten, HardenError> + Sync,
    ) -> Result<(), HardenError> {
        let tree = &*self;
        let made = workers.each(parts, |part| {
            let Rewritten { path, code, map } = work(tree, part)?;
            let mut entry = tree.store(&path, code.as_bytes(), tree.mode(&path))?;
            if let Some(map) = map {
                entry.mapped = tree.store_map(&path, map)?;
            }
            Ok((path, entry))
        })?;
        for path in gone {
            if self.files.get(path).is_some_and(|entry| entry.mapped) {
                fs::remove_file(self.escrow.join(map_path(path)))
                    .map_err(|source| HardenError::Write { path: PathBuf::from(map_path(path)), source })?;
            }
            self.remove(path)?;
        }
        self.files.extend(made);
        Ok(())
    }

    /// Returns the source files that a file was made of.
    pub(crate) fn sources(&self, path: &str) -> BTreeSet<String> {
        self.made_of.get(path).cloned().unwrap_or_else(|| BTreeSet::from([path.to_owned()]))
    }

    /// Notes that the file at `path` was made of these source files.
    pub(crate) fn set_sources(&mut self, path: &str, sources: BTreeSet<String>) {
        self.made_of.insert(path.to_owned(), sources);
    }

    /// Returns the source files of each file of code, by the path it is published under.
    pub(crate) fn modules(&self) -> BTreeMap<String, BTreeSet<String>> {
        let code = self.paths().filter(|path| code(path).is_some() || self.made_of.contains_key(*path));
        code.map(|path| (path.to_owned(), self.sources(path))).collect()
    }

    /// Digests every file.
    pub(crate) fn digests(&self) -> Vec<FileDigest> {
        self.files
            .iter()
            .map(|(path, entry)| FileDigest {
                path: path.clone(),
                sha256: entry.sha256,
                size: entry.size,
                mode: octal(entry.mode),
            })
            .collect()
    }

    /// Digests the tree as the integrity manifest does.
    pub(crate) fn sha256(&self) -> Sha256 {
        tree_sha256(&self.digests())
    }

    /// Returns the published files that have a map, with the map's place within the escrow folder.
    pub(crate) fn maps(&self) -> Vec<(FileDigest, String)> {
        let mapped = |file: &FileDigest| self.files.get(&file.path).is_some_and(|entry| entry.mapped);
        self.digests().into_iter().filter(mapped).map(|file| (file.clone(), map_path(&file.path))).collect()
    }

    /// Returns the `type` of each `package.json`.
    pub(crate) fn package_types(&self) -> Result<PackageTypes, HardenError> {
        let mut types = PackageTypes::default();
        for path in self.paths().filter(|path| *path == "package.json" || path.ends_with("/package.json")) {
            types.insert(path, &self.read(path)?);
        }
        Ok(types)
    }

    pub(crate) fn mode(&self, path: &str) -> u32 {
        self.files.get(path).map_or(0o644, |entry| entry.mode)
    }

    fn store(&self, path: &str, content: &[u8], mode: u32) -> Result<Entry, HardenError> {
        // A tarball knows two modes.
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        put(&self.artifact.join(path), content, mode, 0o755)
            .map_err(|source| HardenError::Write { path: PathBuf::from(path), source })?;
        Ok(Entry { sha256: Sha256::of(content), size: content.len() as u64, mode, mapped: false })
    }

    /// Returns the map of a file that a step changed, from its sources to its text now.
    pub(crate) fn map(&self, path: &str) -> Result<Option<SourceMap>, HardenError> {
        let mapped = self.files.get(path).is_some_and(|entry| entry.mapped);
        mapped.then(|| self.read_map(path)).transpose()
    }

    /// Removes every map.
    pub(crate) fn drop_maps(&mut self) -> Result<(), HardenError> {
        let folder = self.escrow.join(MAPS);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|source| HardenError::Write { path: folder, source })?;
        }
        self.files.values_mut().for_each(|entry| entry.mapped = false);
        Ok(())
    }

    fn read_map(&self, path: &str) -> Result<SourceMap, HardenError> {
        let failed = |source| HardenError::Read { path: PathBuf::from(map_path(path)), source };
        let json = fs::read(self.escrow.join(map_path(path))).map_err(failed)?;
        SourceMap::from_json(&json).map_err(|error| failed(error.into()))
    }

    /// Writes the map of the file at `published`, continued from the maps of the files it was made from.
    fn store_map(&self, published: &str, map: SourceMap) -> Result<bool, HardenError> {
        let failed = |source| HardenError::Write { path: PathBuf::from(map_path(published)), source };
        let mut earlier = BTreeMap::new();
        for source in &map.sources {
            if let Some(known) = self.map(&source.path)? {
                earlier.insert(source.path.clone(), known);
            }
        }
        let json = map.after(&earlier).to_json().map_err(|error| failed(error.into()))?;
        put(&self.escrow.join(map_path(published)), &json, 0o600, 0o700).map_err(failed)?;
        Ok(true)
    }
}

/// Returns a mode as the integrity manifest writes it.
pub(crate) fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

/// Writes a file with exactly `mode`, making its folders with `folder_mode`.
pub(crate) fn put(place: &Path, content: &[u8], mode: u32, folder_mode: u32) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, folder_mode);
        builder.create(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let mut file = options.open(place)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.write_all(content)
}

fn map_path(published: &str) -> String {
    format!("{MAPS}/{published}.map")
}

/// Refuses paths that would leave the folder they are written to.
///
/// A file list that names `../x` would otherwise overwrite files beside the artifact folder.
fn check_paths(files: &[SourceFile]) -> Result<(), HardenError> {
    let mut seen = BTreeSet::new();
    for SourceFile { path, .. } in files {
        let refuse = |reason| Err(HardenError::Path { path: path.clone(), reason });
        if path.split('/').any(|part| matches!(part, "" | "." | ".."))
            || path.contains(['\\', '\0'])
            || path.as_bytes().get(1) == Some(&b':')
        {
            return refuse("is not relative to the package");
        }
        if !seen.insert(path) {
            return refuse("is listed twice");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), absolute: PathBuf::new(), mode: 0o644 }
    }

    #[test]
    fn refuses_paths_that_leave_the_package() {
        for bad in ["", "/etc/passwd", "../a", "a/../../b", "a//b", "./a", "a\\..\\b", "c:/a", "a\0b", "a/"] {
            assert!(check_paths(&[file(bad)]).is_err(), "{bad}");
        }
        assert!(check_paths(&[file("a"), file("a")]).is_err());
        check_paths(&[file("a/b..c/.d"), file("...")]).expect("paths");
    }
}
