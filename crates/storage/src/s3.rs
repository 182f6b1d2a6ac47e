//! `s3://<bucket>[/<prefix>]`: Amazon S3, or a store that speaks as it does.
//!
//! The variables are those of AWS's own tools. Credentials are the access key, or the role that the job's identity may
//! take (web identity); never those of the machine, which are every job's on it.

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use protected_http::Client;

use crate::{
    AreaRef, Bucket, Settings, StorageError,
    objects::{Objects, Wire, retry},
};

const CREDENTIALS: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or AWS_ROLE_ARN and \
                           AWS_WEB_IDENTITY_TOKEN_FILE";

/// What its settings are to be. What the library says of a wrong one could repeat it.
const REASON: &str = "AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_STS are URLs";

pub(crate) fn connect(
    area: &AreaRef,
    bucket: &Bucket,
    settings: &Settings,
    http: &Client,
) -> Result<Objects, StorageError> {
    let environment = &settings.environment;
    let missing = |what, hint| StorageError::NotConfigured { area: area.clone().into(), what, hint };
    let endpoint = environment.get("AWS_ENDPOINT_URL_S3").or(environment.get("AWS_ENDPOINT_URL"));
    let region = environment.get("AWS_REGION").or(environment.get("AWS_DEFAULT_REGION"));
    let region = match (region, endpoint) {
        (Some(region), _) => region,
        // Stores of other makers have no regions, and sign for this one.
        (None, Some(_)) => "us-east-1",
        (None, None) => return Err(missing("in which region it is", "set AWS_REGION")),
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_region(region)
        .with_retry(retry())
        .with_http_connector(Wire(http.clone()));
    builder = match endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint),
        // A name with dots in it is none that the certificate is for.
        None => builder.with_virtual_hosted_style_request(!bucket.name.contains('.')),
    };
    let get = |name| environment.get(name);
    builder = match (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            match get("AWS_SESSION_TOKEN") {
                Some(token) => builder.with_token(token),
                None => builder,
            }
        }
        (None, None) => {
            use object_store::aws::AmazonS3ConfigKey as Key;
            let (Some(role), Some(file)) = (get("AWS_ROLE_ARN"), get("AWS_WEB_IDENTITY_TOKEN_FILE")) else {
                return Err(missing("who asks for it", CREDENTIALS));
            };
            let builder = builder
                .with_config(Key::RoleArn, role)
                .with_config(Key::WebIdentityTokenFile, file)
                .with_config(
                    Key::RoleSessionName,
                    get("AWS_ROLE_SESSION_NAME").unwrap_or("protected-registry"),
                );
            match get("AWS_ENDPOINT_URL_STS").or(get("AWS_ENDPOINT_URL")) {
                Some(endpoint) => builder.with_config(Key::StsEndpoint, endpoint),
                None => builder,
            }
        }
        _ => return Err(missing("the other half of the access key", CREDENTIALS)),
    };
    let conditional = match get("AWS_CONDITIONAL_PUT") {
        None | Some("etag") => true,
        Some("disabled") => false,
        Some(_) => {
            return Err(missing(
                "how it writes what must be new",
                "set AWS_CONDITIONAL_PUT to `etag` or `disabled`",
            ));
        }
    };
    if !conditional {
        builder = builder.with_conditional_put(S3ConditionalPut::Disabled);
    }
    let store =
        builder.build().map_err(|_| StorageError::Settings { area: area.clone().into(), reason: REASON })?;
    let objects = Objects::new(area, store, &bucket.prefix);
    Ok(if conditional { objects } else { objects.unconditional() })
}
