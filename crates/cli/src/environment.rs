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

/// Adds what `.env` in the repository's root says, for the variables that the environment leaves unset.
///
/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn with_dotenv(environment: Environment, directory: &Path) -> Result<Environment, dotenvy::Error> {
    let Some(root) = directory.ancestors().find(|folder| folder.join(".git").exists()) else {
        return Ok(environment);
    };
    let file = root.join(".env");
    if !file.is_file() {
        return Ok(environment);
    }
    let mut defaults = Vec::new();
    for pair in dotenvy::from_path_iter(file)? {
        let (name, value) = pair?;
        if FROM_DOTENV.contains(&name.as_str()) {
            defaults.push((name, value));
        }
    }
    Ok(environment.or(defaults.into_iter().collect()))
}
