//! pnpm 10 and later.

use std::{ffi::OsString, path::Path};

use super::{Grant, InstallJob, ManagerError, PackageManager, PublishJob, child, with};
use crate::{hostile, run::ChildCommand};

/// pnpm, whose versions before 11 read npm's settings and publish through npm.
pub(super) struct Pnpm;

impl PackageManager for Pnpm {
    fn name(&self) -> &'static str {
        "pnpm"
    }

    fn program(&self) -> &'static str {
        "pnpm"
    }

    fn versions(&self) -> &'static str {
        "version 10 or later"
    }

    fn is_known(&self, major: u64) -> bool {
        major >= 10
    }

    fn trace(&self, folder: &Path) -> Option<&'static str> {
        ["pnpm-lock.yaml", "pnpm-workspace.yaml"].into_iter().find(|name| folder.join(name).is_file())
    }

    fn install(&self, job: &InstallJob<'_>) -> Result<ChildCommand, ManagerError> {
        job.check(".npmrc", hostile::npmrc)?;
        job.check("pnpm-workspace.yaml", hostile::pnpm_workspace)?;
        let mut command = child("pnpm", &["add"], job.grant.environment, job.project)?;
        command.args.push(job.package.to_string().into());
        let name = &job.package.name;
        let npmrc = job.grant.write_npmrc(name, job.default_registry)?;
        let key = Grant::registry_key(name);
        command.args.push(format!("--config.{key}={}", job.grant.registry).into());
        if let Some(default) = job.default_registry.filter(|_| !name.scope().is_empty()) {
            command.args.push(format!("--config.registry={default}").into());
        }
        command.args.push(format!("--config.ignore-scripts={}", !job.allow_scripts).into());
        // `.pnpmfile.cjs` is code of the repository, run inside pnpm.
        command.args.push("--ignore-pnpmfile".into());
        // pnpm 11 keeps what is younger than a day out, and writes exceptions into the project's
        // `pnpm-workspace.yaml`: this package's exception is for this command alone.
        let fresh = format!("[\"{name}\"]");
        let set = environment(&job.grant, &npmrc, &key)?;
        let set: Vec<(&str, &str)> = set
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain([("pnpm_config_minimum_release_age_exclude", fresh.as_str())])
            .collect();
        command.environment = with(command.environment, &set);
        Ok(command)
    }

    fn publish_tarball(&self, job: &PublishJob<'_>) -> Result<ChildCommand, ManagerError> {
        // pnpm 10 hands no flag for it on to npm, and `publishConfig` beats the environment there.
        job.check(false)?;
        let empty = job.grant.temporary.folder("publish")?;
        let mut command = child("pnpm", &["publish"], job.grant.environment, &empty)?;
        command.args.push(job.tarball.into());
        command.args.push(format!("--tag={}", job.tag).into());
        if let Some(access) = job.access {
            command.args.push(format!("--access={}", access.as_str()).into());
        }
        command.args.extend(["--no-git-checks", "--ignore-scripts"].map(OsString::from));
        let npmrc = job.grant.write_npmrc(job.package.name(), Some(job.grant.registry))?;
        let set = environment(&job.grant, &npmrc, &Grant::registry_key(job.package.name()))?;
        let registry = job.grant.registry.to_string();
        let set: Vec<(&str, &str)> = set
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain([("npm_config_registry", registry.as_str()), ("pnpm_config_registry", registry.as_str())])
            .collect();
        command.environment = with(command.environment, &set);
        Ok(command)
    }
}

/// The settings that beat a project's files, under the names of both generations. pnpm 10 takes none of them as a
/// flag of `publish`: `--userconfig` is unknown there, and `--config.userconfig` went to the public registry.
fn environment(
    grant: &Grant<'_>,
    npmrc: &Path,
    registry_key: &str,
) -> Result<Vec<(String, String)>, ManagerError> {
    let path = |path: &Path| path.display().to_string();
    let cache = path(&grant.temporary.folder("cache")?);
    let logs = path(&grant.temporary.path().join("logs"));
    let set = [
        ("npm_config_userconfig", path(npmrc)),
        ("pnpm_config_npmrc_auth_file", path(npmrc)),
        (&format!("npm_config_{registry_key}"), grant.registry.to_string()),
        ("npm_config_globalconfig", super::NOTHING.to_owned()),
        // npm's, which pnpm 10 publishes with; pnpm's store is part of the installation and stays where it is.
        ("npm_config_cache", cache),
        ("npm_config_logs_dir", logs),
        ("npm_config_logs_max", "0".to_owned()),
        ("npm_config_strict_ssl", "true".to_owned()),
        ("pnpm_config_strict_ssl", "true".to_owned()),
        ("npm_config_provenance", "false".to_owned()),
        ("npm_config_fetch_retries", "2".to_owned()),
        ("npm_config_fetch_retry_mintimeout", "1000".to_owned()),
        ("pnpm_config_fetch_retry_mintimeout", "1000".to_owned()),
    ];
    Ok(set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
