//! Azure Key Vault through the whole program: a job of GitHub's signs with a key there, and has no credential.

use crate::{
    harness::{CLI, World},
    signing::{build_of, bundle_of, hint, verified_by_openssl},
};

#[expect(dead_code, reason = "the tests of the keys use more of it")]
#[path = "../../crates/keys/tests/azure_key_vault/fake.rs"]
mod fake;

use fake::{Azure, CRYPTO_USER, TENANT, vault_scope};

#[test]
fn a_key_in_azure_signs_for_the_identity_of_a_job() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
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
