//! The settings of a `tsconfig.json` that decide what TypeScript compiles to.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{EcmaVersion, HardenError, json::without_comments};

/// What decides the output, after `extends`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CompilerOptions {
    pub(crate) target: Option<String>,
    pub(crate) module: Option<String>,
    pub(crate) es_module_interop: Option<bool>,
    pub(crate) experimental_decorators: Option<bool>,
    pub(crate) emit_decorator_metadata: Option<bool>,
    pub(crate) use_define_for_class_fields: Option<bool>,
    pub(crate) verbatim_module_syntax: Option<bool>,
    pub(crate) preserve_value_imports: Option<bool>,
    pub(crate) imports_not_used_as_values: Option<String>,
    pub(crate) jsx: Option<String>,
    pub(crate) jsx_factory: Option<String>,
    pub(crate) jsx_fragment_factory: Option<String>,
    pub(crate) jsx_import_source: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    extends: Extends,
    #[serde(default)]
    compiler_options: serde_json::Map<String, serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Extends {
    #[default]
    Nothing,
    One(String),
    Several(Vec<String>),
}

/// How long a chain of `extends` may be: one that returns to itself ends here.
const MAX_EXTENDS: usize = 32;

/// Reads the `tsconfig.json` at `path` with what it extends.
pub(crate) fn read(path: &Path) -> Result<CompilerOptions, HardenError> {
    let merged = merged(path, MAX_EXTENDS)?;
    let mut options: CompilerOptions =
        serde_json::from_value(serde_json::Value::Object(merged)).map_err(|error| refuse(path, error))?;
    if options.es_module_interop.is_none() {
        options.es_module_interop = Some(options.interop_by_default(installed_major(path)));
    }
    Ok(options)
}

/// Returns the major version of the TypeScript that the project has installed.
fn installed_major(tsconfig: &Path) -> Option<u64> {
    let manifest = tsconfig
        .ancestors()
        .skip(1)
        .find_map(|folder| std::fs::read(folder.join("node_modules/typescript/package.json")).ok())?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).ok()?;
    manifest.get("version")?.as_str()?.split('.').next()?.parse().ok()
}

fn merged(path: &Path, left: usize) -> Result<serde_json::Map<String, serde_json::Value>, HardenError> {
    if left == 0 {
        return Err(refuse(path, "`extends` leads back to it"));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| HardenError::Read { path: path.to_owned(), source })?;
    let text = without_comments(text.trim_start_matches('\u{feff}'));
    let File { extends, compiler_options } =
        serde_json::from_str(&text).map_err(|error| refuse(path, error))?;
    let bases = match extends {
        Extends::Nothing => Vec::new(),
        Extends::One(base) => vec![base],
        Extends::Several(bases) => bases,
    };
    let mut options = serde_json::Map::new();
    for base in bases {
        let place =
            find(path, &base).ok_or_else(|| refuse(path, format!("found nothing that `{base}` extends")))?;
        options.extend(merged(&place, left - 1)?);
    }
    options.extend(compiler_options);
    Ok(options)
}

/// Finds what `extends` names: a path, or a file in an installed package.
fn find(from: &Path, base: &str) -> Option<PathBuf> {
    let folder = from.parent()?;
    let candidates = |place: PathBuf| {
        let mut with_ending = place.clone().into_os_string();
        with_ending.push(".json");
        [place.clone(), PathBuf::from(with_ending), place.join("tsconfig.json")]
            .into_iter()
            .find(|path| path.is_file())
    };
    if base.starts_with('.') || Path::new(base).is_absolute() {
        return candidates(folder.join(base));
    }
    folder.ancestors().find_map(|ancestor| candidates(ancestor.join("node_modules").join(base)))
}

fn refuse(path: &Path, reason: impl ToString) -> HardenError {
    // The file's name says which one is meant without saying where it lies on this machine.
    let name = path.file_name().map_or_else(|| path.to_owned(), PathBuf::from);
    HardenError::TsConfig { path: name, reason: reason.to_string() }
}

impl CompilerOptions {
    /// Returns what an unsaid `esModuleInterop` means: before TypeScript 6 it was on with Node's module kinds only.
    fn interop_by_default(&self, installed_major: Option<u64>) -> bool {
        let module = self.module.as_deref().unwrap_or_default().to_ascii_lowercase();
        module.starts_with("node") || module == "preserve" || installed_major.is_none_or(|major| major >= 6)
    }

    /// Returns the newest syntax of the output.
    pub(crate) fn target(&self, asked: Option<EcmaVersion>) -> Result<EcmaVersion, HardenError> {
        if let Some(asked) = asked {
            return Ok(asked);
        }
        let Some(target) = &self.target else { return Ok(EcmaVersion::EsNext) };
        Ok(match target.to_ascii_lowercase().as_str() {
            "es6" | "es2015" => EcmaVersion::Es2015,
            "es2016" => EcmaVersion::Es2016,
            "es2017" => EcmaVersion::Es2017,
            "es2018" => EcmaVersion::Es2018,
            "es2019" => EcmaVersion::Es2019,
            "es2020" => EcmaVersion::Es2020,
            "es2021" => EcmaVersion::Es2021,
            "es2022" => EcmaVersion::Es2022,
            "es2023" | "es2024" | "es2025" | "esnext" => EcmaVersion::EsNext,
            other => {
                let reason = format!("`target` is `{other}`; this build compiles to `es2015` and newer");
                return Err(refuse(Path::new("tsconfig.json"), reason));
            }
        })
    }

    /// Returns whether class fields are defined, as the standard has it, or assigned, as TypeScript once did.
    pub(crate) fn defines_fields(&self, target: EcmaVersion) -> bool {
        self.use_define_for_class_fields.unwrap_or(target >= EcmaVersion::Es2022)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn extends_files_and_packages() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("node_modules/@acme/base")).expect("folder");
        fs::create_dir_all(at("app")).expect("folder");
        fs::write(
            at("node_modules/@acme/base/tsconfig.json"),
            r#"{"compilerOptions":{"target":"ES2019","jsx":"react"}}"#,
        )
        .expect("file");
        fs::write(at("base.json"), r#"{"compilerOptions":{"jsx":"preserve","module":"ESNext"}}"#)
            .expect("file");
        fs::write(at("app/tsconfig.json"), "{ // own\n \"extends\": [\"@acme/base\", \"../base\"], \"compilerOptions\": {\"module\": \"commonjs\",}, }").expect("file");
        let options = read(&at("app/tsconfig.json")).expect("options");
        assert_eq!(options.target.as_deref(), Some("ES2019"));
        assert_eq!(options.jsx.as_deref(), Some("preserve"));
        assert_eq!(options.module.as_deref(), Some("commonjs"));
        assert_eq!(options.target(None).expect("target"), EcmaVersion::Es2019);
        assert!(!options.defines_fields(EcmaVersion::Es2019));
    }

    #[test]
    fn refuses_what_it_cannot_follow() {
        let folder = tempfile::tempdir().expect("folder");
        let place = folder.path().join("tsconfig.json");
        for (text, reason) in [
            ("{", "EOF"),
            (r#"{"extends":"./tsconfig.json"}"#, "leads back"),
            (r#"{"extends":"@acme/missing"}"#, "found nothing"),
            (r#"{"compilerOptions":{"target":5}}"#, "invalid type"),
        ] {
            fs::write(&place, text).expect("file");
            let error = read(&place).expect_err(text).to_string();
            assert!(
                error.contains(reason) && !error.contains(folder.path().to_str().expect("path")),
                "{error}"
            );
        }
        let old = CompilerOptions { target: Some("ES5".into()), ..CompilerOptions::default() };
        assert!(old.target(None).is_err());
    }
}
