//! What surrounds every request, and what answers where nothing else does.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use protected_model::api::problem::{CORRELATION_HEADER, Code};

use crate::{
    app::App,
    body::paced,
    problem::Refusal,
    request::{Peer, RequestInfo},
};

/// Wraps every request: paces its body, makes its [`RequestInfo`], records and renders a [`Refusal`], echoes
/// the correlation id.
pub(crate) async fn finish(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let info = RequestInfo::of(request.headers(), request.extensions().get::<Peer>());
    request.extensions_mut().insert(info.clone());
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let lingers = !request.headers().contains_key(header::EXPECT);
    let request = request.map(|body| Body::from_stream(paced(body, lingers)));
    let mut response = next.run(request).await;
    if let Some(mut refusal) = response.extensions_mut().remove::<Refusal>() {
        if let Some(event) = refusal.take_event() {
            refusal = app.record_denial(event, refusal, reading).await;
        }
        response = refusal.render(&info);
    }
    if let Ok(value) = HeaderValue::from_str(&info.correlation_id) {
        response.headers_mut().insert(CORRELATION_HEADER, value);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Answers a path that is not served.
pub(crate) async fn not_found() -> Response {
    Refusal::new(Code::NOT_FOUND, "there is nothing at this path").into_response()
}

/// Answers a method that the path does not have.
pub(crate) async fn wrong_method() -> Response {
    Refusal::new(Code::INVALID_REQUEST, "this path does not take this method")
        .status(StatusCode::METHOD_NOT_ALLOWED)
        .into_response()
}
