//! yarn 1.

use std::{ffi::OsString, fs, path::Path};

use super::{Grant, InstallJob, ManagerError, PackageManager, PublishJob, child, with};
use crate::{hostile, run::ChildCommand};

/// yarn 1, "classic".
pub(super) struct Yarn;

impl PackageManager for Yarn {
    fn name(&self) -> &'static str {
        "yarn"
    }

    fn program(&self) -> &'static str {
        "yarn"
    }

    fn versions(&self) -> &'static str {
        "version 1"
    }

    fn is_known(&self, major: u64) -> bool {
        major == 1
    }

    fn trace(&self, folder: &Path) -> Option<&'static str> {
        let classic = fs::read_to_string(folder.join("yarn.lock"))
            .is_ok_and(|lock| lock.contains("# yarn lockfile v1"));
        (classic && !folder.join(".yarnrc.yml").is_file()).then_some("yarn.lock")
    }

    fn install(&self, job: &InstallJob<'_>) -> Result<ChildCommand, ManagerError> {
        job.check(".npmrc", hostile::yarn_npmrc)?;
        job.check(".yarnrc", hostile::yarnrc)?;
        let mut command = child("yarn", &["add"], job.grant.environment, job.project)?;
        command.args.push(job.package.to_string().into());
        command.args.extend(["--non-interactive", "--no-progress"].map(OsString::from));
        if !job.allow_scripts {
            command.args.push("--ignore-scripts".into());
        }
        let grant = &job.grant;
        let npmrc = grant.write_npmrc(&job.package.name, job.default_registry)?;
        let home = grant.temporary.folder("home")?;
        let path = |path: &Path| path.display().to_string();
        let mut set = Vec::new();
        // yarn 1 ends when a project's .npmrc names a variable that is not there, and all that hold secrets are not.
        for folder in hostile::folders(job.project, grant.home()) {
            set.extend(
                hostile::variables(&folder.join(".npmrc"))?.into_iter().map(|name| (name, String::new())),
            );
        }
        set.extend([
            ("npm_config_userconfig".to_owned(), path(&npmrc)),
            (format!("npm_config_{}", Grant::registry_key(&job.package.name)), grant.registry.to_string()),
            ("npm_config_strict_ssl".to_owned(), "true".to_owned()),
            // As root, yarn 1 keeps every tarball in a folder of the machine, for all to read.
            ("YARN_CACHE_FOLDER".to_owned(), path(&grant.temporary.folder("cache")?)),
            // yarn 1 also reads `.yarnrc` and `.npmrc` at home, and writes there.
            ("HOME".to_owned(), path(&home)),
        ]);
        if job.package.name.scope().is_empty() {
            // yarn 1 otherwise sends no token for packages without a scope.
            set.push(("npm_config_always_auth".to_owned(), "true".to_owned()));
        }
        if let Some(default) = job.default_registry.filter(|_| !job.package.name.scope().is_empty()) {
            set.push(("npm_config_registry".to_owned(), default.to_string()));
        }
        let set: Vec<(&str, &str)> =
            set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        command.environment = with(command.environment, &set);
        Ok(command)
    }

    fn publish_tarball(&self, _: &PublishJob<'_>) -> Result<ChildCommand, ManagerError> {
        Err(ManagerError::NoTarballs {
            name: "yarn 1",
            why: "it sends the manifest of the folder it runs in beside whatever tarball it is given",
        })
    }
}
