//! `package.json`: read strictly where a registry depends on it, kept as written everywhere else.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use protected_model::{
    hint::Hint,
    name::PackageName,
    version::{DistTag, PackageVersion},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, value::RawValue};

use crate::{glob, json::Json};

/// The largest `package.json` that is read.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The longest readme that goes into a registry's metadata, which every install downloads.
const MAX_README_BYTES: usize = 64 * 1024;

/// A package's manifest.
#[derive(Clone, Debug)]
pub struct PackageJson {
    path: PathBuf,
    fields: Fields,
    content: Json,
}

/// The members that must be right before anything is packed.
#[derive(Clone, Debug)]
struct Fields {
    name: PackageName,
    version: PackageVersion,
    private: bool,
    files: Option<Vec<String>>,
    publish_config: PublishConfig,
}

/// The same members as they stand in the file, so that an error can say where. Two of one name are an error: readers
/// would differ about which package this is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFields<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow)]
    version: &'a RawValue,
    #[serde(borrow)]
    private: Option<&'a RawValue>,
    #[serde(borrow)]
    files: Option<&'a RawValue>,
    #[serde(borrow)]
    publish_config: Option<&'a RawValue>,
}

/// What `publishConfig` may decide. A `registry` in it decides nothing here: where a package goes is for whoever
/// publishes it to say, not for its content.
#[derive(Clone, Debug, Default, Deserialize)]
struct PublishConfig {
    #[serde(default)]
    tag: Option<DistTag>,
    #[serde(default)]
    access: Option<Access>,
}

/// Who may read a scoped package, on registries that tell the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Everybody.
    Public,
    /// Those with a grant.
    Restricted,
}

impl Access {
    /// Returns the name that registries use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Restricted => "restricted",
        }
    }
}

/// Why a `package.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageJsonError {
    /// There is none.
    #[error("no package.json in `{}`", folder.display())]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// It cannot be read.
    #[error("reading `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than any package.json.
    #[error("`{}` has more than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// It is not JSON, or a member is not what it must be.
    #[error("{}:{line}:{column}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
        /// What is wrong.
        reason: String,
    },
}

impl PackageJsonError {
    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Missing { .. } => {
                Some(Hint::new("run the command in a package's folder, or name the folder"))
            }
            _ => None,
        }
    }
}

impl PackageJson {
    /// Reads `package.json` in `folder`.
    ///
    /// # Errors
    /// When there is none, it is no JSON object, or `name`, `version`, `files` or `publishConfig` is not valid.
    pub fn read(folder: &Path) -> Result<Self, PackageJsonError> {
        let path = folder.join("package.json");
        let bytes = match read_capped(&path) {
            Err(PackageJsonError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(PackageJsonError::Missing { folder: folder.to_owned() });
            }
            other => other?,
        };
        Self::parse(&bytes, path)
    }

    /// Reads the manifest in `bytes`, which came from `path`. A byte-order mark before it is skipped.
    ///
    /// # Errors
    /// As [`PackageJson::read`].
    pub fn parse(bytes: &[u8], path: PathBuf) -> Result<Self, PackageJsonError> {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let invalid = |error: serde_json::Error| PackageJsonError::Invalid {
            path: path.clone(),
            line: error.line(),
            column: error.column(),
            reason: reason(&error),
        };
        let content: Json = serde_json::from_slice(text).map_err(invalid)?;
        let raw: RawFields<'_> = serde_json::from_slice(text).map_err(invalid)?;
        let place = Place { path: &path, text };
        let private: Option<Json> = raw.private.map(|raw| place.read("private", raw)).transpose()?;
        let publish_config = raw.publish_config.map(|raw| place.read("publishConfig", raw)).transpose()?;
        let fields = Fields {
            name: place.read("name", raw.name)?,
            version: place.read("version", raw.version)?,
            private: private.is_some_and(|private| private.is_truthy()),
            files: raw.files.map(|raw| place.read("files", raw)).transpose()?,
            publish_config: publish_config.unwrap_or_default(),
        };
        Ok(Self { path, fields, content })
    }

    /// Returns where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the package's name.
    pub fn name(&self) -> &PackageName {
        &self.fields.name
    }

    /// Returns the package's version.
    pub fn version(&self) -> &PackageVersion {
        &self.fields.version
    }

    /// Returns whether the package says that it must not be published.
    pub fn is_private(&self) -> bool {
        self.fields.private
    }

    /// Returns the dist-tag that `publishConfig` asks for.
    pub fn publish_tag(&self) -> Option<&DistTag> {
        self.fields.publish_config.tag.as_ref()
    }

    /// Returns the access that `publishConfig` asks for.
    pub fn publish_access(&self) -> Option<Access> {
        self.fields.publish_config.access
    }

    /// Returns the patterns of `files`.
    pub fn files(&self) -> Option<&[String]> {
        self.fields.files.as_deref()
    }

    /// Returns `main`.
    pub fn main(&self) -> Option<&str> {
        self.content.get("main").and_then(Json::as_str).filter(|main| !main.is_empty())
    }

    /// Returns `browser` where it names one file.
    pub fn browser(&self) -> Option<&str> {
        self.content.get("browser").and_then(Json::as_str).filter(|browser| !browser.is_empty())
    }

    /// Returns the commands of the package with the files that they run, as npm reads them: a single path is
    /// named like the package, and no name or path leaves its folder.
    pub fn bin(&self) -> Vec<(String, String)> {
        let pairs: Vec<(String, String)> = match self.content.get("bin") {
            Some(Json::String(path)) => vec![(self.fields.name.as_str().to_owned(), path.clone())],
            Some(Json::Array(paths)) => {
                let named =
                    |path: &str| (path.rsplit('/').next().unwrap_or(path).to_owned(), path.to_owned());
                paths.iter().filter_map(Json::as_str).map(named).collect()
            }
            Some(Json::Object(members)) => members
                .iter()
                .filter_map(|(name, path)| Some((name.clone(), path.as_str()?.to_owned())))
                .collect(),
            _ => Vec::new(),
        };
        pairs
            .into_iter()
            .map(|(name, path)| {
                let name = contained(&name);
                (name.rsplit('/').next().unwrap_or(&name).to_owned(), contained(&path))
            })
            .filter(|(name, path)| !name.is_empty() && !path.is_empty())
            .collect()
    }

    /// Returns the names of dependencies that are to be packed with the package.
    pub fn bundled(&self) -> Vec<String> {
        let bundled =
            self.content.get("bundleDependencies").or_else(|| self.content.get("bundledDependencies"));
        match bundled {
            Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            Some(Json::Bool(true)) => match self.content.get("dependencies") {
                Some(Json::Object(members)) => members.iter().map(|(name, _)| name.clone()).collect(),
                _ => Vec::new(),
            },
            Some(Json::Object(members)) => members.iter().map(|(name, _)| name.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns whether this is the root of a workspace.
    pub fn has_workspaces(&self) -> bool {
        !workspaces(&self.content).is_empty()
    }

    /// Returns the manifest as it was written, members in their order.
    pub fn content(&self) -> &Json {
        &self.content
    }

    /// Returns the manifest as a registry's metadata holds it, with the corrections that npm's publish applies.
    ///
    /// `readme` is the name and text of the package's readme; `has_gyp` says whether a `*.gyp` file stands in the
    /// root, for which npm adds an install script.
    pub fn manifest(&self, readme: Option<(&str, &str)>, has_gyp: bool) -> Value {
        let Value::Object(mut manifest) = Value::from(self.content.clone()) else {
            return Value::Null; // `parse` took `Fields` from it, so it is an object
        };
        manifest.retain(|name, _| !name.starts_with('_'));
        manifest.insert("name".to_owned(), self.fields.name.as_str().into());
        manifest.insert("version".to_owned(), self.fields.version.to_string().into());
        manifest.insert("_id".to_owned(), format!("{}@{}", self.fields.name, self.fields.version).into());
        manifest.remove("bin");
        let bin: Map<String, Value> =
            self.bin().into_iter().map(|(name, path)| (name, path.into())).collect();
        if !bin.is_empty() {
            manifest.insert("bin".to_owned(), bin.into());
        }
        manifest.remove("bundledDependencies");
        manifest.remove("bundleDependencies");
        let bundled = self.bundled();
        if !bundled.is_empty() {
            manifest.insert("bundleDependencies".to_owned(), bundled.into());
        }
        normalize_scripts(&mut manifest, has_gyp);
        normalize_dependencies(&mut manifest);
        normalize_descriptions(&mut manifest);
        if let Some((name, text)) = readme {
            let end = text.floor_char_boundary(MAX_README_BYTES);
            manifest.insert("readme".to_owned(), text[..end].into());
            manifest.insert("readmeFilename".to_owned(), name.into());
        }
        manifest.into()
    }
}

/// Returns what is wrong without the place, which serde_json appends.
fn reason(error: &serde_json::Error) -> String {
    let whole = error.to_string();
    whole.split(" at line ").next().unwrap_or(&whole).to_owned()
}

/// The text that members are read from.
struct Place<'a> {
    path: &'a Path,
    text: &'a [u8],
}

impl Place<'_> {
    /// Reads a member, and says where it begins when it is not a `T`.
    fn read<T: DeserializeOwned>(&self, name: &str, raw: &RawValue) -> Result<T, PackageJsonError> {
        serde_json::from_str(raw.get()).map_err(|error| {
            // The raw value borrows from the text, so its address is its place.
            let offset = raw.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
            let before = &self.text[..offset.min(self.text.len())];
            let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            PackageJsonError::Invalid {
                path: self.path.to_owned(),
                line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
                column: before.len() - line_start + 1,
                reason: format!("`{name}`: {}", reason(&error)),
            }
        })
    }
}

fn read_capped(path: &Path) -> Result<Vec<u8>, PackageJsonError> {
    let read = |source| PackageJsonError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(read)?.len() > MAX_BYTES {
        return Err(PackageJsonError::TooLarge { path: path.to_owned(), limit_bytes: MAX_BYTES });
    }
    fs::read(path).map_err(read)
}

/// Resolves `.` and `..` of a path below a root that it cannot leave.
fn contained(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split(['/', '\\', ':']) {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join("/")
}

fn normalize_scripts(manifest: &mut Map<String, Value>, has_gyp: bool) {
    match manifest.get_mut("scripts") {
        Some(Value::Object(scripts)) => scripts.retain(|_, script| script.is_string()),
        Some(_) => {
            manifest.remove("scripts");
        }
        None => {}
    }
    if has_gyp && manifest.get("gypfile") != Some(&Value::Bool(false)) {
        let scripts = manifest.entry("scripts").or_insert_with(|| Map::new().into());
        if let Value::Object(scripts) = scripts
            && !scripts.contains_key("install")
            && !scripts.contains_key("preinstall")
        {
            scripts.insert("install".to_owned(), "node-gyp rebuild".into());
            manifest.insert("gypfile".to_owned(), true.into());
        }
    }
}

/// Drops what is not a map of texts: clients trip over it, and npm drops it too.
fn normalize_dependencies(manifest: &mut Map<String, Value>) {
    for kind in ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"] {
        match manifest.get_mut(kind) {
            Some(Value::Object(members)) => members.retain(|_, range| range.is_string()),
            Some(_) => {
                manifest.remove(kind);
            }
            None => {}
        }
    }
}

/// Brings what only people read into the form that registries show.
fn normalize_descriptions(manifest: &mut Map<String, Value>) {
    if manifest.get("description").is_some_and(|description| !description.is_string()) {
        manifest.remove("description");
    }
    let text = |manifest: &Map<String, Value>, name: &str| manifest.get(name)?.as_str().map(str::to_owned);
    if let Some(funding) = text(manifest, "funding") {
        manifest.insert("funding".to_owned(), serde_json::json!({"url": funding}));
    }
    if let Some(repository) = text(manifest, "repository") {
        manifest.insert("repository".to_owned(), serde_json::json!({"type": "git", "url": repository}));
    }
    if let Some(keywords) = text(manifest, "keywords") {
        let words: Vec<&str> = keywords.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        manifest.insert("keywords".to_owned(), words.into());
    }
    if let Some(bugs) = text(manifest, "bugs") {
        let kind = if bugs.contains("://") { "url" } else { "email" };
        manifest.insert("bugs".to_owned(), serde_json::json!({kind: bugs}));
    }
    if let Some(author) = text(manifest, "author") {
        manifest.insert("author".to_owned(), person(&author));
    }
    for list in ["contributors", "maintainers"] {
        if let Some(Value::Array(people)) = manifest.get_mut(list) {
            for one in people {
                if let Value::String(text) = one {
                    *one = person(text);
                }
            }
        }
    }
}

/// Reads `Ann <ann@acme.example> (https://acme.example)`.
fn person(text: &str) -> Value {
    let between = |open: char, close: char| {
        let (_, rest) = text.split_once(open)?;
        rest.split_once(close).map(|(inner, _)| inner.trim().to_owned())
    };
    let name = text.split(['<', '(']).next().unwrap_or_default().trim();
    let mut person = Map::new();
    let members = [("name", Some(name.to_owned())), ("email", between('<', '>')), ("url", between('(', ')'))];
    for (member, value) in members {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            person.insert(member.to_owned(), value.into());
        }
    }
    person.into()
}

fn workspaces(content: &Json) -> Vec<&str> {
    let declared = match content.get("workspaces") {
        Some(Json::Object(_)) => content.get("workspaces").and_then(|object| object.get("packages")),
        other => other,
    };
    match declared {
        Some(Json::Array(patterns)) => patterns.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Finds the root of the npm workspace that `folder` is a package of.
pub(crate) fn workspace_root(folder: &Path) -> Option<PathBuf> {
    folder
        .ancestors()
        .skip(1)
        .find(|above| {
            let Ok(bytes) = read_capped(&above.join("package.json")) else { return false };
            let Ok(content) =
                serde_json::from_slice::<Json>(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes))
            else {
                return false;
            };
            let relative = folder.strip_prefix(above).ok().and_then(Path::to_str);
            relative.is_some_and(|relative| is_workspace(&workspaces(&content), &relative.replace('\\', "/")))
        })
        .map(Path::to_owned)
}

/// Returns whether the last pattern that speaks of `folder` includes it.
fn is_workspace(patterns: &[&str], folder: &str) -> bool {
    if folder.split('/').any(|name| name == "node_modules") {
        return false;
    }
    let mut included = false;
    for text in patterns {
        let bare = text.trim_start_matches('!').trim_start_matches("./").trim_start_matches('/');
        // Below a `/` a pattern of one name stays at the top instead of matching at any depth.
        let Ok(pattern) = glob::Pattern::new(&format!("/{}", bare.trim_end_matches('/'))) else { continue };
        if pattern.matches(&glob::Candidate::new(&format!("/{folder}")), false) {
            included = (text.len() - text.trim_start_matches('!').len()) % 2 == 0;
        }
    }
    included
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PackageJson, PackageJsonError> {
        PackageJson::parse(text.as_bytes(), PathBuf::from("/p/package.json"))
    }

    fn package(more: &str) -> PackageJson {
        parse(&format!(r#"{{"name":"@acme/core","version":"1.0.0"{more}}}"#)).expect("package")
    }

    #[test]
    fn keeps_what_it_does_not_know_in_its_order() {
        let text = r#"{"version":"1.0.0","zzz":{"b":1,"a":2},"name":"@acme/core","exports":{"types":"./a.d.ts","import":"./a.mjs","default":"./a.js"}}"#;
        let package = parse(text).expect("package");
        assert_eq!(serde_json::to_string(package.content()).expect("text"), text);
        assert_eq!(
            (package.name().as_str(), package.version().to_string().as_str()),
            ("@acme/core", "1.0.0")
        );
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert!(parse("\u{feff}{\"name\":\"a\",\"version\":\"1.0.0\"}").is_ok());
    }

    #[test]
    fn errors_name_the_place() {
        for (text, shown) in [
            (
                "{\n  \"name\": \"@Acme/core\",\n  \"version\": \"1.0.0\"\n}",
                "/p/package.json:2:11: `name`: `@Acme/core` is not a package name: only lower-case",
            ),
            (
                "{\n  \"name\": \"a\",\n  \"version\": \"1.0\"\n}",
                "/p/package.json:3:14: `version`: `1.0` is not a semantic version",
            ),
            (
                "{\"name\":\"a\",\"version\":\"1.0.0+b\"}",
                "/p/package.json:1:23: `version`: `1.0.0+b` has build metadata",
            ),
            ("{\"name\":\"a\"}", "/p/package.json:1:12: missing field `version`"),
            ("{\"name\":\"a\",}", "/p/package.json:1:13: trailing comma"),
            ("{\"name\":\"a\",\"version\":\"1.0.0\"", "/p/package.json:1:29: EOF while parsing"),
            ("[]", "/p/package.json:1:"),
            ("", "/p/package.json:1:0: EOF"),
            (
                "{\"name\":\"a\",\"version\":\"1.0.0\",\"files\":\"lib\"}",
                "/p/package.json:1:39: `files`: invalid type: string \"lib\", expected a sequence",
            ),
            (
                "{\"name\":\"a\",\"version\":\"1.0.0\",\"files\":[1]}",
                "/p/package.json:1:39: `files`: invalid type",
            ),
            (
                "{\"name\":\"a\",\"version\":\"1.0.0\",\"publishConfig\":{\"tag\":\"1.x\"}}",
                "/p/package.json:1:47: `publishConfig`: `1.x` is not a dist-tag",
            ),
            (
                "{\"name\":\"a\",\"version\":\"1.0.0\",\"publishConfig\":{\"access\":\"all\"}}",
                "/p/package.json:1:47: `publishConfig`: unknown variant `all`",
            ),
            // Two names: readers would differ about which package this is.
            (
                "{\"name\":\"a\",\"version\":\"1.0.0\",\"name\":\"b\"}",
                "/p/package.json:1:36: duplicate field `name`",
            ),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.starts_with(shown), "{error}");
        }
    }

    #[test]
    fn private_is_what_javascript_takes_for_true() {
        for (value, is_private) in [
            ("true", true),
            ("\"false\"", true),
            ("1", true),
            ("{}", true),
            ("false", false),
            ("null", false),
            ("0", false),
            ("\"\"", false),
        ] {
            assert_eq!(package(&format!(",\"private\":{value}")).is_private(), is_private, "{value}");
        }
    }

    #[test]
    fn commands_stay_in_the_package() {
        for (bin, expected) in [
            (r#""./cli.js""#, vec![("core", "cli.js")]),
            (
                r#"{"a":"./bin/../x.js","../b":"../../etc/passwd","c":1,"d":"","..":"x","e":"/abs.js","w":"bin\\x.js"}"#,
                vec![("a", "x.js"), ("b", "etc/passwd"), ("e", "abs.js"), ("w", "bin/x.js")],
            ),
            (r#"["bin/a.js","b"]"#, vec![("a.js", "bin/a.js"), ("b", "b")]),
            ("null", vec![]),
        ] {
            let found = package(&format!(",\"bin\":{bin}")).bin();
            let found: Vec<(&str, &str)> =
                found.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect();
            assert_eq!(found, expected, "{bin}");
        }
    }

    #[test]
    fn the_manifest_is_corrected_as_npm_does() {
        let package = package(
            r#","_id":"evil","_resolved":"/home/x","bin":"cli.js","scripts":{"test":"x","bad":1},"dependencies":{"a":"1","b":2},
            "devDependencies":[],"bundledDependencies":["a"],"funding":"https://f.example","repository":"git@x.example",
            "keywords":"a, b","bugs":"https://b.example","author":"Ann <ann@acme.example> (https://acme.example)",
            "contributors":["Bob",{"name":"Eve"}],"description":1"#,
        );
        assert_eq!(
            package.manifest(Some(("README.md", "# Hi")), true),
            serde_json::json!({
                "name": "@acme/core",
                "version": "1.0.0",
                "_id": "@acme/core@1.0.0",
                "bin": {"core": "cli.js"},
                "scripts": {"test": "x", "install": "node-gyp rebuild"},
                "gypfile": true,
                "dependencies": {"a": "1"},
                "bundleDependencies": ["a"],
                "funding": {"url": "https://f.example"},
                "repository": {"type": "git", "url": "git@x.example"},
                "keywords": ["a", "b"],
                "bugs": {"url": "https://b.example"},
                "author": {"name": "Ann", "email": "ann@acme.example", "url": "https://acme.example"},
                "contributors": [{"name": "Bob"}, {"name": "Eve"}],
                "readme": "# Hi",
                "readmeFilename": "README.md",
            })
        );
    }

    #[test]
    fn a_long_readme_is_cut_between_characters() {
        let manifest = package("").manifest(Some(("README.md", &"é".repeat(MAX_README_BYTES))), false);
        let readme = manifest["readme"].as_str().expect("text");
        assert!(readme.len() <= MAX_README_BYTES && readme.chars().all(|char| char == 'é'));
    }

    #[test]
    fn a_missing_file_says_where_it_was_looked_for() {
        let folder = tempfile::tempdir().expect("folder");
        let error = PackageJson::read(folder.path()).expect_err("missing");
        assert_eq!(error.to_string(), format!("no package.json in `{}`", folder.path().display()));
        assert!(error.hint().is_some());
    }
}
