//! What a `package.json` tells about a package, whoever wrote it and however loosely.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{error::Fault, licence::Licence};

/// The longest text of an author that is repeated.
const MAX_CHARS: usize = 300;

/// Somebody, as `package.json` writes people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Party {
    pub(crate) name: String,
    pub(crate) email: Option<String>,
    pub(crate) url: Option<String>,
}

/// A package by its own account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: Option<String>,
    pub(crate) licence: Option<Licence>,
    pub(crate) author: Option<Party>,
    pub(crate) repository: Option<String>,
    pub(crate) homepage: Option<String>,
    pub(crate) issues: Option<String>,
    pub(crate) dependencies: BTreeMap<String, String>,
    pub(crate) optional: BTreeMap<String, String>,
    pub(crate) dev: BTreeMap<String, String>,
    pub(crate) peers: BTreeMap<String, String>,
    pub(crate) optional_peers: BTreeSet<String>,
    /// yarn's `resolutions`: what stands in the place of what was asked for.
    pub(crate) resolutions: BTreeMap<String, String>,
    pub(crate) workspaces: Vec<String>,
    /// The package manager's name.
    pub(crate) package_manager: Option<String>,
}

impl Manifest {
    /// Reads the text of a `package.json`.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let json: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| Fault::at(error.line(), format!("not JSON: {error}")))?;
        if !json.is_object() {
            return Err(Fault::at(1, "not an object"));
        }
        let text =
            |key: &str| json.get(key).and_then(Value::as_str).map(clean).filter(|text| !text.is_empty());
        let map = |key: &str| pairs(json.get(key));
        let optional = map("optionalDependencies");
        // npm lets `optionalDependencies` win over the others.
        let mut dependencies = map("dependencies");
        dependencies.retain(|name, _| !optional.contains_key(name));
        let author = json.get("author").and_then(party);
        let others =
            ["maintainers", "contributors"].into_iter().filter_map(|key| json.get(key)?.as_array()?.first());
        let author = author.or_else(|| others.filter_map(party).next());
        let bugs = json.get("bugs");
        let issues =
            bugs.and_then(|bugs| bugs.as_str().or_else(|| bugs.get("url")?.as_str())).and_then(web_url);
        let repository = json.get("repository");
        let repository = repository.and_then(|found| found.as_str().or_else(|| found.get("url")?.as_str()));
        let workspaces = json.get("workspaces");
        let workspaces = workspaces.and_then(|found| found.get("packages").unwrap_or(found).as_array());
        let optional_peers = json.get("peerDependenciesMeta").and_then(Value::as_object);
        Ok(Self {
            name: text("name").unwrap_or_default(),
            version: text("version").unwrap_or_default(),
            description: text("description"),
            licence: Licence::stated(json.get("license"), json.get("licenses")),
            author,
            repository: repository.and_then(repository_url),
            homepage: json.get("homepage").and_then(Value::as_str).and_then(web_url),
            issues,
            dependencies,
            optional,
            dev: map("devDependencies"),
            peers: map("peerDependencies"),
            optional_peers: optional_peers
                .into_iter()
                .flatten()
                .filter(|(_, meta)| meta.get("optional") == Some(&Value::Bool(true)))
                .map(|(name, _)| name.clone())
                .collect(),
            resolutions: map("resolutions"),
            workspaces: workspaces
                .into_iter()
                .flatten()
                .filter_map(|item| Some(item.as_str()?.to_owned()))
                .collect(),
            package_manager: text("packageManager")
                .map(|text| text.split('@').next().unwrap_or_default().to_owned()),
        })
    }
}

fn pairs(value: Option<&Value>) -> BTreeMap<String, String> {
    let members = value.and_then(Value::as_object).into_iter().flatten();
    members.filter_map(|(name, range)| Some((name.clone(), range.as_str()?.to_owned()))).collect()
}

/// Without control characters, and not endless.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect::<String>().trim().to_owned()
}

/// Reads `Name <email> (url)`, or an object with these members.
fn party(value: &Value) -> Option<Party> {
    let filled = |text: &str| Some(clean(text)).filter(|text| !text.is_empty());
    let is_email = |text: &String| {
        text.split_once('@').is_some_and(|(a, b)| !a.is_empty() && b.contains('.')) && !text.contains(' ')
    };
    let party = match value {
        Value::String(text) => {
            let (text, url) = match text.split_once('(') {
                Some((before, rest)) => (before, web_url(rest.split(')').next().unwrap_or_default())),
                None => (text.as_str(), None),
            };
            let (name, email) = match text.split_once('<') {
                Some((name, rest)) => (name, filled(rest.split('>').next().unwrap_or_default())),
                None => (text, None),
            };
            Party { name: clean(name), email: email.filter(is_email), url }
        }
        Value::Object(object) => {
            let text = |key: &str| object.get(key).and_then(Value::as_str);
            Party {
                name: text("name").map(clean).unwrap_or_default(),
                email: text("email").and_then(filled).filter(is_email),
                url: text("url").and_then(web_url),
            }
        }
        _ => return None,
    };
    let name = Some(party.name).filter(|name| !name.is_empty());
    let name = name.or_else(|| party.email.clone()).or_else(|| party.url.clone())?;
    Some(Party { name, ..party })
}

/// Returns an address of the web without what could be a credential, and nothing for any other text.
pub(crate) fn web_url(text: &str) -> Option<String> {
    let mut url = url::Url::parse(text.trim()).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return None;
    }
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(url.to_string()).filter(|url| url.len() <= 2048)
}

/// Returns where a repository can be looked at. `git@host:a/b` is no URL, and tools refuse a document with it.
pub(crate) fn repository_url(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("git+").unwrap_or(text);
    for (prefix, host) in
        [("github:", "github.com"), ("gitlab:", "gitlab.com"), ("bitbucket:", "bitbucket.org")]
    {
        if let Some(path) = text.strip_prefix(prefix) {
            return web_url(&format!("https://{host}/{path}"));
        }
    }
    if let Some(rest) = text.strip_prefix("git@") {
        return web_url(&format!("https://{}", rest.replacen(':', "/", 1)));
    }
    for scheme in ["git://", "ssh://", "git+ssh://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
            return web_url(&format!("https://{rest}"));
        }
    }
    let is_short = text.split('/').count() == 2 && !text.contains([':', ' ', '@']) && !text.starts_with('.');
    if is_short { web_url(&format!("https://github.com/{text}")) } else { web_url(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people() {
        let of = |json: serde_json::Value| party(&json).map(|party| (party.name, party.email, party.url));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            of("A B <a@b.example> (https://b.example)".into()),
            Some(("A B".into(), some("a@b.example"), some("https://b.example/")))
        );
        assert_eq!(of("<a@b.example>".into()), Some(("a@b.example".into(), some("a@b.example"), None)));
        assert_eq!(
            of(serde_json::json!({"name": "A", "email": "nope", "url": "javascript:1"})),
            Some(("A".into(), None, None))
        );
        assert_eq!(of("".into()), None);
        assert_eq!(of(7.into()), None);
    }

    #[test]
    fn repositories() {
        for (text, expected) in [
            ("github:a/b", Some("https://github.com/a/b")),
            ("a/b", Some("https://github.com/a/b")),
            ("git+https://github.com/a/b.git", Some("https://github.com/a/b.git")),
            ("git@github.com:a/b.git", Some("https://github.com/a/b.git")),
            ("git+ssh://git@github.com/a/b.git", Some("https://github.com/a/b.git")),
            ("https://user:secret@host.example/a", Some("https://host.example/a")),
            ("../a", None),
            ("file:///etc/passwd", None),
        ] {
            assert_eq!(repository_url(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn odd_types_are_no_error_and_no_json_is() {
        let odd = r#"{"name": 1, "author": [], "dependencies": [1], "bugs": 3, "repository": {"url": 1}, "__proto__": {"x": 1}}"#;
        assert_eq!(Manifest::parse(odd).expect("object").name, "");
        assert_eq!(Manifest::parse("{\n,").expect_err("no JSON").line, Some(2));
        assert!(Manifest::parse("[]").is_err());
    }
}
