//! `publish`: identity, exchange, harden, pack, record, mint, upload, revoke, wipe, in one process.

use std::{path::PathBuf, sync::atomic::Ordering, time::Instant};

use protected_http::Client;
use protected_model::{
    action::ActionMode,
    api::npm_token::{NpmTokenRequest, NpmTokenResponse},
    name::{PackageName, ProjectSlug},
    secret::RegistryToken,
    version::{DistTag, PackageVersion},
};
use protected_npm::{
    pack::Packed,
    upload::{self, PublishError, PublishOptions, Published, Status},
};
use serde::Serialize;

use crate::{
    args::{Publish, PublishWith},
    build::{self, Built, Work},
    client::{self, Destination},
    console::human_size,
    context::{Context, Session},
    error::{CommandError, Kind},
    escrow::Sealing,
    evidence,
    hardening::{self, Unprotected},
    package,
    signing::{self, Entered, Plan, Signatures, Unsigned},
    summary,
};

/// What is published: a build of ours, or a tarball as it is.
struct Artifact {
    name: PackageName,
    version: PackageVersion,
    packed: Packed,
    /// Where the tarball is.
    tarball: PathBuf,
    built: Option<Built>,
}

/// One element of the output `published-packages`.
#[derive(Serialize)]
struct PublishedPackage<'a> {
    name: &'a PackageName,
    version: &'a PackageVersion,
    integrity: String,
    registry: String,
    tag: Option<&'a DistTag>,
    status: &'static str,
    /// Which statements about it were signed.
    signed: Vec<&'a str>,
    /// Why none was.
    unsigned: Option<&'static str>,
}

/// Publishes one package.
///
/// # Errors
/// At the first thing that goes wrong; nothing is published then, or the message says that it may have been.
pub(crate) async fn run(context: &Context, arguments: Publish) -> Result<(), CommandError> {
    let settings = &context.settings;
    let with = settings.choice(arguments.with, "WITH", settings.file.publish.with)?.unwrap_or_default();
    if with == PublishWith::Yarn {
        return Err(CommandError::usage("yarn cannot publish a given tarball: it packs the folder again")
            .advise("leave --with out: this program sends the tarball itself; or use --with npm or pnpm"));
    }
    let dry_run = settings.switch(arguments.dry_run, "DRY_RUN")?;
    let tag = settings.value(arguments.tag.clone(), "TAG", settings.file.publish.tag.clone())?;
    let project = settings.project(arguments.build.project.clone())?;
    let http = context.http()?;
    context.fractalops(&http)?;
    let (entered, mut artifact) = prepare(context, &http, &arguments, tag.as_ref(), dry_run).await?;
    let Entered { session, signing } = &entered;
    if let Some(built) = &mut artifact.built {
        built.verified(&session.exchange.identity)?;
    }
    // The log and the timestamp authority answer while FractalOps records and mints. Both are always awaited: a token
    // that was minted is one to revoke.
    let sign = async {
        match &artifact.built {
            Some(built) => evidence::sign(context, &http, Some(session), signing, built).await,
            None => Ok(Signatures { signed: Vec::new(), unsigned: signing.as_ref().err().copied() }),
        }
    };
    let allow = allow(context, session, &project, &artifact, with, dry_run);
    let (signatures, allowed) = tokio::join!(sign, allow);
    let (build_id, minted) = allowed?;
    let signatures = signatures?;
    let Some(token) = &minted.token else {
        return tell_dry_run(context, &artifact, &minted, &signatures);
    };
    let provenance = signing.as_ref().ok().and_then(|signing| signing.provenance(&signatures.signed));
    let options = PublishOptions { tag: tag.clone(), provenance, ..PublishOptions::default() };
    let send = send(context, &http, &minted, token, &artifact, options, with);
    let attach = async {
        match &artifact.built {
            Some(built) => {
                evidence::attach(context, session, &project, built, build_id, &signatures.signed).await
            }
            None => Ok(()),
        }
    };
    // What was published is told, also where its evidence then could not be attached.
    let (published, attached) = tokio::join!(send, attach);
    tell(context, &artifact, &minted, &published?, &signatures);
    attached
}

/// Has the build put on record, and a token minted for it.
async fn allow(
    context: &Context,
    session: &Session,
    project: &ProjectSlug,
    artifact: &Artifact,
    with: PublishWith,
    dry_run: bool,
) -> Result<(Option<String>, NpmTokenResponse), CommandError> {
    let Artifact { name, version, packed, built, .. } = artifact;
    let build_id = match built {
        Some(built) => Some(build::record(context, session, project, built, dry_run).await?),
        None => None,
    };
    let request = NpmTokenRequest {
        project_slug: project.clone(),
        package_name: name.clone(),
        action_mode: ActionMode::Publish,
        tenant_id: None,
        expected_entitlement_snapshot_id: None,
        package_version: Some(version.clone()),
        artifact_sha512: Some(packed.integrity),
        protection_build_id: build_id.clone().filter(|_| !dry_run),
        package_manager: Some(client_name(with).to_owned()),
        reason: None,
        dry_run,
    };
    Ok((build_id, context.mint(session, &request).await?))
}

/// Logs in, has a key certified, and builds, all at the same time. Whichever fails first stops the others.
async fn prepare(
    context: &Context,
    http: &Client,
    arguments: &Publish,
    tag: Option<&DistTag>,
    dry_run: bool,
) -> Result<(Entered, Artifact), CommandError> {
    let settings = &context.settings;
    let plan = Plan::of(settings, &arguments.build.sign)?;
    let expected = settings.package(arguments.package.clone())?;
    let tarball = settings.value(arguments.tarball.clone(), "TARBALL", None)?;
    if let Some(path) = tarball {
        if plan.is_asked_for() {
            let message =
                "a tarball is published as it is, and nothing here knows how it was made, to sign that";
            return Err(CommandError::usage(message).advise(
                "publish the source folder, or give --sign off: `protect-build` signs what it builds",
            ));
        }
        let path = settings.working_directory.join(path);
        let artifact = open(path, expected.as_ref())?;
        check_tag(&artifact.version, tag.or(artifact.packed.package.publish_tag()))?;
        let session = context.log_in(http).await?;
        let signing = Err(plan.unsigned(&context.console, Unsigned::Tarball));
        return Ok((Entered { session, signing }, artifact));
    }
    let (source, out) = settings.build(&arguments.build)?;
    let sealing = Sealing::asked(context, &arguments.build)?;
    let package = package::look_at(&source, expected.as_ref(), None)?;
    check_tag(&package.version, tag.or(package.publish_tag.as_ref()))?;
    let options = hardening::options(context, &package, arguments.build.profile, None)?;
    let (name, version) = (package.name.clone(), package.version.clone());
    context.console.say(format!("{name}@{version}"));
    let stop = context.cancel.shared_flag();
    let enter = async {
        let entered = signing::enter(context, http, &plan, dry_run).await;
        if entered.is_err() {
            stop.store(true, Ordering::SeqCst);
        }
        entered
    };
    // Both are always awaited: a build that is stopped still removes what it began.
    let unprotected = Unprotected::of(context)?;
    let work = Work { package, out, options, mark: None, unprotected, sealing };
    let (entered, built) = tokio::join!(enter, build::build(context, work, stop.clone()));
    context.cancel.check()?;
    let entered = entered?;
    let built = built?;
    let tarball = built.folder.join(&built.packed.filename);
    Ok((entered, Artifact { name, version, packed: built.packed.clone(), tarball, built: Some(built) }))
}

fn open(path: PathBuf, expected: Option<&PackageName>) -> Result<Artifact, CommandError> {
    let packed = Packed::from_tarball(&path).map_err(|error| package::packing(&path, &error))?;
    let (name, version) = (packed.name.clone(), packed.version.clone());
    if let Some(expected) = expected.filter(|expected| **expected != name) {
        let message = format!("package `{expected}` was asked for, but `{}` holds `{name}`", path.display());
        return Err(CommandError::new(Kind::BadInput, message));
    }
    Ok(Artifact { name, version, packed, tarball: path, built: None })
}

/// A prerelease under `latest` would reach everybody who did not ask for it.
fn check_tag(version: &PackageVersion, tag: Option<&DistTag>) -> Result<(), CommandError> {
    if version.is_prerelease() && tag.is_none_or(|tag| *tag == DistTag::latest()) {
        return Err(CommandError::usage(format!(
            "`{version}` is a prerelease and needs a dist-tag of its own"
        ))
        .advise("give one with --tag, such as --tag next"));
    }
    Ok(())
}

async fn send(
    context: &Context,
    http: &Client,
    minted: &NpmTokenResponse,
    token: &RegistryToken,
    artifact: &Artifact,
    options: PublishOptions,
    with: PublishWith,
) -> Result<Published, CommandError> {
    let started = Instant::now();
    let packed = &artifact.packed;
    let registry = &minted.registry_url;
    let published = match with {
        PublishWith::Own => {
            let work = upload::publish(http, registry, token, packed, &options);
            context.cancel.or(work).await.map_err(|cancelled| client::maybe_published(cancelled, packed))?
        }
        PublishWith::Npm | PublishWith::Pnpm | PublishWith::Yarn => {
            let destination = Destination { registry, token };
            let path = &artifact.tarball;
            let tag = options.tag.as_ref();
            client::publish(context, http, destination, path, packed, tag, client_name(with)).await?
        }
    };
    let published = published.map_err(|error| refused(packed, &registry.to_string(), &error))?;
    let how = match published.status {
        Status::Published => format!("{} to {registry}", human_size(packed.size)),
        Status::AlreadyPublished => format!("already there with the same content, at {registry}"),
    };
    context.console.step("upload", how, started);
    Ok(published)
}

fn refused(packed: &Packed, registry: &str, error: &PublishError) -> CommandError {
    let kind = if error.is_conflict() {
        Kind::Conflict
    } else if error.is_transient() {
        Kind::Unavailable
    } else {
        Kind::Refused
    };
    let doing = format!("publishing `{}@{}` to {registry}", packed.name, packed.version);
    CommandError::from_error(kind, &doing, error).hint(error.hint())
}

fn tell_dry_run(
    context: &Context,
    artifact: &Artifact,
    minted: &NpmTokenResponse,
    signatures: &Signatures,
) -> Result<(), CommandError> {
    let Artifact { name, version, packed, .. } = artifact;
    let registry = &minted.registry_url;
    let line = format!(
        "{name}@{version} may be published to {registry}; this was a dry run, and what the registry has already was not asked"
    );
    let package = PublishedPackage {
        name,
        version,
        integrity: packed.integrity.to_string(),
        registry: registry.to_string(),
        tag: None,
        status: "dry-run",
        signed: signatures.names(),
        unsigned: signatures.reason(),
    };
    let heading = format!("Dry run: {name}@{version}");
    summarise(context, artifact, minted, &heading, "may be published", signatures);
    context.console.output("correlation-id", &context.correlation_id);
    context.console.result(&line, &[package]);
    Ok(())
}

fn tell(
    context: &Context,
    artifact: &Artifact,
    minted: &NpmTokenResponse,
    published: &Published,
    signatures: &Signatures,
) {
    let Artifact { name, version, packed, built, .. } = artifact;
    let registry = &minted.registry_url;
    let (status, words) = match published.status {
        Status::Published => ("published", "published"),
        Status::AlreadyPublished => ("already-published", "already published, same content"),
    };
    let package = PublishedPackage {
        name,
        version,
        integrity: packed.integrity.to_string(),
        registry: registry.to_string(),
        tag: published.tagged.then_some(&published.tag),
        status,
        signed: signatures.names(),
        unsigned: signatures.reason(),
    };
    let console = &context.console;
    match serde_json::to_string(&[&package]) {
        Ok(json) => console.output("published-packages", &json),
        Err(error) => console.warn("Output not written", &error.to_string()),
    }
    console.output("integrity", &packed.integrity.to_string());
    console.output("correlation-id", &context.correlation_id);
    console.output("expires-at", &minted.expires_at.to_string());
    if let Some(built) = built {
        let manifest = built.folder.join(build::MANIFEST);
        console.output("build-manifest", &manifest.to_string_lossy());
        let sbom = built.folder.join("evidence").join(crate::sbom::FILES[0]);
        console.output("sbom", &sbom.to_string_lossy());
    }
    summarise(context, artifact, minted, &format!("{name}@{version}"), words, signatures);
    let tag = if published.tagged { format!(" as `{}`", published.tag) } else { String::new() };
    let line = format!("{name}@{version} {words}{tag}\n{}", packed.integrity);
    console.result(&line, &[package]);
}

fn summarise(
    context: &Context,
    artifact: &Artifact,
    minted: &NpmTokenResponse,
    heading: &str,
    status: &str,
    signatures: &Signatures,
) {
    let Artifact { packed, built, .. } = artifact;
    let mut rows = vec![
        ("status", status.to_owned()),
        ("registry", summary::code(&minted.registry_url.to_string())),
        ("integrity", summary::code(&packed.integrity.to_string())),
        ("tarball", human_size(packed.size)),
        ("allowed by", summary::code(&minted.policy_id)),
    ];
    if let Some(identity) = context.unverified_identity() {
        rows.push(("run", summary::code(&identity.describe())));
    }
    context.console.summary(&summary::published(&summary::Published {
        heading,
        rows,
        built: built.as_ref(),
        signatures,
        correlation_id: &context.correlation_id,
    }));
}

fn client_name(with: PublishWith) -> &'static str {
    match with {
        PublishWith::Own => "protected-registry",
        PublishWith::Npm => "npm",
        PublishWith::Pnpm => "pnpm",
        PublishWith::Yarn => "yarn",
    }
}
