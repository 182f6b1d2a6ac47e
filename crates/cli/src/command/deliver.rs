//! `deliver`: a protected artifact, sealed for one customer and put on record, in one process.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use protected_bundle::layout::{self, LayoutError};
use protected_fractalops::EvidenceQuery;
use protected_http::Client;
use protected_keys::KeyService;
use protected_model::{
    api::oci_token,
    delivery::DeliveryManifest,
    key_ref::KeyRef,
    name::{BundleId, CustomerSlug, ProjectSlug, TenantId},
};
use protected_storage::{Area, TokenService};
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
    let settled = Settled::of(context, arguments)?;
    let contents = settled.contents(context).await?;
    let mut delivering = Delivering::begin(context, settled, contents).await?;
    let (found, bundle) = delivering.seal().await?;
    let uri = delivering.store(&found).await?;
    let manifest = delivering.settle_manifest(&found, &bundle, uri)?;
    let event = delivering.record(&found, &bundle, &manifest).await?;
    delivering.tell(&found, &bundle, &manifest, event.as_deref());
    Ok(())
}

/// What is asked for, and who is asked for it, before any file is read and anything is sent.
struct Settled {
    wanted: Wanted,
    tenant: Option<TenantId>,
    project: ProjectSlug,
    customer: CustomerSlug,
    key_ref: KeyRef,
    bundle_id: Option<BundleId>,
    out: Option<PathBuf>,
    one_file: bool,
    submits: bool,
    plan: Plan,
    http: Client,
    area: Option<Area>,
    service: Box<dyn KeyService>,
}

impl Settled {
    fn of(context: &Context, arguments: Deliver) -> Result<Self, CommandError> {
        let settings = &context.settings;
        settings.no_dry_run("deliver")?;
        let section = &settings.file.deliver;
        let submits = !settings.switch(arguments.no_submit, "NO_SUBMIT")?;
        let one_file = settings.switch(arguments.one_file, "ONE_FILE")?;
        let project = settings.project(arguments.project)?;
        let customer = settings.name("customer", arguments.customer, "CUSTOMER", section.customer.clone())?;
        let customer: CustomerSlug = customer.ok_or_else(|| {
            CommandError::usage("nothing says which customer gets the delivery").advise("give --customer")
        })?;
        let key_ref = settings.key_ref(
            "the key of the delivery",
            arguments.key_ref,
            "KEY_REF",
            section.key_ref.clone(),
        )?;
        let key_ref = key_ref.ok_or_else(|| {
            CommandError::usage("nothing says under which key the delivery is sealed")
                .advise("give --key-ref, such as openbao://<mount>/<key>: nothing is ever delivered unsealed")
        })?;
        let tenant: Option<TenantId> = settings.value(arguments.tenant, "TENANT", None)?;
        if !submits && tenant.is_none() {
            return Err(CommandError::usage("nothing says which tenant of FractalOps the project is of")
                .advise("give --tenant, for FractalOps is not asked with --no-submit"));
        }
        let bundle_id = settings.name("bundle id", arguments.bundle_id, "BUNDLE_ID", None)?;
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
        let out = section.out.as_ref().map(|path| settings.path_of_file(path));
        let out = settings.value(arguments.out, "OUT", out)?;
        let plan = Plan::of(settings, &arguments.sign)?;
        let http = context.http()?;
        if submits {
            context.fractalops(&http)?;
        }
        let area = settings.area(arguments.to)?.map(|area| storage::connect(context, &area)).transpose()?;
        let service = key_service::connect(&key_ref, &context.keys()?, &http, "sealing the delivery")?;
        Ok(Self {
            wanted,
            tenant,
            project,
            customer,
            key_ref,
            bundle_id,
            out,
            one_file,
            submits,
            plan,
            http,
            area,
            service,
        })
    }

    /// Reads what is to be delivered, and says it.
    async fn contents(&self, context: &Context) -> Result<Contents, CommandError> {
        let (started, stop, wanted) = (Instant::now(), context.cancel.shared_flag(), self.wanted.clone());
        let contents = context::compute(move || delivery::collect(&wanted, &stop)).await;
        context.cancel.check()?;
        let contents = contents?;
        let bytes: u64 = contents.files.iter().map(|file| file.size).sum();
        let what = format!("{}@{}", contents.package, contents.version);
        context.console.say(format!("{what} for {}", self.customer));
        context.console.step("files", format!("{}, {}", contents.files.len(), human_size(bytes)), started);
        for file in &contents.unproven {
            context.console.warn(
                "Not a protected build",
                &format!("no build manifest stands beside `{file}`: nothing shows that it is protected"),
            );
        }
        Ok(contents)
    }

    /// Returns the folder for the delivery.
    fn out(&self, context: &Context, contents: &Contents) -> Result<PathBuf, CommandError> {
        if let Some(out) = &self.out {
            return Ok(context.settings.working_directory.join(out));
        }
        let name = format!("{}-{}", contents.package.file_base(), contents.version);
        Ok(default_folder(context)?.join(self.customer.as_str()).join(name))
    }

    /// Logs in where a record is made, and has somebody to sign with: also where all is signed, for nobody else knows whose
    /// signatures these should be.
    async fn enter(
        &self,
        context: &Context,
    ) -> Result<(Option<Session>, Result<Signing, Unsigned>), CommandError> {
        if !self.submits {
            return Ok((None, signing::alone(context, &self.http, &self.plan).await?));
        }
        let Entered { session, signing } = signing::enter(context, &self.http, &self.plan, false).await?;
        Ok((Some(session), signing))
    }

    /// Settles whose project it is: the tenant that is named, which is the session's where there is one.
    fn tenant(&self, session: Option<&Session>) -> Result<TenantId, CommandError> {
        match (&self.tenant, session.map(|session| &session.exchange.tenant_id)) {
            (Some(given), Some(own)) if given != own => {
                let message =
                    format!("the tenant `{given}` was asked for, and this run delivers for `{own}`");
                Err(CommandError::new(Kind::Refused, message))
            }
            (Some(tenant), _) | (None, Some(tenant)) => Ok(tenant.clone()),
            (None, None) => Err(CommandError::usage("nothing says which tenant it is")),
        }
    }
}

/// One delivery, from where it is known what it is and who delivers it.
struct Delivering<'a> {
    context: &'a Context,
    settled: Settled,
    contents: Contents,
    tenant: TenantId,
    out: PathBuf,
    /// Whether nothing is there yet; once it is sealed, whether this command sealed what is there.
    is_new: bool,
    session: Option<Session>,
    signing: Result<Signing, Unsigned>,
    build_id: Option<String>,
    started: Instant,
}

impl<'a> Delivering<'a> {
    /// Logs in, once nothing but a delivery is where this one goes.
    async fn begin(
        context: &'a Context,
        mut settled: Settled,
        contents: Contents,
    ) -> Result<Self, CommandError> {
        let out = settled.out(context, &contents)?;
        let before = before(&out)?;
        let (session, signing) = settled.enter(context).await?;
        if let (Some(area), Some(session)) = (&mut settled.area, &session) {
            let url = context.settings.fractalops_url()?.join(oci_token::PATH);
            area.set_token_service(TokenService { url, session: session.token.clone() });
        }
        let tenant = settled.tenant(session.as_ref())?;
        let build_id = match before.as_ref().and_then(|found| found.manifest.as_ref()) {
            // What it says may be on record.
            Some(place) => delivery::read_manifest(place)?.build_id,
            None => build_of(context, session.as_ref(), &contents).await?,
        };
        let (is_new, started) = (before.is_none(), Instant::now());
        Ok(Self { context, settled, contents, tenant, out, is_new, session, signing, build_id, started })
    }

    /// Seals and signs it, or takes up what was sealed before if that is what is asked for.
    async fn seal(&mut self) -> Result<(Found, layout::Delivery), CommandError> {
        let (mut signed, mut is_own) = (Ok(()), false);
        if self.is_new {
            let sealed =
                delivery::seal(self.context, self.order()?, &self.contents, &*self.settled.service).await?;
            // `None`: another command was faster, and what it sealed is looked at as what was sealed before.
            if let Some(sealed) = sealed {
                let place = sealed.layout();
                let mut bundle = delivery::open(&place)?;
                self.tell_sealed(&bundle, "under");
                // What is sealed appears also where nobody signs it: the same command goes on from there.
                signed = self.sign(&mut bundle, &place).await;
                self.context.cancel.check()?;
                is_own = sealed.appear(self.context).await?;
            }
        }
        let found = delivery::find(&self.out)?;
        if self.settled.one_file && found.bundle.is_dir() {
            return Err(self.another("one file was asked for, and it has a folder"));
        }
        let mut bundle = delivery::open(&found.bundle)?;
        self.check(&bundle)?;
        if !is_own {
            self.tell_sealed(&bundle, "before, under");
            signed = self.sign(&mut bundle, &found.bundle).await;
        }
        signed.map_err(|error| match error.kind {
            Kind::NotProven => error.advise(
                "whoever signed it delivered it: go on there, give another --out, or --sign off to leave its signatures as they are",
            ),
            _ => error.advise("the delivery is sealed: the same command again signs it"),
        })?;
        self.is_new = is_own;
        Ok((found, bundle))
    }

    fn order(&self) -> Result<Order, CommandError> {
        let bundle_id = match &self.settled.bundle_id {
            Some(id) => id.clone(),
            None => fresh()?,
        };
        Ok(Order {
            bundle_id,
            tenant_id: self.tenant.clone(),
            project_slug: self.settled.project.clone(),
            customer_slug: self.settled.customer.clone(),
            key_ref: self.settled.key_ref.clone(),
            out: self.out.clone(),
            one_file: self.settled.one_file,
        })
    }

    async fn sign(&self, bundle: &mut layout::Delivery, place: &Path) -> Result<(), CommandError> {
        let Ok(signing) = &self.signing else { return Ok(()) };
        let (session, build_id) = (self.session.as_ref(), self.build_id.as_deref());
        delivery::sign(self.context, &self.settled.http, session, signing, (bundle, place), build_id).await
    }

    fn tell_sealed(&self, bundle: &layout::Delivery, how: &str) {
        let sealed = format!("{} {how} {}", human_size(bundle.content().size), self.settled.key_ref);
        self.context.console.step("seal", sealed, self.started);
    }

    /// Refuses a delivery that is there and is another one.
    fn check(&self, bundle: &layout::Delivery) -> Result<(), CommandError> {
        let (asked, contents, found) = (&self.settled, &self.contents, bundle.descriptor());
        let expect = |what: &str, expected: &str, found: &str| match expected == found {
            true => Ok(()),
            false => Err(self.another(&format!("{what} `{expected}` was asked for, and it has `{found}`"))),
        };
        if let Some(id) = &asked.bundle_id {
            expect("the bundle id", id.as_str(), found.bundle_id.as_str())?;
        }
        expect("the tenant", self.tenant.as_str(), found.tenant_id.as_str())?;
        expect("the project", asked.project.as_str(), found.project_slug.as_str())?;
        expect("the customer", asked.customer.as_str(), found.customer_slug.as_str())?;
        expect("the package", contents.package.as_str(), found.package_name.as_str())?;
        expect("the version", &contents.version.to_string(), &found.version.to_string())?;
        // Attack: a key of a stranger's beside the one that is asked for, which would be signed with it.
        let keys: Vec<String> = bundle.keys().keys.iter().map(|key| key.key_ref.to_string()).collect();
        expect("the key", &asked.key_ref.to_string(), &keys.join("`, `"))?;
        if found.contents != contents.files {
            return Err(self.another("its files are others"));
        }
        Ok(())
    }

    fn another(&self, why: &str) -> CommandError {
        CommandError::new(Kind::Conflict, format!("`{}` holds another delivery: {why}", self.out.display()))
            .advise("give another --out, or remove that folder when it was delivered to nobody")
    }

    /// Stores it in the delivery area, where one is named, and returns its place there.
    async fn store(&self, found: &Found) -> Result<Option<String>, CommandError> {
        let Some(area) = &self.settled.area else { return Ok(None) };
        Ok(storage::store(self.context, area, &found.bundle).await?.delivery.uri())
    }

    /// Writes the manifest, or reads the one that was written before.
    fn settle_manifest(
        &self,
        found: &Found,
        bundle: &layout::Delivery,
        uri: Option<String>,
    ) -> Result<DeliveryManifest, CommandError> {
        // Nobody else writes one meanwhile, or has the keys wrapped anew that it is to name.
        let failed = |error: LayoutError| delivery::broken(&found.bundle, &error);
        let lock = found.manifest.is_none().then(|| bundle.lock().map_err(failed)).transpose()?;
        let Some(place) = delivery::find(&self.out)?.manifest else {
            let (key_ref, build_id) = (&self.settled.key_ref, self.build_id.clone());
            let manifest = delivery::manifest(bundle, &self.contents, key_ref, uri, build_id)?;
            delivery::save_manifest(&self.out.join(MANIFEST), &manifest)?;
            return Ok(manifest);
        };
        drop(lock);
        let manifest = delivery::read_manifest(&place)?;
        if let Some(field) = delivery::contradiction(&manifest, bundle) {
            return Err(self.another(&format!("`{field}` of its manifest is not what its bundle says")));
        }
        // What the manifest says may be on record: it stays as it is.
        match (&manifest.bundle.uri, uri) {
            (before, Some(now)) if *before != Some(now.clone()) => {
                let before = before.as_deref().unwrap_or("nowhere else");
                Err(self.another(&format!("it was stored at `{before}` before, and now at `{now}`")))
            }
            _ => Ok(manifest),
        }
    }

    /// Puts it on record, and returns the audit event of that: none where FractalOps is not asked.
    async fn record(
        &self,
        found: &Found,
        bundle: &layout::Delivery,
        manifest: &DeliveryManifest,
    ) -> Result<Option<String>, CommandError> {
        let (console, place) = (&self.context.console, self.out.join(MANIFEST));
        console.output("bundle-id", manifest.bundle_id.as_str());
        console.output("bundle-manifest", &place.to_string_lossy());
        console.output("correlation-id", &self.context.correlation_id);
        let Some(session) = &self.session else { return Ok(None) };
        let statement = delivery::statement(bundle, &found.bundle)?;
        let recorded = submit(self.context, session, manifest, statement).await.map_err(|error| {
            let again = match error.kind {
                Kind::Refused => {
                    "the delivery is sealed for exactly what was asked: once that is allowed, the same command again, or `submit-bundle` with its manifest, puts it on record; to ask for something else, remove its folder"
                }
                _ => {
                    "the delivery is sealed: the same command again, or `submit-bundle` with its manifest, puts it on record"
                }
            };
            error.advise(format!("{again} ({})", place.display()))
        })?;
        Ok(Some(recorded.audit_event_id.to_string()))
    }

    /// Says what was delivered, to people and to programs.
    fn tell(
        &self,
        found: &Found,
        bundle: &layout::Delivery,
        manifest: &DeliveryManifest,
        event: Option<&str>,
    ) {
        let console = &self.context.console;
        let names = delivery::signed(bundle);
        // Where nobody signs, nobody knows whose signatures are there.
        let (signed, unchecked) = match &self.signing {
            Ok(_) => (names, Vec::new()),
            Err(_) => (Vec::new(), names),
        };
        let told = summary::signatures(&signed, &unchecked);
        if !unchecked.is_empty() {
            console.say(format!("  note      signed before: {told}"));
        }
        console.summary(&summary::delivered(manifest, &told, event, &self.context.correlation_id));
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
            "manifest": self.out.join(MANIFEST),
            "status": if self.is_new { "sealed" } else { "already-sealed" },
            "submitted": event.is_some(),
            "build_id": manifest.build_id,
            "signed": signed,
            "unchecked": unchecked,
            "unsigned": self.signing.as_ref().err().map(|why| why.reason()),
        });
        console.result(&format!("{}\n{}", self.out.display(), manifest.bundle_id), &document);
    }
}

/// Returns the delivery that is at `out` already.
///
/// # Errors
/// When something else is.
fn before(out: &Path) -> Result<Option<Found>, CommandError> {
    if out.symlink_metadata().is_err() {
        return Ok(None);
    }
    let found = if out.is_dir() { delivery::find(out).ok() } else { None };
    found.map(Some).ok_or_else(|| {
        CommandError::usage(format!("`{}` is there already, and is no delivery", out.display()))
            .advise("name a new folder with --out")
    })
}

/// Returns the build that is delivered, as FractalOps has it on record: by its build manifest, which came with the build.
///
/// A copy that is marked for a customer has no build on record, and neither has what was never built here.
async fn build_of(
    context: &Context,
    session: Option<&Session>,
    contents: &Contents,
) -> Result<Option<String>, CommandError> {
    let mut manifests = contents.evidence.iter().filter(|document| document.kind == BUILD_KIND);
    let (Some(session), Some(manifest), None) = (session, manifests.next(), manifests.next()) else {
        return Ok(None);
    };
    if !contents.is_of_build(manifest)? {
        context.console.warn(
            "Not of that build",
            "what the build manifest among the evidence was made for is not delivered: the delivery names no build",
        );
        return Ok(None);
    }
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
