//! How a package is hardened: `[harden]` in the configuration file, `--profile`, `--mark` and the build secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use protected_harden::{Mark, Obfuscation, Options, PathPattern, SourcePlace, hot_functions};
use protected_model::{
    environment::Environment,
    name::{DeliveryLabel, PackageName},
    secret::{BuildSecret, Secret},
};

use crate::{
    args::Profile,
    config_file::{Declarations, FILE_NAME, LegalComments, Override},
    context::Context,
    error::{CommandError, Kind},
    package::{Package, packing},
    settings::Settings,
};

/// The variable that holds the build secret. It comes from nowhere else but a file: the command line is seen by every
/// process of the machine, and the configuration file by everybody who reads the repository.
pub(crate) const SECRET: &str = "PROTECTED_REGISTRY_BUILD_SECRET";
/// The variable that names a file which holds it.
pub(crate) const SECRET_FILE: &str = "PROTECTED_REGISTRY_BUILD_SECRET_FILE";

/// The shortest build secret. Attack: a mark's numbers are public in the delivered code, so whoever guesses the secret
/// can check the guess, and then forge any delivery's mark.
const MIN_SECRET_BYTES: usize = 16;
/// The largest file of a build secret, and the largest CPU profile, that are read.
const MAX_SECRET_BYTES: u64 = 4 * 1024;
const MAX_PROFILE_BYTES: u64 = 512 * 1024 * 1024;

impl From<Profile> for protected_harden::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Light => Self::Light,
            Profile::Standard => Self::Standard,
            Profile::Strong => Self::Strong,
        }
    }
}

/// Settles how `package` is hardened.
///
/// # Errors
/// When a pattern, the CPU profile or the build secret cannot be used, and when a mark has nothing to stand in.
pub(crate) fn options(
    context: &Context,
    package: &Package,
    profile: Option<Profile>,
    mark: Option<&DeliveryLabel>,
) -> Result<Options, CommandError> {
    let settings = &context.settings;
    let section = &settings.file.harden;
    let profile = settings.choice(profile, "PROFILE", section.profile)?.unwrap_or_default();
    let mut files = Vec::new();
    for Override { files: patterns, profile } in &section.overrides {
        for text in patterns {
            pattern("[[harden.override]]", text)?;
            files.push((text.clone(), (*profile).into()));
        }
    }
    if section.reserved_names.contains("") {
        return Err(CommandError::usage("`reserved_names` under [harden] holds an empty name"));
    }
    let secret = secret(context)?;
    let mark = mark.map(|label| self::mark(label, secret.as_ref())).transpose()?;
    let obfuscation = Obfuscation {
        profile: profile.into(),
        files,
        reserved_names: section.reserved_names.clone(),
        hot: hot(settings, package)?,
        self_defence: section.self_defence,
        secret,
        mark,
    };
    if obfuscation.self_defence && !obfuscation.is_wanted() {
        let message =
            "`self_defence` under [harden] is a part of obfuscation, and the profile `light` makes none";
        return Err(
            CommandError::usage(message).advise("choose the profile `standard` or `strong`, or leave it out")
        );
    }
    Ok(Options {
        keep_names: section.keep_names,
        legal_comments: match section.legal_comments {
            None | Some(LegalComments::File) => protected_harden::LegalComments::File,
            Some(LegalComments::Keep) => protected_harden::LegalComments::Keep,
            Some(LegalComments::Remove) => protected_harden::LegalComments::Remove,
        },
        bundle: section.bundle,
        declarations: match section.declarations {
            None | Some(Declarations::Keep) => protected_harden::Declarations::Keep,
            Some(Declarations::Public) => protected_harden::Declarations::Public,
        },
        obfuscation,
        ..Options::default()
    })
}

/// What becomes of files that would be published less protected than configured.
pub(crate) struct Unprotected {
    fail: bool,
    /// Whether `fail` follows from where this runs.
    by_default: bool,
    allowed: Vec<PathPattern>,
}

impl Unprotected {
    /// As the configuration says: in CI such a file ends the build unless it is listed.
    ///
    /// # Errors
    /// When a pattern in the list is none.
    pub(crate) fn of(context: &Context) -> Result<Self, CommandError> {
        let section = &context.settings.file.harden;
        let fail = section.fail_unprotected.unwrap_or(context.console.platform().is_some());
        let by_default = section.fail_unprotected.is_none();
        let allowed = section.allow_unprotected.iter();
        let allowed = allowed.map(|text| pattern("`allow_unprotected` under [harden]", text));
        Ok(Self { fail, by_default, allowed: allowed.collect::<Result<_, _>>()? })
    }

    /// Lets every file pass.
    pub(crate) fn allowed() -> Self {
        Self { fail: false, by_default: false, allowed: Vec::new() }
    }

    /// Returns whether the configuration lists the file.
    pub(crate) fn lists(&self, path: &str) -> bool {
        self.allowed.iter().any(|pattern| pattern.matches(path))
    }

    /// Returns whether a file that is not listed ends the build.
    pub(crate) fn fails(&self) -> bool {
        self.fail
    }

    /// Returns whether such a file would end the build in CI and does not here.
    pub(crate) fn fails_elsewhere(&self) -> bool {
        !self.fail && self.by_default
    }

    /// Returns the patterns that name none of `found`.
    pub(crate) fn idle<'a>(&'a self, found: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a str> {
        let idle = |pattern: &&PathPattern| !found.keys().any(|path| pattern.matches(path));
        self.allowed.iter().filter(idle).map(PathPattern::as_str)
    }

    /// Says how to let files pass.
    pub(crate) fn advice<'a>(&'a self, paths: impl Iterator<Item = &'a str>) -> String {
        let listed = self.allowed.iter().map(PathPattern::as_str).chain(paths);
        let listed = serde_json::json!(listed.collect::<Vec<_>>());
        format!(
            "to publish them as they are, list them in {FILE_NAME}:\n[harden]\nallow_unprotected = {listed}"
        )
    }

    /// Refuses `found`, by path with the reason, where it holds a file that is not listed.
    ///
    /// # Errors
    /// When such a file ends the build.
    pub(crate) fn check(
        &self,
        package: &PackageName,
        found: &BTreeMap<String, String>,
    ) -> Result<(), CommandError> {
        let files: Vec<_> = found.iter().filter(|(path, _)| self.fail && !self.lists(path)).collect();
        if files.is_empty() {
            return Ok(());
        }
        let count = if files.len() == 1 { "1 file".to_owned() } else { format!("{} files", files.len()) };
        let mut message =
            format!("{count} of `{package}` would be published less protected than configured:");
        for (path, reason) in &files {
            message.push_str(&format!("\n{path}: {reason}"));
        }
        let error = CommandError::new(Kind::BadInput, message).with_details(serde_json::json!({
            "unprotected": files.iter().map(|(path, reason)| (path, reason)).collect::<BTreeMap<_, _>>(),
        }));
        Err(error
            .advise("write the code otherwise, or leave the file out of the package")
            .advise(self.advice(files.iter().map(|(path, _)| path.as_str()))))
    }
}

/// Derives the mark of a delivery.
///
/// # Errors
/// Without a build secret: everybody could derive it.
pub(crate) fn mark(label: &DeliveryLabel, secret: Option<&BuildSecret>) -> Result<Mark, CommandError> {
    let secret = secret.ok_or_else(|| {
        CommandError::usage(format!("the mark of `{label}` follows from the build secret, and none is set"))
            .advise(format!(
                "set {SECRET}, or {SECRET_FILE} to a file that holds it; `openssl rand -hex 32` makes one"
            ))
    })?;
    Ok(Mark::derive(secret.reveal().as_bytes(), label.as_str()))
}

/// Reads a pattern, and refuses one that can match no file of a package.
fn pattern(place: &str, pattern: &str) -> Result<PathPattern, CommandError> {
    let odd = pattern.contains('\\') || pattern.split('/').any(|part| matches!(part, "" | "." | ".."));
    if odd {
        let message = format!("the pattern `{pattern}` in {place} matches no file of any package");
        return Err(CommandError::usage(message)
            .advise("write it from the package's own folder, with `/`: such as \"src/hot/**\""));
    }
    PathPattern::new(pattern)
        .map_err(|error| CommandError::usage(format!("the pattern `{pattern}` in {place} is none: {error}")))
}

/// Reads the build secret and has the CI platform hide it.
///
/// # Errors
/// When it is given twice, cannot be read, or could be guessed. No message repeats any of it.
pub(crate) fn secret(context: &Context) -> Result<Option<BuildSecret>, CommandError> {
    let settings = &context.settings;
    let Some((place, secret)) = read_secret(&settings.environment, &settings.working_directory)? else {
        return Ok(None);
    };
    context.console.mask(&secret);
    check_secret(&place, secret.reveal())?;
    Ok(Some(secret))
}

fn read_secret(
    environment: &Environment,
    working_directory: &Path,
) -> Result<Option<(String, BuildSecret)>, CommandError> {
    match (environment.get(SECRET), environment.get(SECRET_FILE)) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(CommandError::usage(format!(
            "{SECRET} and {SECRET_FILE} are both set: one build has one secret"
        ))),
        (Some(text), None) => Ok(Some((SECRET.to_owned(), BuildSecret::new(text)))),
        (None, Some(path)) => {
            let path = working_directory.join(path);
            let place = format!("the build secret's file `{}`", path.display());
            let refuse = |why: String| CommandError::usage(format!("{place} {why}"));
            let size = fs::metadata(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?.len();
            if size > MAX_SECRET_BYTES {
                return Err(refuse(format!("has {size} bytes, and at most {MAX_SECRET_BYTES} are read")));
            }
            let bytes = fs::read(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
            let text = String::from_utf8(bytes).map_err(|_| refuse("is not text".to_owned()))?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            Ok(Some((place, BuildSecret::new(text))))
        }
    }
}

/// Refuses a secret that is short or follows a pattern.
fn check_secret(place: &str, secret: &str) -> Result<(), CommandError> {
    let bytes = secret.as_bytes();
    let distinct = bytes.iter().collect::<BTreeSet<_>>().len();
    let steps = bytes.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect::<BTreeSet<_>>().len();
    let why = if secret.chars().any(char::is_control) {
        "holds a line end or another control character"
    } else if bytes.len() < MIN_SECRET_BYTES {
        "is shorter than 16 bytes"
    } else if distinct < 8 || steps < 9 {
        "repeats itself, so it could be guessed"
    } else {
        return Ok(());
    };
    Err(CommandError::usage(format!("{place} {why}"))
        .advise("`openssl rand -hex 32` makes a good build secret"))
}

/// Reads which functions run often from the CPU profile, where there is one.
fn hot(settings: &Settings, package: &Package) -> Result<Vec<SourcePlace>, CommandError> {
    let Some(path) = &settings.file.harden.cpu_profile else { return Ok(Vec::new()) };
    let path = settings.path_of_file(path);
    let refuse = |why: String| CommandError::usage(format!("the CPU profile `{}` {why}", path.display()));
    let size = fs::metadata(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?.len();
    if size > MAX_PROFILE_BYTES {
        return Err(refuse(format!("has {size} bytes, and at most {MAX_PROFILE_BYTES} are read")));
    }
    let json = fs::read(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let listed =
        protected_npm::pack::list(&package.folder).map_err(|error| packing(&package.folder, &error))?;
    let files: BTreeSet<String> = listed.into_iter().map(|file| file.path).collect();
    let places = Places { folder: &package.folder, name: package.name.as_str(), files: &files };
    let hot = hot_functions(&json, |url| places.find(url)).map_err(|error| {
        CommandError::from_error(
            Kind::Usage,
            &format!("reading the CPU profile `{}`", path.display()),
            &error,
        )
    })?;
    if hot.is_empty() {
        return Err(refuse(format!("names no function of `{}`", package.name)).advise(
            "record it while the package's own source runs: node --cpu-prof --cpu-prof-dir <folder> <script>",
        ));
    }
    Ok(hot)
}

/// Finds the package's files by what a CPU profile calls them.
struct Places<'a> {
    folder: &'a Path,
    name: &'a str,
    files: &'a BTreeSet<String>,
}

impl Places<'_> {
    /// Returns the file of the package that `url` is, or `None` for any other.
    ///
    /// A profile may have been recorded in another checkout: then what follows a folder of the same name counts. What
    /// is installed below `node_modules` is another package, unless it has this one's name.
    fn find(&self, url: &str) -> Option<String> {
        let path = decoded(url.strip_prefix("file://").unwrap_or(url));
        if url.starts_with("node:") || url.starts_with("wasm:") || url.is_empty() {
            return None;
        }
        let path = path.replace('\\', "/");
        let path = path.split(['?', '#']).next().unwrap_or(&path);
        if let Some((_, installed)) = path.rsplit_once("/node_modules/") {
            let inside = installed.strip_prefix(self.name)?.strip_prefix('/')?;
            return self.files.get(inside).cloned();
        }
        if let Ok(inside) = Path::new(path).strip_prefix(self.folder) {
            return inside.to_str().and_then(|inside| self.files.get(inside)).cloned();
        }
        let named = self.folder.file_name().and_then(|name| name.to_str());
        let base = self.name.rsplit('/').next();
        path.match_indices('/').find_map(|(at, _)| {
            let parent = path[..at].rsplit('/').next();
            let same = parent == named || parent == base;
            self.files.get(&path[at + 1..]).filter(|_| same).cloned()
        })
    }
}

/// Decodes `%2f` and the like.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_could_be_guessed_is_refused_and_not_repeated() {
        for bad in [
            "",
            "tiny",
            "0123456789abcde",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "0123456789abcdef",
            "0123456789012345678901234567890123456789",
            "abcdefghijklmnopqrstuvwxyz",
            "passwordpasswordpassword",
            "8c1f4be0d27a95f3\n8c1f4be0d27a95f3",
        ] {
            let error = check_secret("it", bad).err().unwrap_or_else(|| panic!("{bad} was taken"));
            let said = format!("{error} {:?}", error.hints);
            assert!(bad.is_empty() || !said.contains(bad), "{said}");
        }
        for good in [
            "8c1f4be0d27a95f3",
            "ckx8PPHwqCAV3nLfzq2uXA==",
            "58e2fb4de60d1e1a4a9a31ad6c1f2c5a0d1c3c5f43a0d52f7c1c8e54a4a1f9b0",
            "correct horse battery staple",
        ] {
            check_secret("it", good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
    }

    #[test]
    fn a_secret_is_read_from_one_place() {
        let folder = tempfile::tempdir().expect("folder");
        let read = |pairs: &[(&str, &str)]| {
            let found = read_secret(&pairs.iter().copied().collect(), folder.path());
            found.map(|found| found.map(|(_, secret)| secret.reveal().to_owned()))
        };
        assert_eq!(read(&[]).expect("none"), None);
        assert_eq!(read(&[(SECRET, "text")]).expect("text").as_deref(), Some("text"));
        fs::write(folder.path().join("secret"), "of the file\r\n").expect("write");
        assert_eq!(read(&[(SECRET_FILE, "secret")]).expect("file").as_deref(), Some("of the file"));
        assert!(read(&[(SECRET_FILE, "secret"), (SECRET, "text")]).is_err());
        assert!(read(&[(SECRET_FILE, "missing")]).is_err());
        assert!(read(&[(SECRET_FILE, ".")]).is_err());
        fs::write(folder.path().join("binary"), [0xff; 32]).expect("write");
        assert!(read(&[(SECRET_FILE, "binary")]).is_err());
        fs::write(folder.path().join("large"), [b'x'; 5000]).expect("write");
        assert!(read(&[(SECRET_FILE, "large")]).is_err());
    }

    #[test]
    fn patterns_start_in_the_package() {
        for bad in ["", "/src/**", "src//a.js", "../a.js", "./a.js", "src\\a.js", "src/", "a["] {
            assert!(pattern("it", bad).is_err(), "{bad}");
        }
        for good in ["**", "src/hot/**", "*.js", "a b.js"] {
            pattern("it", good).expect(good);
        }
    }

    #[test]
    fn a_profile_s_addresses_are_files_of_the_package_or_nothing() {
        let files: BTreeSet<String> =
            ["index.js", "src/index.js", "src/a b.js"].map(str::to_owned).into_iter().collect();
        let places = Places { folder: Path::new("/repo/core"), name: "@acme/core", files: &files };
        let find = |url: &str| places.find(url);
        for (url, path) in [
            ("file:///repo/core/src/index.js", "src/index.js"),
            ("/repo/core/index.js", "index.js"),
            ("file:///repo/core/src/a%20b.js", "src/a b.js"),
            ("file:///repo/core/src/index.js?v=1", "src/index.js"),
            ("file:///elsewhere/packages/core/src/index.js", "src/index.js"),
            ("file:///C:/work/core/src/index.js", "src/index.js"),
            ("file:///repo/app/node_modules/@acme/core/index.js", "index.js"),
        ] {
            assert_eq!(find(url).as_deref(), Some(path), "{url}");
        }
        for url in [
            "",
            "node:internal/timers",
            "file:///repo/core/node_modules/other/index.js",
            "file:///repo/app/node_modules/@acme/corex/index.js",
            "file:///repo/core/lib/other.js",
            "file:///repo/core/test/src/index.js",
            "file:///elsewhere/bench/index.js",
            "wasm://wasm/1234",
            "evalmachine.<anonymous>",
        ] {
            assert_eq!(find(url), None, "{url}");
        }
    }
}
