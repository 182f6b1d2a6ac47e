//! `revoke`: ends the token that `token` wrote, and deletes its file.

use std::{fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use protected_model::{claims::NPM_TOKEN_TYPE, secret::AccessToken};
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
    let Some(tokens) = ours(&text) else {
        return Err(CommandError::usage(format!(
            "`{}` is no file that `token` wrote: it holds other lines, or a token of another registry",
            path.display()
        )));
    };
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

/// Returns the tokens of a file that `token` wrote; `None` for any other: a person's own `.npmrc` is not ours to
/// delete, and its tokens are not for FractalOps.
fn ours(text: &str) -> Option<Vec<&str>> {
    let mut tokens = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once('=')?;
        if name.starts_with("//") && name.ends_with(":_authToken") && is_npm_token(value) {
            tokens.push(value);
        } else if name != "registry" && !(name.starts_with('@') && name.ends_with(":registry")) {
            return None;
        }
    }
    tokens.sort_unstable();
    tokens.dedup();
    (!tokens.is_empty()).then_some(tokens)
}

/// Returns whether a token says of itself that it is one of FractalOps' npm tokens.
fn is_npm_token(token: &str) -> bool {
    let mut parts = token.split('.');
    let header = parts.next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header = header.and_then(|json| serde_json::from_slice::<serde_json::Value>(&json).ok());
    parts.count() == 2 && header.is_some_and(|header| header["typ"] == NPM_TOKEN_TYPE)
}
