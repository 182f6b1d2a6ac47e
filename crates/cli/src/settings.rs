//! From arguments, environment and configuration file to settled values: flag, then environment, then file.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use protected_model::{
    environment::Environment,
    key_ref::{KeyRef, looks_like_key_material, path_looks_like_key_material},
    name::{PackageName, ProjectSlug},
    service_url::ServiceUrl,
};
use protected_storage::{AreaRef, AreaRefError};

use crate::{
    args::{Build, Format, Global, Unrepeated},
    config_file::{ConfigFile, FILE_NAME},
    error::CommandError,
    read,
};

/// Everything that settings come from.
pub(crate) struct Settings {
    pub(crate) environment: Environment,
    pub(crate) file: ConfigFile,
    /// The folder of the configuration file, or the working directory: paths in the file start there.
    base: PathBuf,
    /// Where the command was started.
    pub(crate) working_directory: PathBuf,
    pub(crate) format: Format,
    fractalops_url: Option<ServiceUrl>,
    audience: Option<String>,
    ca_file: Option<PathBuf>,
}

impl Settings {
    /// Finds and reads the configuration file, and settles what every command takes.
    ///
    /// # Errors
    /// When a value cannot be read: the message names the flag, variable or key.
    pub(crate) fn load(
        global: &Global,
        environment: Environment,
        working_directory: PathBuf,
    ) -> Result<Self, CommandError> {
        let mut settings = Self {
            environment,
            file: ConfigFile::default(),
            base: working_directory.clone(),
            working_directory,
            format: Format::Text,
            fractalops_url: None,
            audience: None,
            ca_file: None,
        };
        let named = settings.value(global.config.clone(), "CONFIG", None)?;
        let found = match named {
            Some(path) => Some(settings.working_directory.join(path)),
            None => search(&settings.working_directory),
        };
        if let Some(path) = found {
            settings.file = read_file(&path)?;
            settings.base = path.parent().map_or_else(|| settings.working_directory.clone(), Path::to_owned);
        }
        settings.format = match (global.format, settings.variable("FORMAT")) {
            (Some(format), _) => format,
            (None, None | Some("text")) => Format::Text,
            (None, Some("json")) => Format::Json,
            (None, Some(other)) => {
                let message = format!("PROTECTED_REGISTRY_FORMAT is `{other}`, expected `text` or `json`");
                return Err(CommandError::usage(message));
            }
        };
        settings.fractalops_url = settings.base_url(global)?;
        settings.audience = settings.value(global.audience.clone(), "AUDIENCE", None)?;
        // Attack: with an audience that the job's owner chose and an address that the repository chose, the
        // repository would be sent an ID token that is good at the owner's FractalOps, or in the owner's cloud.
        if settings.audience.is_some() && settings.url_is_of_file(global) {
            let message = format!("an audience is given, but where FractalOps is stands only in {FILE_NAME}");
            return Err(
                CommandError::usage(message).advise("give --fractalops-url or FRACTALOPS_BASE_URL as well")
            );
        }
        let ca_file = settings.file.fractalops.ca_file.as_ref().map(|path| settings.base.join(path));
        settings.ca_file = settings.value(global.ca_file.clone(), "CA_FILE", ca_file)?;
        Ok(settings)
    }

    fn url_is_of_file(&self, global: &Global) -> bool {
        let given = ["FRACTALOPS_BASE_URL", "FRACTALOPS_PORTAL_PUBLIC_URL"];
        global.fractalops_url.is_none()
            && given.iter().all(|name| self.environment.get(name).is_none())
            && self.file.fractalops.url.is_some()
    }

    fn base_url(&self, global: &Global) -> Result<Option<ServiceUrl>, CommandError> {
        if global.fractalops_url.is_some() {
            return Ok(global.fractalops_url.clone());
        }
        for name in ["FRACTALOPS_BASE_URL", "FRACTALOPS_PORTAL_PUBLIC_URL"] {
            if let Some(text) = self.environment.get(name) {
                return parse(name, text).map(Some);
            }
        }
        Ok(self.file.fractalops.url.clone())
    }

    /// Returns where FractalOps is.
    ///
    /// # Errors
    /// When nothing says so.
    pub(crate) fn fractalops_url(&self) -> Result<ServiceUrl, CommandError> {
        self.fractalops_url.clone().ok_or_else(|| {
            CommandError::usage("nothing says where FractalOps is").advise(format!(
                "set FRACTALOPS_BASE_URL, give --fractalops-url, or write `url` under [fractalops] in {FILE_NAME}"
            ))
        })
    }

    /// Returns the audience that ID tokens are asked for.
    pub(crate) fn audience(&self, fractalops: &ServiceUrl) -> String {
        self.audience.clone().unwrap_or_else(|| fractalops.audience())
    }

    /// Reads the certificate authorities to trust besides the system's.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn ca_pem(&self) -> Result<Option<Vec<u8>>, CommandError> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let path = self.working_directory.join(path);
        read::whole(&path).map(Some).map_err(|error| {
            CommandError::usage(format!(
                "cannot read the certificate authorities `{}`: {error}",
                path.display()
            ))
        })
    }

    /// Settles one value: `flag`, else `PROTECTED_REGISTRY_<name>`, else what the file says.
    ///
    /// # Errors
    /// When the variable cannot be read as a `T`.
    pub(crate) fn value<T: FromStr>(
        &self,
        flag: Option<T>,
        name: &str,
        file: Option<T>,
    ) -> Result<Option<T>, CommandError>
    where
        T::Err: std::fmt::Display,
    {
        match (flag, self.variable(name)) {
            (Some(value), _) => Ok(Some(value)),
            (None, Some(text)) => parse(&format!("PROTECTED_REGISTRY_{name}"), text).map(Some),
            (None, None) => Ok(file),
        }
    }

    /// [`Self::value`] for a choice that clap knows.
    ///
    /// # Errors
    /// When the variable is none of the choices.
    pub(crate) fn choice<T: clap::ValueEnum>(
        &self,
        flag: Option<T>,
        name: &str,
        file: Option<T>,
    ) -> Result<Option<T>, CommandError> {
        match (flag, self.variable(name)) {
            (Some(value), _) => Ok(Some(value)),
            (None, Some(text)) => T::from_str(text, false).map(Some).map_err(|_| {
                let choices = T::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
                let choices: Vec<String> = choices.map(|choice| format!("`{}`", choice.get_name())).collect();
                let choices = choices.join(", ");
                CommandError::usage(format!("PROTECTED_REGISTRY_{name} is `{text}`, expected {choices}"))
            }),
            (None, None) => Ok(file),
        }
    }

    /// Settles a switch: the flag, else the variable, which must be `true` or `false`.
    ///
    /// # Errors
    /// When the variable is neither.
    pub(crate) fn switch(&self, flag: bool, name: &str) -> Result<bool, CommandError> {
        match (flag, self.variable(name)) {
            (true, _) | (false, Some("true")) => Ok(true),
            (false, None | Some("false")) => Ok(false),
            (false, Some(other)) => Err(CommandError::usage(format!(
                "PROTECTED_REGISTRY_{name} is `{other}`, expected `true` or `false`"
            ))),
        }
    }

    /// Refuses a dry run that the environment asks for, in a command that has none: it would do the real thing.
    ///
    /// # Errors
    /// When it does.
    pub(crate) fn no_dry_run(&self, command: &str) -> Result<(), CommandError> {
        if self.switch(false, "DRY_RUN")? {
            let message = format!("PROTECTED_REGISTRY_DRY_RUN is `true`, but `{command}` has no dry run");
            return Err(CommandError::usage(message));
        }
        Ok(())
    }

    /// Settles the project.
    ///
    /// # Errors
    /// When nothing says which.
    pub(crate) fn project(&self, flag: Option<ProjectSlug>) -> Result<ProjectSlug, CommandError> {
        self.value(flag, "PROJECT", self.file.project.clone())?.ok_or_else(|| {
            CommandError::usage("nothing says which project of FractalOps the package belongs to")
                .advise(format!("give --project, or write `project = \"<slug>\"` into {FILE_NAME}"))
        })
    }

    /// Settles the package that the command line, the environment or the file names.
    ///
    /// # Errors
    /// When the variable is no package name.
    pub(crate) fn package(&self, flag: Option<PackageName>) -> Result<Option<PackageName>, CommandError> {
        self.value(flag, "PACKAGE", self.file.publish.package.clone())
    }

    /// Settles the folder of the package, as an absolute path.
    ///
    /// # Errors
    /// When it is no folder.
    pub(crate) fn source(&self, flag: Option<PathBuf>) -> Result<PathBuf, CommandError> {
        let file = self.file.publish.source.as_ref().map(|path| self.base.join(path));
        let source = self.value(flag, "SOURCE", file)?.unwrap_or_default();
        let source = self.working_directory.join(source);
        let found = fs::canonicalize(&source).ok().filter(|path| path.is_dir());
        found.ok_or_else(|| {
            CommandError::usage(format!(
                "the package's folder `{}` is not there, or no folder",
                source.display()
            ))
        })
    }

    /// Settles the folder for the build, where one is named.
    ///
    /// # Errors
    /// Never in practice: any text is a path.
    pub(crate) fn out(&self, flag: Option<PathBuf>) -> Result<Option<PathBuf>, CommandError> {
        let file = self.file.publish.out.as_ref().map(|path| self.base.join(path));
        Ok(self.value(flag, "OUT", file)?.map(|path| self.working_directory.join(path)))
    }

    /// Settles the delivery area, where one is named.
    ///
    /// # Errors
    /// When it is none. The text is not repeated: it may be a token.
    pub(crate) fn area(&self, flag: Option<Unrepeated>) -> Result<Option<AreaRef>, CommandError> {
        let own: Option<Unrepeated> = self.value(flag, "TO", None)?;
        let (text, base) = match (own, &self.file.deliver.to) {
            (Some(text), _) => (text, &self.working_directory),
            (None, Some(text)) => (text.clone(), &self.base),
            (None, None) => return Ok(None),
        };
        let area = text.0.parse().map_err(|error: AreaRefError| {
            CommandError::usage(format!("the delivery area to store in: {error}"))
        })?;
        Ok(Some(match area {
            AreaRef::Folder(folder) => AreaRef::Folder(base.join(folder)),
            other => other,
        }))
    }

    /// Settles a name that is shown, sent and recorded: the flag, else the variable, else what the file says.
    ///
    /// Attack: a token pasted where a name belongs. It is judged before it is repeated, also by the words of its parser.
    ///
    /// # Errors
    /// When it looks like a key or a token, or is no such name.
    pub(crate) fn name<T: FromStr + Display>(
        &self,
        what: &str,
        flag: Option<Unrepeated>,
        name: &str,
        file: Option<T>,
    ) -> Result<Option<T>, CommandError>
    where
        T::Err: Display,
    {
        let (source, text) = match (flag, self.variable(name), file) {
            (Some(Unrepeated(text)), _, _) => (format!("the {what}"), text),
            (None, Some(text), _) => (format!("PROTECTED_REGISTRY_{name}"), text.to_owned()),
            (None, None, Some(value)) => (format!("the {what}"), value.to_string()),
            (None, None, None) => return Ok(None),
        };
        if looks_like_key_material(&text) {
            let message = format!("the {what} looks like a key or a token, and is refused");
            return Err(CommandError::usage(message));
        }
        parse(&source, &text).map(Some)
    }

    /// Returns the path that a text names. Where nothing is, a text that looks like a token is not repeated.
    ///
    /// # Errors
    /// When it looks like one, and nothing is there.
    pub(crate) fn path(&self, text: &str) -> Result<PathBuf, CommandError> {
        let path = self.working_directory.join(text);
        if path_looks_like_key_material(text) && path.symlink_metadata().is_err() {
            return Err(CommandError::usage(
                "there is nothing at the path that is named, which looks like a key or a token and is not repeated",
            ));
        }
        Ok(path)
    }

    /// Settles paths that may be several: the flags, else the variable, which holds one a line.
    ///
    /// # Errors
    /// Never in practice: any text is a path.
    pub(crate) fn paths(&self, flags: &[PathBuf], name: &str) -> Result<Vec<PathBuf>, CommandError> {
        let given = match flags {
            [] => {
                let text: Option<String> = self.value(None, name, None)?;
                let lines = text.as_deref().unwrap_or_default().lines().map(str::trim);
                // Attack: none is needed. A blank line would be the working directory itself.
                lines.filter(|line| !line.is_empty()).map(PathBuf::from).collect()
            }
            given => given.to_vec(),
        };
        Ok(given.iter().map(|path| self.working_directory.join(path)).collect())
    }

    /// Returns where a path in the configuration file leads.
    pub(crate) fn path_of_file(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// Settles project, source and out of a build.
    ///
    /// # Errors
    /// As its parts.
    pub(crate) fn build(&self, build: &Build) -> Result<(PathBuf, Option<PathBuf>), CommandError> {
        Ok((self.source(build.source.clone())?, self.out(build.out.clone())?))
    }

    /// Settles the key that the escrow is sealed under.
    ///
    /// # Errors
    /// When it is no key reference.
    pub(crate) fn escrow_key(&self, flag: Option<Unrepeated>) -> Result<Option<KeyRef>, CommandError> {
        self.key_ref("the key of the escrow", flag, "ESCROW_KEY", self.file.harden.escrow_key.clone())
    }

    /// Settles a reference to a key.
    ///
    /// # Errors
    /// When it is none. The text is not repeated: it may be a key.
    pub(crate) fn key_ref(
        &self,
        what: &str,
        flag: Option<Unrepeated>,
        name: &str,
        file: Option<Unrepeated>,
    ) -> Result<Option<KeyRef>, CommandError> {
        self.value(flag, name, file)?.map(|text| reference(what, &text)).transpose()
    }

    /// Settles where keys are found.
    ///
    /// # Errors
    /// When a variable cannot be read.
    pub(crate) fn keys(&self, in_ci: bool) -> Result<protected_keys::Settings, CommandError> {
        let home = self.environment.get("HOME").or_else(|| self.environment.get("USERPROFILE"));
        let default = home.map(|home| Path::new(home).join(".config/protected-registry/keys"));
        let folder = self.value(None, "KEY_FOLDER", default)?;
        let allowed = self.switch(false, "ALLOW_LOCAL_KEY")?;
        let in_ci = in_ci || self.environment.get("CI").is_some_and(|value| value != "false");
        Ok(protected_keys::Settings {
            local_folder: folder.map(|folder| self.working_directory.join(folder)),
            local_allowed: allowed || !in_ci,
            environment: self.environment.clone(),
            id_tokens: None,
        })
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(&format!("PROTECTED_REGISTRY_{name}"))
    }
}

/// Reads a reference to a key, and does not repeat what is none: it may be a key.
///
/// # Errors
/// When it is none.
pub(crate) fn reference(what: &str, text: &Unrepeated) -> Result<KeyRef, CommandError> {
    text.0.parse().map_err(|error| {
        CommandError::usage(format!("{what}: {error}"))
            .advise("name the key, as in local-file://<name>; its bytes stay where they are")
    })
}

/// Returns the root of the repository that `folder` is in, and `folder` itself where it is in none.
pub(crate) fn repository(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(folder)
}

/// Looks for the file in `folder`, and above it as far as the repository's root.
///
/// Attack: a file in `/tmp`, where anybody can write, would decide for every repository that is built below it.
fn search(folder: &Path) -> Option<PathBuf> {
    let root = repository(folder);
    let inside = folder.ancestors().take_while(|above| above.starts_with(root));
    inside.map(|folder| folder.join(FILE_NAME)).find(|path| path.is_file())
}

fn read_file(path: &Path) -> Result<ConfigFile, CommandError> {
    let text = fs::read_to_string(path)
        .map_err(|error| CommandError::usage(format!("cannot read `{}`: {error}", path.display())))?;
    toml::from_str(&text)
        .map_err(|error| CommandError::usage(format!("`{}` is not valid: {error}", path.display())))
}

fn parse<T: FromStr>(name: &str, text: &str) -> Result<T, CommandError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| CommandError::usage(format!("{name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::InstallWith;

    fn settings(pairs: &[(&str, &str)], file: &str) -> Settings {
        Settings {
            environment: pairs.iter().copied().collect(),
            file: toml::from_str(file).expect("toml"),
            base: PathBuf::from("/repo"),
            working_directory: PathBuf::from("/repo/package"),
            format: Format::Text,
            fractalops_url: None,
            audience: None,
            ca_file: None,
        }
    }

    #[test]
    fn the_flag_wins_then_the_environment_then_the_file() {
        let slug = |text: &str| text.parse::<ProjectSlug>().expect("slug");
        let all = settings(&[("PROTECTED_REGISTRY_PROJECT", "env")], "project = 'file'");
        assert_eq!(all.project(Some(slug("flag"))).expect("flag"), slug("flag"));
        assert_eq!(all.project(None).expect("env"), slug("env"));
        let empty = settings(&[("PROTECTED_REGISTRY_PROJECT", "")], "project = 'file'");
        assert_eq!(empty.project(None).expect("an empty variable is unset"), slug("file"));
        assert!(settings(&[], "").project(None).is_err());
        assert!(settings(&[("PROTECTED_REGISTRY_PROJECT", "a/b")], "").project(None).is_err());
    }

    #[test]
    fn switches_and_choices_are_strict() {
        let odd = settings(&[("PROTECTED_REGISTRY_DRY_RUN", "yes"), ("PROTECTED_REGISTRY_WITH", "bun")], "");
        assert!(odd.switch(false, "DRY_RUN").is_err());
        let error = odd.choice::<InstallWith>(None, "WITH", None).expect_err("bun").to_string();
        assert_eq!(error, "PROTECTED_REGISTRY_WITH is `bun`, expected `npm`, `pnpm`, `yarn`, `berry`");
    }

    #[test]
    fn paths_in_the_file_start_at_the_file() {
        let settings = settings(&[], "[publish]\nout = 'build'");
        assert_eq!(settings.out(None).expect("out"), Some(PathBuf::from("/repo/build")));
        let flag = settings.out(Some(PathBuf::from("build"))).expect("out");
        assert_eq!(flag, Some(PathBuf::from("/repo/package/build")));
    }

    #[test]
    fn the_file_is_looked_for_in_the_repository_alone() {
        let outside = tempfile::tempdir().expect("folder");
        let package = outside.path().join("repo/packages/core");
        fs::create_dir_all(&package).expect("folders");
        fs::write(outside.path().join(FILE_NAME), "").expect("write");
        assert_eq!(search(&package), None, "without a repository, only the folder itself");
        fs::create_dir(outside.path().join("repo/.git")).expect("folder");
        assert_eq!(search(&package), None);
        let file = outside.path().join("repo").join(FILE_NAME);
        fs::write(&file, "").expect("write");
        assert_eq!(search(&package), Some(file));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<ConfigFile>("projekt = 'x'").is_err());
        assert!(toml::from_str::<ConfigFile>("[fractalops]\ntoken = 'x'").is_err());
    }
}
