//! The commands, one file each.

pub(crate) mod attach_evidence;
pub(crate) mod completions;
mod deliver;
mod doctor;
mod grant_delivery;
mod install;
mod list_grants;
mod open_bundle;
mod protect_build;
mod publish;
mod retrace;
mod revoke;
mod revoke_grant;
mod rewrap;
mod submit_bundle;
mod token;
mod trace;
mod verify;

use crate::{args::Command, context::Context, error::CommandError};

/// Runs `command`.
///
/// # Errors
/// Those of the command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<(), CommandError> {
    match command {
        Command::Publish(arguments) => publish::run(context, arguments).await,
        Command::Install(arguments) => install::run(context, arguments).await,
        Command::ProtectBuild(arguments) => protect_build::run(context, arguments).await,
        Command::Deliver(arguments) => deliver::run(context, *arguments).await,
        Command::SubmitBundle(arguments) => submit_bundle::run(context, arguments).await,
        Command::OpenBundle(arguments) => open_bundle::run(context, arguments).await,
        Command::Rewrap(arguments) => rewrap::run(context, arguments).await,
        Command::GrantDelivery(arguments) => grant_delivery::run(context, arguments).await,
        Command::ListGrants(arguments) => list_grants::run(context, arguments).await,
        Command::RevokeGrant(arguments) => revoke_grant::run(context, arguments).await,
        Command::Verify(arguments) => verify::run(context, *arguments).await,
        Command::Trace(arguments) => trace::run(context, arguments).await,
        Command::Token(arguments) => token::run(context, arguments).await,
        Command::Revoke(arguments) => revoke::run(context, arguments).await,
        Command::Doctor(arguments) => doctor::run(context, arguments).await,
        Command::Retrace(arguments) => retrace::run(context, arguments).await,
        Command::AttachEvidence(arguments) => attach_evidence::run(context, arguments).await,
        // Needs no surroundings: main runs it.
        Command::Completions(arguments) => {
            completions::run(&arguments);
            Ok(())
        }
    }
}

impl Command {
    /// Returns the name as it stands on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Publish(_) => "publish",
            Self::Install(_) => "install",
            Self::ProtectBuild(_) => "protect-build",
            Self::Deliver(_) => "deliver",
            Self::SubmitBundle(_) => "submit-bundle",
            Self::OpenBundle(_) => "open-bundle",
            Self::Rewrap(_) => "rewrap",
            Self::GrantDelivery(_) => "grant-delivery",
            Self::ListGrants(_) => "list-grants",
            Self::RevokeGrant(_) => "revoke-grant",
            Self::Verify(_) => "verify",
            Self::Trace(_) => "trace",
            Self::Token(_) => "token",
            Self::Revoke(_) => "revoke",
            Self::Doctor(_) => "doctor",
            Self::Retrace(_) => "retrace",
            Self::AttachEvidence(_) => "attach-evidence",
            Self::Completions(_) => "completions",
        }
    }
}
