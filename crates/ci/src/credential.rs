//! Which variables hold credentials, so that no child process inherits them.

/// The variables that no child process may inherit, by name. [`is_credential_variable`] knows patterns beside.
///
/// A package manager or a build tool runs code that came with packages, and that code reads its environment:
/// `ACTIONS_ID_TOKEN_REQUEST_TOKEN` alone is enough to publish in the job's name.
pub const SCRUBBED: &[&str] = &[
    // GitHub Actions, Gitea, Forgejo.
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "ACTIONS_RUNTIME_TOKEN",
    "FORGEJO_TOKEN",
    "GH_ENTERPRISE_TOKEN",
    "GH_TOKEN",
    "GITEA_TOKEN",
    "GITHUB_ENTERPRISE_TOKEN",
    "GITHUB_TOKEN",
    // GitLab. The repository's URL there has the job's token in it.
    "CI_BUILD_TOKEN",
    "CI_DEPENDENCY_PROXY_PASSWORD",
    "CI_DEPLOY_PASSWORD",
    "CI_JOB_TOKEN",
    "CI_REGISTRY_PASSWORD",
    "CI_REPOSITORY_URL",
    "GITLAB_TOKEN",
    // Other platforms.
    "BITBUCKET_STEP_OIDC_TOKEN",
    "BUILDKITE_AGENT_ACCESS_TOKEN",
    "BUILDKITE_AGENT_JOB_API_TOKEN",
    "CIRCLE_OIDC_TOKEN",
    "CIRCLE_OIDC_TOKEN_V2",
    "CIRCLE_TOKEN",
    "SYSTEM_ACCESSTOKEN",
    "SYSTEM_OIDCREQUESTURI",
    // Registries.
    "DOCKER_AUTH_CONFIG",
    "NODE_AUTH_TOKEN",
    "NPM_AUTH_TOKEN",
    "NPM_TOKEN",
    "YARN_NPM_AUTH_IDENT",
    "YARN_NPM_AUTH_TOKEN",
    // Keys and vaults. The build secret tells every choice of a hardened build.
    "BAO_TOKEN",
    "COSIGN_PASSWORD",
    "COSIGN_PRIVATE_KEY",
    "PROTECTED_REGISTRY_BUILD_SECRET",
    "PROTECTED_REGISTRY_BUILD_SECRET_FILE",
    "SSH_AGENT_PID",
    "SSH_AUTH_SOCK",
    "VAULT_TOKEN",
    // Clouds, where the name does not say it.
    "AWS_ACCESS_KEY_ID",
    "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
    "GOOGLE_GHA_CREDS_PATH",
];

/// Cloud tools whose variables start so.
const CLOUDS: &[&str] = &["AWS_", "ARM_", "AZURE_", "CLOUDSDK_", "GCP_", "GOOGLE_"];
/// What in the name of a cloud tool's variable says that it is, or leads to, a credential.
const CLOUD_SECRETS: &[&str] = &["CREDENTIAL", "KEY", "PASSWORD", "SECRET", "TOKEN", "CERTIFICATE"];
/// The same for npm's settings, which are variables too; `npm_config_//host/:_authToken` among them.
const NPM_SECRETS: &[&str] = &["AUTH", "PASSWORD", "TOKEN", "CERT", "KEY", "OTP"];

/// Returns whether the variable `name` is a credential, or leads to one.
pub fn is_credential_variable(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let cloud = CLOUDS.iter().any(|cloud| name.starts_with(cloud)) && has(CLOUD_SECRETS);
    let npm = name.strip_prefix("NPM_CONFIG_").is_some() && has(NPM_SECRETS);
    let fractalops = name.starts_with("FRACTALOPS_") && name.contains("TOKEN");
    let id_token = name.ends_with("_ID_TOKEN") || name.ends_with("_ID_TOKEN_FILE");
    let job_token = name.starts_with("CI_JOB_JWT");
    SCRUBBED.contains(&name.as_str()) || cloud || npm || fractalops || id_token || job_token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_name() {
        for name in [
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "ACTIONS_RUNTIME_TOKEN",
            "actions_runtime_token",
            "FRACTALOPS_ID_TOKEN",
            "FRACTALOPS_ID_TOKEN_FILE",
            "FRACTALOPS_ACCESS_TOKEN",
            "SIGSTORE_ID_TOKEN",
            "NPM_ID_TOKEN",
            "HTTPS___FRACTALOPS_EXAMPLE_ID_TOKEN",
            "CI_JOB_TOKEN",
            "CI_JOB_JWT",
            "CI_JOB_JWT_V2",
            "CI_REPOSITORY_URL",
            "NODE_AUTH_TOKEN",
            "npm_config__auth",
            "npm_config__authToken",
            "NPM_CONFIG__AUTH",
            "npm_config_//npm.example/:_authToken",
            "npm_config__password",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AZURE_CLIENT_SECRET",
            "AZURE_FEDERATED_TOKEN_FILE",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "VAULT_TOKEN",
            "BAO_TOKEN",
            "SSH_AUTH_SOCK",
            "GITHUB_TOKEN",
            "GH_TOKEN",
        ] {
            assert!(is_credential_variable(name), "{name}");
        }
    }

    #[test]
    fn what_a_build_needs_stays() {
        for name in [
            "PATH",
            "HOME",
            "CI",
            "GITHUB_ACTIONS",
            "GITHUB_REPOSITORY",
            "GITHUB_WORKSPACE",
            "RUNNER_TEMP",
            "CI_JOB_ID",
            "NODE_OPTIONS",
            "NODE_ENV",
            "NODE_EXTRA_CA_CERTS",
            "SSL_CERT_FILE",
            "HTTPS_PROXY",
            "AWS_REGION",
            "AZURE_TENANT_ID",
            "GOOGLE_CLOUD_PROJECT",
            "npm_config_cache",
            "npm_config_userconfig",
            "FRACTALOPS_BASE_URL",
            "ACTIONS_CACHE_URL",
        ] {
            assert!(!is_credential_variable(name), "{name}");
        }
    }

    #[test]
    fn every_name_in_the_list_is_found() {
        for name in SCRUBBED {
            assert!(is_credential_variable(name), "{name}");
        }
    }
}
