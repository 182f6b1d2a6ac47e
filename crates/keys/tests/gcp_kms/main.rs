//! Google Cloud KMS, by a stand-in that Google's own client takes for the real one: what a wrapping is bound to, who
//! may open it and until when, who signs, and which answers are not used.

mod fake;
mod grants;
mod login;
#[path = "../common/python.rs"]
mod python;
mod sdk;
mod signing;
mod wrapping;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use protected_bundle::DataKey;
use protected_http::Client;
use protected_keys::{
    GrantTerms, IdTokens, KeyContext, KeyError, KeyService, Settings, SigningKey, connect, connect_to_sign,
};
use protected_model::{
    api::delivery::Grantee, environment::Environment, key_ref::KeyRef, name::BundleId, secret::IdToken,
};

use fake::{Fake, Issuer};

const RING: &str = "projects/acme-prod/locations/europe-west1/keyRings/deliveries/cryptoKeys";
const SYMMETRIC: &str = "GOOGLE_SYMMETRIC_ENCRYPTION";
const P256: &str = "EC_SIGN_P256_SHA256";
const PUBLISHER: &str = "serviceAccount:publisher@acme-prod.iam.gserviceaccount.com";
const GLOBEX: &str = "serviceAccount:reader@globex-prod.iam.gserviceaccount.com";
const INITECH: &str = "user:milton@initech.example";
const JOB: &str = "principal://iam.googleapis.com/projects/1234567890/locations/global/workloadIdentityPools/ci/subject/acme/core";

/// A Google Cloud with a key `acme`, with which the publisher may do everything.
struct World {
    fake: Fake,
    http: Client,
}

impl World {
    fn new() -> Self {
        let world = Self { fake: Fake::start(), http: client() };
        world.key("acme", SYMMETRIC);
        world
    }

    fn key(&self, name: &str, algorithm: &str) {
        let name = named(name);
        let mut cloud = self.fake.cloud();
        cloud.key(&name, algorithm);
        for role in ["admin", "cryptoKeyEncrypterDecrypter", "signerVerifier"] {
            cloud.bind(&name, &format!("roles/cloudkms.{role}"), PUBLISHER);
        }
    }

    /// What `member` is found by, with more variables.
    fn settings(&self, more: &[(&str, &str)]) -> Settings {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment: Environment = self.fake.environment().into_iter().chain(more).collect();
        Settings { environment, ..Settings::default() }
    }

    fn settings_of(&self, member: &str) -> Settings {
        let token = self.fake.cloud().token(member);
        self.settings(&[("GOOGLE_OAUTH_ACCESS_TOKEN", &token)])
    }

    fn connect(&self, name: &str, member: &str) -> Box<dyn KeyService> {
        connect(&reference(name), &self.settings_of(member), &self.http).expect("connected")
    }

    async fn signing(&self, name: &str) -> Result<Box<dyn SigningKey>, KeyError> {
        connect_to_sign(&reference(name), &self.settings_of(PUBLISHER), &self.http).await
    }
}

/// A job of a CI platform.
struct Job(Arc<Issuer>);

#[async_trait]
impl IdTokens for Job {
    async fn id_token(&self, audience: &str) -> Result<IdToken, String> {
        Ok(IdToken::new(self.0.id_token(audience, |_| {})))
    }
}

fn client() -> Client {
    let settings = protected_http::Settings::from_environment(&Environment::default(), None, "test");
    settings.and_then(|settings| Client::new(&settings)).expect("client")
}

fn named(name: &str) -> String {
    format!("{RING}/{name}")
}

fn reference(name: &str) -> KeyRef {
    format!("gcp-kms://{RING}/{name}").parse().expect("reference")
}

fn context(bundle: &str) -> KeyContext {
    [("bundle_id", bundle), ("tenant_id", "acme")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn data_key() -> DataKey {
    DataKey::generate().expect("key")
}

/// What a grant says, kept together for as long as it is asked about.
struct Terms {
    bundle: BundleId,
    context: KeyContext,
    grantee: Grantee,
    expires_at: Option<Timestamp>,
}

impl Terms {
    fn new(bundle: &str, grantee: &str, expires_at: Option<Timestamp>) -> Self {
        let grantee = grantee.parse().expect("grantee");
        Self { bundle: bundle.parse().expect("bundle"), context: context(bundle), grantee, expires_at }
    }

    fn get(&self) -> GrantTerms<'_> {
        GrantTerms {
            bundle: &self.bundle,
            context: &self.context,
            grantee: &self.grantee,
            expires_at: self.expires_at,
            now: Timestamp::now(),
        }
    }
}
