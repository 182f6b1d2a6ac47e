//! `rewrap`: the data key of a delivery, wrapped with the key as it is now. What is sealed stays as it is.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use protected_bundle::{
    Opener,
    layout::{self, Digest, signature::Part},
    staging::Private,
};
use protected_http::Client;
use protected_model::{
    delivery::{DeliveryManifest, Keys, WrappedDataKey},
    key_ref::KeyRef,
};
use protected_storage::DeliveryRef;
use serde_json::json;

use super::{
    open_bundle::{changed, data_key},
    verify::{self, Asked, Policy},
};
use crate::{
    args::{Rewrap, Unrepeated},
    context::{self, Context, Session},
    delivery::{
        self,
        storage::{self, Place},
    },
    error::{CommandError, Kind},
    key_service,
    signing::{self, Plan, Signing},
};

/// Wraps the keys of one delivery anew, wherever it lies.
///
/// # Errors
/// When it is no delivery, when nothing says whose its keys are, when nobody signs what was signed, when the key service does
/// not wrap, and when it cannot be written; it stays as it was then, or is told where it was written.
pub(crate) async fn run(context: &Context, arguments: Rewrap) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("rewrap")?;
    let places = match arguments.bundle.is_empty() {
        false => arguments.bundle,
        true => settings.value(None, "BUNDLE", None)?.into_iter().collect(),
    };
    let new = settings.key_ref("the key to wrap with", arguments.key_ref, "KEY_REF", None)?;
    let is_accepted = settings.switch(arguments.accept_unproven, "ACCEPT_UNPROVEN")?;
    let plan = Plan::of(settings, &arguments.sign)?;
    let policy = Policy::settle(context, &arguments.trust, [&None, &None])?;
    let demanded = policy.parts();
    let mut copies = Vec::new();
    for place in places {
        copies.push(Copy::find(context, &place).await?);
    }
    let bundle = one_delivery(&copies)?;
    // Before a key is touched: what cannot be signed stays as it was.
    let http = context.http()?;
    let was_signed = delivery::is_signed(&bundle, Part::Keys);
    let (session, signing) = signer(context, &http, &plan, was_signed).await?;
    let is_named = match (bundle.keys().keys.as_slice(), &new) {
        ([only], Some(new)) => only.key_ref.is_same_key(new),
        _ => false,
    };
    // Before any key service is asked.
    let terms = Terms { policy: &policy, demanded, signing: signing.as_ref(), is_named, is_accepted };
    let mut proven = terms.prove(context, &bundle).await?;
    for copy in &copies {
        copy.check_content(context, signing.is_some() && !was_signed).await?;
    }
    let started = Instant::now();
    let keys = match &new {
        None => same_keys(context, &bundle).await?,
        Some(new) => other_key(context, &bundle, new).await?,
    };
    let keys = Keys { keys, ..bundle.keys().clone() };
    proven.retain(|part| *part != Part::Keys);
    let signature = match &signing {
        None => None,
        Some(signing) => {
            let statement = delivery::keys_statement(&bundle, &bundle.manifest_of_keys(&keys).digest.0)?;
            let signed = signing.sign(context, &http, session.as_ref(), vec![statement]).await?;
            proven.push(Part::Keys);
            signed.into_iter().next().map(|signed| signed.bundle)
        }
    };
    context.cancel.check()?;
    let is_left_unsigned = was_signed && signature.is_none();
    let (written, manifests) = write(context, copies, &keys, signature).await?;
    Rewrapped { bundle, keys: keys.keys, proven, is_left_unsigned, written, manifests }.tell(
        context,
        new.as_ref(),
        started,
    );
    Ok(())
}

/// Returns the one delivery that lies in all these places.
fn one_delivery(copies: &[Copy]) -> Result<layout::Delivery, CommandError> {
    let (first, others) = copies.split_first().ok_or_else(|| {
        CommandError::usage("no delivery is named").advise("name it: protected-registry rewrap <bundle>")
    })?;
    for other in others {
        let (expected, found) = (first.bundle.bundle().digest, other.bundle.bundle().digest);
        if expected != found {
            let message = format!(
                "`{}` is another delivery: expected the bundle {expected} as in `{}`, found {found}",
                other.name, first.name
            );
            return Err(CommandError::usage(message).advise("name the places of one delivery at a time"));
        }
    }
    Ok(first.bundle.clone())
}

/// Settles who signs the new keys: what nobody signed before is signed where that is asked for, and not because somebody is
/// there who could.
///
/// # Errors
/// When keys that are signed would be left unsigned without a word.
async fn signer(
    context: &Context,
    http: &Client,
    plan: &Plan,
    was_signed: bool,
) -> Result<(Option<Session>, Option<Signing>), CommandError> {
    if !was_signed && !plan.is_asked_for() {
        return Ok((None, None));
    }
    match signing::enter_to_sign(context, http, plan).await? {
        (session, Ok(signing)) => Ok((session, Some(signing))),
        (_, Err(why)) if was_signed && !plan.is_off() => {
            let message = format!("the keys are signed, and nobody signs the new ones: {}", why.reason());
            Err(CommandError::usage(message).advise(
                "run it in the job that signs, or name a key with --sign-key; --sign off leaves the new keys unsigned",
            ))
        }
        (session, Err(_)) => Ok((session, None)),
    }
}

/// Writes the keys wherever the delivery lies, and returns the places, and the manifests that have the new wrapping.
async fn write(
    context: &Context,
    copies: Vec<Copy>,
    keys: &Keys,
    signature: Option<Vec<u8>>,
) -> Result<(Vec<String>, Vec<PathBuf>), CommandError> {
    let (mut written, mut failed, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
    for copy in copies {
        let name = copy.name.clone();
        match copy.write(context, keys.clone(), signature.clone()).await {
            Ok(manifest) => {
                manifests.extend(manifest);
                written.push(name);
            }
            Err(error) => failed.push((name, error)),
        }
        context.cancel.check()?;
    }
    not_everywhere(&written, failed).map_or(Ok((written, manifests)), Err)
}

/// What was done.
struct Rewrapped {
    /// As it was.
    bundle: layout::Delivery,
    /// As they are now.
    keys: Vec<WrappedDataKey>,
    proven: Vec<Part>,
    /// Whether the former keys were signed, and these are not.
    is_left_unsigned: bool,
    written: Vec<String>,
    manifests: Vec<PathBuf>,
}

impl Rewrapped {
    /// Says it, to people and to programs.
    fn tell(&self, context: &Context, new: Option<&KeyRef>, started: Instant) {
        let console = &context.console;
        let (before, digest) = (&self.bundle.keys().keys, self.bundle.bundle().digest);
        console.step("rewrap", format!("{} -> {}", shown(before), shown(&self.keys)), started);
        console.say(format!("  content   unchanged: {digest}"));
        if self.is_left_unsigned {
            console.warn(
                "Keys not signed",
                "the former keys were signed, and these are not: who demands a signature does not open the delivery",
            );
        }
        for place in &self.manifests {
            console.say(format!(
                "  manifest  has the new wrapping: `submit-bundle --manifest {}` puts it on record",
                place.display()
            ));
        }
        if self.manifests.is_empty() {
            console.say(
                "  manifest  is not here: the record keeps the former wrapping, until the delivery is wrapped anew by the path of its manifest",
            );
        }
        if let Some(new) = new.filter(|new| !before.iter().any(|key| key.key_ref.is_same_key(new))) {
            console.say(format!(
                "  note      grants on the former key do not open it as it is now: give them on this one, by `grant-delivery --key-ref {new}`"
            ));
        }
        let is_unchecked = |part: &Part| {
            *part == Part::Bundle && delivery::is_signed(&self.bundle, *part) && !self.proven.contains(part)
        };
        let parts = |is_so: &dyn Fn(&Part) -> bool| {
            Part::ALL.into_iter().filter(is_so).map(Part::name).collect::<Vec<_>>()
        };
        let id = &self.bundle.descriptor().bundle_id;
        let keys = self.keys.iter();
        let document = json!({
            "bundle_id": id,
            "bundle": digest.to_string(),
            "places": self.written,
            "signed": parts(&|part| self.proven.contains(part)),
            "unchecked": parts(&is_unchecked),
            "keys": keys.map(|key| json!({"key_ref": key.key_ref, "key_version": key.key_version})).collect::<Vec<_>>(),
        });
        console.result(&format!("{id}\n{digest}"), &document);
    }
}

fn shown(keys: &[WrappedDataKey]) -> String {
    let shown = keys.iter().map(|key| match &key.key_version {
        Some(version) => format!("{} (version {version})", key.key_ref),
        None => key.key_ref.to_string(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// On which terms keys are wrapped anew.
struct Terms<'a> {
    policy: &'a Policy,
    /// What the policy wants signed.
    demanded: Vec<Part>,
    /// Who signs the new keys, if anybody does.
    signing: Option<&'a Signing>,
    /// Whether the only key that there is is one that this command was told, and that it wraps with.
    is_named: bool,
    /// Whether somebody vouches for what no signature proves.
    is_accepted: bool,
}

impl Terms<'_> {
    /// Settles whose the keys are, before any key service is asked for what they name, and returns the parts that are proven:
    /// signed by whom the policy names, or where it names nobody by who signs here.
    ///
    /// Attack: a key of a stranger's vault laid into a delivery in its area, with a signature of the stranger's over it, with
    /// one that was true of other keys, or with none. The credentials of the job would be used at that vault, and whoever wraps
    /// anew would sign for the key: nobody who opens it could tell it from the vendor's own.
    ///
    /// # Errors
    /// When a signature is not what it has to be, and when there is none where one is lent to the keys.
    async fn prove(&self, context: &Context, bundle: &layout::Delivery) -> Result<Vec<Part>, CommandError> {
        let is_signed = |part: &Part| delivery::is_signed(bundle, *part);
        let about = format!("the delivery `{}`", bundle.descriptor().bundle_id);
        let proven = match self.signing.filter(|_| !self.policy.names_somebody()) {
            Some(signing) => self.by_own(context, bundle, signing)?,
            None => {
                // What is missing may be vouched for; what is there has to be good.
                let is_replaced =
                    |part: &Part| *part == Part::Keys && self.is_named && self.signing.is_some();
                let may_miss = |part: &Part| self.is_accepted || is_replaced(part);
                let mut demanded = self.demanded.clone();
                demanded.retain(|part| is_signed(part) || !may_miss(part));
                let trust = self.signing.and_then(Signing::authority);
                let asked = Asked { policy: self.policy, demanded, trust, kept: None, offline: false };
                let signed = verify::check(context, bundle, &asked).await?;
                for (name, line) in signed.lines() {
                    context.console.say(format!("  {name:<11} {line}"));
                }
                signed.proven(&about)?;
                let mut proven = Part::ALL.to_vec();
                proven.retain(|part| is_signed(part) && self.policy.names_somebody());
                proven
            }
        };
        let is_lent = self.signing.is_some();
        let message = match (is_signed(&Part::Keys), is_lent) {
            _ if self.is_accepted || proven.contains(&Part::Keys) => return Ok(proven),
            // They stay what they are.
            (false, false) => return Ok(proven),
            // Nobody is asked but whom this command was told, nothing of the former keys is left, and what they have to open is
            // signed.
            (false, true) if self.is_named && proven.contains(&Part::Bundle) => return Ok(proven),
            (true, _) => format!("{about} is signed, and nothing says by whom it has to be"),
            (false, true) => format!("nobody signed the keys of {about}, and no signature is lent to them"),
        };
        let error = CommandError::new(Kind::NotProven, message);
        Err(match is_lent {
            false => error.advise(
                "name who signs it, by --policy, --key, or --identity and --issuer, with --trusted-root; --accept-unproven takes its keys as they are",
            ),
            true => error.advise(
                "repeat `deliver` where it was made, which signs all of it, or where its bundle is signed name its key by --key-ref; --sign off wraps without a signature, and --accept-unproven signs for keys that you know to be yours",
            ),
        })
    }

    /// Holds what vouches for the keys against who signs here: the signature over them, or where there is none that over the
    /// bundle.
    fn by_own(
        &self,
        context: &Context,
        bundle: &layout::Delivery,
        signing: &Signing,
    ) -> Result<Vec<Part>, CommandError> {
        let foreign = |error: CommandError| {
            let message = format!("the keys are not signed anew: {}", error.message);
            CommandError { message, ..error }.advise(
                "name who may have signed it, by --policy or by --identity and --issuer; where the keys were changed on their way, fetch the delivery from where it was made",
            )
        };
        let keys = delivery::check_own(bundle, Part::Keys, signing).map_err(foreign)?;
        let proven = match (keys, delivery::check_own(bundle, Part::Bundle, signing)) {
            (Some(_), Ok(Some(_))) => vec![Part::Bundle, Part::Keys],
            (Some(_), Ok(None)) => vec![Part::Keys],
            // Its keys are said to be those of this bundle, by who signs here.
            (Some(_), Err(error)) => {
                context.console.say(format!("  note      {error}"));
                vec![Part::Keys]
            }
            (None, Ok(bundle)) => bundle.map(|_| Part::Bundle).into_iter().collect(),
            (None, Err(error)) => return Err(foreign(error)),
        };
        Ok(proven)
    }
}

/// One place where the delivery lies.
struct Copy {
    /// As people are told.
    name: String,
    /// The bundle on this machine.
    path: PathBuf,
    bundle: layout::Delivery,
    /// Where it was fetched from, and the folder that goes with this.
    away: Option<(DeliveryRef, Private)>,
    /// The manifest beside it, where it is of this bundle.
    manifest: Option<(PathBuf, DeliveryManifest)>,
    /// The keys that are replaced.
    read: Digest,
}

impl Copy {
    async fn find(context: &Context, place: &Unrepeated) -> Result<Self, CommandError> {
        let (path, beside, away) = match storage::locate(context, &place.0)? {
            Place::Here(found) => (found.bundle, found.manifest, None),
            Place::Away(away, expected) => {
                let named = context.settings.working_directory.join(&place.0);
                let named = Some(named).filter(|it| delivery::is_manifest(it));
                let (folder, path) =
                    storage::fetch(context, &away, expected.as_ref(), &std::env::temp_dir()).await?;
                (path, named, Some((away, folder)))
            }
        };
        let bundle = delivery::open(&path)?;
        let manifest = match beside {
            None => None,
            Some(place) => Some((delivery::read_manifest(&place)?, place)),
        };
        let manifest = manifest.filter(|(manifest, _)| delivery::contradiction(manifest, &bundle).is_none());
        let name =
            away.as_ref().map_or_else(|| path.display().to_string(), |(delivery, _)| delivery.to_string());
        let read = bundle.manifests().keys.digest;
        let manifest = manifest.map(|(manifest, place)| (place, manifest));
        Ok(Self { name, path, bundle, away, manifest, read })
    }

    /// Holds what is sealed against its digest. What was fetched was on its way, and what is copied into another tar file is
    /// when it is written: too late for who signs that a key opens it.
    async fn check_content(&self, context: &Context, is_signed_for: bool) -> Result<(), CommandError> {
        if self.away.is_some() || self.path.is_file() && !is_signed_for {
            return Ok(());
        }
        let (bundle, path, stop) = (self.bundle.clone(), self.path.clone(), context.cancel.shared_flag());
        let checked = context::compute(move || delivery::check_content(&bundle, &path, &stop)).await;
        context.cancel.check()?;
        checked
    }

    /// Puts the keys in the place of those that were read, and returns the manifest that has the new wrapping.
    async fn write(
        self,
        context: &Context,
        keys: Keys,
        signature: Option<Vec<u8>>,
    ) -> Result<Option<PathBuf>, CommandError> {
        let Self { path, mut bundle, away, manifest, read, .. } = self;
        let (stop, place, now) = (context.cancel.shared_flag(), path.clone(), keys.keys.clone());
        let written = context::compute(move || {
            bundle
                .set_keys(keys, signature.as_deref(), &stop)
                .map_err(|error| delivery::broken(&place, &error))
        });
        let written = written.await;
        context.cancel.check()?;
        // The manifest is of the keys that are there: whoever comes after writes both.
        let _lock = written?;
        if let Some((delivery, _fetched)) = away {
            let area = storage::connect(context, &delivery.area)?;
            let replaced = context.cancel.or(area.replace_keys(&path, &read)).await?;
            replaced.map_err(|error| storage::failed("storing the new keys", &error))?;
        }
        match manifest {
            None => Ok(None),
            Some((place, manifest)) => Ok(update(&place, manifest, &now)?.then_some(place)),
        }
    }
}

/// Tells where the new keys are and where not, if they are not everywhere.
fn not_everywhere(written: &[String], failed: Vec<(String, CommandError)>) -> Option<CommandError> {
    let mut failed = failed.into_iter();
    let (name, first) = failed.next()?;
    if written.is_empty() && failed.len() == 0 {
        return Some(first);
    }
    let others: Vec<String> = failed.map(|(name, error)| format!("nor in `{name}`: {error}")).collect();
    let has = match written {
        [] => String::new(),
        written => format!("the new keys are in `{}`, and ", written.join("`, `")),
    };
    let message = [format!("{has}not in `{name}`: {first}")].into_iter().chain(others);
    let error = CommandError::new(first.kind, message.collect::<Vec<_>>().join("; "));
    Some(error.advise("the same command again wraps them anew in all of them"))
}

/// Writes the new wrapping into the manifest of the delivery, and returns whether it has it. Where its key no longer opens the
/// delivery, the one that took its place stands in it.
fn update(
    place: &Path,
    mut manifest: DeliveryManifest,
    keys: &[WrappedDataKey],
) -> Result<bool, CommandError> {
    let own = keys.iter().find(|key| key.key_ref == manifest.key_ref);
    let Some(key) = own.or(keys.last()) else { return Ok(false) };
    manifest.key_ref.clone_from(&key.key_ref);
    manifest.key_provider.provider = key.provider;
    manifest.key_provider.wrapped_key.clone_from(&key.wrapped_key);
    manifest.key_provider.wrapped_key_sha256 = key.wrapped_key_sha256;
    delivery::save_manifest(place, &manifest)?;
    Ok(true)
}

/// Has each service wrap its own key anew.
async fn same_keys(
    context: &Context,
    bundle: &layout::Delivery,
) -> Result<Vec<WrappedDataKey>, CommandError> {
    let (settings, http) = (context.keys()?, context.http()?);
    let key_context = bundle.descriptor().key_context();
    let doing = format!("wrapping the key of the delivery `{}` anew", bundle.descriptor().bundle_id);
    let mut keys = Vec::new();
    for key in &bundle.keys().keys {
        let service = key_service::connect(&key.key_ref, &settings, &http, &doing)?;
        let wrapped = context.cancel.or(service.rewrap(&key.wrapped_key, &key_context)).await?;
        let wrapped = wrapped.map_err(|error| key_service::failed(&doing, &error))?;
        keys.push(delivery::wrapped_data_key(&key.key_ref, wrapped));
    }
    Ok(keys)
}

/// Has the data key unwrapped, and wrapped with another key, which takes the place of the one that unwrapped it.
async fn other_key(
    context: &Context,
    bundle: &layout::Delivery,
    new: &KeyRef,
) -> Result<Vec<WrappedDataKey>, CommandError> {
    let doing = format!("wrapping the key of the delivery `{}` with another", bundle.descriptor().bundle_id);
    let service = key_service::connect(new, &context.keys()?, &context.http()?, &doing)?;
    let (key, old) = data_key(context, bundle, None).await?;
    // Attack: a key of a stranger's in the place of the one that opens the delivery, which would be wrapped in its name.
    let sealed = bundle
        .unverified_content()
        .map_err(|error| CommandError::from_error(Kind::BadInput, &doing, &error))?;
    Opener::new(&key, &bundle.descriptor().binding(), sealed).map_err(|error| changed(&doing, &error))?;
    let wrapped = context.cancel.or(service.wrap(&key, &bundle.descriptor().key_context())).await?;
    let wrapped = wrapped.map_err(|error| key_service::failed(&doing, &error))?;
    let mut keys = bundle.keys().keys.clone();
    keys.retain(|key| key.key_ref != old && key.key_ref != *new);
    keys.push(delivery::wrapped_data_key(new, wrapped));
    Ok(keys)
}
