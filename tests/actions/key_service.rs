//! A real OpenBao that trusts the jobs of the local issuer, set up as docs/keys.md says.

use serde_json::{Value, json};

use crate::{
    harness::World,
    openbao::Bao,
    suite::{blocks, root},
};

/// Starts an OpenBao with the key `globex`, and two roles for the jobs of `platform` with these claims: `deliver` seals
/// with it, and `globex` opens what was sealed.
pub(crate) fn start(world: &World, platform: &str, claims: &Value) -> Bao {
    let bao = Bao::start(world);
    let done = |path: &str, body: Value| {
        let status = bao.post(path, &body.to_string());
        assert!((200..300).contains(&status), "{path}: {status}");
    };
    done("transit/keys/globex", json!({"type": "aes256-gcm96", "derived": true}));
    let seal = blocks(&root().join("docs/keys.md"), "hcl").remove(0).replace("/acme\"", "/globex\"");
    assert!(seal.contains("transit/encrypt/globex"), "{seal}");
    done("sys/policies/acl/deliver", json!({"policy": seal}));
    let open = r#"path "transit/decrypt/globex" { capabilities = ["update"] }"#;
    done("sys/policies/acl/globex", json!({"policy": open}));
    done("sys/auth/jwt", json!({"type": "jwt"}));
    let issuer = format!("{}/local-issuer/{platform}", world.base());
    done("auth/jwt/config", json!({"oidc_discovery_url": issuer, "bound_issuer": issuer}));
    for role in ["deliver", "globex"] {
        done(
            &format!("auth/jwt/role/{role}"),
            json!({
                "role_type": "jwt", "user_claim": "sub", "bound_audiences": [format!("http://{}", bao.address)],
                "bound_claims": claims, "token_policies": [role], "token_ttl": "5m",
                "token_no_default_policy": true,
            }),
        );
    }
    bao
}
