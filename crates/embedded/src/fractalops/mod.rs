//! The control plane's endpoints, one file each.

mod health;
mod metadata;
pub(crate) mod replay;

use std::sync::Arc;

use axum::Router;

use crate::{
    app::App,
    endpoint::{Endpoint, register},
};

/// Returns every endpoint of the control plane.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    [health::endpoints(), metadata::endpoints()].into_iter().flatten().collect()
}

/// Returns their routes.
pub(crate) fn router() -> Router<Arc<App>> {
    register(endpoints())
}
