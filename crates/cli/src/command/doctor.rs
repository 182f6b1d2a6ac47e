//! `doctor`: checks, without publishing anything, whether a publish from here can work.

use std::{collections::BTreeMap, fs, path::Path};

use protected_bundle::DataKey;
use protected_evidence::sbom::Graph;
use protected_http::Client;
use protected_keys::KeyContext;
use protected_model::{
    action::ActionMode,
    api::{npm_token::NpmTokenRequest, oauth::Metadata},
    name::ProjectSlug,
};
use serde::Serialize;

use crate::{
    args::{Doctor, Sign},
    build::{self, Work},
    context::{Context, Session},
    error::{CommandError, Kind},
    hardening::{self, Unprotected},
    key_service,
    package::{self, Package},
    signing::{Plan, Unsigned},
};

/// Variables that hold a long-lived registry token: what this program makes needless.
const STATIC_TOKENS: &[&str] = &["NODE_AUTH_TOKEN", "NPM_TOKEN", "NPM_AUTH_TOKEN", "YARN_NPM_AUTH_TOKEN"];

/// One check.
#[derive(Serialize)]
struct Check {
    what: &'static str,
    outcome: Outcome,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

/// How a check went.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// The checks so far. The first failure decides the exit code; the rest still run where they can.
struct Report<'a> {
    context: &'a Context,
    checks: Vec<Check>,
    first: Option<Kind>,
}

impl Report<'_> {
    fn add(&mut self, what: &'static str, outcome: Outcome, detail: impl Into<String>) {
        self.push(Check { what, outcome, detail: detail.into(), hints: Vec::new() });
    }

    fn fail(&mut self, what: &'static str, error: &CommandError) {
        self.first.get_or_insert(error.kind);
        let hints = error.hints.iter().map(ToString::to_string).collect();
        let mut detail = error.message.clone();
        for rule in error.problem.iter().flat_map(|problem| &problem.rules).filter(|rule| !rule.ok) {
            let actual = rule.actual.as_deref().unwrap_or("nothing");
            detail.push_str(&format!("; {} is `{actual}`, expected `{}`", rule.claim, rule.expected));
        }
        self.push(Check { what, outcome: Outcome::Failed, detail, hints });
    }

    fn push(&mut self, check: Check) {
        let word = match check.outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        let detail = crate::console::one_line(&check.detail);
        self.context.console.say(format!("  {word:<8} {:<14} {detail}", check.what));
        for hint in &check.hints {
            self.context.console.say(format!("  {:<8} {:<14} hint: {hint}", "", ""));
        }
        self.checks.push(check);
    }
}

/// Runs every check that can be run.
///
/// # Errors
/// Of the first failed check's kind, when one failed.
pub(crate) async fn run(context: &Context, arguments: Doctor) -> Result<(), CommandError> {
    let mut report = Report { context, checks: Vec::new(), first: None };
    let package = check_package(&mut report, &arguments);
    if let Some(package) = &package {
        check_hardening(&mut report, package).await?;
    }
    check_leftovers(&mut report, package.as_ref().map(|package| package.folder.as_path()));
    let http = match context.http() {
        Ok(http) => Some(http),
        Err(error) => {
            report.fail("network", &error);
            None
        }
    };
    if let Some(http) = http {
        check_key(&mut report, &http).await?;
        check_service(&mut report, &http, &arguments, package.as_ref()).await?;
    }
    let failed = report.checks.iter().filter(|check| check.outcome == Outcome::Failed).count();
    let warned = report.checks.iter().any(|check| check.outcome == Outcome::Warning);
    match report.first {
        None => {
            let text = if warned {
                "nothing that was checked is in the way; see the warnings"
            } else {
                "everything that was checked is in order"
            };
            context.console.result(text, &serde_json::json!({ "checks": report.checks }));
            Ok(())
        }
        Some(kind) => {
            let checks =
                if failed == 1 { "1 check failed".to_owned() } else { format!("{failed} checks failed") };
            Err(CommandError::new(kind, checks).with_details(serde_json::json!({ "checks": report.checks })))
        }
    }
}

fn check_package(report: &mut Report<'_>, arguments: &Doctor) -> Option<Package> {
    let settings = &report.context.settings;
    let looked = settings
        .source(arguments.source.clone())
        .and_then(|source| package::look_at(&source, settings.package(None)?.as_ref(), None));
    match looked {
        Ok(package) => {
            let tag =
                if package.version.is_prerelease() { ", a prerelease: publish needs --tag" } else { "" };
            report.add("package", Outcome::Ok, format!("{}@{}{tag}", package.name, package.version));
            Some(package)
        }
        Err(error) => {
            report.fail("package", &error);
            None
        }
    }
}

/// Settles how the package is hardened, and hardens it for nobody: only that tells what a build leaves unprotected.
///
/// # Errors
/// Only when cancelled.
async fn check_hardening(report: &mut Report<'_>, package: &Package) -> Result<(), CommandError> {
    let context = report.context;
    let options = match hardening::options(context, package, None, None) {
        Ok(options) => options,
        Err(error) => {
            report.fail("hardening", &error);
            return Ok(());
        }
    };
    let obfuscation = &options.obfuscation;
    let is_wanted = obfuscation.is_wanted();
    let mut off = Vec::new();
    if !options.bundle {
        off.push("bundle (`bundle = true` under [harden])");
    }
    if !is_wanted {
        off.push("obfuscate (`profile = \"standard\"`)");
    }
    let off = if off.is_empty() { "every step is on".to_owned() } else { format!("off: {}", off.join(", ")) };
    report.add("hardening", Outcome::Ok, format!("profile {}; {off}", obfuscation.profile.name()));
    match (&obfuscation.secret, is_wanted) {
        (Some(_), _) => report.add("build secret", Outcome::Ok, "set"),
        (None, false) => {
            report.add("build secret", Outcome::Skipped, "nothing is obfuscated, so nothing follows from it")
        }
        (None, true) => {
            let detail = "not set: every choice of the obfuscation follows from the source alone, and no copy can be marked";
            let hints = vec![format!("set {} in CI; `openssl rand -hex 32` makes one", hardening::SECRET)];
            report.push(Check {
                what: "build secret",
                outcome: Outcome::Warning,
                detail: detail.to_owned(),
                hints,
            });
        }
    }
    let scratch = match tempfile::tempdir() {
        Ok(scratch) => scratch,
        Err(error) => {
            let message = format!("cannot make a folder to build in: {error}");
            report.fail("protection", &CommandError::new(Kind::Failed, message));
            return Ok(());
        }
    };
    let out = Some(scratch.path().join("build"));
    let work = Work {
        package: package.clone(),
        out,
        options,
        mark: None,
        unprotected: Unprotected::allowed(),
        sealing: None,
    };
    let built = build::build(context, work, context.cancel.shared_flag()).await;
    context.cancel.check()?;
    match built {
        Ok(built) => {
            let unprotected = &built.manifest.unprotected;
            check_unprotected(report, package, unprotected, built.packed.files.len());
            check_sbom(report, &built.graph);
        }
        Err(error) => report.fail("protection", &error),
    }
    Ok(())
}

/// Says what the SBOM of a build would not know.
fn check_sbom(report: &mut Report<'_>, graph: &Graph) {
    let counts = graph.counts();
    let unlicensed = counts.components - counts.licensed;
    let (detail, hint) = match graph.gaps() {
        [] if unlicensed == 0 => {
            report.add(
                "sbom",
                Outcome::Ok,
                format!("complete: {} components, each with a licence", counts.components),
            );
            return;
        }
        [] => (
            format!("complete, but without the licence of {unlicensed} of {} components", counts.components),
            "install the dependencies before the build: most lock files hold no licences",
        ),
        [gap, rest @ ..] => (
            format!(
                "not complete: {gap}{}",
                if rest.is_empty() { String::new() } else { format!("; and {} more", rest.len()) }
            ),
            "commit the lock file that the package manager writes",
        ),
    };
    let hints = vec![hint.to_owned()];
    report.push(Check { what: "sbom", outcome: Outcome::Warning, detail, hints });
}

/// Says which files a build would publish less protected than configured, and whether that ends it.
fn check_unprotected(
    report: &mut Report<'_>,
    package: &Package,
    found: &BTreeMap<String, String>,
    files: usize,
) {
    let rule = match Unprotected::of(report.context) {
        Ok(rule) => rule,
        Err(error) => {
            report.fail("protection", &error);
            return;
        }
    };
    let listed: Vec<&str> = found.keys().map(String::as_str).filter(|path| rule.lists(path)).collect();
    let others: BTreeMap<String, String> =
        found.iter().filter(|(path, _)| !rule.lists(path)).map(|(a, b)| (a.clone(), b.clone())).collect();
    for pattern in rule.idle(found) {
        let detail = format!(
            "`allow_unprotected` lists `{pattern}`, and no such file is less protected than configured"
        );
        report.add("protection", Outcome::Warning, detail);
    }
    if !listed.is_empty() {
        let detail = format!("less protected, as `allow_unprotected` lets them be: {}", listed.join(", "));
        report.add("protection", Outcome::Ok, detail);
    }
    if others.is_empty() {
        report.add(
            "protection",
            Outcome::Ok,
            format!("{} of {files} files as configured", files - listed.len()),
        );
        return;
    }
    for (path, reason) in &others {
        let outcome = if rule.fails() { Outcome::Failed } else { Outcome::Warning };
        report.add("unprotected", outcome, format!("{path}: {reason}"));
    }
    match rule.check(&package.name, found) {
        Err(error) => {
            let error =
                CommandError { message: "a build from here fails for these files".to_owned(), ..error };
            report.fail("protection", &error);
        }
        Ok(()) => {
            let detail = if rule.fails_elsewhere() {
                "a build from here goes on with these files; in CI it fails"
            } else {
                "a build goes on with these files, as `fail_unprotected` says"
            };
            let hints = vec![rule.advice(others.keys().map(String::as_str))];
            let outcome = Outcome::Warning;
            report.push(Check { what: "protection", outcome, detail: detail.to_owned(), hints });
        }
    }
}

/// A static token beside ours is how a refused exchange goes unnoticed: the client publishes with that one.
fn check_leftovers(report: &mut Report<'_>, folder: Option<&Path>) {
    let environment = &report.context.settings.environment;
    let mut found: Vec<String> = STATIC_TOKENS
        .iter()
        .filter(|name| environment.get(name).is_some())
        .map(|name| format!("`{name}` is set"))
        .collect();
    for folder in folder.into_iter().flat_map(Path::ancestors) {
        let npmrc = folder.join(".npmrc");
        if fs::read_to_string(&npmrc).is_ok_and(|text| text.contains("_auth")) {
            found.push(format!("`{}` holds a credential", npmrc.display()));
        }
    }
    if found.is_empty() {
        report.add("leftovers", Outcome::Ok, "no long-lived registry token in sight");
    } else {
        let detail = format!("{}; it is not used by this program, and not needed any more", found.join(", "));
        report.add("leftovers", Outcome::Warning, detail);
    }
}

/// Says whether a delivery can be sealed from here, where a key is configured for that: only wrapping something tells.
///
/// # Errors
/// Only when cancelled.
async fn check_key(report: &mut Report<'_>, http: &Client) -> Result<(), CommandError> {
    let context = report.context;
    match wrap_for_nobody(context, http).await {
        Ok(Some(detail)) => report.add("delivery key", Outcome::Ok, detail),
        Ok(None) => {}
        Err(error) => {
            context.cancel.check()?;
            report.fail("delivery key", &error);
        }
    }
    Ok(())
}

/// Has a key that seals nothing wrapped, and drops it.
async fn wrap_for_nobody(context: &Context, http: &Client) -> Result<Option<String>, CommandError> {
    let settings = &context.settings;
    let configured = settings.file.deliver.key_ref.clone();
    let Some(key_ref) = settings.key_ref("the key of deliveries", None, "KEY_REF", configured)? else {
        return Ok(None);
    };
    let doing = "trying the key of deliveries";
    let service = key_service::connect(&key_ref, &context.keys()?, http, doing)?;
    let key = DataKey::generate()
        .map_err(|error| CommandError::new(Kind::Failed, format!("making a data key: {error}")))?;
    let bound = KeyContext::from([("purpose".to_owned(), "protected-registry doctor".to_owned())]);
    let wrapped = context.cancel.or(service.wrap(&key, &bound)).await?;
    wrapped.map_err(|error| key_service::failed(doing, &error))?;
    Ok(Some(format!("{key_ref} wraps; {}", service.limits().says)))
}

/// # Errors
/// Only when cancelled.
async fn check_service(
    report: &mut Report<'_>,
    http: &Client,
    arguments: &Doctor,
    package: Option<&Package>,
) -> Result<(), CommandError> {
    let context = report.context;
    let fractalops = match context.fractalops(http) {
        Ok(fractalops) => fractalops,
        Err(error) => {
            report.fail("fractalops", &error);
            return Ok(());
        }
    };
    match context.cancel.or(fractalops.metadata()).await? {
        Ok(metadata) => {
            report.add("fractalops", Outcome::Ok, metadata.issuer.clone());
            check_signing(report, http, &metadata).await?;
            let audience = context.settings.audience(&context.settings.fractalops_url()?);
            if audience == metadata.id_token_audience {
                report.add("audience", Outcome::Ok, audience);
            } else {
                let expected = metadata.id_token_audience;
                let message =
                    format!("ID tokens are asked for with `{audience}`, but FractalOps takes `{expected}`");
                let error = CommandError::new(Kind::Usage, message)
                    .advise(format!("set --audience {expected}, or PROTECTED_REGISTRY_AUDIENCE"));
                report.fail("audience", &error);
            }
        }
        Err(error) => {
            report.fail("fractalops", &CommandError::from_fractalops("asking for its metadata", error));
            return Ok(());
        }
    }
    let session = match context.log_in(http).await {
        Ok(session) => session,
        Err(error) => {
            context.cancel.check()?;
            report.fail("identity", &error);
            return Ok(());
        }
    };
    let identity = &session.exchange.identity;
    let detail = format!("{} {}", identity.platform.name(), identity.describe());
    report.add(
        "identity",
        Outcome::Ok,
        format!("{detail}, accepted by {}", session.exchange.policies.join(", ")),
    );
    let project = match context.settings.project(arguments.project.clone()) {
        Ok(project) => project,
        Err(error) => {
            report.fail("project", &error);
            return Ok(());
        }
    };
    match package {
        Some(package) => {
            for mode in [ActionMode::Publish, ActionMode::Install] {
                check_permission(report, &session, &project, package, mode).await?;
            }
        }
        None => report.add("permission", Outcome::Skipped, "no package to ask about"),
    }
    Ok(())
}

/// Says who would sign a publish, and whether they can.
///
/// # Errors
/// Only when cancelled.
async fn check_signing(
    report: &mut Report<'_>,
    http: &Client,
    metadata: &Metadata,
) -> Result<(), CommandError> {
    let context = report.context;
    let plan = match Plan::of(&context.settings, &Sign { sign: None, sign_key: None }) {
        Ok(plan) => plan,
        Err(error) => {
            report.fail("signing", &error);
            return Ok(());
        }
    };
    if plan.is_off() {
        report.add("signing", Outcome::Skipped, "off, as it is configured");
        return Ok(());
    }
    let ready = match plan.ready(context, http, Some(metadata)).await {
        Ok(ready) => ready,
        Err(error) => {
            context.cancel.check()?;
            report.fail("signing", &error);
            return Ok(());
        }
    };
    let Some(ready) = ready else {
        report.push(Check {
            what: "signing",
            outcome: Outcome::Warning,
            detail: format!("{}: nothing is signed", Unsigned::NoAuthority.reason()),
            hints: vec!["give --sign keyless for the public Sigstore, or a key with --sign-key".to_owned()],
        });
        return Ok(());
    };
    report.add("signing", Outcome::Ok, ready.describe());
    for (what, checked) in [
        ("signing key", ready.try_identity(context, http).await.map(Some)),
        ("authority", ready.reach(context, http).await),
    ] {
        match checked {
            Ok(Some(detail)) => report.add(what, Outcome::Ok, detail),
            Ok(None) => {}
            Err(error) => {
                context.cancel.check()?;
                report.fail(what, &error);
            }
        }
    }
    Ok(())
}

/// # Errors
/// Only when cancelled.
async fn check_permission(
    report: &mut Report<'_>,
    session: &Session,
    project: &ProjectSlug,
    package: &Package,
    action_mode: ActionMode,
) -> Result<(), CommandError> {
    let what = if action_mode == ActionMode::Publish { "may publish" } else { "may install" };
    let request = NpmTokenRequest {
        project_slug: project.clone(),
        package_name: package.name.clone(),
        action_mode,
        tenant_id: None,
        expected_entitlement_snapshot_id: None,
        package_version: None,
        artifact_sha512: None,
        protection_build_id: None,
        package_manager: None,
        reason: Some("protected-registry doctor".to_owned()),
        dry_run: true,
    };
    match report.context.mint(session, &request).await {
        Ok(minted) => {
            report.add(what, Outcome::Ok, format!("{} to {}", minted.policy_id, minted.registry_url))
        }
        Err(error) => {
            report.context.cancel.check()?;
            // A publisher that may publish need not be one that may install.
            if action_mode == ActionMode::Publish {
                report.fail(what, &error);
            } else {
                report.add(what, Outcome::Warning, error.message);
            }
        }
    }
    Ok(())
}
