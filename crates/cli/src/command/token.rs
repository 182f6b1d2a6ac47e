//! `token`: the exchange alone, for tools that bring their own client. The token goes into a private file.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use protected_model::{
    action::ActionMode,
    api::npm_token::NpmTokenRequest,
    secret::{RegistryToken, Secret},
};
use serde_json::json;

use crate::{
    args::{Token, TokenAction},
    client,
    context::Context,
    error::{CommandError, Kind},
};

/// Mints a token and writes the `.npmrc` that holds it.
///
/// # Errors
/// When the exchange is refused, and when the file exists.
pub(crate) async fn run(context: &Context, arguments: Token) -> Result<(), CommandError> {
    let settings = &context.settings;
    let dry_run = settings.switch(arguments.dry_run, "DRY_RUN")?;
    let project = settings.project(arguments.project)?;
    let package = settings.package(arguments.package)?.ok_or_else(|| {
        CommandError::usage("no package is named").advise("name it: protected-registry token <package>")
    })?;
    let action = settings.choice(arguments.action, "ACTION", None)?.unwrap_or_default();
    let path = settings.value(arguments.npmrc, "NPMRC", None)?;
    let path = path.unwrap_or_else(|| client::token_file(context));
    let path = settings.working_directory.join(path);
    if path.exists() && !dry_run {
        return Err(CommandError::usage(format!("the file for the token, `{}`, exists", path.display()))
            .advise("name another with --npmrc, or end that token with `protected-registry revoke --npmrc <file>`"));
    }
    let http = context.http()?;
    let session = context.log_in(&http).await?;
    let action_mode = match action {
        TokenAction::Install => ActionMode::Install,
        TokenAction::Publish => ActionMode::Publish,
    };
    let request = NpmTokenRequest {
        project_slug: project,
        package_name: package,
        action_mode,
        tenant_id: None,
        expected_entitlement_snapshot_id: None,
        package_version: None,
        artifact_sha512: None,
        protection_build_id: None,
        package_manager: None,
        reason: Some("protected-registry token".to_owned()),
        dry_run,
    };
    let minted = context.mint(&session, &request).await?;
    let (Some(token), Some(npmrc)) = (&minted.token, &minted.npmrc) else {
        context.console.result("a token would be minted; this was a dry run", &json!({"dry_run": true}));
        return Ok(());
    };
    write(&path, npmrc)?;
    context.keep(token);
    context.console.output("npmrc", &path.to_string_lossy());
    context.console.output("registry-url", &minted.registry_url.to_string());
    context.console.output("expires-at", &minted.expires_at.to_string());
    context.console.output("correlation-id", &context.correlation_id);
    context.console.say(format!(
        "use it with `--userconfig {0}` before {1}, then end it with `protected-registry revoke --npmrc {0}`",
        path.display(),
        minted.expires_at
    ));
    let document = json!({
        "npmrc": path,
        "registry_url": minted.registry_url,
        "expires_at": minted.expires_at,
        "allowed_actions": minted.allowed_actions,
    });
    context.console.result(&path.display().to_string(), &document);
    Ok(())
}

/// Writes a new file that only its owner can read.
fn write(path: &Path, npmrc: &RegistryToken) -> Result<(), CommandError> {
    let mut options = OpenOptions::new();
    // Never over an existing file, and never through a link that somebody left there.
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let written = options.open(path).and_then(|mut file| {
        file.write_all(npmrc.reveal().as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        // Half a file is no use to anybody.
        if error.kind() != std::io::ErrorKind::AlreadyExists {
            let _ = std::fs::remove_file(path);
        }
        CommandError::new(Kind::Failed, format!("cannot write `{}`: {error}", PathBuf::from(path).display()))
    })
}
