//! `GET /healthz`: whether requests can be answered.

use std::sync::Arc;

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    app::App,
    endpoint::Endpoint,
    problem::{Answer, Refusal},
};

/// The service can read its data.
#[derive(Serialize, JsonSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
    /// The program's version.
    version: &'static str,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("healthz", "Say whether requests can be answered", health)
            .answers::<Health>(200, "They can"),
    ]
}

async fn health(State(app): State<Arc<App>>) -> Answer<Json<Health>> {
    app.store.read().map_err(Refusal::from)?;
    Ok(Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") }))
}
