//! `revoke`: ends the token that `token` wrote, and deletes its file.

use std::{fs, path::PathBuf};

use protected_model::secret::AccessToken;
use serde_json::json;

use crate::{
    args::Revoke,
    client,
    context::Context,
    error::{CommandError, Kind},
};

/// An `.npmrc` of ours is a few hundred bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Revokes every token in the file.
///
/// # Errors
/// When the file is not there or holds no token, and when FractalOps does not answer; the file stays then, so
/// that the command can be repeated.
pub(crate) async fn run(context: &Context, arguments: Revoke) -> Result<(), CommandError> {
    let settings = &context.settings;
    let path = settings.value(arguments.npmrc, "NPMRC", None)?;
    let path = path.unwrap_or_else(|| client::token_file(context));
    let path: PathBuf = settings.working_directory.join(path);
    let size = fs::metadata(&path).map(|metadata| metadata.len());
    let text = match size {
        Ok(size) if size > MAX_BYTES => {
            return Err(CommandError::usage(format!(
                "`{}` is no .npmrc of ours: {size} bytes",
                path.display()
            )));
        }
        _ => fs::read_to_string(&path),
    };
    let text =
        text.map_err(|error| CommandError::usage(format!("cannot read `{}`: {error}", path.display())))?;
    let mut tokens: Vec<&str> =
        text.lines().filter_map(|line| Some(line.split_once(":_authToken=")?.1.trim())).collect();
    tokens.sort_unstable();
    tokens.dedup();
    if tokens.is_empty() {
        return Err(CommandError::usage(format!("`{}` holds no token", path.display())));
    }
    let fractalops = context.fractalops(&context.http()?)?;
    for token in &tokens {
        let token = AccessToken::new(*token);
        context.console.mask(&token);
        context
            .cancel
            .or(fractalops.revoke(&token))
            .await?
            .map_err(|error| CommandError::from_fractalops("revoking the token", error))?;
    }
    fs::remove_file(&path).map_err(|error| {
        let message = format!("the token is revoked, but `{}` cannot be deleted: {error}", path.display());
        CommandError::new(Kind::Failed, message)
    })?;
    context
        .console
        .result(&format!("revoked, and deleted {}", path.display()), &json!({"revoked": tokens.len()}));
    Ok(())
}
