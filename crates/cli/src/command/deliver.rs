//! `deliver`: a protected artifact, sealed for one customer and put on record, in one process.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use protected_bundle::layout;
use protected_fractalops::EvidenceQuery;
use protected_http::Client;
use protected_model::{
    api::oci_token,
    delivery::DeliveryManifest,
    key_ref::{KeyRef, looks_like_key_material},
    name::{BundleId, CustomerSlug, ProjectSlug, TenantId},
};
use protected_storage::TokenService;
use serde_json::json;

use super::submit_bundle::submit;
use crate::{
    args::Deliver,
    console::human_size,
    context::{self, Context, Session},
    delivery::{self, Contents, Found, MANIFEST, Order, Wanted, storage},
    error::{CommandError, Kind},
    key_service,
    signing::{self, Entered, Plan, Signing, Unsigned},
    summary,
};

/// What a build manifest is called among evidence.
const BUILD_KIND: &str = "protected-build";

/// Where deliveries go when nothing else is said, below the working directory.
const DEFAULT_FOLDER: &str = "protected-delivery";

/// Seals one delivery.
///
/// The same command again goes on where the last one ended: what is sealed already is not sealed anew, and what is on
/// record stays as it is.
///
/// # Errors
/// At the first thing that goes wrong; no half of a delivery is left behind then.
pub(crate) async fn run(context: &Context, arguments: Deliver) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("deliver")?;
    let section = &settings.file.deliver;
    let submits = !settings.switch(arguments.no_submit, "NO_SUBMIT")?;
    let one_file = settings.switch(arguments.one_file, "ONE_FILE")?;
    let project = settings.project(arguments.project)?;
    let customer = settings.value(arguments.customer, "CUSTOMER", section.customer.clone())?;
    let customer = customer.ok_or_else(|| {
        CommandError::usage("nothing says which customer gets the delivery").advise("give --customer")
    })?;
    let key_ref =
        settings.key_ref("the key of the delivery", arguments.key_ref, "KEY_REF", section.key_ref.clone())?;
    let key_ref = key_ref.ok_or_else(|| {
        CommandError::usage("nothing says under which key the delivery is sealed")
            .advise("give --key-ref, such as openbao://<mount>/<key>: nothing is ever delivered unsealed")
    })?;
    let tenant: Option<TenantId> = settings.value(arguments.tenant, "TENANT", None)?;
    if !submits && tenant.is_none() {
        return Err(CommandError::usage("nothing says which tenant of FractalOps the project is of")
            .advise("give --tenant, for FractalOps is not asked with --no-submit"));
    }
    let bundle_id: Option<BundleId> = settings.value(arguments.bundle_id, "BUNDLE_ID", None)?;
    for (what, name) in
        [("customer", Some(customer.as_str())), ("bundle id", bundle_id.as_ref().map(BundleId::as_str))]
    {
        if name.is_some_and(looks_like_key_material) {
            return Err(CommandError::usage(format!(
                "the {what} looks like a key or a token, and is refused"
            )));
        }
    }
    let wanted = Wanted {
        package: settings.package(arguments.package)?,
        version: settings.value(arguments.version, "VERSION", None)?,
        artifacts: settings.paths(&arguments.artifact, "ARTIFACT")?,
        evidence: settings.paths(&arguments.evidence, "EVIDENCE")?,
    };
    if wanted.artifacts.is_empty() {
        return Err(CommandError::usage("nothing says what is delivered").advise(
            "name it with --artifact: a build of protect-build, its tarball, or any file or folder",
        ));
    }
    let plan = Plan::of(settings, &arguments.sign)?;
    let http = context.http()?;
    if submits {
        context.fractalops(&http)?;
    }
    let mut area = settings.area(arguments.to)?.map(|area| storage::connect(context, &area)).transpose()?;
    let service = key_service::connect(&key_ref, &context.keys()?, &http, "sealing the delivery")?;

    let started = Instant::now();
    let stop = context.cancel.shared_flag();
    let contents = context::compute(move || delivery::collect(&wanted, &stop)).await;
    context.cancel.check()?;
    let contents = contents?;
    let base = contents.package.file_base();
    let out = match settings.value(
        arguments.out,
        "OUT",
        section.out.as_ref().map(|path| settings.path_of_file(path)),
    )? {
        Some(out) => settings.working_directory.join(out),
        None => default_folder(context)?.join(customer.as_str()).join(format!("{base}-{}", contents.version)),
    };
    let bytes: u64 = contents.files.iter().map(|file| file.size).sum();
    let what = format!("{}@{}", contents.package, contents.version);
    context.console.say(format!("{what} for {customer}"));
    context.console.step("files", format!("{}, {}", contents.files.len(), human_size(bytes)), started);
    for file in &contents.unproven {
        context.console.warn(
            "Not a protected build",
            &format!("no build manifest stands beside `{file}`: nothing shows that it is protected"),
        );
    }
    let (session, signing) = enter(context, &http, &plan, submits, is_signed(&out)?).await?;
    if let (Some(area), Some(session)) = (&mut area, &session) {
        let url = settings.fractalops_url()?.join(oci_token::PATH);
        area.set_token_service(TokenService { url, session: session.token.clone() });
    }
    let tenant = match (tenant, session.as_ref().map(|session| &session.exchange.tenant_id)) {
        (Some(given), Some(own)) if given != *own => {
            let message = format!("the tenant `{given}` was asked for, and this run delivers for `{own}`");
            return Err(CommandError::new(Kind::Refused, message));
        }
        (given, own) => given.or(own.cloned()),
    };
    let tenant_id = tenant.ok_or_else(|| CommandError::usage("nothing says which tenant it is"))?;

    let build_id = build_of(context, session.as_ref(), &contents, &out).await?;
    let asked = Asked { bundle_id, tenant_id, project, customer, key_ref };
    let sign = async |bundle: &mut layout::Delivery, place: &Path| match &signing {
        Err(_) => Ok(()),
        Ok(signing) => {
            let work = (bundle, place);
            delivery::sign(context, &http, session.as_ref(), signing, work, build_id.as_deref()).await
        }
    };
    let started = Instant::now();
    let is_new = out.symlink_metadata().is_err();
    let mut signed = Ok(());
    if is_new {
        let order = asked.order(out.clone(), one_file)?;
        // `None`: another command was faster, and what it sealed is looked at as what was sealed before.
        if let Some(sealed) = delivery::seal(context, order, &contents, service.as_ref()).await? {
            let place = sealed.layout();
            let mut bundle = delivery::open(&place)?;
            tell_sealed(context, &bundle, "under", &asked.key_ref, started);
            // What is sealed appears also where nobody signs it: the same command goes on from there.
            signed = sign(&mut bundle, &place).await;
            context.cancel.check()?;
            sealed.appear(context).await?;
        }
    }
    let found = delivery::find(&out)?;
    if one_file && found.bundle.is_dir() {
        return Err(another(&out, "one file was asked for, and it has a folder"));
    }
    let mut bundle = delivery::open(&found.bundle)?;
    asked.check(&out, &contents, &bundle)?;
    if !is_new {
        tell_sealed(context, &bundle, "before, under", &asked.key_ref, started);
        signed = sign(&mut bundle, &found.bundle).await;
    }
    signed.map_err(|error| error.advise("the delivery is sealed: the same command again signs it"))?;
    let uri = match &area {
        None => None,
        Some(area) => storage::store(context, area, &found.bundle).await?.delivery.uri(),
    };
    let manifest = settle_manifest(&out, &found, &bundle, &contents, &asked, (uri, build_id))?;

    let place = out.join(MANIFEST);
    let console = &context.console;
    console.output("bundle-id", manifest.bundle_id.as_str());
    console.output("bundle-manifest", &place.to_string_lossy());
    console.output("correlation-id", &context.correlation_id);
    let recorded = match &session {
        None => None,
        Some(session) => {
            let recorded = submit(context, session, &manifest).await;
            Some(recorded.map_err(|error| {
                let again = match error.kind {
                    Kind::Refused => {
                        "the delivery is sealed for exactly what was asked: once that is allowed, the same command again, or `submit-bundle` with its manifest, puts it on record; to ask for something else, remove its folder"
                    }
                    _ => {
                        "the delivery is sealed: the same command again, or `submit-bundle` with its manifest, puts it on record"
                    }
                };
                error.advise(format!("{again} ({})", place.display()))
            })?)
        }
    };
    let event = recorded.as_ref().map(|bundle| bundle.audit_event_id.as_str());
    let names = delivery::signed(&bundle);
    console.summary(&summary::delivered(&manifest, Some(&names), event, &context.correlation_id));
    let document = json!({
        "bundle_id": manifest.bundle_id,
        "package": manifest.package_name,
        "version": manifest.version,
        "tenant": manifest.tenant_id,
        "project": manifest.project_slug,
        "customer": manifest.customer_slug,
        "key_ref": manifest.key_ref,
        "files": manifest.contents.len(),
        "bundle": found.bundle,
        "bundle_sha256": manifest.bundle.sha256,
        "uri": manifest.bundle.uri,
        "manifest": place,
        "status": if is_new { "sealed" } else { "already-sealed" },
        "submitted": recorded.is_some(),
        "build_id": manifest.build_id,
        "signed": names,
        "unsigned": signing.as_ref().err().filter(|_| names.is_empty()).map(|why| why.reason()),
    });
    console.result(&format!("{}\n{}", out.display(), manifest.bundle_id), &document);
    Ok(())
}

/// Logs in where a record is made, and has somebody to sign with where anything is to be signed.
async fn enter(
    context: &Context,
    http: &Client,
    plan: &Plan,
    submits: bool,
    is_signed: bool,
) -> Result<(Option<Session>, Result<Signing, Unsigned>), CommandError> {
    match (submits, is_signed) {
        (true, false) => {
            let Entered { session, signing } = signing::enter(context, http, plan, false).await?;
            Ok((Some(session), signing))
        }
        (true, true) => Ok((Some(context.log_in(http).await?), Err(Unsigned::Before))),
        (false, false) => Ok((None, signing::alone(context, http, plan).await?)),
        (false, true) => Ok((None, Err(Unsigned::Before))),
    }
}

/// Returns whether a delivery is there whose every part is signed.
fn is_signed(out: &Path) -> Result<bool, CommandError> {
    if out.symlink_metadata().is_err() {
        return Ok(false);
    }
    Ok(delivery::unsigned(&delivery::open(&delivery::find(out)?.bundle)?).is_empty())
}

/// Returns the build that is delivered, as FractalOps has it on record: by its build manifest, which came with the build.
///
/// A copy that is marked for a customer has no build on record, and neither has what was never built here.
async fn build_of(
    context: &Context,
    session: Option<&Session>,
    contents: &Contents,
    out: &Path,
) -> Result<Option<String>, CommandError> {
    if out.symlink_metadata().is_ok()
        && let Some(place) = delivery::find(out)?.manifest
    {
        // What it says may be on record.
        return Ok(delivery::read_manifest(&place)?.build_id);
    }
    let mut manifests = contents.evidence.iter().filter(|document| document.kind == BUILD_KIND);
    let (Some(session), Some(manifest), None) = (session, manifests.next(), manifests.next()) else {
        return Ok(None);
    };
    let query = EvidenceQuery {
        package: Some(&contents.package),
        version: Some(&contents.version),
        kind: Some(BUILD_KIND),
        sha256: Some(manifest.sha256),
        ..EvidenceQuery::default()
    };
    let found = context.cancel.or(session.fractalops.find_evidence(&session.token, &query)).await?;
    let found = found.map_err(|error| {
        CommandError::from_fractalops("asking FractalOps for the build that is delivered", error)
    })?;
    Ok(found.into_iter().find_map(|record| record.build_id))
}

fn tell_sealed(context: &Context, bundle: &layout::Delivery, how: &str, key: &KeyRef, started: Instant) {
    let sealed = human_size(bundle.content().size);
    context.console.step("seal", format!("{sealed} {how} {key}"), started);
}

/// What decides whether a delivery that is there is the one that is asked for.
struct Asked {
    bundle_id: Option<BundleId>,
    tenant_id: TenantId,
    project: ProjectSlug,
    customer: CustomerSlug,
    key_ref: KeyRef,
}

impl Asked {
    fn order(&self, out: PathBuf, one_file: bool) -> Result<Order, CommandError> {
        let bundle_id = match &self.bundle_id {
            Some(id) => id.clone(),
            None => fresh()?,
        };
        Ok(Order {
            bundle_id,
            tenant_id: self.tenant_id.clone(),
            project_slug: self.project.clone(),
            customer_slug: self.customer.clone(),
            key_ref: self.key_ref.clone(),
            out,
            one_file,
        })
    }

    /// Refuses a delivery that is there and is another one.
    fn check(&self, out: &Path, contents: &Contents, bundle: &layout::Delivery) -> Result<(), CommandError> {
        let found = bundle.descriptor();
        let expect = |what: &str, expected: &str, found: &str| match expected == found {
            true => Ok(()),
            false => Err(another(out, &format!("{what} `{expected}` was asked for, and it has `{found}`"))),
        };
        if let Some(id) = &self.bundle_id {
            expect("the bundle id", id.as_str(), found.bundle_id.as_str())?;
        }
        expect("the tenant", self.tenant_id.as_str(), found.tenant_id.as_str())?;
        expect("the project", self.project.as_str(), found.project_slug.as_str())?;
        expect("the customer", self.customer.as_str(), found.customer_slug.as_str())?;
        expect("the package", contents.package.as_str(), found.package_name.as_str())?;
        expect("the version", &contents.version.to_string(), &found.version.to_string())?;
        let keys: Vec<String> = bundle.keys().keys.iter().map(|key| key.key_ref.to_string()).collect();
        if !keys.contains(&self.key_ref.to_string()) {
            expect("the key", &self.key_ref.to_string(), &keys.join("`, `"))?;
        }
        if found.contents != contents.files {
            return Err(another(out, "its files are others"));
        }
        Ok(())
    }
}

fn another(out: &Path, why: &str) -> CommandError {
    CommandError::new(Kind::Conflict, format!("`{}` holds another delivery: {why}", out.display()))
        .advise("give another --out, or remove that folder when it was delivered to nobody")
}

/// Writes the manifest, or reads the one that was written before.
fn settle_manifest(
    out: &Path,
    found: &Found,
    bundle: &layout::Delivery,
    contents: &Contents,
    asked: &Asked,
    (uri, build_id): (Option<String>, Option<String>),
) -> Result<DeliveryManifest, CommandError> {
    let Some(place) = &found.manifest else {
        let manifest = delivery::manifest(bundle, contents, &asked.key_ref, uri, build_id)?;
        delivery::save_manifest(out, &manifest)?;
        return Ok(manifest);
    };
    let manifest = delivery::read_manifest(place)?;
    if let Some(field) = delivery::contradiction(&manifest, bundle) {
        return Err(another(out, &format!("`{field}` of its manifest is not what its bundle says")));
    }
    // What the manifest says may be on record: it stays as it is.
    match (&manifest.bundle.uri, uri) {
        (before, Some(now)) if *before != Some(now.clone()) => {
            let before = before.as_deref().unwrap_or("nowhere else");
            Err(another(out, &format!("it was stored at `{before}` before, and now at `{now}`")))
        }
        _ => Ok(manifest),
    }
}

/// Makes a name that no other delivery has.
fn fresh() -> Result<BundleId, CommandError> {
    ulid::Ulid::generate()
        .to_string()
        .parse()
        .map_err(|error| CommandError::from_error(Kind::Failed, "making a name for the delivery", &error))
}

/// Makes the folder of deliveries.
fn default_folder(context: &Context) -> Result<PathBuf, CommandError> {
    let folder = context.settings.working_directory.join(DEFAULT_FOLDER);
    crate::build::ignored(&folder).map_err(|error| {
        CommandError::new(Kind::Failed, format!("cannot make the folder `{}`: {error}", folder.display()))
    })?;
    Ok(folder)
}
