//! Package managers, run with a token that stays in a private file.

use std::{
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use protected_http::Client;
use protected_model::{secret::RegistryToken, service_url::ServiceUrl, version::DistTag};
use protected_npm::{
    manager::{self, Grant, InstallJob, ManagerError, PackageManager, PackageSpec, PublishJob},
    pack::Packed,
    run::{self, ChildCommand, Line, RunError},
    temporary::{self, Temporary},
    upload::{self, Prepared, PublishError, PublishOptions, Published, Status},
};

use crate::{
    console::one_line,
    context::Context,
    error::{CommandError, Kind},
};

/// A registry and a token for it.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    pub(crate) registry: &'a ServiceUrl,
    pub(crate) token: &'a RegistryToken,
}

/// Has a package manager publish exactly this tarball. A version that is there already is not sent.
///
/// # Errors
/// When the program is not one that keeps a token to itself, and when it fails. The inner result is that of a
/// version that was there already.
pub(crate) async fn publish(
    context: &Context,
    http: &Client,
    destination: Destination<'_>,
    tarball: &Path,
    packed: &Packed,
    tag: Option<&DistTag>,
    name: &str,
) -> Result<Result<Published, PublishError>, CommandError> {
    let Destination { registry, token } = destination;
    let options = PublishOptions { tag: tag.cloned(), ..PublishOptions::default() };
    let prepared = context.cancel.or(upload::prepare(http, registry, token, packed, &options)).await?;
    let (tag, access) = match prepared {
        Ok(Prepared::Send { tag, access }) => (tag, access),
        Ok(Prepared::AlreadyThere(there)) => return Ok(Ok(there)),
        Err(error) => return Ok(Err(error)),
    };
    let manager = manager::find(name).map_err(|error| not_run(name, &error))?;
    let temporary = private(context)?;
    let job = PublishJob {
        tarball,
        package: &packed.package,
        grant: Grant { registry, token, temporary: &temporary, environment: &context.settings.environment },
        tag: &tag,
        access,
    };
    let version = manager::check_version(manager, temporary.path(), &context.settings.environment);
    let version = context.cancel.or(version).await?.map_err(|error| not_run(name, &error))?;
    context.console.say(format!("  {name} {version}"));
    let command = manager.publish_tarball(&job).map_err(|error| not_run(name, &error))?;
    let done = execute(context, &command, token).await;
    wipe(context, &temporary);
    if let Err(error) = done {
        context.cancel.check().map_err(|cancelled| maybe_published(cancelled, packed))?;
        // The client may have failed after the registry had taken the package.
        return match upload::confirm(http, registry, token, packed, &tag, Status::Published).await {
            Ok(Some(there)) => Ok(Ok(there)),
            Ok(None) => Err(error),
            Err(conflict) => Ok(Err(conflict)),
        };
    }
    Ok(Ok(Published {
        status: Status::Published,
        integrity: packed.integrity,
        tag,
        tagged: true,
        notice: None,
    }))
}

/// Says that a cancelled upload may have arrived.
pub(crate) fn maybe_published(mut cancelled: CommandError, packed: &Packed) -> CommandError {
    cancelled.message = format!(
        "cancelled while `{}@{}` was being sent: it may have been published",
        packed.name, packed.version
    );
    cancelled.advise("run the same command again: it tells, and publishes nothing twice")
}

/// Finds the package manager for a folder and makes sure that it is one that keeps a token to itself.
///
/// # Errors
/// When there is none, or several.
pub(crate) async fn choose(
    context: &Context,
    folder: &Path,
    name: Option<&str>,
) -> Result<&'static dyn PackageManager, CommandError> {
    let manager = match name {
        Some(name) => manager::find(name),
        None => manager::detect(folder),
    };
    let manager = manager.map_err(|error| not_run(name.unwrap_or("the package manager"), &error))?;
    let started = Instant::now();
    let version = manager::check_version(manager, folder, &context.settings.environment);
    let version = context.cancel.or(version).await?.map_err(|error| not_run(manager.name(), &error))?;
    context.console.step("client", format!("{} {version}", manager.program()), started);
    Ok(manager)
}

/// Has a package manager install a package into a folder.
///
/// # Errors
/// When a file of the project could take the token, and when the package manager fails.
pub(crate) async fn install(
    context: &Context,
    manager: &dyn PackageManager,
    destination: Destination<'_>,
    folder: &Path,
    package: &PackageSpec,
    allow_scripts: bool,
) -> Result<(), CommandError> {
    let temporary = private(context)?;
    let Destination { registry, token } = destination;
    let job = InstallJob {
        project: folder,
        package,
        grant: Grant { registry, token, temporary: &temporary, environment: &context.settings.environment },
        default_registry: None,
        allow_scripts,
    };
    let command = manager.install(&job).map_err(|error| not_run(manager.name(), &error))?;
    let done = execute(context, &command, token).await;
    wipe(context, &temporary);
    done
}

async fn execute(
    context: &Context,
    command: &ChildCommand,
    token: &RegistryToken,
) -> Result<(), CommandError> {
    let show = |line: &Line| {
        let (Line::Out(text) | Line::Err(text)) = line;
        context.console.say(format!("    {}", one_line(text)));
    };
    let done = run::run(command, token, show, context.cancel.wait()).await;
    if done.is_err() {
        context.cancel.check()?;
    }
    done.map_err(|error| failed(&error))
}

/// Makes the private folder of this command, and removes what killed commands left.
fn private(context: &Context) -> Result<Temporary, CommandError> {
    let parent = temporary::parent(&context.settings.environment, &std::env::temp_dir());
    temporary::sweep(&parent, temporary::STALE, SystemTime::now());
    Temporary::new(&parent)
        .map_err(|error| CommandError::from_error(Kind::Failed, "making a private folder", &error))
}

fn wipe(context: &Context, temporary: &Temporary) {
    if let Err(error) = temporary.wipe() {
        context.console.warn("Not removed", &crate::error::chain(&error));
    }
}

fn not_run(name: &str, error: &ManagerError) -> CommandError {
    let kind = match error {
        ManagerError::Hostile(_) => Kind::Refused,
        ManagerError::Unknown(_) | ManagerError::Ambiguous { .. } | ManagerError::NoTarballs { .. } => {
            Kind::Usage
        }
        _ => Kind::Failed,
    };
    CommandError::from_error(kind, &format!("{name} is not run"), error).hint(error.hint())
}

fn failed(error: &RunError) -> CommandError {
    CommandError::new(Kind::Failed, crate::error::chain(error)).hint(error.hint())
}

/// Returns where `token` writes and `revoke` looks when nothing else is said: the folder that the CI platform
/// empties after the job, never the working tree.
pub(crate) fn token_file(context: &Context) -> PathBuf {
    temporary::parent(&context.settings.environment, &std::env::temp_dir()).join("protected-registry.npmrc")
}
