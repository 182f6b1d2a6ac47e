//! Azure Key Vault through the whole program. A job of GitHub's has no credential there.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    grants::{Lie, Limits, Service, Who},
    harness::{CLI, World},
    signing::{build_of, bundle_of, hint, verified_by_openssl},
};

#[expect(dead_code, reason = "the tests of the keys use more of it")]
#[path = "../../crates/keys/tests/azure_key_vault/fake.rs"]
mod fake;

use fake::{Azure, CRYPTO_USER, ENCRYPTION_USER, GROUP, SUBSCRIPTION, TENANT, vault_scope};

/// A vault with a key, an application that trusts the job, and customers with applications of their own.
pub(crate) struct Vault {
    azure: Azure,
    /// Its stand-in runs in this.
    _runtime: Runtime,
    authority: PathBuf,
    customers: [Uuid; 2],
    /// The versions of the key.
    versions: Mutex<Vec<String>>,
}

impl Vault {
    pub(crate) fn start(world: &World) -> Self {
        let runtime = Runtime::new().expect("runtime");
        let azure = runtime.block_on(Azure::start());
        azure.vault("acme", true);
        let publisher = azure.application("publisher", None);
        azure.assign(publisher, ENCRYPTION_USER, &vault_scope("acme"));
        azure.own(publisher);
        let (issuer, keys) = world.issuer();
        azure.trust("publisher", &issuer, keys, "repo:acme/core:ref:refs/heads/main");
        let customers = ["globex", "initech"].map(|name| azure.application(name, Some(&secret(name))));
        Self {
            _runtime: runtime,
            authority: world.write("azure.pem", azure.authority_pem()),
            customers,
            versions: Mutex::new(vec![azure.rsa("acme", "globex")]),
            azure,
        }
    }

    fn versions(&self) -> Vec<String> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn secret(application: &str) -> String {
    format!("secret-of-{application}-0123456789")
}

impl Service for Vault {
    fn limits(&self) -> Limits {
        Limits { one_bundle: false, expires: false }
    }

    fn key(&self) -> String {
        self.versions()[0].clone()
    }

    fn environment(&self, who: Who) -> Vec<(String, String)> {
        let application = match who {
            Who::Vendor => "publisher",
            Who::Globex => "globex",
            Who::Initech => "initech",
        };
        let mut all = vec![
            ("HTTPS_PROXY", self.azure.proxy()),
            ("PROTECTED_REGISTRY_CA_FILE", self.authority.display().to_string()),
            ("AZURE_TENANT_ID", TENANT.to_owned()),
            ("AZURE_CLIENT_ID", application.to_owned()),
        ];
        if who == Who::Vendor {
            all.push(("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION.to_owned()));
            all.push(("PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP", GROUP.to_owned()));
        } else {
            all.push(("AZURE_CLIENT_SECRET", secret(application)));
        }
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn grantee(&self, who: Who) -> String {
        self.customers[usize::from(who == Who::Initech)].to_string()
    }

    fn audience(&self) -> String {
        "api://AzureADTokenExchange".to_owned()
    }

    fn refusal(&self) -> &'static str {
        "answered 403"
    }

    fn rotate(&self) -> Option<String> {
        let version = self.azure.rsa("acme", "globex");
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).push(version.clone());
        Some(version)
    }

    fn retire(&self) {
        self.azure.disable(&self.key());
    }

    fn lies(&self, try_with: &mut dyn FnMut(Lie)) {
        for (lie, code, says) in [
            (fake::Lie::Another, 7, "it was sealed under another key"),
            (fake::Lie::Short, 1, "data key"),
            (fake::Lie::Zeros, 1, "nothing but zeros"),
            (fake::Lie::OtherKey, 1, "expected one of the key"),
            (fake::Lie::OtherVault, 1, "expected one of the key"),
            (fake::Lie::Garbage, 1, "not base64url"),
            (fake::Lie::Endless, 1, "larger than"),
            (fake::Lie::Redirect, 1, "redirects"),
        ] {
            self.azure.lie(lie);
            try_with(Lie { environment: self.environment(Who::Globex), code, says });
        }
        self.azure.lie(None);
    }
}

#[test]
fn a_key_in_azure_signs_for_the_identity_of_a_job() {
    let world = World::new();
    let runtime = Runtime::new().expect("runtime");
    let azure = runtime.block_on(Azure::start());
    azure.vault("acme", true);
    let key = azure.ec("acme", "release");
    let publisher = azure.application("publisher", None);
    azure.assign(publisher, CRYPTO_USER, &vault_scope("acme"));
    azure.application("stranger", None);
    let (issuer, jwks) = world.issuer();
    for application in ["publisher", "stranger"] {
        let subject =
            if application == "publisher" { "repo:acme/core:ref:refs/heads/main" } else { "repo:acme/fork" };
        azure.trust(application, &issuer, jwks.clone(), subject);
    }
    let authority = world.write("azure.pem", azure.authority_pem());
    let run = |version: &str, application: &str, key: &str| {
        let folder = world.package("@acme/core", version);
        let mut command = world.github("release", CLI, &["publish", "--sign-key", key]);
        command
            .current_dir(&folder)
            .env("HTTPS_PROXY", azure.proxy())
            .env("PROTECTED_REGISTRY_CA_FILE", &authority)
            .env("AZURE_TENANT_ID", TENANT)
            .env("AZURE_CLIENT_ID", application);
        world.run(command)
    };
    run("1.0.0", "publisher", &key).succeeded();
    let bundle = bundle_of(&build_of(&world, "1.0.0"), "provenance");
    let public = world.write("release.pub", &azure.public_pem(&key));
    assert_eq!(bundle["verificationMaterial"]["publicKey"]["hint"], hint(&public));
    verified_by_openssl(&world, &bundle, &public);

    let sealing = azure.rsa("acme", "sealing");
    run("1.0.1", "publisher", &sealing)
        .failed(2, &["expected a key of type `EC` on `P-256`, found `RSA` on `none`"]);
    let absent = format!("azure-keyvault://acme/release/{}", "0".repeat(32));
    run("1.0.1", "publisher", &absent).failed(4, &["answered 404"]);
    run("1.0.1", "stranger", &key).failed(4, &["AADSTS700213", "repo:acme/core:ref:refs/heads/main"]);
    azure.disable(&key);
    run("1.0.1", "publisher", &key).failed(2, &["this version of it is disabled"]);
    assert_eq!(world.count("registry.publish", "allow", Some("1.0.1")), 0);
    assert!(azure.strangers().is_empty(), "{:?}", azure.strangers());
}
