//! Which files npm 11 would put into a package's tarball.
//!
//! The rules are those of npm-packlist 10 on ignore-walk 8: each folder carries lists of patterns that its
//! ancestors apply too, later patterns win over earlier ones, and a pattern with `!` includes. In the order in
//! which they are applied, a folder has
//!
//! 1. what is never wanted ([`NEVER`]), and in a workspace the ignore files of the folders above it,
//! 2. `files` of `package.json` (the package's root only), else `.npmignore`, else `.gitignore`,
//! 3. what is always there and what must not be ([`ALWAYS`], `main`, `browser`, `bin`, lock files, `.npmrc`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::error::PackError;
use crate::{
    glob::{Candidate, Pattern},
    package_json::{self, PackageJson},
};

/// What npm leaves out of every folder, unless `files` or an ignore file includes it again.
const NEVER: &[&str] = &[
    ".npmignore",
    ".gitignore",
    "**/.git",
    "**/.svn",
    "**/.hg",
    "**/CVS",
    "**/.git/**",
    "**/.svn/**",
    "**/.hg/**",
    "**/CVS/**",
    "/.lock-wscript",
    "/.wafpickle-*",
    "/build/config.gypi",
    "npm-debug.log",
    "**/.npmrc",
    ".*.swp",
    ".DS_Store",
    "**/.DS_Store/**",
    "._*",
    "**/._*/**",
    "*.orig",
    "/archived-packages/**",
];

/// What npm puts in or leaves out of the package's root whatever `files` and the ignore files say.
const ALWAYS: &[&str] = &[
    "/.git",
    "!/package.json",
    "!/readme{,.*[^~$]}",
    "!/copying{,.*[^~$]}",
    "!/license{,.*[^~$]}",
    "!/licence{,.*[^~$]}",
    "/.git",
    "/node_modules",
    ".npmrc",
    "/package-lock.json",
    "/yarn.lock",
    "/pnpm-lock.yaml",
    "/bun.lockb",
];

/// The deepest folder that is walked.
const MAX_DEPTH: usize = 128;

/// A file that goes into the tarball.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedFile {
    /// Relative to the package's root, with `/`.
    pub path: String,
    /// Where it is.
    pub absolute: PathBuf,
    /// `0o755` for an executable and for what `bin` names, else `0o644`: nothing of the machine's umask.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
}

/// Lists the files that npm 11 would pack from `root`, in the order of their paths' bytes.
///
/// Links, sockets and devices are left out, as npm does.
///
/// # Errors
/// When `root` has no valid `package.json`, a folder cannot be read, a pattern is absurd, or the package bundles
/// dependencies, which this packer does not.
pub fn list(root: &Path) -> Result<Vec<PackedFile>, PackError> {
    list_package(root, &PackageJson::read(root)?)
}

pub(crate) fn list_package(root: &Path, package: &PackageJson) -> Result<Vec<PackedFile>, PackError> {
    if let Some(first) = package.bundled().first() {
        return Err(PackError::Bundled { path: package.path().to_owned(), name: first.clone() });
    }
    // npm looks for the workspace above the package, which takes a path from the root of the disk.
    let root =
        &std::path::absolute(root).map_err(|source| PackError::Read { path: root.to_owned(), source })?;
    let bins: Vec<String> = package.bin().into_iter().map(|(_, target)| target).collect();
    let mut walk = Walk { root, bins: &bins, is_workspace_root: package.has_workspaces(), files: Vec::new() };
    let levels = vec![walk.package_level(package)?];
    walk.folder(root, "", levels)?;
    let mut files = walk.files;
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}

/// The patterns of one folder, and what the folder is called.
struct Level {
    /// The folder's own name; empty for the package's root.
    name: String,
    /// Whether the folder itself is included, so that its own patterns decide even where an ancestor's exclude.
    exact: bool,
    /// In the order in which they are applied.
    patterns: Vec<Pattern>,
    /// Files of `files` by their exact path below this folder.
    required: Vec<String>,
}

struct Walk<'a> {
    root: &'a Path,
    bins: &'a [String],
    is_workspace_root: bool,
    files: Vec<PackedFile>,
}

impl Walk<'_> {
    fn package_level(&self, package: &PackageJson) -> Result<Level, PackError> {
        let mut patterns = compile(NEVER)?;
        for ignored in workspace_ignores(self.root)? {
            patterns.extend(compile_lines(&ignored)?);
        }
        let mut always: Vec<String> = ALWAYS.iter().map(|&rule| rule.to_owned()).collect();
        let mut required = Vec::new();
        match package.files() {
            None => patterns.extend(self.ignore_file(self.root, false)?),
            Some(files) => {
                let mut rules = vec!["*".to_owned()];
                for file in files {
                    let mut file = file.strip_prefix("./").map_or(file.clone(), |rest| format!("/{rest}"));
                    if file.ends_with("/*") {
                        file.push('*');
                    }
                    let plain = file.trim_start_matches('!');
                    match fs::symlink_metadata(self.root.join(plain.trim_start_matches('/'))) {
                        Ok(found) if found.is_file() => {
                            always.insert(0, format!("!{file}"));
                            required.push(file.trim_start_matches('/').to_owned());
                        }
                        Ok(found) if found.is_dir() => {
                            rules.extend([format!("!{file}"), format!("!{file}/**")])
                        }
                        Ok(_) => {}
                        Err(_) => rules.push(format!("!{file}")),
                    }
                }
                patterns.extend(compile(&rules)?);
            }
        }
        let named = package.browser().into_iter().chain(package.main()).map(str::to_owned);
        always.extend(named.chain(self.bins.iter().cloned()).map(|file| format!("!/{file}")));
        patterns.extend(compile(&always)?);
        Ok(Level { name: String::new(), exact: false, patterns, required })
    }

    /// Reads the ignore file that counts in `folder`.
    fn ignore_file(&self, folder: &Path, below_root: bool) -> Result<Vec<Pattern>, PackError> {
        // npm reads a nested `package.json` of a workspace root as if it were an ignore file, and then no other.
        // Its lines match next to nothing, but they do displace `.npmignore` and `.gitignore`.
        let names: &[&str] = if self.is_workspace_root && below_root {
            &["package.json", ".npmignore", ".gitignore"]
        } else {
            &[".npmignore", ".gitignore"]
        };
        for name in names {
            let path = folder.join(name);
            match fs::read(&path) {
                Ok(bytes) => return compile_lines(&String::from_utf8_lossy(&bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(PackError::Read { path, source }),
            }
        }
        Ok(Vec::new())
    }

    fn folder(
        &mut self,
        folder: &Path,
        prefix: &str,
        mut levels: Vec<Level>,
    ) -> Result<Vec<Level>, PackError> {
        if levels.len() > MAX_DEPTH {
            return Err(PackError::TooDeep { path: folder.to_owned(), limit: MAX_DEPTH });
        }
        let read = |source| PackError::Read { path: folder.to_owned(), source };
        for entry in fs::read_dir(folder).map_err(read)? {
            let entry = entry.map_err(read)?;
            let kind = entry.file_type().map_err(read)?;
            if !kind.is_file() && !kind.is_dir() {
                continue;
            }
            let Ok(name) = entry.file_name().into_string() else {
                return Err(PackError::NotUtf8 { path: entry.path() });
            };
            if name.contains('*') {
                continue; // npm: a name that Windows cannot hold
            }
            let as_file = is_included(&levels, &name, false);
            let path = format!("{prefix}{name}");
            if kind.is_file() {
                if as_file {
                    self.add(path, entry.path())?;
                }
            } else if is_included(&levels, &name, true) {
                let exact = as_file || is_included(&levels, &format!("{name}/"), false);
                let level = self.nested_level(&entry.path(), &name, exact, &levels)?;
                levels.push(level);
                levels = self.folder(&entry.path(), &format!("{path}/"), levels)?;
                levels.pop();
            }
        }
        Ok(levels)
    }

    fn nested_level(
        &self,
        folder: &Path,
        name: &str,
        exact: bool,
        levels: &[Level],
    ) -> Result<Level, PackError> {
        let above = levels.last().map(|level| level.required.as_slice()).unwrap_or_default();
        // npm compares with the folder's own entry only, so a file deeper than that is not handed down.
        let required: Vec<String> = above
            .iter()
            .filter_map(|file| file.strip_prefix(&format!("{name}/")).filter(|rest| !rest.contains('/')))
            .map(str::to_owned)
            .collect();
        let mut patterns = compile(NEVER)?;
        patterns.extend(self.ignore_file(folder, true)?);
        patterns.extend(compile(&["/.git".to_owned()])?);
        patterns.extend(compile(&required.iter().map(|file| format!("!{file}")).collect::<Vec<_>>())?);
        Ok(Level { name: name.to_owned(), exact, patterns, required })
    }

    fn add(&mut self, path: String, absolute: PathBuf) -> Result<(), PackError> {
        let metadata = fs::symlink_metadata(&absolute)
            .map_err(|source| PackError::Read { path: absolute.clone(), source })?;
        let executable = self.bins.contains(&path) || is_executable(&metadata);
        let mode = if executable { 0o755 } else { 0o644 };
        self.files.push(PackedFile { path, absolute, mode, size: metadata.len() });
        Ok(())
    }
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}

/// Decides about `entry` of the innermost folder of `levels`, from the root inwards.
fn is_included(levels: &[Level], entry: &str, partial: bool) -> bool {
    decide(levels, entry, partial, None)
}

fn decide(levels: &[Level], entry: &str, partial: bool, base: Option<&str>) -> bool {
    let Some((level, above)) = levels.split_last() else { return true };
    let mut included = true;
    if !above.is_empty() {
        included = decide(above, &format!("{}/{entry}", level.name), partial, Some(base.unwrap_or(entry)));
        if !included && !level.exact {
            return false;
        }
    }
    let here = Candidates::new(entry);
    let basename = base.map(Candidates::new);
    for pattern in &level.patterns {
        if pattern.negated == included {
            continue;
        }
        let hit = here.as_file(pattern)
            || partial
                && (here.as_folder(pattern)
                    || basename
                        .as_ref()
                        .is_some_and(|base| pattern.is_relative() && base.as_folder(pattern)));
        if hit {
            included = pattern.negated;
        }
    }
    included
}

/// The forms in which npm holds one entry against a pattern.
struct Candidates {
    rooted: Candidate,
    bare: Candidate,
    rooted_folder: Candidate,
    bare_folder: Candidate,
}

impl Candidates {
    fn new(entry: &str) -> Self {
        Self {
            rooted: Candidate::new(&format!("/{entry}")),
            bare: Candidate::new(entry),
            rooted_folder: Candidate::new(&format!("/{entry}/")),
            bare_folder: Candidate::new(&format!("{entry}/")),
        }
    }

    fn as_file(&self, pattern: &Pattern) -> bool {
        pattern.matches(&self.rooted, false) || pattern.matches(&self.bare, false)
    }

    /// Matches as a folder, or as one on the way to something that is included.
    fn as_folder(&self, pattern: &Pattern) -> bool {
        pattern.matches(&self.rooted_folder, false)
            || pattern.matches(&self.bare_folder, false)
            || pattern.negated && (pattern.matches(&self.rooted, true) || pattern.matches(&self.bare, true))
    }
}

fn compile<S: AsRef<str>>(rules: &[S]) -> Result<Vec<Pattern>, PackError> {
    compile_lines(&rules.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("\n"))
}

fn compile_lines(text: &str) -> Result<Vec<Pattern>, PackError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| Pattern::new(line).map_err(PackError::Pattern)).collect()
}

/// Reads the ignore files of the folders between a workspace's root and one of its packages, `root`.
///
/// npm applies them to the package too: what `.gitignore` at the top of a monorepo excludes stays out of every
/// package whose own `files` does not name it.
fn workspace_ignores(root: &Path) -> Result<Vec<String>, PackError> {
    let Some(workspace) = package_json::workspace_root(root) else { return Ok(Vec::new()) };
    let between = root.parent().and_then(|parent| parent.strip_prefix(&workspace).ok());
    let mut folders = vec![workspace.clone()];
    for part in between.into_iter().flat_map(Path::components) {
        let next = folders[folders.len() - 1].join(part);
        folders.push(next);
    }
    let mut texts = Vec::new();
    for folder in folders {
        for name in [".npmignore", ".gitignore"] {
            let path = folder.join(name);
            match fs::read(&path) {
                Ok(bytes) => {
                    texts.push(String::from_utf8_lossy(&bytes).into_owned());
                    break;
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(PackError::Read { path, source }),
            }
        }
    }
    Ok(texts)
}
