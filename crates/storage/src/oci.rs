//! `oci://<host>[:<port>]/<repository>`: a registry that speaks the OCI distribution-spec.
//!
//! On the suite's own HTTP client and not on a crate of its own: a few calls, for which proxy, authorities, size caps,
//! redirects and what an error may repeat are settled there.
//!
//! The bundle's manifest has the bundle id as its tag. Which keys are its current ones says the index under the tag
//! `sha256-<digest>`, the spec's referrers tag schema, also where the registry lists referrers itself: there the older
//! ones stay listed. The signature of the bundle stands in the same index, and that of the keys in the one of the keys, as
//! cosign looks for them. A registry has no conditional write: where two write one name at once the last one wins, which is
//! why what is stored is named by its digest.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use protected_bundle::layout::{
    Blob, Delivery, Digest, IMAGE_MANIFEST, LayoutError, MAX_DOCUMENT_BYTES, Manifests, Receiver,
    blobs_of_bundle, blobs_of_keys, referrers_tag,
    signature::{self, Part, Signatures, blobs_of_signature},
};
use protected_http::{Client, HttpError, Incoming, Request, RequestLine, Retry};
use protected_model::{
    delivery::{ARTIFACT_TYPE, Descriptor, KEYS},
    digest::Sha256,
    secret::{AccessToken, Secret as _},
    service_url::is_secure,
};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    Address, AreaRef, DeliveryRef, Repository, Settings, StorageError, Stored, TokenService, Watch,
    docker_config::{self, Basic},
    error::Refused,
    error::refusal,
    files::{self, Pieces, Sink, Tally},
    source::Source,
};

/// How long a request about metadata may take.
const ATTEMPT: Duration = Duration::from_secs(30);
/// How long a chunk may take: over a line of a megabit a second.
const CHUNK_ATTEMPT: Duration = Duration::from_secs(180);
const RETRY: Retry = Retry { attempts: 5, budget: Duration::from_secs(60) };
/// How much is sent at once, and held in memory.
const CHUNK: usize = 8 << 20;
/// How often a blob is begun again, or read on, after its connection broke.
const TRIES: usize = 5;
/// How much is read of an answer that is no blob.
const MAX_ANSWER: u64 = 1 << 20;
/// The most that an index of referrers may have: the spec bounds manifests so.
const MAX_INDEX: u64 = 4 << 20;
/// What an index is.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Where tokens for a registry are minted, when it is not the registry's own host.
const TOKEN_HOST: &str = "PROTECTED_REGISTRY_OCI_TOKEN_HOST";

/// A repository of a registry.
pub(crate) struct Registry {
    area: AreaRef,
    http: Client,
    base: Url,
    repository: String,
    /// Hosts that tokens may be asked of.
    token_hosts: Vec<String>,
    credential: Option<Basic>,
    token_service: Option<TokenService>,
    /// Whether the last token was asked for as somebody.
    showed: AtomicBool,
    authorization: Mutex<Option<Authorization>>,
}

/// How a request shows who sends it.
#[derive(Clone)]
struct Authorization {
    access: Access,
    how: How,
    until: Option<Instant>,
}

#[derive(Clone)]
enum How {
    Basic(Basic),
    Bearer(AccessToken),
}

/// What is to be done with the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    Pull,
    Push,
}

impl Access {
    /// Returns the actions of a token's scope.
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<AccessToken>,
    access_token: Option<AccessToken>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// An index of what names a manifest as its subject. What others put there stays as it was.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrers {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Vec<serde_json::Value>,
}

pub(crate) fn connect(
    area: &AreaRef,
    repository: &Repository,
    settings: &Settings,
    http: &Client,
) -> Result<Registry, StorageError> {
    let Repository { authority, name } = repository;
    // Docker Hub answers to another name than the one it is called by.
    let host = if authority == "docker.io" { "registry-1.docker.io" } else { authority };
    let wrong = |reason| StorageError::Settings { area: area.clone().into(), reason };
    let at = |scheme| {
        Url::parse(&format!("{scheme}://{host}/")).map_err(|_| wrong("its host is a name or an address"))
    };
    // As Docker does: nobody has certificates for this machine.
    let plain = at("http")?;
    let base = if is_secure(&plain) { plain } else { at("https")? };
    let mut token_hosts: Vec<String> = base.host_str().map(str::to_owned).into_iter().collect();
    if authority == "docker.io" {
        token_hosts.push("auth.docker.io".to_owned());
    }
    token_hosts.extend(settings.environment.get(TOKEN_HOST).map(str::to_owned));
    let credential = docker_config::find(area, authority, &settings.environment)?;
    Ok(Registry {
        area: area.clone(),
        http: http.clone(),
        base,
        repository: name.clone(),
        token_hosts,
        credential,
        token_service: None,
        showed: AtomicBool::new(false),
        authorization: Mutex::new(None),
    })
}

impl Registry {
    /// Has tokens asked for in a session, where the registry has them minted by the service that knows it.
    pub(crate) fn set_token_service(&mut self, service: TokenService) {
        self.token_service = Some(service);
    }

    pub(crate) async fn store(&self, delivery: Delivery, watch: Watch<'_>) -> Result<Stored, StorageError> {
        let delivery = Arc::new(delivery);
        let manifests = delivery.manifests();
        let bundle = &delivery.descriptor().bundle_id;
        let pinned = self.pinned(&manifests.bundle.digest);
        let named = self.area.delivery(bundle);
        // Before anything is sent: what cannot end well costs nothing.
        let tagged = self.manifest(bundle.as_str(), Access::Push, MAX_DOCUMENT_BYTES).await?;
        if let Some((found, _)) = &tagged {
            files::same_bundle(&named, found, &manifests.bundle.digest)?;
        }
        let referrers = self.referrers(&manifests.bundle.digest, Access::Push).await?;
        self.same_referrers(&pinned, &referrers, manifests)?;
        let blobs = files::blobs(&delivery).await?;
        let mut tally = Tally::new(blobs.iter().map(|blob| blob.size).sum(), watch);
        for blob in &blobs {
            self.send(&delivery, blob, &mut tally).await?;
        }
        let mut listed = self.sign_keys(&pinned, manifests).await?;
        // Attack: what was read before a long upload. It would undo what somebody wrapped anew or signed meanwhile.
        let referrers = self.referrers(&manifests.bundle.digest, Access::Push).await?;
        let there = self.same_referrers(&pinned, &referrers, manifests)?;
        let signed = current_signature(&pinned, Part::Bundle, &referrers)?.is_some();
        if !there || !signed && manifests.signatures.bundle.is_some() {
            self.set_keys(&pinned, manifests, referrers).await?;
            // Nothing here can refuse one of two who do so at the same time.
            let referrers = self.referrers(&manifests.bundle.digest, Access::Push).await?;
            self.same_referrers(&pinned, &referrers, manifests)?;
            listed = true;
        }
        tally.count(listed, 0);
        if tagged.is_none() {
            let bytes = self.read_local(&delivery, &manifests.bundle).await?;
            self.put_manifest(bundle.as_str(), IMAGE_MANIFEST, bytes).await?;
        }
        tally.count(tagged.is_none(), 0);
        Ok(tally.stored(pinned))
    }

    pub(crate) async fn replace_keys(
        &self,
        delivery: Delivery,
        read: &Digest,
    ) -> Result<Stored, StorageError> {
        let delivery = Arc::new(delivery);
        let manifests = delivery.manifests();
        let pinned = self.pinned(&manifests.bundle.digest);
        let bundle = manifests.bundle.digest;
        if self.manifest(&bundle.to_string(), Access::Push, MAX_DOCUMENT_BYTES).await?.is_none() {
            return Err(StorageError::NoDelivery(pinned.into()));
        }
        let referrers = self.referrers(&bundle, Access::Push).await?;
        let there = current_keys(&pinned, &referrers)?;
        let mine = there == Some(manifests.keys.digest);
        if let Some(found) = there.filter(|_| !mine) {
            files::same_keys(&pinned, &found, read)?;
        }
        let blobs = files::keys_blobs(&delivery).await?;
        let mut tally = Tally::new(blobs.iter().map(|blob| blob.size).sum(), &|_| ());
        for blob in &blobs {
            self.send(&delivery, blob, &mut tally).await?;
        }
        let signed = self.sign_keys(&pinned, manifests).await?;
        if !mine {
            self.set_keys(&pinned, manifests, referrers).await?;
            // Somebody may have done so at the same time, and nothing here can refuse one of the two.
            let referrers = self.referrers(&bundle, Access::Push).await?;
            if let Some(found) = current_keys(&pinned, &referrers)? {
                files::same_keys(&pinned, &found, &manifests.keys.digest)?;
            }
        }
        tally.count(!mine || signed, 0);
        Ok(tally.stored(pinned))
    }

    pub(crate) async fn fetch(
        &self,
        address: &Address,
        expected: Option<Digest>,
        into: &Path,
        watch: Watch<'_>,
    ) -> Result<(), StorageError> {
        let reference = DeliveryRef { area: self.area.clone(), address: address.clone() };
        let receiver = Arc::new(files::start(into).await?);
        let name = match address {
            Address::Bundle(bundle) => bundle.to_string(),
            Address::Digest(digest) => digest.to_string(),
        };
        let found = self.manifest(&name, Access::Pull, MAX_DOCUMENT_BYTES).await?;
        let (digest, bytes) = found.ok_or_else(|| StorageError::NoDelivery(reference.clone().into()))?;
        if let Address::Digest(wanted) = address {
            files::same_bundle(&reference, &digest, wanted)?;
        }
        if let Some(expected) = expected {
            files::same_bundle(&reference, &digest, &expected)?;
        }
        // Attack: a tag that moves meanwhile. From here on everything is named by its digest.
        let bundle = manifest_blob(digest, &bytes, ARTIFACT_TYPE);
        let bad = |source| StorageError::Bad { delivery: reference.clone().into(), source: Box::new(source) };
        let [config, descriptor, content] = blobs_of_bundle(&bundle, &bytes).map_err(bad)?;
        files::keep(&receiver, &reference, &bundle, bytes).await?;

        let referrers = self.referrers(&bundle.digest, Access::Pull).await?;
        let keys = current_keys(&reference, &referrers)?
            .ok_or_else(|| bad(LayoutError::Form("it has no keys in the registry".to_owned())))?;
        let found = self.manifest(&keys.to_string(), Access::Pull, MAX_DOCUMENT_BYTES).await?;
        let (_, bytes) = found.ok_or_else(|| bad(LayoutError::Form("its keys are not there".to_owned())))?;
        let keys = manifest_blob(keys, &bytes, KEYS);
        let [_, layer] = blobs_of_keys(&keys, &bytes, &bundle).map_err(bad)?;
        files::keep(&receiver, &reference, &keys, bytes).await?;

        self.document(&receiver, &reference, &config).await?;
        self.document(&receiver, &reference, &layer).await?;
        let of_keys = self.referrers(&keys.digest, Access::Pull).await?;
        let signatures = Signatures {
            bundle: current_signature(&reference, Part::Bundle, &referrers)?,
            keys: current_signature(&reference, Part::Keys, &of_keys)?,
        };
        let manifests = Manifests { bundle, keys, signatures };
        for part in Part::ALL {
            let Some(signature) = manifests.signatures.of(part) else { continue };
            let found =
                self.manifest(&signature.digest.to_string(), Access::Pull, MAX_DOCUMENT_BYTES).await?;
            let (_, bytes) =
                found.ok_or_else(|| bad(LayoutError::Form("a signature of it is not there".to_owned())))?;
            let [_, layer] = blobs_of_signature(part, signature, &bytes, manifests.of(part)).map_err(bad)?;
            files::keep(&receiver, &reference, signature, bytes).await?;
            self.document(&receiver, &reference, &layer).await?;
        }
        let bytes = self.document(&receiver, &reference, &descriptor).await?;
        let descriptor =
            Descriptor::parse(&bytes).map_err(|error| bad(LayoutError::Document("descriptor", error)))?;
        self.content(&receiver, &reference, &content, watch).await?;
        let id = match address {
            Address::Bundle(bundle) => bundle.clone(),
            Address::Digest(_) => descriptor.bundle_id,
        };
        files::end(receiver, manifests, id, &reference).await
    }

    fn pinned(&self, digest: &Digest) -> DeliveryRef {
        DeliveryRef { area: self.area.clone(), address: Address::Digest(*digest) }
    }

    /// Fetches a small blob.
    async fn document(
        &self,
        receiver: &Arc<Receiver>,
        reference: &DeliveryRef,
        blob: &Blob,
    ) -> Result<Bytes, StorageError> {
        files::bounded(reference, &blob.path(), blob.size)?;
        let url = self.url(&format!("blobs/{}", blob.digest))?;
        let answer = self
            .ask(Access::Pull, || {
                // What says no may be longer than a small blob. What is too long is seen by its digest.
                let most = blob.size.max(MAX_ANSWER);
                self.http.get(url.clone()).bare_redirects().max_bytes(most).retry(RETRY)
            })
            .await;
        let answer = match answer {
            Err(StorageError::Http { source, .. }) if matches!(*source, HttpError::TooLarge { .. }) => {
                return Err(files::size(reference, blob, "more"));
            }
            answer => answer?,
        };
        let answer = self.expect(answer, &[200]).await?;
        let bytes = match answer.into_body().await {
            Err(HttpError::TooLarge { .. }) => return Err(files::size(reference, blob, "more")),
            bytes => bytes.map_err(|error| self.http_failed(error))?,
        };
        files::keep(receiver, reference, blob, bytes).await
    }

    /// Fetches a large blob, and reads on where a connection broke.
    async fn content(
        &self,
        receiver: &Arc<Receiver>,
        reference: &DeliveryRef,
        blob: &Blob,
        watch: Watch<'_>,
    ) -> Result<(), StorageError> {
        let url = self.url(&format!("blobs/{}", blob.digest))?;
        let mut sink = Sink::new(receiver, reference, blob, watch).await?;
        let mut tries = 0;
        loop {
            let from = sink.done;
            let taken = async {
                let make = || {
                    let request = self.http.get(url.clone()).bare_redirects();
                    let request = request.max_bytes(u64::MAX).timeout(ATTEMPT).retry(RETRY);
                    if from == 0 { request } else { request.header("range", &format!("bytes={from}-")) }
                };
                let answer = self.ask(Access::Pull, make).await?;
                let answer = self.expect(answer, &[200, 206]).await?;
                // Whoever does not know ranges begins anew: what is here already is passed over.
                let begins = answer.header("content-range").and_then(range_start);
                let skip = match (answer.status, begins) {
                    (200, _) => from,
                    (_, Some(begins)) if begins == from => 0,
                    _ => return Err(self.service("the answer has another range than was asked for")),
                };
                sink.take(self.pieces(answer, skip)).await
            }
            .await;
            match taken {
                Err(error) if error.is_transient() && tries < TRIES => {
                    // What makes headway may go on for as long as it does.
                    tries = if sink.done > from { 0 } else { tries + 1 };
                    tracing::debug!(%error, done = sink.done, "reading on");
                }
                taken => {
                    taken?;
                    return sink.end().await;
                }
            }
        }
    }

    fn pieces(&self, answer: Incoming, skip: u64) -> Pieces {
        let area = self.area.clone();
        Box::pin(stream::try_unfold((answer, skip), move |(mut answer, mut skip)| {
            let area = area.clone();
            async move {
                loop {
                    let piece = answer.piece().await;
                    let piece = piece.map_err(|error| http_failed(&area, error))?;
                    let Some(mut piece) = piece else { return Ok(None) };
                    let over = piece.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
                    skip -= over as u64;
                    let rest = piece.split_off(over);
                    if !rest.is_empty() {
                        return Ok(Some((rest, (answer, skip))));
                    }
                }
            }
        }))
    }

    /// Sends a blob or a manifest, unless it is there.
    async fn send(
        &self,
        delivery: &Arc<Delivery>,
        blob: &Blob,
        tally: &mut Tally<'_>,
    ) -> Result<(), StorageError> {
        if blob.media_type == IMAGE_MANIFEST {
            let name = blob.digest.to_string();
            if self.manifest(&name, Access::Push, MAX_DOCUMENT_BYTES).await?.is_some() {
                tally.there(blob.size);
                return Ok(());
            }
            let bytes = self.read_local(delivery, blob).await?;
            self.put_manifest(&name, IMAGE_MANIFEST, bytes).await?;
            tally.sent(blob.size);
            return Ok(());
        }
        let mut tries = 0;
        loop {
            if self.has(blob).await? {
                match tries {
                    0 => tally.there(blob.size),
                    _ => tally.sent(blob.size),
                }
                return Ok(());
            }
            let source = Source::open(delivery, blob).await?;
            match self.upload(source, blob, &|bytes| tally.moved(bytes)).await {
                Err(error) if error.is_transient() && tries + 1 < TRIES => {
                    tracing::debug!(%error, digest = %blob.digest, "sending it anew");
                    tries += 1;
                }
                uploaded => {
                    uploaded?;
                    tally.sent(blob.size);
                    return Ok(());
                }
            }
        }
    }

    /// Returns whether a blob is there. A registry holds it against its digest when it takes it.
    async fn has(&self, blob: &Blob) -> Result<bool, StorageError> {
        let url = self.url(&format!("blobs/{}", blob.digest))?;
        let answer =
            self.ask(Access::Push, || self.http.head(url.clone()).bare_redirects().retry(RETRY)).await?;
        Ok(self.expect(answer, &[200, 404]).await?.status == 200)
    }

    /// Sends a blob in chunks.
    async fn upload(
        &self,
        mut source: Source,
        blob: &Blob,
        sent: files::Sent<'_>,
    ) -> Result<(), StorageError> {
        let url = self.url("blobs/uploads/")?;
        let answer = self.ask(Access::Push, || self.http.post(url.clone()).retry(RETRY)).await?;
        let answer = self.expect(answer, &[202]).await?;
        let mut session = self.session(&answer)?;
        let mut done = 0;
        loop {
            let chunk = source.next(CHUNK).await?;
            if chunk.is_empty() {
                break;
            }
            session = self.send_chunk(session, chunk.clone(), done).await?;
            done += chunk.len() as u64;
            sent(done);
        }
        session.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let answer = self.ask(Access::Push, || self.http.put(session.clone()).timeout(CHUNK_ATTEMPT)).await?;
        self.expect(answer, &[201, 204]).await?;
        Ok(())
    }

    /// Sends a chunk, the rest of it where the registry has a part of it already, and returns where the next one goes.
    async fn send_chunk(&self, mut session: Url, chunk: Bytes, at: u64) -> Result<Url, StorageError> {
        let end = at + chunk.len() as u64;
        let mut from = at;
        let mut broke = None;
        for _ in 0..TRIES {
            let rest = chunk.slice(usize::try_from(from - at).unwrap_or(usize::MAX)..);
            let range = format!("{from}-{}", end - 1);
            let asked = self
                .ask(Access::Push, || {
                    let request = self.http.patch(session.clone()).timeout(CHUNK_ATTEMPT);
                    request.body(rest.clone(), "application/octet-stream").header("content-range", &range)
                })
                .await;
            match asked {
                // It said that the broken upload goes on, and has given it up all the same.
                Ok(answer) if answer.status == 404 && broke.is_some() => break,
                Ok(answer) if answer.status != 416 => {
                    let answer = self.expect(answer, &[202, 204]).await?;
                    return self.session(&answer);
                }
                Err(error) if !error.is_transient() => return Err(error),
                // The connection broke in the middle, or the chunk is there already: the registry says how far it is.
                broken => {
                    let asked =
                        self.ask(Access::Push, || self.http.get(session.clone()).retry(RETRY)).await?;
                    let answer = match broken {
                        // It has given the upload up. Why it was asked is what matters.
                        Err(error) if asked.status != 204 => return Err(error),
                        Err(error) => {
                            broke = Some(error);
                            self.expect(asked, &[204]).await?
                        }
                        Ok(_) => self.expect(asked, &[204]).await?,
                    };
                    session = self.session(&answer)?;
                    let has =
                        answer.header("range").and_then(|range| range.split_once('-')?.1.parse::<u64>().ok());
                    // `0-0` is one byte, or none: who has one byte has it sent again.
                    let has = has.map_or(0, |last| if last == 0 { 0 } else { last.saturating_add(1) });
                    if has == end {
                        return Ok(session);
                    }
                    if has < at || has > end {
                        return Err(self.service("it lost what was sent of a blob"));
                    }
                    from = has;
                }
            }
        }
        Err(broke.unwrap_or_else(|| self.service("it does not take a blob that is sent in chunks")))
    }

    /// Returns where an upload goes on.
    ///
    /// Attack: an address elsewhere, to which content and credential would go.
    fn session(&self, answer: &Incoming) -> Result<Url, StorageError> {
        let location = answer.header("location").and_then(|location| self.base.join(location).ok());
        let location = location.ok_or_else(|| self.service("it does not say where an upload goes"))?;
        if location.origin() == self.base.origin() && location.username().is_empty() {
            return Ok(location);
        }
        let elsewhere = location.origin().ascii_serialization();
        Err(self.service(&format!("it sends uploads to {elsewhere}, which is another server")))
    }

    /// Returns a manifest with the digest of its bytes, if it is there.
    async fn manifest(
        &self,
        name: &str,
        access: Access,
        most: u64,
    ) -> Result<Option<(Digest, Bytes)>, StorageError> {
        let url = self.url(&format!("manifests/{name}"))?;
        let answer = self
            .ask(access, || {
                let request = self.http.get(url.clone()).max_bytes(most).timeout(ATTEMPT).retry(RETRY);
                request.header("accept", &format!("{IMAGE_MANIFEST}, {INDEX}"))
            })
            .await?;
        if answer.status == 404 {
            let refused = self.refused(answer).await;
            // A repository is made by the first that is put into it.
            return match refused {
                StorageError::NoArea { .. } if access == Access::Pull => Err(refused),
                _ => Ok(None),
            };
        }
        let answer = self.expect(answer, &[200]).await?;
        let bytes = answer.into_body().await.map_err(|error| self.http_failed(error))?;
        Ok(Some((Digest(Sha256::of(&bytes)), bytes)))
    }

    async fn put_manifest(&self, name: &str, media_type: &str, bytes: Bytes) -> Result<(), StorageError> {
        let url = self.url(&format!("manifests/{name}"))?;
        let answer = self
            .ask(Access::Push, || {
                self.http.put(url.clone()).body(bytes.clone(), media_type).timeout(ATTEMPT).retry(RETRY)
            })
            .await?;
        self.expect(answer, &[201, 202]).await?;
        Ok(())
    }

    /// Returns what names a manifest as its subject: by the tag, or as the registry lists it.
    async fn referrers(&self, subject: &Digest, access: Access) -> Result<Option<Referrers>, StorageError> {
        if let Some(tagged) = self.tagged_referrers(subject, access).await? {
            return Ok(Some(tagged));
        }
        let url = self.url(&format!("referrers/{subject}"))?;
        let make = || self.http.get(url.clone()).max_bytes(MAX_INDEX).timeout(ATTEMPT).retry(RETRY);
        let answer = self.ask(access, make).await?;
        // Registries from before the list answer 404 to its address.
        if [404, 405].contains(&answer.status) {
            return Ok(None);
        }
        let answer = self.expect(answer, &[200]).await?;
        let bytes = answer.into_body().await.map_err(|error| self.http_failed(error))?;
        let index = serde_json::from_slice(&bytes);
        index.map(Some).map_err(|_| self.service("its list of referrers is no index"))
    }

    /// Returns what the tag says that names a manifest as its subject.
    async fn tagged_referrers(
        &self,
        subject: &Digest,
        access: Access,
    ) -> Result<Option<Referrers>, StorageError> {
        let found = self.manifest(&referrers_tag(subject), access, MAX_INDEX).await?;
        let index = |(digest, bytes): (Digest, Bytes)| {
            serde_json::from_slice(&bytes).unwrap_or_else(|_| {
                // Tools that copy a layout tag the manifest of the keys itself.
                index_of(vec![serde_json::json!(manifest_blob(digest, &bytes, KEYS))])
            })
        };
        Ok(found.map(index))
    }

    /// Refuses other keys of the bundle, or another signature of it, and returns whether it has keys.
    fn same_referrers(
        &self,
        reference: &DeliveryRef,
        referrers: &Option<Referrers>,
        mine: &Manifests,
    ) -> Result<bool, StorageError> {
        let there = current_keys(reference, referrers)?;
        if let Some(found) = &there {
            files::same_keys(reference, found, &mine.keys.digest)?;
        }
        self.same_signature(reference, Part::Bundle, referrers, mine)?;
        Ok(there.is_some())
    }

    fn same_signature(
        &self,
        reference: &DeliveryRef,
        part: Part,
        referrers: &Option<Referrers>,
        mine: &Manifests,
    ) -> Result<(), StorageError> {
        let there = current_signature(reference, part, referrers)?;
        files::same_signature(reference, part, there.as_ref(), mine.signatures.of(part))
    }

    /// Makes these the keys of the bundle, and its signature the signature where there is none.
    async fn set_keys(
        &self,
        reference: &DeliveryRef,
        manifests: &Manifests,
        referrers: Option<Referrers>,
    ) -> Result<(), StorageError> {
        let signed = current_signature(reference, Part::Bundle, &referrers)?;
        let mut listed = referrers.map(|referrers| referrers.manifests).unwrap_or_default();
        listed.retain(|entry| !is_keys(entry));
        listed.push(serde_json::json!(manifests.keys));
        if let (None, Some(signature)) = (signed, &manifests.signatures.bundle) {
            listed.push(serde_json::json!(signature::listed(Part::Bundle, signature)));
        }
        self.set_referrers(&manifests.bundle.digest, listed).await
    }

    /// Lists the signature of the keys as what refers to these, and returns whether it was not listed.
    async fn sign_keys(&self, reference: &DeliveryRef, manifests: &Manifests) -> Result<bool, StorageError> {
        let Some(signature) = &manifests.signatures.keys else { return Ok(false) };
        // By the tag alone: where the registry lists what it has itself, it may list several.
        let referrers = self.tagged_referrers(&manifests.keys.digest, Access::Push).await?;
        if current_signature(reference, Part::Keys, &referrers)?.is_some() {
            self.same_signature(reference, Part::Keys, &referrers, manifests)?;
            return Ok(false);
        }
        let mut listed = referrers.map(|referrers| referrers.manifests).unwrap_or_default();
        listed.push(serde_json::json!(signature::listed(Part::Keys, signature)));
        self.set_referrers(&manifests.keys.digest, listed).await?;
        Ok(true)
    }

    async fn set_referrers(
        &self,
        subject: &Digest,
        listed: Vec<serde_json::Value>,
    ) -> Result<(), StorageError> {
        let index = protected_model::integrity::canonical(&index_of(listed));
        self.put_manifest(&referrers_tag(subject), INDEX, index.into()).await
    }

    async fn read_local(&self, delivery: &Arc<Delivery>, blob: &Blob) -> Result<Bytes, StorageError> {
        let mut source = Source::open(delivery, blob).await?;
        source.next(usize::try_from(blob.size).unwrap_or(usize::MAX)).await
    }

    fn url(&self, path: &str) -> Result<Url, StorageError> {
        let url = self.base.join(&format!("v2/{}/{path}", self.repository));
        url.map_err(|_| self.service("the name of the repository makes no URL"))
    }

    /// Sends a request, and logs in first where the registry wants that.
    async fn ask(&self, access: Access, make: impl Fn() -> Request) -> Result<Incoming, StorageError> {
        let mut challenged = false;
        loop {
            let request = match self.authorization(access) {
                Some(How::Basic(basic)) => make().secret_header("authorization", basic.header()),
                Some(How::Bearer(token)) => make().bearer(&token),
                None => make(),
            };
            let answer = request.open().await.map_err(|error| self.http_failed(error))?;
            let challenge = answer.header("www-authenticate").filter(|_| answer.status == 401);
            let Some(challenge) = challenge.map(str::to_owned) else { return Ok(answer) };
            if challenged {
                // A fresh token, and a good one, that allows less than was asked for (RFC 6750 section 3.1).
                let less = parameter(&challenge, "error").is_some_and(|error| error == "insufficient_scope");
                return if less { Err(self.not_allowed(access)) } else { Ok(answer) };
            }
            if !self.log_in(&challenge, access).await? {
                return Ok(answer);
            }
            challenged = true;
        }
    }

    fn authorization(&self, access: Access) -> Option<How> {
        let held = self.authorization.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let held = held.as_ref().filter(|held| held.access >= access)?;
        held.until.is_none_or(|until| until > Instant::now()).then(|| held.how.clone())
    }

    /// Does what a challenge asks for (RFC 9110 section 11.6.1), and returns whether that can help.
    async fn log_in(&self, challenge: &str, access: Access) -> Result<bool, StorageError> {
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        let (how, until) = if scheme.eq_ignore_ascii_case("basic") {
            let Some(basic) = self.credential.clone() else { return Ok(false) };
            (How::Basic(basic), None)
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let token = self.token(rest, access).await?;
            // A minute where nothing is said (Docker, token authentication), and never the last five seconds of it.
            let lives = Duration::from_secs(token.expires_in.unwrap_or(60).saturating_sub(5));
            // By either name, or by both.
            let bearer = token.token.or(token.access_token);
            let bearer = bearer.ok_or_else(|| self.service("its answer has no token"))?;
            (How::Bearer(bearer), Instant::now().checked_add(lives))
        } else {
            return Ok(false);
        };
        let mut held = self.authorization.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *held = Some(Authorization { access, how, until });
        Ok(true)
    }

    /// Asks for a token (Docker, token authentication).
    async fn token(&self, challenge: &str, access: Access) -> Result<Token, StorageError> {
        let realm = parameter(challenge, "realm").and_then(|realm| Url::parse(&realm).ok());
        let mut realm = realm.ok_or_else(|| self.service("it does not say where tokens are"))?;
        // Attack: a registry that sends the password to a host of its choice.
        let host = realm.host_str().unwrap_or_default();
        let service = parameter(challenge, "service");
        // Attack: a registry that has the password of its clients sent to FractalOps, where a session is to be shown.
        let session = match &self.credential {
            Some(_) => None,
            None => self.session_for(&realm, service.as_deref()),
        };
        let known = session.is_some() || self.token_hosts.iter().any(|allowed| allowed == host);
        if !known || !is_secure(&realm) {
            let realm = realm.origin().ascii_serialization();
            return Err(StorageError::TokenHost { area: self.area.clone().into(), realm });
        }
        // What is asked for is what is needed, whatever the challenge says.
        let scope = format!("repository:{}:{}", self.repository, access.actions());
        if let Some(service) = &service {
            realm.query_pairs_mut().append_pair("service", service);
        }
        realm.query_pairs_mut().append_pair("scope", &scope);
        let mut request = self.http.get(realm).max_bytes(MAX_ANSWER).timeout(ATTEMPT).retry(RETRY);
        if let Some(basic) = &self.credential {
            request = request.secret_header("authorization", basic.header());
        }
        if let Some(session) = session {
            request = request.bearer(session);
        }
        self.showed.store(self.credential.is_some() || session.is_some(), Ordering::SeqCst);
        let answer = request.send().await.map_err(|error| self.http_failed(error))?;
        if !answer.is_success() {
            return Err(self.said_no(answer.status, answer.request(), answer.body()));
        }
        answer.json().map_err(|error| self.http_failed(error))
    }

    /// Returns the session in which a token is asked for there.
    ///
    /// Attack: a registry that sends its clients to our service for a token of another registry, and keeps it. The
    /// service mints for the audience that is named, so it is only asked for the registry that is spoken to.
    fn session_for(&self, realm: &Url, service: Option<&str>) -> Option<&AccessToken> {
        let known = self.token_service.as_ref()?;
        let AreaRef::Oci(Repository { authority, .. }) = &self.area else { return None };
        (known.url == *realm && service == Some(authority)).then_some(&known.session)
    }

    fn not_allowed(&self, access: Access) -> StorageError {
        let known = self.showed.load(Ordering::SeqCst);
        StorageError::NotAllowed { area: self.area.clone().into(), actions: access.actions(), known }
    }

    async fn expect(&self, answer: Incoming, statuses: &[u16]) -> Result<Incoming, StorageError> {
        if statuses.contains(&answer.status) { Ok(answer) } else { Err(self.refused(answer).await) }
    }

    async fn refused(&self, mut answer: Incoming) -> StorageError {
        let (status, request) = (answer.status, answer.request().clone());
        let said = refusal(&mut answer).await;
        self.said_no(status, &request, &said)
    }

    fn said_no(&self, status: u16, request: &RequestLine, said: &[u8]) -> StorageError {
        let area = Box::new(self.area.clone());
        let refused = Refused::by_registry(status, request, said).without(&self.secrets());
        if refused.is_of_no_area() {
            return StorageError::NoArea { area, said: refused.said() };
        }
        StorageError::Refused { area, refused }
    }

    /// Returns what no message may repeat.
    fn secrets(&self) -> Vec<String> {
        let held = self.authorization.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let bearer = held.as_ref().and_then(|held| match &held.how {
            How::Bearer(token) => Some(token.reveal().to_owned()),
            How::Basic(_) => None,
        });
        let session = self.token_service.iter().map(|service| service.session.reveal().to_owned());
        self.credential.iter().flat_map(Basic::secrets).chain(bearer).chain(session).collect()
    }

    fn service(&self, said: &str) -> StorageError {
        StorageError::Service { area: self.area.clone().into(), said: crate::error::one_line(said) }
    }

    fn http_failed(&self, error: HttpError) -> StorageError {
        http_failed(&self.area, error)
    }
}

fn http_failed(area: &AreaRef, error: HttpError) -> StorageError {
    StorageError::Http { area: area.clone().into(), source: Arc::new(error) }
}

fn index_of(manifests: Vec<serde_json::Value>) -> Referrers {
    Referrers { schema_version: 2, media_type: INDEX.to_owned(), manifests }
}

fn is_keys(entry: &serde_json::Value) -> bool {
    entry.get("artifactType").and_then(serde_json::Value::as_str) == Some(KEYS)
}

/// Returns the keys of a bundle. What else refers to it is others'.
fn current_keys(
    reference: &DeliveryRef,
    referrers: &Option<Referrers>,
) -> Result<Option<Digest>, StorageError> {
    let Some(referrers) = referrers else { return Ok(None) };
    let mut found = referrers.manifests.iter().filter(|entry| is_keys(entry));
    let (first, second) = (found.next(), found.next());
    let why = match (first, second) {
        (None, _) => return Ok(None),
        (Some(entry), None) => match serde_json::from_value::<Blob>(entry.clone()) {
            Ok(blob) => return Ok(Some(blob.digest)),
            Err(_) => "its keys have no digest",
        },
        (Some(_), Some(_)) => "more than one document of keys refers to it, and no tag says which is current",
    };
    let source = Box::new(LayoutError::Form(why.to_owned()));
    Err(StorageError::Bad { delivery: reference.clone().into(), source })
}

/// Returns the signature of a part among what refers to it. What else others signed about it is passed over.
fn current_signature(
    reference: &DeliveryRef,
    part: Part,
    referrers: &Option<Referrers>,
) -> Result<Option<Blob>, StorageError> {
    let listed = referrers.iter().flat_map(|referrers| &referrers.manifests);
    let listed: Vec<Blob> = listed.filter_map(|entry| serde_json::from_value(entry.clone()).ok()).collect();
    Signatures::find(part, &listed)
        .map_err(|source| StorageError::Bad { delivery: reference.clone().into(), source: Box::new(source) })
}

fn manifest_blob(digest: Digest, bytes: &[u8], artifact_type: &str) -> Blob {
    Blob {
        media_type: IMAGE_MANIFEST.to_owned(),
        digest,
        size: bytes.len() as u64,
        artifact_type: Some(artifact_type.to_owned()),
        annotations: std::collections::BTreeMap::new(),
    }
}

/// Returns where a range begins: `bytes 100-199/200`.
fn range_start(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// Returns a parameter of a challenge: `name="value"`, or without quotes.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').map_or((after, ""), |(value, next)| (value.trim_end(), next)),
        };
        if key.trim_matches([' ', ',']).eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_challenges() {
        let challenge = r#"realm="https://auth.example/token?a=b",service="registry.example", scope="repository:a/b:pull,push" ,error=x"#;
        let read = |name| parameter(challenge, name);
        assert_eq!(read("realm").as_deref(), Some("https://auth.example/token?a=b"));
        assert_eq!(read("Service").as_deref(), Some("registry.example"));
        assert_eq!(read("scope").as_deref(), Some("repository:a/b:pull,push"));
        assert_eq!(read("error").as_deref(), Some("x"));
        for bad in ["", "realm", "realm=\"x", "=", ",,,"] {
            assert_eq!(parameter(bad, "realm"), None, "{bad}");
        }
        assert_eq!(range_start("bytes 10-19/20"), Some(10));
        assert_eq!(range_start("bytes */20"), None);
    }
}
