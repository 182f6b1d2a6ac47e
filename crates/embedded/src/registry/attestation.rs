//! What is said and signed about a version: by whom built it, by the registry that admitted it.

use axum::response::Response;
use protected_model::{api::problem::Code, digest::Sha256, version::PackageVersion};

use super::{
    Request,
    read::{json, nothing_yet},
    row::Attestation,
};
use crate::{
    problem::{Answer, Refusal},
    store::StoreError,
};

/// Answers what stock npm can verify of a version.
pub(super) async fn for_npm(request: &Request<'_>, version: &PackageVersion) -> Answer {
    answer(request, version, |attestation| attestation.npm).await
}

/// Answers everything that is attested about a version.
pub(super) async fn all(request: &Request<'_>, version: &PackageVersion) -> Answer {
    answer(request, version, |_| true).await
}

async fn answer(
    request: &Request<'_>,
    version: &PackageVersion,
    is_wanted: impl Fn(&Attestation) -> bool,
) -> Answer<Response> {
    let package = request.place.package();
    let documents = request.registry.documents(request.app, request.repository, &request.place).await?;
    let documents = documents.ok_or_else(|| nothing_yet(package))?;
    let Some(attestations) = documents.attestations.get(version) else {
        return Err(Refusal::new(Code::NOT_FOUND, format!("{package} has no version {version}")));
    };
    let wanted: Vec<Attestation> = attestations.iter().filter(|it| is_wanted(it)).cloned().collect();
    if wanted.is_empty() {
        let message = format!("there is no attestation of {package}@{version} at this path");
        return Err(Refusal::new(Code::NOT_FOUND, message));
    }
    let blobs = request.app.store.blobs().clone();
    let read = tokio::task::spawn_blocking(move || {
        let one = |attestation: &Attestation| {
            let bytes = blobs.get(&attestation.sha256)?;
            if Sha256::of(&bytes) != attestation.sha256 {
                return Err(StoreError::Corrupt(format!("a blob that is not {}", attestation.sha256)));
            }
            let corrupt = |error: serde_json::Error| StoreError::Corrupt(format!("no bundle: {error}"));
            // A predicate type is admitted as text, so it is written as JSON again; a bundle goes out byte for byte.
            let predicate_type = serde_json::to_string(&attestation.predicate_type).map_err(corrupt)?;
            let bundle = String::from_utf8_lossy(&bytes);
            Ok(format!(r#"{{"predicateType":{predicate_type},"bundle":{bundle}}}"#))
        };
        wanted.iter().map(one).collect::<Result<Vec<String>, StoreError>>()
    });
    let bundles = read.await.unwrap_or(Err(StoreError::GivenUp))?;
    Ok(json(format!(r#"{{"attestations":[{}]}}"#, bundles.join(","))))
}
