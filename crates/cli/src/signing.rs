//! How what is built is signed: which services vouch for whom, settled before anything runs; and the signer, which is
//! asked for while the package is built.

use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use protected_ci::RelyingParty;
use protected_evidence::{
    sign::{
        KeyFailure, LogVersion, Services, SignError, Signed, Signer, StatementKey, StatementToSign,
        TransparencyLog,
    },
    verify::{self, Refused, Trust},
};
use protected_http::Client;
use protected_keys::SigningKey;
use protected_model::{
    api::oauth::Metadata, digest::Sha256, environment::Environment, key_ref::KeyRef, secret::Secret,
    service_url::ServiceUrl,
};

use crate::{
    args::{Sign, SignMode},
    config_file::FILE_NAME,
    console::Console,
    context::{Context, Session},
    error::{CommandError, Kind},
    key_service, provenance, read,
    settings::Settings,
};

/// The audience of an ID token for a certificate authority of Sigstore.
const AUDIENCE: &str = "sigstore";
/// Where an authority that FractalOps advertises has its trusted root, and its timestamps.
const TRUSTED_ROOT: &str = "trusted_root.json";
const TIMESTAMP: &str = "api/v1/timestamp";
/// Where a certificate authority shows its own certificates (Fulcio's API, version 2).
const TRUST_BUNDLE: &str = "api/v2/trustBundle";
/// The largest trusted root that is read: the public one has some ten kilobytes.
const MAX_ROOT_BYTES: u64 = 4 * 1024 * 1024;

/// How a command signs, as flags, environment and file say.
pub(crate) struct Plan {
    way: Way,
    /// What verifies, where a file says so.
    root: Option<Vec<u8>>,
    version: Option<LogVersion>,
}

enum Way {
    /// Not at all, because it was said so.
    Off,
    /// With the authority that FractalOps advertises, if it does.
    Auto,
    /// With the public-good instance of Sigstore.
    Public,
    /// With services of one's own.
    Private {
        services: Services,
        /// The audience of the ID token.
        audience: String,
    },
    /// With a key that is there already.
    Key { key: KeyRef, services: Services },
}

/// A plan whose services are known.
pub(crate) struct Ready {
    services: Services,
    root: Option<Vec<u8>>,
    who: Who,
}

/// A session with FractalOps, and how what it builds is signed.
pub(crate) struct Entered {
    pub(crate) session: Session,
    pub(crate) signing: Result<Signing, Unsigned>,
}

/// What came of signing: bundles, or why there are none.
pub(crate) struct Signatures {
    pub(crate) signed: Vec<Signed>,
    pub(crate) unsigned: Option<Unsigned>,
}

impl Signatures {
    /// Returns what the signed statements are called.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.signed.iter().map(|signed| &*signed.name).collect()
    }

    /// Returns why nothing is signed, where nothing is.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        self.unsigned.map(Unsigned::reason)
    }
}

/// Why nothing is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsigned {
    /// It was said so.
    Off,
    /// Nobody is there who could.
    NoAuthority,
    /// There is no session that an authority would know.
    NoRecord,
    /// What is published was not built here.
    Tarball,
    /// Nothing is done.
    DryRun,
    /// Nobody said who signs what was verified.
    NotAsked,
    /// There is no run of CI that an authority would know.
    NoRun,
}

impl Unsigned {
    /// Says on the screen that nothing is signed, and why.
    pub(crate) fn say(self, console: &Console) {
        console.say(format!("  note      nothing is signed: {}", self.reason()));
    }

    /// Returns why, for a person.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Off => "signing is switched off",
            Self::NoAuthority => "this FractalOps has no authority, and no other is configured",
            Self::NoRecord => {
                "without a record there is no session with FractalOps to sign with, and nothing else is configured"
            }
            Self::Tarball => "a tarball is published as it is, and nothing here knows how it was made",
            Self::DryRun => "this was a dry run",
            Self::NoRun => {
                "there is no CI run that the authority of FractalOps would know, and nothing else is configured"
            }
            Self::NotAsked => "nobody said who signs the summary, with --sign or --sign-key",
        }
    }
}

/// Services that are known, and a signer of theirs.
pub(crate) struct Signing {
    ready: Ready,
    signer: Signer,
}

/// Who signs.
enum Who {
    /// The session with FractalOps: its own authority knows it.
    Session,
    /// An ID token with this audience.
    IdToken(String),
    /// A key.
    Key(KeyRef),
}

impl Plan {
    /// Settles how a command signs. Nothing is asked, but files are read.
    ///
    /// # Errors
    /// When settings contradict each other, one is missing, or the trusted root cannot be used.
    pub(crate) fn of(settings: &Settings, arguments: &Sign) -> Result<Self, CommandError> {
        let file = &settings.file.sign;
        let key = settings.value(arguments.sign_key.clone(), "SIGN_KEY", file.key.clone())?;
        let fulcio: Option<ServiceUrl> = settings.value(None, "FULCIO_URL", file.fulcio_url.clone())?;
        let rekor = settings.value(None, "REKOR_URL", file.rekor_url.clone())?;
        let version = settings.value(None, "REKOR_VERSION", file.rekor_version)?;
        let timestamp = settings.value(None, "TIMESTAMP_URL", file.timestamp_url.clone())?;
        let root = file.trusted_root.as_ref().map(|path| settings.path_of_file(path));
        let root = settings.value(None, "TRUSTED_ROOT", root)?;
        let mode = settings.choice(arguments.sign, "SIGN", file.mode)?;
        let mode = mode.unwrap_or(match (&key, &fulcio) {
            (Some(_), _) => SignMode::Key,
            (None, Some(_)) => SignMode::Keyless,
            (None, None) => SignMode::Auto,
        });
        if mode == SignMode::Off {
            return Ok(Self { way: Way::Off, root: None, version: None });
        }
        let root = root.map(|path| read_root(&settings.working_directory.join(path))).transpose()?;
        let log = |url| TransparencyLog { url, version: version.unwrap_or_default() };
        let unused = |what: &str, given: bool| match given {
            true => Err(CommandError::usage(format!(
                "{what} is given, and is not used to sign with `{}`",
                mode.name()
            ))
            .advise("leave one of them out")),
            false => Ok(()),
        };
        let way = match mode {
            SignMode::Off => Way::Off,
            SignMode::Auto => {
                unused("a key", key.is_some())?;
                unused("a certificate authority (`fulcio_url`)", fulcio.is_some())?;
                unused("a transparency log (`rekor_url`)", rekor.is_some())?;
                unused("a timestamp authority (`timestamp_url`)", timestamp.is_some())?;
                Way::Auto
            }
            SignMode::Key => {
                unused("a certificate authority (`fulcio_url`)", fulcio.is_some())?;
                let text = key.ok_or_else(|| missing("the key to sign with", "--sign-key, or `key`"))?;
                let key = text.0.parse().map_err(|error| {
                    CommandError::usage(format!("the key to sign with: {error}"))
                        .advise("name the key, as in openbao://<mount>/<key>; its bytes stay where they are")
                })?;
                let services = Services { fulcio: None, log: rekor.map(log), timestamp };
                if (services.log.is_some() || services.timestamp.is_some()) && root.is_none() {
                    return Err(missing("what verifies the log and the timestamps", "`trusted_root`"));
                }
                Way::Key { key, services }
            }
            SignMode::Keyless => {
                unused("a key", key.is_some())?;
                match fulcio {
                    None => {
                        unused(
                            "a transparency log without a certificate authority (`rekor_url`)",
                            rekor.is_some(),
                        )?;
                        unused(
                            "a timestamp authority without a certificate authority (`timestamp_url`)",
                            timestamp.is_some(),
                        )?;
                        Way::Public
                    }
                    Some(url) => {
                        let audience = audience(settings, &url)?;
                        let rekor = rekor.ok_or_else(|| missing("which log to use", "`rekor_url`"))?;
                        let log = log(rekor);
                        if log.version == LogVersion::V2 && timestamp.is_none() {
                            return Err(missing(
                                "who timestamps, which a log of version 2 does not",
                                "`timestamp_url`",
                            ));
                        }
                        if root.is_none() {
                            return Err(missing("what verifies these services", "`trusted_root`"));
                        }
                        let services = Services { fulcio: Some(url), log: Some(log), timestamp };
                        Way::Private { services, audience }
                    }
                }
            }
        };
        Ok(Self { way, root, version })
    }

    /// Returns whether signing was asked for, so that nothing goes out unsigned.
    pub(crate) fn is_asked_for(&self) -> bool {
        !matches!(self.way, Way::Off | Way::Auto)
    }

    /// Returns whether anybody said how to sign, or not to. Nothing is read but the settings.
    ///
    /// # Errors
    /// When a setting is none.
    pub(crate) fn is_stated(settings: &Settings, arguments: &Sign) -> Result<bool, CommandError> {
        let file = &settings.file.sign;
        let fulcio: Option<ServiceUrl> = settings.value(None, "FULCIO_URL", file.fulcio_url.clone())?;
        let mode = settings.choice(arguments.sign, "SIGN", file.mode)?;
        let key = settings.value(arguments.sign_key.clone(), "SIGN_KEY", file.key.clone())?;
        Ok(mode.is_some() || key.is_some() || fulcio.is_some())
    }

    /// Returns whether the identity of the run signs, which has to be asked for.
    pub(crate) fn is_keyless(&self) -> bool {
        matches!(self.way, Way::Auto | Way::Public | Way::Private { .. })
    }

    /// Returns whether the authority of FractalOps signs, which knows the session.
    pub(crate) fn is_auto(&self) -> bool {
        matches!(self.way, Way::Auto)
    }

    /// Returns whether nothing is to be signed.
    pub(crate) fn is_off(&self) -> bool {
        matches!(self.way, Way::Off)
    }

    /// Returns why nothing is signed, and says it where nobody asked for that.
    pub(crate) fn unsigned(&self, console: &Console, why: Unsigned) -> Unsigned {
        if self.is_off() {
            return Unsigned::Off;
        }
        why.say(console);
        why
    }

    /// [`Self::ready`], after asking FractalOps what it has where that matters.
    ///
    /// # Errors
    /// As it, and when FractalOps does not say.
    pub(crate) async fn look_up(
        &self,
        context: &Context,
        http: &Client,
    ) -> Result<Option<Ready>, CommandError> {
        let advertised = match self.way {
            Way::Auto => {
                let fractalops = context.fractalops(http)?;
                let answer = context.cancel.or(fractalops.metadata()).await?;
                Some(answer.map_err(|error| {
                    CommandError::from_fractalops(
                        "asking FractalOps whether it has an authority to sign with",
                        error,
                    )
                })?)
            }
            _ => None,
        };
        self.ready(context, http, advertised.as_ref()).await
    }

    /// Finds out which services sign. `None` says that nothing is signed: it was said so, or FractalOps, which says in
    /// `advertised` what it has, has no authority.
    ///
    /// # Errors
    /// When what verifies the authority cannot be had.
    pub(crate) async fn ready(
        &self,
        context: &Context,
        http: &Client,
        advertised: Option<&Metadata>,
    ) -> Result<Option<Ready>, CommandError> {
        let root = self.root.clone();
        let (services, root, who) = match &self.way {
            Way::Off => return Ok(None),
            Way::Auto => {
                let Some(text) = advertised.and_then(|metadata| metadata.sigstore_url.as_ref()) else {
                    return Ok(None);
                };
                let base: ServiceUrl = text.parse().map_err(|error| {
                    CommandError::new(
                        Kind::Failed,
                        format!("FractalOps advertises a Sigstore at no usable URL: {error}"),
                    )
                })?;
                let root = match root {
                    Some(root) => root,
                    None => fetch_root(context, http, &base).await?,
                };
                let timestamp = base.join(TIMESTAMP).to_string().parse().map_err(|error| {
                    CommandError::new(Kind::Failed, format!("where FractalOps timestamps: {error}"))
                })?;
                let services = Services {
                    fulcio: Some(base.clone()),
                    log: Some(TransparencyLog {
                        url: base.clone(),
                        version: self.version.unwrap_or_default(),
                    }),
                    timestamp: Some(timestamp),
                };
                // Attack: metadata that name another host, which is then sent a session that may publish.
                let own = context.settings.fractalops_url()?;
                let who = match base.as_url().origin() == own.as_url().origin() {
                    true => Who::Session,
                    false => Who::IdToken(AUDIENCE.to_owned()),
                };
                (services, Some(root), who)
            }
            Way::Public => {
                let services = Services::public_good(self.version).map_err(failed("signing"))?;
                (services, root, Who::IdToken(AUDIENCE.to_owned()))
            }
            Way::Private { services, audience } => (services.clone(), root, Who::IdToken(audience.clone())),
            Way::Key { key, services } => (services.clone(), root, Who::Key(key.clone())),
        };
        Ok(Some(Ready { services, root, who }))
    }
}

impl Ready {
    /// Returns whether a session with FractalOps is needed.
    pub(crate) fn needs_session(&self) -> bool {
        matches!(self.who, Who::Session)
    }

    /// Says who signs, for a person.
    pub(crate) fn describe(&self) -> String {
        match (&self.who, &self.services.fulcio) {
            (Who::Key(key), _) => format!("with the key {key}"),
            (_, Some(fulcio)) => format!("with a certificate of {}", fulcio.audience()),
            (_, None) => "with a certificate".to_owned(),
        }
    }

    /// Checks that whoever is to sign can: gets the ID token, or connects to the key. Nothing is certified or signed.
    ///
    /// # Errors
    /// When there is no such token, or the key cannot be used.
    pub(crate) async fn try_identity(
        &self,
        context: &Context,
        http: &Client,
    ) -> Result<String, CommandError> {
        match &self.who {
            Who::Session => Ok("the session with FractalOps".to_owned()),
            Who::IdToken(audience) => {
                context.signing_token(http, audience).await?;
                Ok(format!("an ID token for `{audience}`"))
            }
            Who::Key(key) => Ok(format!(
                "{key}, which verifiers know as {}",
                self.keyed(context, http, key).await?.identity()
            )),
        }
    }

    /// Asks the certificate authority for its own certificates, to see that it is there.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn reach(
        &self,
        context: &Context,
        http: &Client,
    ) -> Result<Option<String>, CommandError> {
        let Some(fulcio) = &self.services.fulcio else { return Ok(None) };
        let answer = context.cancel.or(http.get(fulcio.join(TRUST_BUNDLE)).send()).await?;
        let answer = answer.map_err(|error| {
            let kind = if error.is_transient() { Kind::Unavailable } else { Kind::Failed };
            CommandError::from_error(kind, "asking the certificate authority", &error).hint(error.hint())
        })?;
        if !answer.is_success() {
            let kind = if answer.status >= 500 { Kind::Unavailable } else { Kind::Usage };
            let message =
                format!("{} answered {}, and is no certificate authority", answer.request(), answer.status);
            return Err(
                CommandError::new(kind, message).advise("check `fulcio_url`: the base URL, without /api")
            );
        }
        Ok(Some(fulcio.audience()))
    }

    /// Has a key certified, or connects to the one that is there: one round trip, two with an ID token.
    ///
    /// # Errors
    /// When there is no identity, the authority refuses, or the key cannot be used.
    pub(crate) async fn signer(
        &self,
        context: &Context,
        http: &Client,
        session: Option<&Session>,
    ) -> Result<Signer, CommandError> {
        let started = Instant::now();
        let signer = match (&self.who, session) {
            (Who::Key(key), _) => self.keyed(context, http, key).await?,
            (Who::Session, Some(session)) => self.keyless(context, http, &session.token).await?,
            (Who::Session, None) => {
                return Err(CommandError::new(
                    Kind::NoIdentity,
                    "there is no session with FractalOps to sign with",
                ));
            }
            (Who::IdToken(audience), _) => {
                let token = context.signing_token(http, audience).await?;
                self.keyless(context, http, &token).await?
            }
        };
        let by = signer.issuer().map(|issuer| format!(", says {issuer}")).unwrap_or_default();
        context.console.step("certify", format!("{}{by}", signer.identity()), started);
        Ok(signer)
    }

    fn trust(&self) -> Result<Option<Trust>, CommandError> {
        let trust = match (&self.root, &self.who) {
            (Some(root), _) => Trust::from_trusted_root(root),
            (None, Who::Key(_)) => return Ok(None),
            (None, _) => Trust::public_good(),
        };
        trust
            .map(Some)
            .map_err(|error| CommandError::from_error(Kind::Usage, "what verifies signatures", &error))
    }

    async fn keyless(
        &self,
        context: &Context,
        http: &Client,
        token: &impl Secret,
    ) -> Result<Signer, CommandError> {
        let trust = match self.trust()? {
            Some(trust) => trust,
            None => return Err(missing("what verifies these services", "`trusted_root`")),
        };
        let work = Signer::keyless(http.clone(), self.services.clone(), trust, token);
        context.cancel.or(work).await?.map_err(failed("asking for a certificate to sign with"))
    }

    async fn keyed(&self, context: &Context, http: &Client, key: &KeyRef) -> Result<Signer, CommandError> {
        let settings = context.keys()?;
        let connect = protected_keys::connect_to_sign(key, &settings, http);
        let found = context.cancel.or(connect).await?;
        let found = found.map_err(|error| key_service::failed("signing", &error))?;
        let key = Box::new(InService { reference: key.to_string(), key: found });
        Signer::keyed(http.clone(), self.services.clone(), self.trust()?, key).map_err(failed("signing"))
    }
}

/// Logs in, and has a key certified: after the log-in where the session is what the authority knows, else beside it.
/// A dry run has no key certified.
///
/// # Errors
/// When either fails.
pub(crate) async fn enter(
    context: &Context,
    http: &Client,
    plan: &Plan,
    dry_run: bool,
) -> Result<Entered, CommandError> {
    let beside = async {
        let ready = plan.look_up(context, http).await?;
        match ready {
            Some(ready) if !dry_run && !ready.needs_session() => {
                let signer = ready.signer(context, http, None).await?;
                Ok((Some(ready), Some(signer)))
            }
            ready => Ok((ready, None)),
        }
    };
    // Both are always awaited: a session that was begun is one to revoke.
    let (session, beside) = tokio::join!(context.log_in(http), beside);
    let session = session?;
    let (ready, signer): (Option<Ready>, Option<Signer>) = beside?;
    let signing = match (ready, signer) {
        (None, _) => Err(plan.unsigned(&context.console, Unsigned::NoAuthority)),
        (Some(ready), _) if dry_run => {
            context.console.say(format!("  note      a publish would be signed {}", ready.describe()));
            Err(Unsigned::DryRun)
        }
        (Some(ready), Some(signer)) => Ok(Signing { ready, signer }),
        (Some(ready), None) => {
            let signer = ready.signer(context, http, Some(&session)).await?;
            Ok(Signing { ready, signer })
        }
    };
    Ok(Entered { session, signing })
}

/// As [`enter`], for who asks nothing else of FractalOps: it is logged in to where its authority would sign.
///
/// # Errors
/// As it.
pub(crate) async fn enter_to_sign(
    context: &Context,
    http: &Client,
    plan: &Plan,
) -> Result<(Option<Session>, Result<Signing, Unsigned>), CommandError> {
    if plan.is_auto() && context.console.platform().is_some() && context.settings.fractalops_url().is_ok() {
        let Entered { session, signing } = enter(context, http, plan, false).await?;
        return Ok((Some(session), signing));
    }
    let signing = match plan.is_auto() {
        true => Err(plan.unsigned(&context.console, Unsigned::NoRun)),
        false => alone(context, http, plan).await?,
    };
    Ok((None, signing))
}

/// As [`enter`], for who is nobody to FractalOps.
///
/// # Errors
/// When the key is not certified.
pub(crate) async fn alone(
    context: &Context,
    http: &Client,
    plan: &Plan,
) -> Result<Result<Signing, Unsigned>, CommandError> {
    let Some(ready) = plan.ready(context, http, None).await? else {
        return Ok(Err(plan.unsigned(&context.console, Unsigned::NoRecord)));
    };
    let signer = ready.signer(context, http, None).await?;
    Ok(Ok(Signing { ready, signer }))
}

impl Signing {
    /// Returns the provenance that goes to the registry with the package, if any: who signs with a key of their own has
    /// to tell whoever verifies which key that is, and no registry knows it.
    pub(crate) fn provenance(&self, signed: &[Signed]) -> Option<String> {
        self.signer.issuer()?;
        let bundle = &signed.iter().find(|signed| signed.name == provenance::KIND)?.bundle;
        String::from_utf8(bundle.clone()).ok()
    }

    /// Returns what vouches for this signer.
    pub(crate) fn trust(&self) -> &Trust {
        self.signer.trust()
    }

    /// Returns what vouches for the signers that an authority certifies, where one certifies this signer.
    pub(crate) fn authority(&self) -> Option<&Trust> {
        self.signer.issuer().map(|_| self.signer.trust())
    }

    /// Refuses who signed something, unless it is who signs here.
    ///
    /// # Errors
    /// With both.
    pub(crate) fn check_own(&self, by: &verify::Signer) -> Result<(), Refused> {
        self.signer.check_own(by)
    }

    /// Signs `statements`, with the signer that is there while it is good, else with a new one.
    ///
    /// # Errors
    /// When one of them cannot be signed, or does not verify afterwards.
    pub(crate) async fn sign(
        &self,
        context: &Context,
        http: &Client,
        session: Option<&Session>,
        statements: Vec<StatementToSign>,
    ) -> Result<Vec<Signed>, CommandError> {
        let mut signer = self.signer.clone();
        if !signer.is_fresh(Timestamp::now()) {
            signer = self.ready.signer(context, http, session).await?;
        }
        let started = Instant::now();
        let names = statements.iter().map(|statement| statement.name.clone()).collect::<Vec<_>>().join(", ");
        let signed = context.cancel.or(signer.sign(statements)).await?.map_err(failed("signing"))?;
        let entries = signed.iter().filter_map(|it| it.log.as_ref()).map(|log| log.index.to_string());
        let entries = entries.collect::<Vec<_>>().join(", ");
        let logged = match entries.is_empty() {
            true => String::new(),
            false => format!("; log entry {entries}"),
        };
        context.console.step("sign", format!("{names}{logged}"), started);
        Ok(signed)
    }
}

/// A key in its service, as the signer sees it: the two crates do not know each other.
struct InService {
    reference: String,
    key: Box<dyn SigningKey>,
}

#[async_trait]
impl StatementKey for InService {
    fn reference(&self) -> String {
        self.reference.clone()
    }

    fn public_key(&self) -> &[u8] {
        self.key.public_key()
    }

    async fn sign(&self, digest: &Sha256) -> Result<Vec<u8>, KeyFailure> {
        self.key.sign(digest).await.map_err(|error| KeyFailure {
            message: crate::error::chain(&error),
            transient: error.is_transient(),
            hint: error.hint(),
        })
    }
}

/// Returns the audience of the ID token for a certificate authority at `fulcio`.
///
/// Attack: a workflow of the owner's publishes a repository that names an authority of its own in its file, and with
/// the token that it is sent has itself certified as that workflow by the public one. So a token for an authority that
/// the repository chose is good there alone; one that the owner chose is not sent there at all.
fn audience(settings: &Settings, fulcio: &ServiceUrl) -> Result<String, CommandError> {
    let environment: &Environment = &settings.environment;
    if environment.get("PROTECTED_REGISTRY_FULCIO_URL").is_some() {
        return Ok(AUDIENCE.to_owned());
    }
    match RelyingParty::Sigstore.variables().into_iter().find(|name| environment.get(name).is_some()) {
        None => Ok(fulcio.audience()),
        Some(name) => {
            let message =
                format!("`{name}` is set, but where the certificate authority is stands only in {FILE_NAME}");
            Err(CommandError::usage(message).advise("set PROTECTED_REGISTRY_FULCIO_URL as well"))
        }
    }
}

fn missing(what: &str, how: &str) -> CommandError {
    CommandError::usage(format!("nothing says {what}"))
        .advise(format!("give {how} under [sign] in {FILE_NAME}, or its variable"))
}

fn read_root(path: &std::path::Path) -> Result<Vec<u8>, CommandError> {
    let doing = format!("the trusted root `{}`", path.display());
    let json =
        read::whole(path).map_err(|error| CommandError::usage(format!("cannot read {doing}: {error}")))?;
    check_root(&json).map_err(|error| CommandError::from_error(Kind::Usage, &doing, &error))?;
    Ok(json)
}

fn check_root(json: &[u8]) -> Result<(), protected_evidence::verify::TrustError> {
    Trust::from_trusted_root(json).map(drop)
}

async fn fetch_root(context: &Context, http: &Client, base: &ServiceUrl) -> Result<Vec<u8>, CommandError> {
    let doing = "asking FractalOps for what verifies its signatures";
    let url = base.join(TRUSTED_ROOT);
    let request = http.get(url).max_bytes(MAX_ROOT_BYTES).retry(protected_http::Retry::standard());
    let answer = context.cancel.or(request.send()).await?.map_err(|error| {
        let kind = if error.is_transient() { Kind::Unavailable } else { Kind::Failed };
        CommandError::from_error(kind, doing, &error).hint(error.hint())
    })?;
    if !answer.is_success() {
        let kind = if answer.status >= 500 { Kind::Unavailable } else { Kind::Failed };
        return Err(CommandError::new(
            kind,
            format!("{doing}: {} answered {}", answer.request(), answer.status),
        ));
    }
    check_root(answer.body()).map_err(|error| CommandError::from_error(Kind::Failed, doing, &error))?;
    Ok(answer.into_body().to_vec())
}

fn failed(doing: &'static str) -> impl Fn(SignError) -> CommandError {
    move |error| {
        let kind = if error.is_transient() {
            Kind::Unavailable
        } else if error.is_refusal() {
            Kind::Refused
        } else {
            Kind::Failed
        };
        CommandError::from_error(kind, doing, &error).hint(error.hint())
    }
}
