//! The verification summary: written, and signed by whom the settings name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use protected_evidence::{sign::StatementToSign, statement::Statement, vsa};
use protected_model::integrity::canonical;
use serde::Serialize;

use crate::{
    args::Sign,
    context::Context,
    error::{CommandError, Kind},
    signing::{self, Entered, Plan, Unsigned},
};

/// Where a summary is written, and how it is signed.
pub(super) struct Summary {
    file: PathBuf,
    /// Nothing where nobody said how.
    plan: Option<Plan>,
}

/// A summary that was written.
#[derive(Serialize)]
pub(super) struct Written {
    /// The statement.
    file: PathBuf,
    /// The signed one (Sigstore bundle).
    signed: Option<PathBuf>,
    /// Why there is none.
    unsigned: Option<&'static str>,
}

impl Summary {
    /// Settles it before anything is verified.
    ///
    /// # Errors
    /// When there is something to sign with and nothing to sign, or a certificate would be asked for offline.
    pub(super) fn settle(
        context: &Context,
        file: Option<PathBuf>,
        sign: &Sign,
        offline: bool,
    ) -> Result<Option<Self>, CommandError> {
        let settings = &context.settings;
        let Some(file) = settings.value(file, "SUMMARY", None)? else {
            return match sign.sign.is_some() || sign.sign_key.is_some() {
                true => Err(CommandError::usage("there is nothing to sign without a summary")
                    .advise("say where it is written, with --summary <file>")),
                false => Ok(None),
            };
        };
        // The trusted root that a plan reads is, for who only verifies, also the one to verify with: it may be an address.
        let plan = Plan::is_stated(settings, sign)?.then(|| Plan::of(settings, sign)).transpose()?;
        if offline && plan.as_ref().is_some_and(Plan::is_keyless) {
            let message = "the summary is to be signed with a certificate, and nothing is asked for offline";
            return Err(CommandError::usage(message)
                .advise("sign it with a key of your own (--sign-key), or not at all (--sign off)"));
        }
        Ok(Some(Self { file: settings.working_directory.join(file), plan }))
    }

    /// Writes the statement, and the signed one beside it as `<name>.sigstore.json`.
    ///
    /// # Errors
    /// When it cannot be written or signed.
    pub(super) async fn write(
        &self,
        context: &Context,
        statement: &Statement<vsa::Summary>,
    ) -> Result<Written, CommandError> {
        let payload = canonical(statement);
        write(&self.file, &payload)?;
        context.console.output("summary", &self.file.to_string_lossy());
        let unsigned = |why: Unsigned| {
            let unsigned = Some(why.reason());
            Ok(Written { file: self.file.clone(), signed: None, unsigned })
        };
        let Some(plan) = &self.plan else {
            Unsigned::NotAsked.say(&context.console);
            return unsigned(Unsigned::NotAsked);
        };
        let http = context.http()?;
        let (session, signing) = match plan.is_auto() {
            true => {
                let Entered { session, signing } = signing::enter(context, &http, plan, false).await?;
                (Some(session), signing)
            }
            false => (None, signing::alone(context, &http, plan).await?),
        };
        let signing = match signing {
            Ok(signing) => signing,
            Err(why) => return unsigned(why),
        };
        let statements = vec![StatementToSign { name: "vsa".to_owned(), payload }];
        let signed = signing.sign(context, &http, session.as_ref(), statements).await?;
        let file = self.file.with_extension("sigstore.json");
        for bundle in &signed {
            write(&file, &bundle.bundle)?;
        }
        context.console.output("summary-bundle", &file.to_string_lossy());
        Ok(Written { file: self.file.clone(), signed: Some(file), unsigned: None })
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    fs::write(file, bytes).map_err(|error| {
        CommandError::new(Kind::Failed, format!("cannot write `{}`: {error}", file.display()))
    })
}
