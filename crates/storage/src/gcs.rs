//! `gs://<bucket>[/<prefix>]`: Google Cloud Storage.

use object_store::gcp::GoogleCloudStorageBuilder;
use protected_http::Client;

use crate::{
    AreaRef, Bucket, Settings, StorageError,
    objects::{Objects, Wire, retry},
};

const CREDENTIALS: &str = "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, or \
                           CLOUDSDK_AUTH_ACCESS_TOKEN to an access token";

/// What its settings are to be. What the library says of a wrong one could repeat it.
const REASON: &str =
    "GOOGLE_APPLICATION_CREDENTIALS names the file of a service account or an authorized user";

pub(crate) fn connect(
    area: &AreaRef,
    bucket: &Bucket,
    settings: &Settings,
    http: &Client,
) -> Result<Objects, StorageError> {
    let get = |name| settings.environment.get(name);
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&bucket.name)
        .with_retry(retry())
        .with_http_connector(Wire(http.clone()));
    let emulator = get("STORAGE_EMULATOR_HOST");
    if let Some(host) = emulator {
        let url = if host.contains("://") { host.to_owned() } else { format!("http://{host}") };
        builder = builder.with_base_url(&url);
    }
    builder = match (get("CLOUDSDK_AUTH_ACCESS_TOKEN"), get("GOOGLE_APPLICATION_CREDENTIALS"), emulator) {
        (Some(token), ..) => builder.with_bearer_token(token),
        (None, Some(file), _) => builder.with_application_credentials(file),
        // A stand-in asks nobody who they are.
        (None, None, Some(_)) => builder.with_bearer_token("").with_skip_signature(true),
        (None, None, None) => {
            let area = area.clone().into();
            return Err(StorageError::NotConfigured { area, what: "who asks for it", hint: CREDENTIALS });
        }
    };
    let store =
        builder.build().map_err(|_| StorageError::Settings { area: area.clone().into(), reason: REASON })?;
    Ok(Objects::new(area, store, &bucket.prefix))
}
