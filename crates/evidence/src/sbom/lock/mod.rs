//! Lock files: what each package manager resolved, in one shape.
//!
//! | file | formats | reader |
//! |---|---|---|
//! | `npm-shrinkwrap.json`, `package-lock.json` | lockfileVersion 1 to 3 | [`npm`] |
//! | `pnpm-lock.yaml` | lockfileVersion 5.x, 6.x, 9.x | [`pnpm`] |
//! | `yarn.lock` | yarn 1 | [`yarn_classic`] |
//! | `yarn.lock` | yarn 2 and later | [`yarn_berry`] |
//!
//! A lock file is whatever a pull request made of it: a reader bounds what it takes, follows no path, and gives one
//! answer or says which line it cannot read.

pub(crate) mod npm;
pub(crate) mod pnpm;
pub(crate) mod yarn_berry;
pub(crate) mod yarn_classic;

use std::collections::HashMap;

use super::{
    error::Fault,
    manifest::{Manifest, web_url},
    node::Node,
};

/// How many packages a lock file may hold.
pub(crate) const MAX_PACKAGES: usize = 200_000;

/// The lock files that are looked for, in the order in which npm, and then a choice, prefers them.
pub(crate) const NAMES: &[&str] =
    &["npm-shrinkwrap.json", "package-lock.json", "pnpm-lock.yaml", "yarn.lock"];

/// Why a package needs another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    Required,
    Peer,
    Optional,
    OptionalPeer,
    /// Only to develop the root package.
    Dev,
}

/// One package needs another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The name it is required by, which an alias makes another than its own.
    pub(crate) name: String,
    pub(crate) to: usize,
    pub(crate) need: Need,
}

/// Where a package comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A registry, with the tarball's address where the lock file has it.
    Registry(Option<String>),
    /// A tarball that is no registry's.
    Tarball(String),
    /// A repository, as npm writes it: `git+ssh://...#commit`.
    Git(String),
    /// A folder or file beside the package.
    #[default]
    Local,
}

/// A package in a lock file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locked {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) origin: Origin,
    /// Subresource Integrity: algorithm and base64, several with spaces between.
    pub(crate) integrity: String,
    /// SHA-1 in hexadecimal, as yarn 1 puts it behind the address.
    pub(crate) sha1: Option<String>,
    /// yarn's digest of its own archive, which is not that of the tarball.
    pub(crate) yarn_checksum: Option<String>,
    pub(crate) licence: Option<String>,
    /// Where it is installed or kept, relative to the lock file's folder.
    pub(crate) path: Option<String>,
    /// Comes within the tarball of the package that needs it.
    pub(crate) bundled: bool,
    pub(crate) deprecated: bool,
    pub(crate) edges: Vec<Edge>,
    /// Peers that the lock file names and does not resolve; `true` for optional ones.
    pub(crate) peers: Vec<(String, bool)>,
    /// The range that was asked for, where there is no lock file.
    pub(crate) range: Option<String>,
    /// What is needed and stands nowhere in the lock file.
    pub(crate) missing: Vec<String>,
}

/// What a lock file says about one package and all that it needs; the package itself stands first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lock {
    /// Such as `package-lock.json, lockfileVersion 3`.
    pub(crate) format: String,
    pub(crate) packages: Vec<Locked>,
}

/// The package that a lock file is read for.
pub(crate) struct Place<'a> {
    pub(crate) manifest: &'a Manifest,
    /// Its folder, relative to that of the lock file with `/`; empty where they are one.
    pub(crate) member: &'a str,
    /// The folders of the workspace.
    pub(crate) workspaces: &'a [String],
    /// The `package.json` in the folder of the lock file.
    pub(crate) top: &'a Manifest,
    /// Reads the `package.json` of a folder below the lock file's.
    pub(crate) manifest_in: &'a dyn Fn(&str) -> Option<Manifest>,
}

/// Reads the lock file of that name; `None` where it does not cover the package.
pub(crate) fn read(name: &str, text: &str, place: &Place<'_>) -> Result<Option<Lock>, Fault> {
    match name {
        "pnpm-lock.yaml" => pnpm::read(text, place),
        "yarn.lock" if yarn_berry::is(text) => yarn_berry::read(text, place),
        "yarn.lock" => yarn_classic::read(text, place),
        _ => npm::read(name, text, place),
    }
}

/// Returns the line of a conflict marker that `git` left.
pub(crate) fn conflict(text: &str) -> Option<usize> {
    let is_marker = |line: &str| {
        ["<<<<<<<", ">>>>>>>", "|||||||", "======="].iter().any(|marker| {
            line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
    };
    text.lines().position(|line| is_marker(line.trim_end())).map(|index| index + 1)
}

/// Refuses more packages than any repository has.
fn check_count(count: usize) -> Result<(), Fault> {
    if count > MAX_PACKAGES {
        return Err(Fault::new(format!("it holds {count} packages, and at most {MAX_PACKAGES} are read")));
    }
    Ok(())
}

/// What a package says it needs, each name once, in the order in which npm lets one list win over another.
fn wanted<'a>(manifest: &'a Manifest, dev: bool) -> Vec<(&'a str, &'a str, Need)> {
    let mut wanted = Vec::new();
    let mut add = |list: &'a std::collections::BTreeMap<String, String>, need: &dyn Fn(&str) -> Need| {
        for (name, range) in list {
            if !wanted.iter().any(|(known, ..): &(&str, &str, Need)| known == name) {
                wanted.push((name.as_str(), range.as_str(), need(name)));
            }
        }
    };
    add(&manifest.optional, &|_| Need::Optional);
    add(&manifest.dependencies, &|_| Need::Required);
    add(&manifest.peers, &|name| peer(manifest.optional_peers.contains(name)));
    if dev {
        add(&manifest.dev, &|_| Need::Dev);
    }
    wanted
}

fn peer(optional: bool) -> Need {
    if optional { Need::OptionalPeer } else { Need::Peer }
}

/// Splits `name@range`; the `@` of a scope is no separator.
fn split(text: &str) -> Option<(&str, &str)> {
    let at = text.get(1..)?.find('@')? + 1;
    Some((&text[..at], &text[at + 1..]))
}

/// Finds entries by what asks for them, and by name where only one has it.
#[derive(Default)]
struct Index {
    by_pattern: HashMap<String, usize>,
    by_name: HashMap<String, Option<usize>>,
}

impl Index {
    fn add(&mut self, pattern: &str, entry: usize) {
        self.by_pattern.insert(pattern.to_owned(), entry);
        if let Some((name, _)) = split(pattern) {
            self.by_name
                .entry(name.to_owned())
                .and_modify(|known| *known = known.filter(|known| *known == entry))
                .or_insert(Some(entry));
        }
    }

    fn get(&self, pattern: &str) -> Option<usize> {
        self.by_pattern.get(pattern).copied()
    }

    /// The only entry of that name: what a `resolutions` entry leaves of several.
    fn only(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied().flatten()
    }
}

/// Adds an edge, or notes that what is needed stands nowhere.
fn connect(package: &mut Locked, name: &str, range: &str, need: Need, found: Option<usize>) {
    match (found, need) {
        (Some(to), _) => package.edges.push(Edge { name: name.to_owned(), to, need }),
        (None, Need::Required | Need::Dev) => package.missing.push(format!("{name}@{range}")),
        // Optional packages may be left out, and peers may be the consumer's to bring.
        (None, Need::Optional | Need::Peer | Need::OptionalPeer) => {}
    }
}

/// Reads where a package comes from, as npm and yarn write it.
fn origin(resolved: &str) -> Origin {
    let lower = resolved.to_ascii_lowercase();
    let git = ["git+", "git:", "git@", "ssh:", "github:", "gitlab:", "bitbucket:"];
    if git.iter().any(|start| lower.starts_with(start)) {
        return Origin::Git(without_credential(resolved));
    }
    if !lower.starts_with("http:") && !lower.starts_with("https:") {
        return Origin::Local;
    }
    let Some(mut url) = web_url(resolved).and_then(|url| url::Url::parse(&url).ok()) else {
        return Origin::Local;
    };
    // A query may hold a token, and yarn 1 puts the SHA-1 behind `#`.
    url.set_query(None);
    let fragment = url.fragment().map(str::to_owned);
    url.set_fragment(None);
    let path = url.path();
    let is_registry = path.contains("/-/") || path.contains("/download/");
    if path.ends_with(".git") || fragment.as_deref().is_some_and(|text| text.starts_with("commit=")) {
        let fragment = fragment.map_or_else(String::new, |text| format!("#{text}"));
        return Origin::Git(format!("git+{url}{fragment}"));
    }
    if is_registry { Origin::Registry(Some(url.to_string())) } else { Origin::Tarball(url.to_string()) }
}

/// Drops `user:secret@`, but not the user alone that git over SSH needs.
fn without_credential(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, host)) if user.contains(':') || scheme.contains("http") => {
            format!("{scheme}://{host}{}", &rest[end..])
        }
        _ => text.to_owned(),
    }
}

/// Returns the names and ranges of a list of dependencies of an entry.
fn needs<'a>(node: &'a Node, list: &str, need: Need) -> Result<Vec<(&'a str, &'a str, Need)>, Fault> {
    Ok(node.pairs(list)?.into_iter().map(|(name, range)| (name, range, need)).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Reads a lock file for a package with this manifest, in a workspace of these folders.
    pub(crate) fn read_for(
        name: &str,
        text: &str,
        manifest: &str,
        member: &str,
        others: &[(&str, &str)],
    ) -> Result<Option<Lock>, Fault> {
        let manifest = Manifest::parse(manifest).expect("manifest");
        let folders: Vec<String> = others.iter().map(|(folder, _)| (*folder).to_owned()).collect();
        let others: HashMap<&str, Manifest> =
            others.iter().map(|(folder, text)| (*folder, Manifest::parse(text).expect("manifest"))).collect();
        let top = others.get("").unwrap_or(&manifest);
        read(
            name,
            text,
            &Place {
                manifest: &manifest,
                member,
                workspaces: &folders,
                top,
                manifest_in: &|folder| others.get(folder).cloned(),
            },
        )
    }

    /// Every edge as `from -> to (need)`, sorted.
    pub(crate) fn edges(lock: &Lock) -> Vec<String> {
        let shown = |index: usize| format!("{}@{}", lock.packages[index].name, lock.packages[index].version);
        let mut edges: Vec<String> = lock
            .packages
            .iter()
            .enumerate()
            .flat_map(|(from, package)| {
                let edge =
                    move |edge: &Edge| format!("{} -> {} ({:?})", shown(from), shown(edge.to), edge.need);
                package.edges.iter().map(edge).collect::<Vec<_>>()
            })
            .collect();
        edges.sort();
        edges
    }

    #[test]
    fn conflict_markers_are_found() {
        assert_eq!(conflict("{\n<<<<<<< HEAD\n  \"a\": 1\n=======\n>>>>>>> x\n"), Some(2));
        assert_eq!(conflict("a:\n======= \n"), Some(2));
        assert_eq!(conflict("a: '<<<<<<<'\n========\n"), None);
    }

    #[test]
    fn origins_hold_no_credential() {
        for (text, expected) in [
            (
                "https://u:p@r.example/a/-/a-1.tgz?t=s#abc",
                Origin::Registry(Some("https://r.example/a/-/a-1.tgz".into())),
            ),
            (
                "https://codeload.github.com/a/b/tar.gz/c",
                Origin::Tarball("https://codeload.github.com/a/b/tar.gz/c".into()),
            ),
            ("git+ssh://git@github.com/a/b.git#c", Origin::Git("git+ssh://git@github.com/a/b.git#c".into())),
            ("git+https://u:p@github.com/a/b.git#c", Origin::Git("git+https://github.com/a/b.git#c".into())),
            (
                "https://token@github.com/a/b.git#commit=c",
                Origin::Git("git+https://github.com/a/b.git#commit=c".into()),
            ),
            ("file:../a", Origin::Local),
            ("../../etc/passwd", Origin::Local),
            ("https://", Origin::Local),
        ] {
            assert_eq!(origin(text), expected, "{text}");
        }
    }
}
