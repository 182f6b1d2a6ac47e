//! An issuer that imitates CI platforms, for demos and tests on one machine.

use std::{path::Path, sync::Arc};

use axum::Router;
use jiff::Timestamp;
use protected_model::service_url::ServiceUrl;

use crate::{
    app::{App, ServeError},
    config,
    endpoint::{Endpoint, register},
};

/// The issuer and its runs.
pub(crate) struct LocalIssuer {}

impl LocalIssuer {
    pub(crate) fn open(
        config: &config::LocalIssuer,
        public_url: &ServiceUrl,
        data: &Path,
        now: Timestamp,
    ) -> Result<Self, ServeError> {
        let _ = (config, public_url, data, now);
        Ok(Self {})
    }
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    Vec::new()
}

pub(crate) fn router() -> Router<Arc<App>> {
    register(endpoints())
}
