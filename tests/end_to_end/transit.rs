//! OpenBao's transit engine through the whole program, set up as its page says.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    grants::{Lie, Limits, Service, Who},
    harness::World,
    openbao::Bao,
    proxy::Proxy,
};

impl Bao {
    /// Makes a customer: an entity with a login of its own, and its token.
    pub(crate) fn customer(&self, name: &str) -> String {
        self.post("sys/auth/approle", r#"{"type": "approle"}"#);
        let body = r#"{"token_no_default_policy": true, "token_ttl": "15m"}"#;
        self.post(&format!("auth/approle/role/{name}"), body);
        let role = self.ask("GET", &format!("auth/approle/role/{name}/role-id"), "").1;
        let role = role["data"]["role_id"].as_str().expect("role").to_owned();
        let secret = self.ask("POST", &format!("auth/approle/role/{name}/secret-id"), "{}").1;
        let secret = secret["data"]["secret_id"].as_str().expect("secret").to_owned();
        let made = self.ask("POST", "identity/entity", &json!({"name": name}).to_string()).1;
        let accessor = self.ask("GET", "sys/auth", "").1["approle/"]["accessor"].clone();
        let alias = json!({"name": role, "canonical_id": made["data"]["id"], "mount_accessor": accessor});
        assert_eq!(self.post("identity/entity-alias", &alias.to_string()), 200);
        self.token("auth/approle/login", &json!({"role_id": role, "secret_id": secret}).to_string())
    }
}

/// A transit key set up as `docs/keys.md` says, a role for the job, and two customers.
pub(crate) struct Transit {
    pub(crate) bao: Bao,
    customers: [String; 2],
    /// Stands in between, and changes what is unwrapped.
    liar: Proxy,
}

impl Transit {
    pub(crate) fn start(world: &World) -> Self {
        let bao = Bao::start(world);
        assert_eq!(bao.post("transit/keys/acme", r#"{"type": "aes256-gcm96", "derived": true}"#), 200);
        let page = include_str!("../../docs/keys.md");
        let blocks: Vec<&str> =
            page.split("```hcl\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let [seal, grant] = blocks.as_slice() else { panic!("{} policies on the page", blocks.len()) };
        for (name, policy) in [("seal", seal), ("grant", grant)] {
            let body = json!({"policy": policy}).to_string();
            assert_eq!(bao.post(&format!("sys/policies/acl/{name}"), &body), 204);
        }
        let (issuer, _) = world.issuer();
        bao.post("sys/auth/jwt", r#"{"type": "jwt"}"#);
        let body = json!({"oidc_discovery_url": issuer, "bound_issuer": issuer}).to_string();
        assert!(bao.post("auth/jwt/config", &body) < 300);
        let body = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": [format!("http://{}", bao.address)],
            "bound_claims": {"repository_id": "2002", "ref": "refs/heads/main"},
            "token_policies": ["seal", "grant"], "token_ttl": "5m", "token_no_default_policy": true,
        });
        assert!(bao.post("auth/jwt/role/deliver", &body.to_string()) < 300);
        let customers = ["globex", "initech"].map(|name| bao.customer(name));
        let liar = Proxy::start();
        liar.forward_to(bao.address.parse().expect("address"));
        Self { bao, customers, liar }
    }
}

fn name(who: Who) -> &'static str {
    if who == Who::Initech { "initech" } else { "globex" }
}

impl Service for Transit {
    fn limits(&self) -> Limits {
        Limits { one_bundle: true, expires: true }
    }

    fn key(&self) -> String {
        "openbao://transit/acme".to_owned()
    }

    fn environment(&self, who: Who) -> Vec<(String, String)> {
        let own = match who {
            Who::Vendor => ("PROTECTED_REGISTRY_OPENBAO_ROLE", "deliver"),
            Who::Globex => ("BAO_TOKEN", &*self.customers[0]),
            Who::Initech => ("BAO_TOKEN", &*self.customers[1]),
        };
        let address = format!("http://{}", self.bao.address);
        [("BAO_ADDR", &*address), own].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn grantee(&self, who: Who) -> String {
        name(who).to_owned()
    }

    fn audience(&self) -> String {
        format!("http://{}", self.bao.address)
    }

    fn refusal(&self) -> &'static str {
        "answered 403"
    }

    fn rotate(&self) -> Option<String> {
        assert_eq!(self.bao.post("transit/keys/acme/rotate", "{}"), 200);
        None
    }

    fn retire(&self) {
        assert_eq!(self.bao.post("transit/keys/acme/config", r#"{"min_decryption_version": 2}"#), 200);
    }

    fn lies(&self, try_with: &mut dyn FnMut(Lie)) {
        for (key, code, says) in [
            (vec![7; 32], 7, "it was sealed under another key"),
            (vec![7; 16], 1, "data key"),
            (vec![0; 32], 1, "nothing but zeros"),
            (Vec::new(), 1, "data key"),
        ] {
            let answer = json!({"data": {"plaintext": STANDARD.encode(key)}}).to_string();
            self.liar
                .change(move |target, _| target.contains("/decrypt/").then(|| answer.clone().into_bytes()));
            let mut environment = self.environment(Who::Globex);
            environment.push(("BAO_ADDR".to_owned(), format!("http://{}", self.liar.address)));
            try_with(Lie { environment, code, says });
        }
    }
}
