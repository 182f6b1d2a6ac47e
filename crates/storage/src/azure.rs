//! `az://<account>/<container>[/<prefix>]`: Azure Blob Storage.

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use protected_http::Client;

use crate::{
    AreaRef, Bucket, Settings, StorageError,
    objects::{Objects, Wire, retry},
};

const CREDENTIALS: &str = "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE (or \
                           AZURE_CLIENT_SECRET), or AZURE_STORAGE_SAS_TOKEN, or AZURE_STORAGE_KEY";

/// What its settings are to be. What the library says of a wrong one could repeat it.
const REASON: &str = "AZURE_STORAGE_KEY is base64, AZURE_STORAGE_SAS_TOKEN is `name=value` with `&` between them, AZURE_STORAGE_SERVICE_ENDPOINT and AZURE_AUTHORITY_HOST are URLs";

pub(crate) fn connect(
    area: &AreaRef,
    account: &str,
    container: &Bucket,
    settings: &Settings,
    http: &Client,
) -> Result<Objects, StorageError> {
    let get = |name| settings.environment.get(name);
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(&container.name)
        .with_retry(retry())
        .with_http_connector(Wire(http.clone()));
    if let Some(endpoint) = get("AZURE_STORAGE_SERVICE_ENDPOINT") {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    let identity = match (get("AZURE_TENANT_ID"), get("AZURE_CLIENT_ID")) {
        (Some(tenant), Some(client)) => Some((tenant, client)),
        _ => None,
    };
    builder = if let Some(key) = get("AZURE_STORAGE_KEY") {
        builder.with_access_key(key)
    } else if let Some(token) = get("AZURE_STORAGE_SAS_TOKEN") {
        builder.with_config(AzureConfigKey::SasKey, token)
    } else if let (Some((tenant, client)), Some(file)) = (identity, get("AZURE_FEDERATED_TOKEN_FILE")) {
        identified(builder, tenant, client, get("AZURE_AUTHORITY_HOST")).with_federated_token_file(file)
    } else if let (Some((tenant, client)), Some(secret)) = (identity, get("AZURE_CLIENT_SECRET")) {
        identified(builder, tenant, client, get("AZURE_AUTHORITY_HOST")).with_client_secret(secret)
    } else {
        let area = area.clone().into();
        return Err(StorageError::NotConfigured { area, what: "who asks for it", hint: CREDENTIALS });
    };
    let store =
        builder.build().map_err(|_| StorageError::Settings { area: area.clone().into(), reason: REASON })?;
    Ok(Objects::new(area, store, &container.prefix))
}

fn identified(
    builder: MicrosoftAzureBuilder,
    tenant: &str,
    client: &str,
    authority: Option<&str>,
) -> MicrosoftAzureBuilder {
    let builder = builder.with_tenant_id(tenant).with_client_id(client);
    match authority {
        Some(authority) => builder.with_authority_host(authority),
        None => builder,
    }
}
