//! npm.

use std::{ffi::OsString, path::Path};

use super::{Grant, InstallJob, ManagerError, NOTHING, PackageManager, PublishJob, child};
use crate::{hostile, run::ChildCommand};

/// npm 10 and later.
pub(super) struct Npm;

impl PackageManager for Npm {
    fn name(&self) -> &'static str {
        "npm"
    }

    fn program(&self) -> &'static str {
        "npm"
    }

    fn versions(&self) -> &'static str {
        "version 9 or later"
    }

    fn is_known(&self, major: u64) -> bool {
        major >= 9
    }

    fn trace(&self, folder: &Path) -> Option<&'static str> {
        ["package-lock.json", "npm-shrinkwrap.json"].into_iter().find(|name| folder.join(name).is_file())
    }

    fn install(&self, job: &InstallJob<'_>) -> Result<ChildCommand, ManagerError> {
        job.check(".npmrc", hostile::npmrc)?;
        let mut command = command(job.grant, "install", job.project)?;
        command.args.push(job.package.to_string().into());
        let npmrc = job.grant.write_npmrc(&job.package.name, job.default_registry)?;
        flags(&mut command.args, job.grant, &npmrc, &Grant::registry_key(&job.package.name))?;
        if let Some(default) = job.default_registry.filter(|_| !job.package.name.scope().is_empty()) {
            command.args.push(format!("--registry={default}").into());
        }
        if !job.project.join("package.json").exists() {
            // Without one, npm would install into the next folder above that has one.
            command.args.push(format!("--prefix={}", job.project.display()).into());
        }
        command.args.push(format!("--ignore-scripts={}", !job.allow_scripts).into());
        command.args.extend(["--no-audit", "--no-fund", "--global=false"].map(OsString::from));
        Ok(command)
    }

    fn publish_tarball(&self, job: &PublishJob<'_>) -> Result<ChildCommand, ManagerError> {
        job.check(true)?;
        // From an empty folder: a project's .npmrc beats any user configuration.
        let empty = job.grant.temporary.folder("publish")?;
        let mut command = command(job.grant, "publish", &empty)?;
        command.args.push(job.tarball.into());
        let npmrc = job.grant.write_npmrc(job.package.name(), None)?;
        flags(&mut command.args, job.grant, &npmrc, &Grant::registry_key(job.package.name()))?;
        command.args.push(format!("--registry={}", job.grant.registry).into());
        command.args.push(format!("--tag={}", job.tag).into());
        if let Some(access) = job.access {
            command.args.push(format!("--access={}", access.as_str()).into());
        }
        command
            .args
            .extend(["--ignore-scripts", "--provenance=false", "--workspaces=false"].map(OsString::from));
        Ok(command)
    }
}

fn command(grant: Grant<'_>, verb: &str, folder: &Path) -> Result<ChildCommand, ManagerError> {
    child("npm", &[verb], grant.environment, folder)
}

/// What must hold whatever the project says: on the command line, which beats every file.
fn flags(
    args: &mut Vec<OsString>,
    grant: Grant<'_>,
    npmrc: &Path,
    registry_key: &str,
) -> Result<(), ManagerError> {
    let cache = grant.temporary.folder("cache")?;
    args.extend([
        format!("--userconfig={}", npmrc.display()).into(),
        format!("--globalconfig={NOTHING}").into(),
        format!("--{registry_key}={}", grant.registry).into(),
        // A cache and a log of its own, gone with the private folder: private packages do not stay on a runner
        // that others use, and no log of requests does.
        format!("--cache={}", cache.display()).into(),
        format!("--logs-dir={}", grant.temporary.path().join("logs").display()).into(),
        "--logs-max=0".into(),
        "--timing=false".into(),
        "--loglevel=notice".into(),
        "--strict-ssl=true".into(),
        "--update-notifier=false".into(),
        "--fetch-retries=2".into(),
        "--fetch-retry-mintimeout=1000".into(),
        "--fetch-retry-maxtimeout=10000".into(),
    ]);
    Ok(())
}
