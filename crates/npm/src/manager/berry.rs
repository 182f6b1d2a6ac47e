//! yarn 2 and later.

use std::path::Path;

use super::{InstallJob, ManagerError, PackageManager, PublishJob, child, with};
use crate::{hostile, run::ChildCommand};

/// yarn 2 and later, "berry", which reads no `.npmrc`.
pub(super) struct Berry;

impl PackageManager for Berry {
    fn name(&self) -> &'static str {
        "berry"
    }

    fn program(&self) -> &'static str {
        "yarn"
    }

    fn versions(&self) -> &'static str {
        "version 3 or later"
    }

    fn is_known(&self, major: u64) -> bool {
        major >= 3
    }

    fn trace(&self, folder: &Path) -> Option<&'static str> {
        let lock = std::fs::read_to_string(folder.join("yarn.lock")).unwrap_or_default();
        if folder.join(".yarnrc.yml").is_file() {
            Some(".yarnrc.yml")
        } else {
            lock.contains("__metadata:").then_some("yarn.lock")
        }
    }

    fn install(&self, job: &InstallJob<'_>) -> Result<ChildCommand, ManagerError> {
        job.check(".yarnrc.yml", hostile::yarnrc_yml)?;
        let mut command = child("yarn", &["add"], job.grant.environment, job.project)?;
        command.args.push(job.package.to_string().into());
        let (grant, name) = (&job.grant, &job.package.name);
        // The home folder is the one place besides the project where yarn looks for a file.
        let home = grant.temporary.folder("home")?;
        grant.temporary.write("home/.yarnrc.yml", &configuration(job)?)?;
        let mut set = vec![
            ("HOME", home.display().to_string()),
            ("USERPROFILE", home.display().to_string()),
            ("YARN_ENABLE_SCRIPTS", u8::from(job.allow_scripts).to_string()),
            ("YARN_ENABLE_PROGRESS_BARS", "0".to_owned()),
            ("YARN_ENABLE_STRICT_SSL", "1".to_owned()),
        ];
        // The cache is where Plug'n'Play runs packages from: it stays where it was.
        if let Some(home) = grant.home() {
            set.push(("YARN_GLOBAL_FOLDER", home.join(".yarn/berry").display().to_string()));
        }
        if name.scope().is_empty() {
            set.push(("YARN_NPM_REGISTRY_SERVER", grant.registry.to_string()));
            set.push(("YARN_NPM_PREAPPROVED_PACKAGES", name.to_string()));
        } else if let Some(default) = job.default_registry {
            set.push(("YARN_NPM_REGISTRY_SERVER", default.to_string()));
        }
        // A `ServiceUrl` is http on a loopback address only.
        if grant.registry.as_url().scheme() == "http" {
            let host = grant.registry.as_url().host_str().unwrap_or_default();
            set.push(("YARN_UNSAFE_HTTP_WHITELIST", host.to_owned()));
        }
        let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (*name, value.as_str())).collect();
        command.environment = with(command.environment, &set);
        Ok(command)
    }

    fn publish_tarball(&self, _: &PublishJob<'_>) -> Result<ChildCommand, ManagerError> {
        Err(ManagerError::NoTarballs {
            name: "yarn",
            why: "it packs a folder anew, so the bytes would be others",
        })
    }
}

/// Returns the `.yarnrc.yml` of the command.
fn configuration(job: &InstallJob<'_>) -> Result<String, ManagerError> {
    let (registry, token) = (job.grant.registry, job.grant.token()?);
    let scope = job.package.name.scope();
    let scope = scope.as_str().trim_start_matches('@');
    if scope.is_empty() {
        return Ok(format!("npmAlwaysAuth: true\nnpmAuthToken: \"{token}\"\n"));
    }
    // A package that was published a minute ago is meant to be installed: yarn 4 keeps what is younger than a day
    // out, and only the scope's own setting counts where scopes are used.
    Ok(format!(
        "npmScopes:\n  \"{scope}\":\n    npmRegistryServer: \"{registry}\"\n    npmPublishRegistry: \"{registry}\"\n    \
         npmAlwaysAuth: true\n    npmAuthToken: \"{token}\"\n    npmMinimalAgeGate: 0\n"
    ))
}
