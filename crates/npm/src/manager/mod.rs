//! The package managers: how each is told where a scope lives, and with which token.
//!
//! Every command reads the token from a private file, is told the registry in the place that wins over all files of
//! the project, and is not run where a file of the project could still take the token or send it elsewhere
//! ([`crate::hostile`]).

mod berry;
mod npm;
mod pnpm;
mod yarn;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use protected_model::{
    environment::Environment,
    hint::Hint,
    name::{PackageName, PackageNameError},
    secret::{RegistryToken, Secret as _},
    service_url::ServiceUrl,
    version::DistTag,
};

use crate::{
    hostile::{self, Hostile, Target},
    json::Json,
    package_json::{Access, PackageJson},
    run::{self, ChildCommand, RunError},
    temporary::{Temporary, TemporaryError},
};

/// Every package manager, in the order in which a project is asked whose it is.
pub static MANAGERS: &[&dyn PackageManager] = &[&pnpm::Pnpm, &berry::Berry, &yarn::Yarn, &npm::Npm];

/// How long `--version` may take: a cold cache of corepack's is slow.
const VERSION_TIMEOUT: Duration = Duration::from_secs(60);

/// What npm's own configuration files are replaced with.
const NOTHING: &str = if cfg!(windows) { "NUL" } else { "/dev/null" };

/// A package manager.
pub trait PackageManager: Sync {
    /// Returns the name by which it is chosen.
    fn name(&self) -> &'static str;

    /// Returns the program that it is.
    fn program(&self) -> &'static str;

    /// Returns the major versions that are known to keep a token to themselves, as people read them.
    fn versions(&self) -> &'static str;

    /// Returns whether a program of this major version is one of [`PackageManager::versions`].
    fn is_known(&self, major: u64) -> bool;

    /// Returns the file in `folder` by which it is known to keep the project, if there is one.
    fn trace(&self, folder: &Path) -> Option<&'static str>;

    /// Returns the command that installs a package.
    ///
    /// # Errors
    /// When it cannot be done safely in this project.
    fn install(&self, job: &InstallJob<'_>) -> Result<ChildCommand, ManagerError>;

    /// Returns the command that publishes exactly the tarball.
    ///
    /// # Errors
    /// When it has no such command, or the tarball's `publishConfig` could take the token.
    fn publish_tarball(&self, job: &PublishJob<'_>) -> Result<ChildCommand, ManagerError>;
}

/// A registry, a token for it, and what a command is made with.
#[derive(Clone, Copy)]
pub struct Grant<'a> {
    /// Where the package lives.
    pub registry: &'a ServiceUrl,
    /// The token for it.
    pub token: &'a RegistryToken,
    /// The private folder of this command.
    pub temporary: &'a Temporary,
    /// The environment of this process; the command gets little of it.
    pub environment: &'a Environment,
}

/// A package to install.
pub struct InstallJob<'a> {
    /// The project's folder.
    pub project: &'a Path,
    /// What to install.
    pub package: &'a PackageSpec,
    /// With what.
    pub grant: Grant<'a>,
    /// Where packages of other scopes come from; what the project says when absent.
    pub default_registry: Option<&'a ServiceUrl>,
    /// Whether packages may run their install scripts. A script runs as the same user as the package manager and
    /// can read the token's file meanwhile, so no package may unless somebody decided it.
    pub allow_scripts: bool,
}

/// A tarball to publish.
pub struct PublishJob<'a> {
    /// The tarball, by its absolute path.
    pub tarball: &'a Path,
    /// The package in it.
    pub package: &'a PackageJson,
    /// With what.
    pub grant: Grant<'a>,
    /// The dist-tag that will point at it.
    pub tag: &'a DistTag,
    /// Who may read it.
    pub access: Option<Access>,
}

/// A package and the version, range or dist-tag of it that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageSpec {
    /// The package.
    pub name: PackageName,
    /// Empty: the latest.
    wanted: String,
}

/// Why a text is not a [`PackageSpec`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PackageSpecError {
    /// Its name is none.
    #[error(transparent)]
    Name(#[from] PackageNameError),
    /// What follows the name is neither a version, a range nor a dist-tag.
    #[error("`{0}` is not a version, a range or a dist-tag of a registry")]
    Wanted(String),
}

impl PackageSpec {
    /// The latest version of a package.
    pub fn latest(name: PackageName) -> Self {
        Self { name, wanted: String::new() }
    }
}

impl FromStr for PackageSpec {
    type Err = PackageSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = text.char_indices().skip(1).find(|(_, char)| *char == '@').map_or(text.len(), |(at, _)| at);
        let (name, wanted) = (text[..at].parse()?, text[at..].trim_start_matches('@'));
        // No `:` and no `/`: `name@file:…`, `name@npm:other` and `name@https://…` are other packages.
        let plain =
            wanted.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_^~<>=* |+".contains(&byte));
        if !plain || wanted.starts_with('-') || at < text.len() && wanted.trim().is_empty() {
            return Err(PackageSpecError::Wanted(wanted.chars().take(64).collect()));
        }
        Ok(Self { name, wanted: wanted.to_owned() })
    }
}

impl std::fmt::Display for PackageSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name)?;
        if self.wanted.is_empty() { Ok(()) } else { write!(f, "@{}", self.wanted) }
    }
}

/// Why a package manager is not run.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// Nobody has that name.
    #[error("`{0}` is not a package manager: expected npm, pnpm, yarn or berry")]
    Unknown(String),
    /// `packageManager` names one, a lock file another.
    #[error("`{}` says `{declared}`, but `{trace}` beside it belongs to `{found}`", path.display())]
    Ambiguous {
        /// The manifest.
        path: PathBuf,
        /// What it declares.
        declared: &'static str,
        /// The file of another one.
        trace: &'static str,
        /// The other one.
        found: &'static str,
    },
    /// The program is another version.
    #[error("`{}` is version {found}, and {name} is {expected}", program.display())]
    Version {
        /// The program.
        program: PathBuf,
        /// What it says it is.
        found: String,
        /// The package manager.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A file of the project, or the tarball's `publishConfig`, could take the token.
    #[error(transparent)]
    Hostile(#[from] Hostile),
    /// A yarn was to publish.
    #[error("{name} cannot publish a tarball as it is: {why}")]
    NoTarballs {
        /// The package manager.
        name: &'static str,
        /// What it does instead.
        why: &'static str,
    },
    /// A token with these characters would be read as something else.
    #[error("the token has characters that cannot stand in a package manager's configuration")]
    Token,
    /// The private folder.
    #[error(transparent)]
    Temporary(#[from] TemporaryError),
    /// The program cannot be found or run.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl ManagerError {
    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::Hostile(error) => return error.hint(),
            Self::Run(error) => return error.hint(),
            Self::NoTarballs { .. } => {
                "leave the client out, and the package is sent without one; or use npm or pnpm"
            }
            Self::Ambiguous { .. } => "say which one to use",
            Self::Version { name: "berry", .. } => {
                "a project's own `yarnPath` is not run with a token: put that version on PATH, such as with `corepack \
                 enable`"
            }
            Self::Version { .. } => "put another version on PATH, or choose another package manager",
            _ => return None,
        };
        Some(Hint::new(text))
    }
}

/// Finds a package manager by its name.
///
/// # Errors
/// When nobody has it.
pub fn find(name: &str) -> Result<&'static dyn PackageManager, ManagerError> {
    let found = MANAGERS.iter().copied().find(|manager| manager.name() == name);
    found.ok_or_else(|| ManagerError::Unknown(name.chars().take(32).collect()))
}

/// Finds out who keeps a project: what the nearest `packageManager` or lock file says, from the folder upwards to
/// the repository's root, else npm.
///
/// # Errors
/// When both say something, and not the same.
pub fn detect(project: &Path) -> Result<&'static dyn PackageManager, ManagerError> {
    for folder in project.ancestors() {
        let declared = declared(folder);
        let traced = MANAGERS.iter().find_map(|manager| Some((*manager, manager.trace(folder)?)));
        match (declared, traced) {
            (Some(declared), Some((found, trace))) if declared.name() != found.name() => {
                return Err(ManagerError::Ambiguous {
                    path: folder.join("package.json"),
                    declared: declared.name(),
                    trace,
                    found: found.name(),
                });
            }
            (Some(manager), _) | (None, Some((manager, _))) => return Ok(manager),
            (None, None) if folder.join(".git").exists() => break,
            (None, None) => {}
        }
    }
    Ok(&npm::Npm)
}

/// Reads `packageManager` of `package.json`, such as `yarn@4.5.0`.
fn declared(folder: &Path) -> Option<&'static dyn PackageManager> {
    let content: Json = serde_json::from_slice(&fs::read(folder.join("package.json")).ok()?).ok()?;
    let (name, version) = content.get("packageManager")?.as_str()?.split_once('@')?;
    let major: u64 = version.split('.').next()?.parse().ok()?;
    match name {
        "yarn" if major == 1 => Some(&yarn::Yarn),
        "yarn" => Some(&berry::Berry),
        _ => MANAGERS.iter().copied().find(|manager| manager.name() == name),
    }
}

/// Asks the program on `PATH` for its version, without a token anywhere near it.
///
/// # Errors
/// When there is none, it does not answer, or it is a version that is not known to keep a token to itself.
pub async fn check_version(
    manager: &dyn PackageManager,
    project: &Path,
    environment: &Environment,
) -> Result<String, ManagerError> {
    let command = child(manager.program(), &["--version"], environment, project)?;
    let version = run::first_line(&command, VERSION_TIMEOUT).await?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_some_and(|major| manager.is_known(major)) {
        return Ok(version);
    }
    Err(ManagerError::Version {
        program: command.program,
        found: version.chars().take(32).collect(),
        name: manager.name(),
        expected: manager.versions(),
    })
}

/// Settings that keep every package manager to itself and to the program that was chosen.
const QUIET: &[(&str, &str)] = &[
    // A project's `.corepack.env` may name another place to download package managers from, and its
    // `packageManager` may be a URL of any program.
    ("COREPACK_ENV_FILE", "0"),
    ("COREPACK_ENABLE_UNSAFE_CUSTOM_URLS", "0"),
    ("COREPACK_ENABLE_DOWNLOAD_PROMPT", "0"),
    ("COREPACK_ENABLE_AUTO_PIN", "0"),
    // `yarnPath` names a program in the repository, which yarn would hand the command to.
    ("YARN_IGNORE_PATH", "1"),
    ("YARN_ENABLE_TELEMETRY", "0"),
    ("npm_config_update_notifier", "false"),
    ("NO_UPDATE_NOTIFIER", "1"),
];

/// [`QUIET`] for pnpm. Of each pair, pnpm 10 reads the first and pnpm 11 the second.
const QUIET_PNPM: &[(&str, &str)] = &[
    // It would download and run the version that `packageManager` names from a registry that `.npmrc` names.
    ("npm_config_manage_package_manager_versions", "false"),
    ("pnpm_config_pm_on_fail", "ignore"),
    // `.pnpmfile.cjs` is code of the repository. pnpm loads it even for `--version`; what it starts then could
    // wait for the token's file.
    ("npm_config_ignore_pnpmfile", "true"),
    ("pnpm_config_ignore_pnpmfile", "true"),
];

/// Puts a command together: the program by its path, and the scrubbed environment with what every command gets.
fn child(
    program: &str,
    args: &[&str],
    environment: &Environment,
    folder: &Path,
) -> Result<ChildCommand, ManagerError> {
    let mut environment = with(run::scrub(environment), QUIET);
    if program == "pnpm" {
        environment = with(environment, QUIET_PNPM);
    }
    Ok(ChildCommand {
        program: run::find(program, &environment)?,
        args: args.iter().map(OsString::from).collect(),
        environment,
        folder: folder.to_owned(),
    })
}

fn with(environment: Environment, settings: &[(&str, &str)]) -> Environment {
    settings.iter().copied().collect::<Environment>().or(environment)
}

impl Grant<'_> {
    /// Returns the token as it may stand in a configuration file.
    fn token(&self) -> Result<&str, ManagerError> {
        let token = self.token.reveal();
        // `${`, `;`, quotes and line ends mean something there.
        let plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
        if plain && !token.is_empty() { Ok(token) } else { Err(ManagerError::Token) }
    }

    /// Returns the setting that says where the package lives: `@acme:registry`, or `registry` without a scope.
    fn registry_key(package: &PackageName) -> String {
        let scope = package.scope();
        if scope.is_empty() { "registry".to_owned() } else { format!("{scope}:registry") }
    }

    /// Writes the `.npmrc` of the command, which npm, pnpm and yarn 1 read.
    fn write_npmrc(
        &self,
        package: &PackageName,
        default_registry: Option<&ServiceUrl>,
    ) -> Result<PathBuf, ManagerError> {
        let url = self.registry.as_url();
        let mut lines = Vec::new();
        if let Some(default) = default_registry {
            lines.push(format!("registry={default}"));
        }
        lines.push(format!("{}={url}", Self::registry_key(package)));
        lines.push(format!("//{}{}:_authToken={}", self.registry.authority(), url.path(), self.token()?));
        // npm's notifier would send the token along with `GET /npm`; waiting 10 s and 60 s between its attempts, as
        // it does by itself, would outlive the token.
        lines.extend(
            [
                "update-notifier=false",
                "audit=false",
                "fund=false",
                "fetch-retries=2",
                "fetch-retry-mintimeout=1000",
                "fetch-retry-maxtimeout=10000",
            ]
            .map(str::to_owned),
        );
        lines.push(String::new());
        Ok(self.temporary.write("npmrc", &lines.join("\n"))?)
    }

    /// Returns the home folder that the environment names.
    fn home(&self) -> Option<&Path> {
        self.environment.get("HOME").or(self.environment.get("USERPROFILE")).map(Path::new)
    }
}

impl InstallJob<'_> {
    fn target(&self) -> Target<'_> {
        Target { package: &self.package.name, registry: self.grant.registry }
    }

    /// Holds each file of that name in the project, and in the folders above it, against what the command needs.
    fn check(
        &self,
        name: &str,
        look: impl Fn(&Path, &Target<'_>) -> Result<(), Hostile>,
    ) -> Result<(), ManagerError> {
        for folder in hostile::folders(self.project, self.grant.home()) {
            look(&folder.join(name), &self.target())?;
        }
        Ok(())
    }
}

impl PublishJob<'_> {
    /// Refuses a tarball whose `publishConfig` could take the token. npm reads it as if it were given by flags.
    ///
    /// A registry in it is overridden by the command line where there is one for it: `redirects` says so.
    fn check(&self, redirects: bool) -> Result<(), ManagerError> {
        let target = Target { package: self.package.name(), registry: self.grant.registry };
        let is_registry = |key: &str| key == "registry" || key.ends_with(":registry") && key.starts_with('@');
        if let Some(Json::Object(members)) = self.package.content().get("publishConfig") {
            for (key, value) in members {
                let value = value.as_str().unwrap_or("false");
                let redirect = (!redirects && is_registry(key) && !target.is_registry(value))
                    .then_some(hostile::Danger::Redirect);
                if let Some(danger) = redirect.or_else(|| hostile::npm_setting(key, value, &target)) {
                    let key = format!("publishConfig.{key}");
                    let path = self.package.path().to_owned();
                    return Err(Hostile::Setting { path, line: 1, key, danger }.into());
                }
            }
        }
        Ok(())
    }
}
