//! What is read of a package: packument, one version, tarball, dist-tags.

use std::{io, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use futures_util::stream;
use protected_model::{api::problem::Code, name::PackageName, version::PackageVersion};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::{
    Request,
    packument::{ABBREVIATED_TYPE, Rendered, Representation},
    row::Artifact,
};
use crate::{
    problem::{Answer, Refusal},
    store::StoreError,
};

/// Nothing here is for anybody but the bearer of the token, and no store keeps it beyond the token's life.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-store");
/// What an answer depends on.
const VARY: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding, Authorization");
/// A piece of a tarball on its way from the disk.
const PIECE_BYTES: usize = 64 << 10;

/// Answers the packument in the form that the client asks for.
pub(super) async fn packument(request: &Request<'_>) -> Answer {
    let documents = documents(request).await?;
    let (form, media_type) = if wants_abbreviated(request.headers) {
        (&documents.abbreviated, ABBREVIATED_TYPE)
    } else {
        (&documents.full, "application/json")
    };
    Ok(representation(request.headers, form, media_type))
}

/// Answers the metadata of one version, by its number or a tag.
pub(super) async fn version(request: &Request<'_>, wanted: &str) -> Answer {
    let documents = documents(request).await?;
    let found = documents.version(wanted).cloned();
    found.map(json).ok_or_else(|| {
        Refusal::new(Code::NOT_FOUND, format!("{} has no such version or tag", request.place.package()))
    })
}

/// Answers the dist-tags.
pub(super) async fn tags(request: &Request<'_>) -> Answer {
    Ok(json(documents(request).await?.tags.clone()))
}

/// Answers that the package is not public, so that npm attaches no public provenance of its own accord.
pub(super) fn visibility() -> Response {
    json(Bytes::from_static(br#"{"public":false}"#))
}

/// Answers a tarball, and records the install.
pub(super) async fn tarball(request: &Request<'_>, version: &PackageVersion) -> Answer {
    let documents = documents(request).await?;
    let package = request.place.package();
    let Some(artifact) = documents.artifacts.get(version).copied() else {
        return Err(Refusal::new(Code::NOT_FOUND, format!("{package} has no version {version}")));
    };
    if let Some(claims) = request.claims()
        && request.registry.is_first_install(&claims.jti, &version.to_string())
    {
        let mut event = request.event("registry.install");
        event.0.target.version = Some(version.clone());
        request.app.gathered.record(event).await;
    }
    // Content-addressed: the digest is the tag of the entity for good.
    let etag = HeaderValue::from_str(&format!("\"{}\"", artifact.integrity))
        .unwrap_or(HeaderValue::from_static("\"\""));
    if matches(request.headers, &[&etag]) {
        return Ok(not_modified(etag));
    }
    let body = match request.registry.tarball(request.app, artifact.sha256, artifact.size_bytes).await? {
        Some(bytes) => Body::from(bytes),
        None => file(request, &artifact).await?,
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(artifact.size_bytes));
    headers.insert(header::ETAG, etag);
    private(headers);
    Ok(response)
}

/// Opens a tarball that is too large for the memory and sends it piece by piece.
async fn file(request: &Request<'_>, artifact: &Artifact) -> Answer<Body> {
    let path = request.app.store.blobs().path(&artifact.sha256);
    let file = File::open(&path).await.map_err(|source| StoreError::File { doing: "read", path, source })?;
    let pieces = stream::unfold(Some(file), |file| async move {
        let mut file = file?;
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        match (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(Bytes::from(piece)), Some(file))),
            Err(error) => Some((Err::<_, io::Error>(error), None)),
        }
    });
    Ok(Body::from_stream(pieces))
}

async fn documents(request: &Request<'_>) -> Answer<Arc<Rendered>> {
    let found = request.registry.documents(request.app, request.repository, &request.place).await?;
    found.ok_or_else(|| nothing_yet(request.place.package()))
}

pub(super) fn nothing_yet(package: &PackageName) -> Refusal {
    Refusal::new(Code::NOT_FOUND, format!("no version of {package} is published here yet"))
}

fn representation(headers: &HeaderMap, form: &Representation, media_type: &'static str) -> Response {
    let gzip = wants_gzip(headers);
    let etag = if gzip { &form.gzip_etag } else { &form.etag };
    // The client may ask with the tag that it got under another encoding: the content is the same.
    if matches(headers, &[&form.etag, &form.gzip_etag]) {
        return not_modified(etag.clone());
    }
    let mut response = Response::new(Body::from(if gzip { form.gzip.clone() } else { form.plain.clone() }));
    let headers = response.headers_mut();
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::ETAG, etag.clone());
    private(headers);
    response
}

fn not_modified(etag: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(header::ETAG, etag);
    private(response.headers_mut());
    response
}

/// Makes a JSON answer for the bearer of the token alone.
pub(super) fn json(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    private(response.headers_mut());
    response
}

fn private(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    headers.insert(header::VARY, VARY);
}

/// Returns whether one of `etags` is named in `If-None-Match` (RFC 9110 section 13.1.2).
fn matches(headers: &HeaderMap, etags: &[&HeaderValue]) -> bool {
    let named = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|named| {
        let named = named.trim();
        let named = named.strip_prefix("W/").unwrap_or(named);
        named == "*" || etags.iter().any(|etag| *etag == named)
    })
}

/// Returns whether the abbreviated form is wanted at least as much as the full one (RFC 9110 section 12.5.1).
fn wants_abbreviated(headers: &HeaderMap) -> bool {
    let abbreviated = weight(headers, header::ACCEPT, &[ABBREVIATED_TYPE]);
    let full = weight(headers, header::ACCEPT, &["application/json"]);
    abbreviated.is_some_and(|abbreviated| abbreviated > 0 && full.is_none_or(|full| abbreviated >= full))
}

/// Returns whether the client takes gzip (RFC 9110 section 12.5.3).
fn wants_gzip(headers: &HeaderMap) -> bool {
    weight(headers, header::ACCEPT_ENCODING, &["gzip", "x-gzip"])
        .or_else(|| weight(headers, header::ACCEPT_ENCODING, &["*"]))
        .is_some_and(|weight| weight > 0)
}

/// Returns the weight of the first of `names` in a list header, in thousandths; `None` when none is in it.
fn weight(headers: &HeaderMap, header: header::HeaderName, names: &[&str]) -> Option<u16> {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next()?;
        if !names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)) {
            return None;
        }
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // A weight that is none counts as a refusal.
        Some(weight.map_or(1000, |text| {
            text.trim().parse::<f32>().map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn the_form_that_each_client_gets() {
        for (accept, abbreviated) in [
            // npm's two, pnpm's, and what berry, which sends none, amounts to.
            ("application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*", true),
            ("application/json", false),
            ("application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*; q=0.5", true),
            ("*/*", false),
            ("", false),
            ("application/vnd.npm.install-v1+json", true),
            ("application/json, application/vnd.npm.install-v1+json; q=0.5", false),
            ("application/vnd.npm.install-v1+json;q=0", false),
            ("application/vnd.npm.install-v1+json;q=x", false),
            ("application/vnd.npm.install-v1+jsonx", false),
        ] {
            assert_eq!(wants_abbreviated(&headers(header::ACCEPT, accept)), abbreviated, "{accept}");
        }
        assert!(!wants_abbreviated(&HeaderMap::new()));
    }

    #[test]
    fn gzip_only_for_who_takes_it() {
        for (accept, gzip) in [
            ("gzip", true),
            ("gzip,deflate", true),
            ("br, *", true),
            ("br", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("", false),
        ] {
            assert_eq!(wants_gzip(&headers(header::ACCEPT_ENCODING, accept)), gzip, "{accept}");
        }
        assert!(!wants_gzip(&HeaderMap::new()));
    }

    #[test]
    fn entity_tags_are_compared_weakly() {
        let etag = HeaderValue::from_static("\"a\"");
        for (named, matched) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
        ] {
            assert_eq!(matches(&headers(header::IF_NONE_MATCH, named), &[&etag]), matched, "{named}");
        }
        assert!(!matches(&HeaderMap::new(), &[&etag]));
    }
}
