//! The npm registry: what stock npm, pnpm and yarn ask for below `/repository/<name>/`.

pub(crate) mod document;
pub(crate) mod json;
pub(crate) mod manifest;
pub(crate) mod packument;
pub(crate) mod path;
pub(crate) mod tarball;

use std::sync::Arc;

use axum::Router;

use crate::{
    app::App,
    endpoint::{Endpoint, register},
};

/// Returns every endpoint of the registry.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    Vec::new()
}

/// Returns their routes.
pub(crate) fn router() -> Router<Arc<App>> {
    register(endpoints())
}
