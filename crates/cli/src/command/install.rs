//! `install`: a package through npm, pnpm or yarn, with a token that lives for fifteen minutes.

use std::{fs, path::PathBuf};

use protected_model::{action::ActionMode, api::npm_token::NpmTokenRequest};
use protected_npm::manager::PackageSpec;
use serde_json::json;

use crate::{
    args::{Install, InstallWith},
    client::{self, Destination},
    context::Context,
    error::{CommandError, Kind},
};

/// Installs one package.
///
/// # Errors
/// When the exchange is refused, when a file of the project could take the token, and when the package manager
/// fails.
pub(crate) async fn run(context: &Context, arguments: Install) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("install")?;
    let package: PackageSpec = match settings.value(arguments.package, "PACKAGE", None)? {
        Some(text) => {
            let text: String = text;
            text.parse().map_err(|error| CommandError::usage(format!("the package to install: {error}")))?
        }
        None => match settings.package(None)? {
            Some(name) => PackageSpec::latest(name),
            None => {
                return Err(CommandError::usage("no package is named")
                    .advise("name it: protected-registry install <package>"));
            }
        },
    };
    let project = settings.project(arguments.project)?;
    let with = settings.choice(arguments.with, "WITH", settings.file.install.with)?.map(InstallWith::name);
    let allow_scripts = settings.switch(arguments.allow_scripts, "ALLOW_SCRIPTS")?;
    let folder = settings.value(arguments.directory, "DIRECTORY", None)?.unwrap_or_else(PathBuf::new);
    let folder = settings.working_directory.join(folder);
    let folder = fs::canonicalize(&folder).ok().filter(|path| path.is_dir()).ok_or_else(|| {
        CommandError::usage(format!("the folder to install into, `{}`, is not there", folder.display()))
    })?;
    let http = context.http()?;
    context.fractalops(&http)?;
    let manager = client::choose(context, &folder, with).await?;
    let session = context.log_in(&http).await?;
    let request = NpmTokenRequest {
        project_slug: project,
        package_name: package.name.clone(),
        action_mode: ActionMode::Install,
        tenant_id: None,
        expected_entitlement_snapshot_id: None,
        package_version: None,
        artifact_sha512: None,
        protection_build_id: None,
        package_manager: Some(manager.program().to_owned()),
        reason: None,
        dry_run: false,
    };
    let minted = context.mint(&session, &request).await?;
    let Some(token) = &minted.token else {
        return Err(CommandError::new(Kind::Failed, "FractalOps allowed the install but sent no token"));
    };
    let destination = Destination { registry: &minted.registry_url, token };
    client::install(context, manager, destination, &folder, &package, allow_scripts).await?;
    context.console.output("correlation-id", &context.correlation_id);
    context.console.output("expires-at", &minted.expires_at.to_string());
    let document = json!({
        "package": package.name,
        "folder": folder,
        "registry": minted.registry_url,
        "manager": manager.name(),
    });
    context.console.result(&format!("{package} installed into {}", folder.display()), &document);
    Ok(())
}
