//! The endpoints.

use std::time::Duration;

use bytes::Bytes;
use protected_http::{Client, Request, Response, Retry};
use protected_model::{
    action::Action,
    api::{
        audit::{self, AuditPage},
        build::{self, BuildRecordRequest, BuildRecordResponse},
        delivery::{self, Bundle, Grant, GrantRequest},
        evidence::{
            self, AttachmentRequest, AttachmentResponse, EvidenceManifest, EvidencePage, EvidenceRecord,
        },
        npm_token::{self, NpmTokenRequest, NpmTokenResponse},
        oauth::{self, Metadata, TokenExchangeResponse},
        problem::{CORRELATION_HEADER, IDEMPOTENCY_HEADER},
    },
    delivery::DeliveryManifest,
    digest::Sha256,
    name::{BundleId, PackageName, ProjectSlug},
    secret::{AccessToken, IdToken, Secret},
    service_url::ServiceUrl,
    version::PackageVersion,
};
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use crate::error::{FractalOpsError, Oddity, judge};

/// Where the service says whether it is up, below the base URL.
const HEALTH_PATH: &str = "healthz";
/// How long one attempt may take: a service that stalls is asked again while there is time.
const ATTEMPT: Duration = Duration::from_secs(8);
/// All attempts of one call fall within the minute for which the server remembers an `Idempotency-Key`: later
/// ones would be new requests, and the ID token would count as used before.
const RETRY: Retry = Retry { attempts: 7, budget: Duration::from_secs(45) };
/// Revoking happens while the runner waits to end the job.
const REVOKE_ATTEMPT: Duration = Duration::from_secs(2);
/// See [`REVOKE_ATTEMPT`].
const REVOKE_RETRY: Retry = Retry { attempts: 4, budget: Duration::from_secs(8) };
/// How many pages are read of one list.
const MAX_PAGES: usize = 100;
/// How long documents may be on their way.
const DOCUMENTS_ATTEMPT: Duration = Duration::from_secs(60);
/// Documents that are sent again are known by their digests, at any time.
const DOCUMENTS_RETRY: Retry = Retry { attempts: 5, budget: Duration::from_secs(180) };
/// The largest document that is read.
const MAX_DOCUMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The control plane, as one command sees it.
#[derive(Clone)]
pub struct FractalOps {
    http: Client,
    base: ServiceUrl,
    correlation_id: String,
}

/// Which audit events are wanted.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Of one project only.
    pub project_slug: Option<ProjectSlug>,
    /// From this page on.
    pub cursor: Option<String>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// Which evidence is wanted; all that the caller may see when nothing is said.
#[derive(Clone, Debug, Default)]
pub struct EvidenceQuery<'a> {
    /// About one package only.
    pub package: Option<&'a PackageName>,
    /// About one version only.
    pub version: Option<&'a PackageVersion>,
    /// Of one type only, such as `sbom`.
    pub kind: Option<&'a str>,
    /// Of one build only.
    pub build_id: Option<&'a str>,
    /// Of one run only.
    pub run_id: Option<&'a str>,
    /// Of one commit only.
    pub commit: Option<&'a str>,
    /// One document only.
    pub sha256: Option<Sha256>,
}

impl FractalOps {
    /// Makes a client of the service at `base`. `correlation_id` goes along with every request.
    pub fn new(http: Client, base: ServiceUrl, correlation_id: String) -> Self {
        Self { http, base, correlation_id }
    }

    /// Returns the service's base URL.
    pub fn base(&self) -> &ServiceUrl {
        &self.base
    }

    /// Reads what the service says about itself (RFC 8414).
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn metadata(&self) -> Result<Metadata, FractalOpsError> {
        self.read(self.get(oauth::METADATA_PATH)).await
    }

    /// Asks whether the service is up.
    ///
    /// # Errors
    /// When it is not, or is not FractalOps.
    pub async fn health(&self) -> Result<(), FractalOpsError> {
        self.send(self.get(HEALTH_PATH)).await.map(|_| ())
    }

    /// Exchanges a CI platform's ID token for a CI session token (RFC 8693). A dry run decides and mints nothing.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn exchange(
        &self,
        id_token: &IdToken,
        scope: Option<&str>,
        dry_run: bool,
    ) -> Result<TokenExchangeResponse, FractalOpsError> {
        let mut form = vec![
            ("grant_type", oauth::GRANT_TYPE),
            ("subject_token", id_token.reveal()),
            ("subject_token_type", oauth::ID_TOKEN_TYPE),
            ("requested_token_type", oauth::ACCESS_TOKEN_TYPE),
            ("audience", "fractalops"),
            ("client_id", oauth::CLIENT_ID),
        ];
        form.extend(scope.map(|scope| ("scope", scope)));
        if dry_run {
            form.push(("dry_run", "true"));
        }
        let answer = self.send(self.post(oauth::TOKEN_PATH)?.form(&form)).await?;
        let exchange: TokenExchangeResponse = self.parse(&answer)?;
        self.check_token(&answer, &exchange.token_type, exchange.access_token.is_some(), dry_run)?;
        Ok(exchange)
    }

    /// Asks for an npm token for one package.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn npm_token(
        &self,
        token: &AccessToken,
        request: &NpmTokenRequest,
    ) -> Result<NpmTokenResponse, FractalOpsError> {
        let answer = self.send(self.post(npm_token::PATH)?.bearer(token).json(request)).await?;
        let minted: NpmTokenResponse = self.parse(&answer)?;
        self.check_token(&answer, &minted.token_type, minted.token.is_some(), request.dry_run)?;
        let missing: Vec<Action> = request
            .action_mode
            .actions()
            .iter()
            .copied()
            .filter(|action| !minted.allowed_actions.contains(action))
            .collect();
        match missing.first() {
            Some(action) => Err(self.odd(&answer, Oddity::MissingAction(*action))),
            None => Ok(minted),
        }
    }

    /// Puts a hardened build on record.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn record_build(
        &self,
        token: &AccessToken,
        request: &BuildRecordRequest,
    ) -> Result<BuildRecordResponse, FractalOpsError> {
        self.read(self.post(build::PATH)?.bearer(token).json(request)).await
    }

    /// Revokes a token of ours (RFC 7009), whatever its kind.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn revoke(&self, token: &impl Secret) -> Result<(), FractalOpsError> {
        let form =
            [("token", token.reveal()), ("token_type_hint", "access_token"), ("client_id", oauth::CLIENT_ID)];
        let request = self.post(oauth::REVOKE_PATH)?.form(&form).timeout(REVOKE_ATTEMPT).retry(REVOKE_RETRY);
        self.send(request).await.map(|_| ())
    }

    /// Lists audit events, oldest first.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn audit(&self, token: &impl Secret, query: &AuditQuery) -> Result<AuditPage, FractalOpsError> {
        let limit = query.limit.map(|limit| limit.to_string());
        let path = with_query(
            audit::PATH,
            &[
                ("project_slug", query.project_slug.as_ref().map(ProjectSlug::as_str)),
                ("cursor", query.cursor.as_deref()),
                ("limit", limit.as_deref()),
            ],
        );
        self.read(self.get(&path).bearer(token)).await
    }

    /// Lists the evidence about a package, or about one version of it, newest first.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn evidence(
        &self,
        token: &impl Secret,
        package: &PackageName,
        version: Option<&PackageVersion>,
    ) -> Result<Vec<EvidenceRecord>, FractalOpsError> {
        let query = EvidenceQuery { package: Some(package), version, ..EvidenceQuery::default() };
        self.find_evidence(token, &query).await
    }

    /// Lists the evidence that is asked for, newest first.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn find_evidence(
        &self,
        token: &impl Secret,
        query: &EvidenceQuery<'_>,
    ) -> Result<Vec<EvidenceRecord>, FractalOpsError> {
        let version = query.version.map(ToString::to_string);
        let sha256 = query.sha256.map(|it| it.to_string());
        let mut records = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let path = with_query(
                evidence::PATH,
                &[
                    ("package_name", query.package.map(PackageName::as_str)),
                    ("version", version.as_deref()),
                    ("type", query.kind),
                    ("build_id", query.build_id),
                    ("run_id", query.run_id),
                    ("commit", query.commit),
                    ("sha256", sha256.as_deref()),
                    ("cursor", cursor.as_deref()),
                ],
            );
            let answer = self.send(self.get(&path).bearer(token)).await?;
            let page: EvidencePage = self.parse(&answer)?;
            records.extend(page.items);
            match page.next_cursor {
                None => return Ok(records),
                same if same == cursor => return Err(self.odd(&answer, Oddity::Endless)),
                next => cursor = next,
            }
        }
        Ok(records)
    }

    /// Attaches documents to a version. What is on record already keeps its record.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn attach_evidence(
        &self,
        token: &AccessToken,
        request: &AttachmentRequest,
    ) -> Result<AttachmentResponse, FractalOpsError> {
        let request = self.post(evidence::ATTACHMENTS_PATH)?.bearer(token).json(request);
        let answer = self.send(request.timeout(DOCUMENTS_ATTEMPT).retry(DOCUMENTS_RETRY)).await?;
        self.parse(&answer)
    }

    /// Reads the document of a record, and checks that it is the one that the record names.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn evidence_content(
        &self,
        token: &impl Secret,
        record: &EvidenceRecord,
    ) -> Result<Bytes, FractalOpsError> {
        // Below our own base URL: a token goes nowhere because a document says so.
        let path = format!("{}/{}/content", evidence::PATH, record.id);
        let request = self.get(&path).bearer(token).header("accept", "*/*");
        let request = request.max_bytes(MAX_DOCUMENT_BYTES).timeout(DOCUMENTS_ATTEMPT).retry(DOCUMENTS_RETRY);
        let answer = self.send(request).await?;
        let actual = Sha256::of(answer.body());
        if actual != record.sha256 {
            return Err(self.odd(&answer, Oddity::OtherDocument { expected: record.sha256, actual }));
        }
        Ok(answer.body().clone())
    }

    /// Reads the manifest of everything that is on record about a version, and checks that it is whole.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn evidence_manifest(
        &self,
        token: &impl Secret,
        package: &PackageName,
        version: &PackageVersion,
    ) -> Result<EvidenceManifest, FractalOpsError> {
        let version = version.to_string();
        let query = [("package_name", Some(package.as_str())), ("version", Some(version.as_str()))];
        let answer = self.send(self.get(&with_query(evidence::MANIFEST_PATH, &query)).bearer(token)).await?;
        let manifest: EvidenceManifest = self.parse(&answer)?;
        if manifest.is_whole() { Ok(manifest) } else { Err(self.odd(&answer, Oddity::TornManifest)) }
    }

    /// Puts a sealed delivery on record. What is on record with the same manifest stays as it is.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn register_delivery(
        &self,
        token: &AccessToken,
        manifest: &DeliveryManifest,
    ) -> Result<Bundle, FractalOpsError> {
        // A delivery of many files has a manifest of megabytes, and is known again by its content at any time.
        let request = self.post(delivery::BUNDLES_PATH)?.bearer(token).json(manifest);
        let answer = self.send(request.timeout(DOCUMENTS_ATTEMPT).retry(DOCUMENTS_RETRY)).await?;
        let recorded: Bundle = self.parse(&answer)?;
        if recorded.manifest == *manifest {
            Ok(recorded)
        } else {
            Err(self.odd(&answer, Oddity::OtherDelivery))
        }
    }

    /// Reads a delivery with its grants.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn delivery(&self, token: &impl Secret, id: &BundleId) -> Result<Bundle, FractalOpsError> {
        let answer = self.send(self.get(&format!("{}/{id}", delivery::BUNDLES_PATH)).bearer(token)).await?;
        let found: Bundle = self.parse(&answer)?;
        if found.manifest.bundle_id == *id {
            Ok(found)
        } else {
            Err(self.odd(&answer, Oddity::OtherDelivery))
        }
    }

    /// Records that somebody may open a delivery. The same grant is recorded once.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn grant_delivery(
        &self,
        token: &AccessToken,
        request: &GrantRequest,
    ) -> Result<Grant, FractalOpsError> {
        let answer = self.send(self.post(delivery::GRANTS_PATH)?.bearer(token).json(request)).await?;
        let grant: Grant = self.parse(&answer)?;
        // Attack: a grant on another key, an older one perhaps, that would be taken for the one that was just given.
        let on_key = request.key_ref.as_ref().is_none_or(|key| grant.is_on(key));
        if on_key && (&grant.bundle_id, &grant.grantee) == (&request.bundle_id, &request.grantee) {
            Ok(grant)
        } else {
            Err(self.odd(&answer, Oddity::OtherDelivery))
        }
    }

    /// Takes a grant back. One that is revoked already stays as it is.
    ///
    /// # Errors
    /// See [`FractalOpsError`].
    pub async fn revoke_grant(&self, token: &AccessToken, id: &str) -> Result<Grant, FractalOpsError> {
        let request = self.http.delete(self.base.join(&format!("{}/{id}", delivery::GRANTS_PATH)));
        self.read(self.common(request).bearer(token)).await
    }

    fn get(&self, path: &str) -> Request {
        self.common(self.http.get(self.base.join(path)))
    }

    /// Starts a POST with an `Idempotency-Key` of its own, which stays the same over its retries.
    fn post(&self, path: &str) -> Result<Request, FractalOpsError> {
        let mut key = [0_u8; 16];
        getrandom::fill(&mut key).map_err(FractalOpsError::Randomness)?;
        let request = self.http.post(self.base.join(path));
        Ok(self.common(request.header(IDEMPOTENCY_HEADER, &hex::encode(key))))
    }

    fn common(&self, request: Request) -> Request {
        request
            .header(CORRELATION_HEADER, &self.correlation_id)
            .header("accept", "application/json")
            .timeout(ATTEMPT)
            .retry(RETRY)
    }

    async fn send(&self, request: Request) -> Result<Response, FractalOpsError> {
        judge(request.send().await?, &self.base, &self.correlation_id)
    }

    async fn read<T: DeserializeOwned>(&self, request: Request) -> Result<T, FractalOpsError> {
        let answer = self.send(request).await?;
        self.parse(&answer)
    }

    fn parse<T: DeserializeOwned>(&self, answer: &Response) -> Result<T, FractalOpsError> {
        answer.json().map_err(|error| self.odd(answer, Oddity::of_body(answer, error)))
    }

    fn check_token(
        &self,
        answer: &Response,
        token_type: &str,
        present: bool,
        dry_run: bool,
    ) -> Result<(), FractalOpsError> {
        let oddity = if present == dry_run {
            if dry_run { Oddity::TokenFromDryRun } else { Oddity::NoToken }
        } else if !token_type.eq_ignore_ascii_case("bearer") {
            Oddity::TokenType
        } else {
            return Ok(());
        };
        Err(self.odd(answer, oddity))
    }

    fn odd(&self, answer: &Response, oddity: Oddity) -> FractalOpsError {
        FractalOpsError::unexpected(answer, &self.base, oddity)
    }
}

/// Appends those of `pairs` that have a value.
fn with_query(path: &str, pairs: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}
