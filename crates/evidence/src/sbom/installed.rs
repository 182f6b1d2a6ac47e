//! What stands on disk: the `package.json` and licence of what a lock file names, where it is installed.
//!
//! Packages are found as Node.js finds them, so that one way serves the layouts of npm, pnpm and yarn. Nothing outside
//! the lock file's folder is read, whatever a path or a link says.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    path::{Component, Path, PathBuf},
};

use rayon::prelude::*;

use super::{
    lock::{Edge, Lock, Locked, Need},
    manifest::Manifest,
};

/// The largest `package.json` of a dependency that is read.
const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
/// The largest licence file that is read.
const MAX_LICENCE_BYTES: u64 = 512 * 1024;
/// How many lines of copyright are repeated of one package, and how long each is.
const MAX_LINES: usize = 8;
const MAX_CHARS: usize = 200;

/// What is known of one locked package from disk.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    pub(crate) copyright: Option<String>,
}

/// The folder of a lock file, below which is read.
pub(crate) struct Installed {
    /// Canonical.
    top: PathBuf,
}

impl Installed {
    pub(crate) fn new(top: PathBuf) -> Self {
        Self { top }
    }

    /// Finds every package of the lock that is installed, by its index; adds the peers that are found only so.
    pub(crate) fn find_all(&self, lock: &mut Lock, folder: &Path) -> Vec<Option<Found>> {
        let places = self.places(lock, folder);
        let read = |(place, package): (&Option<PathBuf>, &Locked)| {
            let place = place.as_ref()?;
            let manifest = manifest(place)?;
            let is_it = manifest.name == package.name
                && (manifest.version == package.version || package.version.is_empty());
            is_it.then(|| Found { manifest, copyright: copyright(place) })
        };
        let mut found: Vec<Option<Found>> = places.par_iter().zip(&lock.packages).map(read).collect();
        found[0] = None;
        self.add_peers(lock, &places, &found);
        found
    }

    /// Returns where each package is installed, if what stands there is it.
    fn places(&self, lock: &Lock, folder: &Path) -> Vec<Option<PathBuf>> {
        let mut places: Vec<Option<PathBuf>> = vec![None; lock.packages.len()];
        places[0] = Some(folder.to_owned());
        let mut open = VecDeque::from([0]);
        let mut seen = vec![false; lock.packages.len()];
        seen[0] = true;
        while let Some(from) = open.pop_front() {
            for edge in &lock.packages[from].edges {
                if places[edge.to].is_none() {
                    let given = lock.packages[edge.to].path.as_deref();
                    let found = given.and_then(|path| self.inside(Path::new(path)));
                    let found = found.or_else(|| self.resolve(places[from].as_ref()?, &edge.name));
                    if found.is_some() {
                        places[edge.to] = found;
                        // It may have been passed where it was not found.
                        seen[edge.to] = false;
                    }
                }
                if !std::mem::replace(&mut seen[edge.to], true) {
                    open.push_back(edge.to);
                }
            }
        }
        places
    }

    /// yarn 1 and old files of npm say nothing of peers; what Node.js would find is what the package gets.
    fn add_peers(&self, lock: &mut Lock, places: &[Option<PathBuf>], found: &[Option<Found>]) {
        let known = |(index, place): (usize, &Option<PathBuf>)| Some((place.clone()?, index));
        let by_place: HashMap<PathBuf, usize> = places.iter().enumerate().filter_map(known).collect();
        for (index, found) in found.iter().enumerate() {
            let (Some(found), Some(place)) = (found, &places[index]) else { continue };
            for name in found.manifest.peers.keys() {
                if lock.packages[index].edges.iter().any(|edge| edge.name == *name) {
                    continue;
                }
                let to = self.resolve(place, name).and_then(|place| by_place.get(&place).copied());
                if let Some(to) = to {
                    let optional = found.manifest.optional_peers.contains(name);
                    let need = if optional { Need::OptionalPeer } else { Need::Peer };
                    lock.packages[index].edges.push(Edge { name: name.clone(), to, need });
                }
            }
        }
    }

    /// Finds `name` as a module in `from` would.
    fn resolve(&self, from: &Path, name: &str) -> Option<PathBuf> {
        if !is_below(Path::new(name)) {
            return None;
        }
        let folders = from.ancestors().take_while(|folder| folder.starts_with(&self.top));
        let folders = folders.filter(|folder| !folder.ends_with("node_modules"));
        let place =
            folders.map(|folder| folder.join("node_modules").join(name)).find(|place| place.exists())?;
        let place = fs::canonicalize(place).ok()?;
        place.starts_with(&self.top).then_some(place)
    }

    /// Returns the folder that a path of the lock file means, where it is one below the lock file's.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        if !is_below(path) {
            return None;
        }
        let place = fs::canonicalize(self.top.join(path)).ok()?;
        (place.starts_with(&self.top) && place.is_dir()).then_some(place)
    }

    /// Reads the `package.json` of a folder of the workspace.
    pub(crate) fn manifest_in(&self, folder: &str) -> Option<Manifest> {
        let place =
            if matches!(folder, "" | ".") { self.top.clone() } else { self.inside(Path::new(folder))? };
        manifest(&place)
    }
}

fn manifest(place: &Path) -> Option<Manifest> {
    Manifest::parse(&regular(&place.join("package.json"), MAX_MANIFEST_BYTES)?).ok()
}

/// Whether a path has only names in it.
///
/// Attack: a lock file that names `../../../home/ci/.npm` would have its content copied into a published document.
fn is_below(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
        && !path.as_os_str().is_empty()
        && !path.as_os_str().to_string_lossy().contains(['\\', '\0', ':'])
}

/// Reads a file that is no link and not too large.
fn regular(path: &Path, limit: u64) -> Option<String> {
    let found = fs::symlink_metadata(path).ok()?;
    if !found.is_file() || found.len() > limit {
        return None;
    }
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

/// Returns the lines of a package's licence, or of its readme where that has none, that say whose it is.
pub(crate) fn copyright(place: &Path) -> Option<String> {
    let entries = fs::read_dir(place).ok()?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    [&["LICENSE", "LICENCE", "COPYING", "NOTICE"][..], &["README"]].iter().find_map(|starts| {
        let is_one = |name: &&String| starts.iter().any(|start| name.to_ascii_uppercase().starts_with(start));
        let mut lines: Vec<String> = Vec::new();
        for name in names.iter().filter(is_one) {
            let text = regular(&place.join(name), MAX_LICENCE_BYTES).unwrap_or_default();
            for line in text.lines().filter_map(copyright_line) {
                if lines.len() < MAX_LINES && !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    })
}

fn copyright_line(line: &str) -> Option<String> {
    let line = line.trim_start_matches(|c: char| c.is_whitespace() || "*#>/;-|".contains(c)).trim_end();
    let lower = line.to_lowercase();
    let starts = lower.starts_with("copyright") || lower.starts_with("(c)") || line.starts_with('©');
    // Not a sentence of a licence, and not the form that is to be filled in.
    let says_who =
        lower.contains("(c)") || line.contains('©') || line.bytes().any(|byte| byte.is_ascii_digit());
    let is_form = lower.contains("[yyyy]")
        || lower.contains("{yyyy}")
        || lower.contains("<year>")
        || lower.contains("[year]");
    if !starts || !says_who || is_form {
        return None;
    }
    // A readme in Markdown writes the angle brackets round an address so.
    let line = line.replace("&lt;", "<").replace("&gt;", ">");
    Some(line.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect::<String>().trim().to_owned())
}

/// Lists the folders that the `workspaces` of a `package.json` mean, relative to `top` with `/`.
pub(crate) fn workspaces(top: &Path, patterns: &[String]) -> Vec<String> {
    /// How deep, and how many: a pattern is no reason to walk a disk.
    const MAX_DEPTH: usize = 8;
    const MAX_FOLDERS: usize = 10_000;
    let mut set = globset::GlobSetBuilder::new();
    for pattern in patterns {
        let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
        if let Ok(glob) = globset::GlobBuilder::new(pattern).literal_separator(true).build() {
            set.add(glob);
        }
    }
    let Ok(set) = set.build() else { return Vec::new() };
    let mut found = Vec::new();
    let mut open = vec![(String::new(), 0)];
    while let Some((folder, depth)) = open.pop() {
        if set.is_match(&folder) && top.join(&folder).join("package.json").is_file() {
            found.push(folder.clone());
        }
        if depth == MAX_DEPTH || found.len() + open.len() > MAX_FOLDERS {
            continue;
        }
        let Ok(entries) = fs::read_dir(top.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_folder && name != "node_modules" && !name.starts_with('.') {
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                open.push((path, depth + 1));
            }
        }
    }
    found.sort();
    found
}

/// Reads a text file of at most `limit` bytes; `None` where there is none.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Option<Result<String, u64>>> {
    match fs::metadata(path) {
        Ok(found) if found.len() > limit => Ok(Some(Err(found.len()))),
        Ok(found) if !found.is_file() => Ok(None),
        Ok(_) => {
            let bytes = fs::read(path)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))?;
            Ok(Some(Ok(text)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_folder_are_not_followed() {
        for bad in ["", "..", "../x", "a/../../x", "/etc", "a\\..\\b", "c:/x", "./a/..", "a\0b"] {
            assert!(!is_below(Path::new(bad)), "{bad}");
        }
        assert!(is_below(Path::new("node_modules/@s/a..b")));
    }

    #[cfg(unix)]
    #[test]
    fn links_that_leave_the_folder_are_not_followed() {
        let outside = tempfile::tempdir().expect("folder");
        fs::write(outside.path().join("package.json"), r#"{"name": "a", "version": "1.0.0"}"#)
            .expect("write");
        fs::write(outside.path().join("LICENSE"), "Copyright (c) 2020 secret").expect("write");
        let top = tempfile::tempdir().expect("folder");
        let top = fs::canonicalize(top.path()).expect("folder");
        fs::create_dir_all(top.join("node_modules/b")).expect("folder");
        std::os::unix::fs::symlink(outside.path(), top.join("node_modules/a")).expect("link");
        std::os::unix::fs::symlink(
            outside.path().join("package.json"),
            top.join("node_modules/b/package.json"),
        )
        .expect("link");
        std::os::unix::fs::symlink(outside.path().join("LICENSE"), top.join("node_modules/b/LICENSE"))
            .expect("link");
        let installed = Installed::new(top.clone());
        assert_eq!(installed.resolve(&top, "a"), None);
        assert_eq!(installed.inside(Path::new("node_modules/a")), None);
        let b = installed.resolve(&top, "b").expect("inside");
        assert!(manifest(&b).is_none(), "a link is not read");
        assert_eq!(copyright(&b), None);
    }

    #[test]
    fn copyright_lines() {
        for (line, expected) in [
            ("  Copyright (c) 2014 A <a@x>  ", Some("Copyright (c) 2014 A <a@x>")),
            (" * Copyright 2020 B", Some("Copyright 2020 B")),
            ("© C", Some("© C")),
            ("Copyright (c) 2013 N &lt;n@n.example&gt;", Some("Copyright (c) 2013 N <n@n.example>")),
            ("Copyright [yyyy] [name of copyright owner]", None),
            ("Copyright notice and this permission notice shall be", None),
            ("the above copyright notice 2", None),
        ] {
            assert_eq!(copyright_line(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn workspaces_are_globs() {
        let top = tempfile::tempdir().expect("folder");
        for folder in ["packages/a", "packages/b/c", "node_modules/d", "apps/x/y"] {
            fs::create_dir_all(top.path().join(folder)).expect("folder");
            fs::write(top.path().join(folder).join("package.json"), "{}").expect("write");
        }
        let patterns = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(workspaces(top.path(), &patterns(&["packages/*"])), ["packages/a"]);
        assert_eq!(
            workspaces(top.path(), &patterns(&["./packages/**", "apps/x/y/"])),
            ["apps/x/y", "packages/a", "packages/b/c"]
        );
        assert!(workspaces(top.path(), &patterns(&["[", "../*"])).is_empty());
    }
}
