//! `protect-build`: harden and pack, and put the build on record.

use serde_json::json;

use crate::{
    args::ProtectBuild,
    build::{self, Work},
    console::human_size,
    context::Context,
    error::CommandError,
    escrow::Sealing,
    evidence,
    hardening::{self, Unprotected},
    package,
    signing::{self, Entered, Plan},
    summary,
};

/// Builds one package.
///
/// # Errors
/// At the first thing that goes wrong; no half of a build is left behind then.
pub(crate) async fn run(context: &Context, arguments: ProtectBuild) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("protect-build")?;
    let mark = settings.value(arguments.mark.clone(), "MARK", None)?;
    // A version has one build on record; a marked copy is another one for each customer.
    let no_record = settings.switch(arguments.no_record, "NO_RECORD")? || mark.is_some();
    let expected = settings.package(arguments.package.clone())?;
    let version = settings.value(arguments.version.clone(), "VERSION", None)?;
    let (source, out) = settings.build(&arguments.build)?;
    let sealing = Sealing::asked(context, &arguments.build)?;
    let package = package::look_at(&source, expected.as_ref(), version.as_ref())?;
    let options = hardening::options(context, &package, arguments.build.profile, mark.as_ref())?;
    context.console.say(format!("{}@{}", package.name, package.version));
    if let Some(mark) = &mark {
        context.console.say(format!("  mark      {mark}: this copy is not put on record"));
    }
    let plan = Plan::of(settings, &arguments.build.sign)?;
    let http = context.http()?;
    let (recording, signing) = if no_record {
        (None, signing::alone(context, &http, &plan).await?)
    } else {
        let project = settings.project(arguments.build.project.clone())?;
        let Entered { session, signing } = signing::enter(context, &http, &plan, false).await?;
        (Some((session, project)), signing)
    };
    let label = mark.clone();
    let unprotected = Unprotected::of(context)?;
    let work = Work { package, out, options, mark, unprotected, sealing };
    let built = build::build(context, work, context.cancel.shared_flag()).await;
    context.cancel.check()?;
    let mut built = built?;
    if let Some((session, _)) = &recording {
        built.verified(&session.exchange.identity)?;
    }
    let manifest = &built.manifest;
    if let (Some(mark), Some(numbers)) = (&label, built.mark_numbers) {
        context.console.say(format!("  mark      {mark}: {numbers} of its numbers stand in the code"));
    }
    let session = recording.as_ref().map(|(session, _)| session);
    let record = async {
        match &recording {
            Some((session, project)) => {
                build::record(context, session, project, &built, false).await.map(Some)
            }
            None => Ok(None),
        }
    };
    let (signatures, build_id) =
        tokio::join!(evidence::sign(context, &http, session, &signing, &built), record);
    let (build_id, signatures) = (build_id?, signatures?);
    if let Some((session, project)) = &recording {
        evidence::attach(context, session, project, &built, build_id.clone(), &signatures.signed).await?;
    }
    for (path, reason) in &manifest.unprotected {
        context.console.say(format!("  note      {} is as it was: {reason}", crate::console::one_line(path)));
    }
    match manifest.kept_apart.get("package.json") {
        Some(reason) => context.console.say(format!("  note      nothing is merged: {reason}")),
        None if !manifest.kept_apart.is_empty() => context.console.say(format!(
            "  note      {} files stay files of their own; the build manifest has the reasons",
            manifest.kept_apart.len()
        )),
        None => {}
    }
    let tarball = built.folder.join(&built.packed.filename);
    let manifest_file = built.folder.join(build::MANIFEST);
    context.console.output("build-manifest", &manifest_file.to_string_lossy());
    let sbom = built.folder.join("evidence").join(crate::sbom::FILES[0]);
    context.console.output("sbom", &sbom.to_string_lossy());
    context.console.output("tarball", &tarball.to_string_lossy());
    context.console.output("integrity", &built.packed.integrity.to_string());
    context.console.output("correlation-id", &context.correlation_id);
    let heading = format!("{}@{}", manifest.package_name, manifest.version);
    let mut rows = vec![
        ("status", "built".to_owned()),
        ("integrity", summary::code(&built.packed.integrity.to_string())),
        ("tarball", human_size(built.packed.size)),
        ("build", build_id.as_deref().map_or_else(|| "not put on record".to_owned(), summary::code)),
    ];
    if let Some(identity) = context.unverified_identity() {
        rows.push(("run", summary::code(&identity.describe())));
    }
    context.console.summary(&summary::published(&summary::Published {
        heading: &heading,
        rows,
        built: Some(&built),
        signatures: &signatures,
        correlation_id: &context.correlation_id,
    }));
    let text = format!("{}\n{}", tarball.display(), built.packed.integrity);
    let document = json!({
        "package": manifest.package_name,
        "version": manifest.version,
        "tarball": tarball,
        "integrity": built.packed.integrity,
        "build_manifest": manifest_file,
        "sbom": sbom,
        "build_id": build_id,
        "signed": signatures.names(),
        "unsigned": signatures.reason(),
    });
    context.console.result(&text, &document);
    Ok(())
}
