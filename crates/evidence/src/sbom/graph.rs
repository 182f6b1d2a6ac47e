//! The neutral graph: a package, all that it needs, and what is known of each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    installed::Found,
    licence::Licence,
    lock::{Locked, Need, Origin},
    manifest::{Manifest, Party},
    purl::purl,
};

/// What a component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// The package does not work without it.
    Required,
    /// It works without it.
    Optional,
    /// Only developing the package needs it.
    Development,
}

/// A hash function, from the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Algorithm {
    Sha512,
    Sha384,
    Sha256,
    Sha1,
}

/// A package.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    /// What the document calls it: its package URL with a plain `@`.
    pub(crate) reference: String,
    pub(crate) purl: String,
    pub(crate) name: String,
    /// Empty where only a range is known.
    pub(crate) version: String,
    pub(crate) scope: Scope,
    /// Digests of the tarball in hexadecimal, the strongest first.
    pub(crate) hashes: BTreeMap<Algorithm, String>,
    pub(crate) origin: Origin,
    pub(crate) licence: Option<Licence>,
    /// Whether the licence is that of the same release for another platform.
    pub(crate) licence_is_concluded: bool,
    pub(crate) author: Option<Party>,
    pub(crate) supplier: Option<Party>,
    pub(crate) copyright: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) homepage: Option<String>,
    pub(crate) issues: Option<String>,
    /// Where it is installed, relative to the lock file's folder.
    pub(crate) paths: BTreeSet<String>,
    pub(crate) bundled: bool,
    pub(crate) deprecated: bool,
    pub(crate) yarn_checksum: Option<String>,
    /// The range that was asked for, where no version is known.
    pub(crate) range: Option<String>,
}

/// Where a graph was read from.
#[derive(Clone, Debug)]
pub(crate) struct LockFile {
    /// Its name.
    pub(crate) name: String,
    /// Its path within the repository, with `/`.
    pub(crate) path: String,
    /// Such as `package-lock.json, lockfileVersion 3`.
    pub(crate) format: String,
    pub(crate) sha256: protected_model::digest::Sha256,
    /// Others beside it.
    pub(crate) ignored: Vec<&'static str>,
}

/// What a package is made of, as far as its lock file and what is installed tell.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The package itself first, the others in the order of their references.
    pub(crate) components: Vec<Component>,
    /// What each component needs, by index.
    pub(crate) edges: Vec<BTreeMap<usize, Scope>>,
    pub(crate) lock: Option<LockFile>,
    /// Why it is not complete.
    pub(crate) gaps: Vec<String>,
}

/// Figures of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Without the package itself.
    pub components: usize,
    /// How many needs.
    pub edges: usize,
    /// Components with a digest.
    pub hashed: usize,
    /// Components with a licence.
    pub licensed: usize,
}

impl Graph {
    /// Returns why the graph is not complete: nothing where it is.
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// Returns the format of the lock file that it was read from, such as `package-lock.json, lockfileVersion 3`.
    pub fn lock_format(&self) -> Option<&str> {
        self.lock.as_ref().map(|lock| lock.format.as_str())
    }

    /// Returns the path of the lock file that it was read from, within the repository, and its digest.
    pub fn lock_file(&self) -> Option<(&str, protected_model::digest::Sha256)> {
        self.lock.as_ref().map(|lock| (lock.path.as_str(), lock.sha256))
    }

    /// Returns the lock files that stand beside the one that was read.
    pub fn ignored_locks(&self) -> &[&'static str] {
        self.lock.as_ref().map_or(&[], |lock| &lock.ignored)
    }

    /// Counts what is in it.
    pub fn counts(&self) -> Counts {
        let others = &self.components[1..];
        Counts {
            components: others.len(),
            edges: self.edges.iter().map(BTreeMap::len).sum(),
            hashed: others.iter().filter(|component| !component.hashes.is_empty()).count(),
            licensed: others.iter().filter(|component| component.licence.is_some()).count(),
        }
    }

    pub(crate) fn root(&self) -> &Component {
        &self.components[0]
    }

    /// Makes one component of all entries that are one package, and finds what each is for.
    pub(crate) fn new(
        manifest: &Manifest,
        copyright: Option<String>,
        packages: &[Locked],
        found: &[Option<Found>],
        lock: Option<LockFile>,
        mut gaps: Vec<String>,
    ) -> Self {
        let root = own(manifest, copyright);
        let reached = reached(packages);
        let mut index_of: HashMap<String, usize> = HashMap::from([(root.reference.clone(), 0)]);
        let mut components = vec![root];
        // Which component each entry is.
        let mut component_of = vec![0; packages.len()];
        for (entry, package) in packages.iter().enumerate().skip(1).filter(|(entry, _)| reached[*entry]) {
            let component = component(package, found[entry].as_ref());
            let at = *index_of.entry(component.reference.clone()).or_insert(components.len());
            component_of[entry] = at;
            match components.get_mut(at) {
                Some(known) => merge(known, component),
                None => components.push(component),
            }
        }
        let mut edges: Vec<BTreeMap<usize, Scope>> = vec![BTreeMap::new(); components.len()];
        let mut runs: Vec<Vec<(usize, bool)>> = vec![Vec::new(); components.len()];
        for (entry, package) in packages.iter().enumerate().filter(|(entry, _)| reached[*entry]) {
            let from = component_of[entry];
            for missing in &package.missing {
                let who = &components[from].reference;
                gaps.push(format!("`{missing}`, which {who} needs, stands nowhere in the lock file"));
            }
            for edge in &package.edges {
                let to = component_of[edge.to];
                let scope = match edge.need {
                    Need::Required | Need::Peer => Scope::Required,
                    Need::Optional | Need::OptionalPeer => Scope::Optional,
                    Need::Dev => Scope::Development,
                };
                if to == from {
                    continue;
                }
                edges[from].entry(to).and_modify(|known| *known = (*known).min(scope)).or_insert(scope);
                if scope != Scope::Development {
                    runs[from].push((to, scope == Scope::Required));
                }
            }
        }
        conclude_licences(&mut components, &edges);
        let required = walk(&runs, true);
        let optional = walk(&runs, false);
        for (at, component) in components.iter_mut().enumerate() {
            component.scope = match (required.contains(&at), optional.contains(&at)) {
                (true, _) => Scope::Required,
                (false, true) => Scope::Optional,
                (false, false) => Scope::Development,
            };
        }
        gaps.sort();
        gaps.dedup();
        let (components, edges) = sorted(components, edges);
        Self { components, edges, lock, gaps }
    }
}

/// Which entries the package needs, directly or not.
fn reached(packages: &[Locked]) -> Vec<bool> {
    let mut reached = vec![false; packages.len()];
    let mut open = vec![0];
    while let Some(next) = open.pop() {
        if !std::mem::replace(&mut reached[next], true) {
            open.extend(packages[next].edges.iter().map(|edge| edge.to));
        }
    }
    reached
}

/// What is reached from the package at run time, by what is required alone or by everything.
fn walk(runs: &[Vec<(usize, bool)>], required_only: bool) -> HashSet<usize> {
    let mut seen = HashSet::from([0]);
    let mut open = VecDeque::from([0]);
    while let Some(next) = open.pop_front() {
        for &(to, required) in &runs[next] {
            if (required || !required_only) && seen.insert(to) {
                open.push_back(to);
            }
        }
    }
    seen
}

/// Puts the components after the first in the order of their references.
fn sorted(
    components: Vec<Component>,
    edges: Vec<BTreeMap<usize, Scope>>,
) -> (Vec<Component>, Vec<BTreeMap<usize, Scope>>) {
    let mut order: Vec<usize> = (0..components.len()).collect();
    order[1..].sort_by(|a, b| components[*a].reference.cmp(&components[*b].reference));
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(new, old)| place[*old] = new);
    let moved =
        |edges: &BTreeMap<usize, Scope>| edges.iter().map(|(to, scope)| (place[*to], *scope)).collect();
    let edges = order.iter().map(|old| moved(&edges[*old])).collect();
    let mut slots: Vec<Option<Component>> = components.into_iter().map(Some).collect();
    (order.iter().filter_map(|old| slots[*old].take()).collect(), edges)
}

/// The package that the graph is of.
fn own(manifest: &Manifest, copyright: Option<String>) -> Component {
    let locked = Locked {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        origin: Origin::Registry(None),
        ..Locked::default()
    };
    component(&locked, Some(&Found { manifest: manifest.clone(), copyright }))
}

fn component(package: &Locked, found: Option<&Found>) -> Component {
    let qualifier = match &package.origin {
        Origin::Git(url) => Some(("vcs_url", url.as_str())),
        Origin::Tarball(url) => Some(("download_url", url.as_str())),
        Origin::Registry(_) | Origin::Local => None,
    };
    let purl = purl(&package.name, &package.version, qualifier);
    // What stands before a scope is `/` in a package URL, so that the first `%40` there is the scope's.
    let reference = purl.replacen("pkg:npm/%40", "pkg:npm/@", 1);
    let manifest = found.map(|found| &found.manifest);
    let licence = manifest.and_then(|manifest| manifest.licence.clone());
    let licence = licence.or_else(|| package.licence.as_deref().and_then(Licence::of));
    let author = manifest.and_then(|manifest| manifest.author.clone());
    let repository = manifest.and_then(|manifest| manifest.repository.clone());
    let supplier = author.clone().or_else(|| supplier(package, repository.as_deref()));
    let is_installed = package.path.as_deref().is_some_and(|path| path.contains("node_modules/"));
    let mut hashes = hashes(&package.integrity);
    if let Some(sha1) = &package.sha1 {
        hashes.entry(Algorithm::Sha1).or_insert_with(|| sha1.clone());
    }
    Component {
        reference,
        purl,
        name: package.name.clone(),
        version: package.version.clone(),
        scope: Scope::Development,
        hashes,
        origin: package.origin.clone(),
        licence,
        licence_is_concluded: false,
        author,
        supplier,
        copyright: found.and_then(|found| found.copyright.clone()),
        description: manifest.and_then(|manifest| manifest.description.clone()),
        repository,
        homepage: manifest.and_then(|manifest| manifest.homepage.clone()),
        issues: manifest.and_then(|manifest| manifest.issues.clone()),
        paths: package.path.iter().filter(|_| is_installed).cloned().collect(),
        bundled: package.bundled,
        deprecated: package.deprecated,
        yarn_checksum: package.yarn_checksum.clone(),
        range: package.range.clone(),
    }
}

/// Who distributes a package whose author is not known: its scope, the owner of its repository, or the registry.
fn supplier(package: &Locked, repository: Option<&str>) -> Option<Party> {
    let scope = package
        .name
        .strip_prefix('@')
        .and_then(|name| name.split_once('/'))
        .map(|(scope, _)| scope.to_owned());
    let owner = || {
        let url = url::Url::parse(repository?).ok()?;
        Some(url.path_segments()?.next()?.to_owned()).filter(|owner| !owner.is_empty())
    };
    let registry = || match &package.origin {
        Origin::Registry(Some(url)) | Origin::Tarball(url) => {
            Some(url::Url::parse(url).ok()?.host_str()?.to_owned())
        }
        Origin::Registry(None) => Some("npm registry".to_owned()),
        Origin::Git(url) => url::Url::parse(url).ok()?.path_segments()?.next().map(str::to_owned),
        Origin::Local => None,
    };
    let name = scope.or_else(owner).or_else(registry)?;
    Some(Party { name, email: None, url: None })
}

/// Reads Subresource Integrity (W3C, section 3.5). What is no digest of a known function is left out.
fn hashes(integrity: &str) -> BTreeMap<Algorithm, String> {
    let mut hashes = BTreeMap::new();
    for part in integrity.split_ascii_whitespace() {
        let Some((name, encoded)) = part.split_once('-') else { continue };
        let (algorithm, length) = match name {
            "sha512" => (Algorithm::Sha512, 64),
            "sha384" => (Algorithm::Sha384, 48),
            "sha256" => (Algorithm::Sha256, 32),
            "sha1" => (Algorithm::Sha1, 20),
            _ => continue,
        };
        let encoded = encoded.split('?').next().unwrap_or_default();
        if let Ok(bytes) = STANDARD.decode(encoded)
            && bytes.len() == length
        {
            hashes.entry(algorithm).or_insert_with(|| hex::encode(bytes));
        }
    }
    hashes
}

/// Adds what another entry of the same package tells.
fn merge(known: &mut Component, other: Component) {
    for (algorithm, hash) in other.hashes {
        known.hashes.entry(algorithm).or_insert(hash);
    }
    if known.author.is_none() && other.author.is_some() {
        known.supplier = other.supplier;
        known.author = other.author;
    }
    known.licence = known.licence.take().or(other.licence);
    known.copyright = known.copyright.take().or(other.copyright);
    known.description = known.description.take().or(other.description);
    known.repository = known.repository.take().or(other.repository);
    known.homepage = known.homepage.take().or(other.homepage);
    known.issues = known.issues.take().or(other.issues);
    known.yarn_checksum = known.yarn_checksum.take().or(other.yarn_checksum);
    known.paths.extend(other.paths);
    if known.origin == Origin::Registry(None) {
        known.origin = other.origin;
    }
    known.bundled &= other.bundled;
    known.deprecated |= other.deprecated;
}

/// Gives builds for other platforms, which are not installed here, the licence of the one that is: it was released with
/// them, by the same package, under the same version. Where those differ, nothing is concluded.
fn conclude_licences(components: &mut [Component], edges: &[BTreeMap<usize, Scope>]) {
    let mut offered: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let mut licences: HashMap<String, Licence> = HashMap::new();
    for needs in edges {
        let optional: Vec<usize> =
            needs.iter().filter(|(_, scope)| **scope == Scope::Optional).map(|(to, _)| *to).collect();
        for &to in optional.iter().filter(|to| components[**to].licence.is_none()) {
            let family = |name: &str| name.split(['/', '-']).next().unwrap_or_default().to_owned();
            let is_kin = |other: &Component| {
                other.version == components[to].version && family(&other.name) == family(&components[to].name)
            };
            for licence in optional.iter().map(|other| &components[*other]).filter(|other| is_kin(other)) {
                if let Some(licence) = &licence.licence {
                    let key = format!("{licence:?}");
                    licences.insert(key.clone(), licence.clone());
                    offered.entry(to).or_default().insert(key);
                }
            }
        }
    }
    for (at, keys) in offered {
        if let (1, Some(licence)) = (keys.len(), keys.first().and_then(|key| licences.get(key))) {
            components[at].licence = Some(licence.clone());
            components[at].licence_is_concluded = true;
        }
    }
}
