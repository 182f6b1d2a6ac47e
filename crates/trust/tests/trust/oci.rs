//! Tokens for a Docker registry, as far as this side checks them. What a registry makes of them is tested with one.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use protected_model::{
    claims::{NPM_TOKEN_TYPE, OCI_SECONDS, OCI_TOKEN_TYPE, OciClaims},
    oci::{Access, AccessKind, RepositoryAction},
};
use protected_trust::{
    key::KeySet,
    mint::{Expect, OWN_LEEWAY_SECONDS, SignError, TokenError},
    oci::{OciKey, verify},
};
use serde_json::{Value, json};

use crate::support::{at, b64, seconds, with};

const ISSUER: &str = "https://fractalops.example";
const SERVICE: &str = "registry.example";
const OCI: Expect<'_> = Expect { typ: OCI_TOKEN_TYPE, issuer: ISSUER, audience: SERVICE };
const CERTIFICATE: &[u8] = b"certificate";

struct Signer {
    key: OciKey,
    pkcs8: Vec<u8>,
}

impl Signer {
    fn new() -> Self {
        let (key, pkcs8) = OciKey::generate().expect("key");
        Self { key, pkcs8 }
    }

    fn keys(&self) -> KeySet {
        KeySet::from_jwks(&json!({ "keys": [self.key.jwk(CERTIFICATE)] })).expect("keys")
    }

    fn kid(&self) -> String {
        self.key.jwk(CERTIFICATE)["kid"].as_str().expect("kid").to_owned()
    }

    fn sign(&self, claims: &OciClaims) -> Result<String, SignError> {
        self.key.sign(CERTIFICATE, claims)
    }

    /// Signs what the key itself would not.
    fn stolen(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).expect("key");
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = SystemRandom::new();
        pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).expect("signature");
        format!("{message}.{}", b64(signature))
    }

    fn verify_at(&self, token: &str, offset: i64) -> Result<OciClaims, TokenError> {
        verify(token, &self.keys(), OCI, at(offset))
    }
}

fn claims() -> OciClaims {
    OciClaims {
        iss: ISSUER.to_owned(),
        aud: SERVICE.to_owned(),
        sub: "repo:acme/core".to_owned(),
        iat: seconds(0),
        nbf: seconds(0),
        exp: seconds(0) + OCI_SECONDS,
        jti: "01J".to_owned(),
        tenant_id: "acme".parse().expect("tenant"),
        access: vec![Access {
            kind: AccessKind::Repository,
            name: "acme/core/greeter".parse().expect("name"),
            actions: [RepositoryAction::Pull].into(),
        }],
    }
}

#[test]
fn a_token_is_what_a_registry_reads() {
    let signer = Signer::new();
    let token = signer.sign(&claims()).expect("token");
    let Header { alg, typ, kid, x5c, .. } = jsonwebtoken::decode_header(&token).expect("header");
    assert_eq!((alg, typ.as_deref()), (Algorithm::RS256, Some(OCI_TOKEN_TYPE)));
    assert_eq!((kid, x5c), (Some(signer.kid()), Some(vec!["Y2VydGlmaWNhdGU=".to_owned()])));
    let jwk: jsonwebtoken::jwk::Jwk =
        serde_json::from_value(signer.key.jwk(CERTIFICATE)).expect("a JWK that others read");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.set_audience(&[SERVICE]);
    let key = DecodingKey::from_jwk(&jwk).expect("key");
    let read = jsonwebtoken::decode::<Value>(&token, &key, &validation).expect("verified").claims;
    let access = json!([{"type": "repository", "name": "acme/core/greeter", "actions": ["pull"]}]);
    assert_eq!((&read["access"], &read["aud"]), (&access, &json!(SERVICE)));
    let again = OciKey::from_pkcs8(&signer.pkcs8).expect("key");
    assert_eq!(again.jwk(CERTIFICATE), signer.key.jwk(CERTIFICATE));
    assert_eq!(signer.verify_at(&token, 0), Ok(claims()));
}

#[test]
fn none_is_signed_that_lives_longer_or_says_too_little() {
    let signer = Signer::new();
    assert!(signer.sign(&OciClaims { access: Vec::new(), ..claims() }).is_ok(), "it allows nothing");
    let many = vec![claims().access.remove(0); 200];
    for wrong in [
        OciClaims { exp: claims().exp + 1, ..claims() },
        OciClaims { exp: claims().iat, ..claims() },
        OciClaims { iss: String::new(), ..claims() },
        OciClaims { aud: String::new(), ..claims() },
        OciClaims { sub: String::new(), ..claims() },
        OciClaims { jti: String::new(), ..claims() },
        OciClaims { access: many, ..claims() },
    ] {
        assert!(matches!(signer.sign(&wrong), Err(SignError::Unacceptable(_))), "{wrong:?}");
    }
}

#[test]
fn only_a_token_of_this_kind_by_a_key_of_ours_is_taken() {
    let (signer, other) = (Signer::new(), Signer::new());
    let header = json!({"alg": "RS256", "typ": OCI_TOKEN_TYPE, "kid": signer.kid()});
    let claims = serde_json::to_value(claims()).expect("claims");
    assert!(signer.verify_at(&signer.stolen(&header, &claims), 0).is_ok());
    let good = signer.stolen(&header, &claims);
    let (message, signature) = good.rsplit_once('.').expect("signature");
    let hs256 = {
        let header = with(header.clone(), json!({"alg": "HS256"}));
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let key = EncodingKey::from_secret(CERTIFICATE);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
        format!("{message}.{}", signature.expect("signature"))
    };
    let own_key = with(header.clone(), json!({"kid": other.kid(), "jwk": other.key.jwk(CERTIFICATE)}));
    for (what, token) in [
        ("another key", other.stolen(&header, &claims)),
        ("another key that the token brings", other.stolen(&own_key, &claims)),
        ("HS256 with the certificate", hs256),
        ("no signature", format!("{message}.")),
        ("a cut signature", format!("{message}.{}", &signature[..signature.len() - 4])),
        ("alg none", signer.stolen(&with(header.clone(), json!({"alg": "none"})), &claims)),
        ("alg RS512", signer.stolen(&with(header.clone(), json!({"alg": "RS512"})), &claims)),
        ("a critical header", signer.stolen(&with(header.clone(), json!({"crit": ["b64"]})), &claims)),
        ("no kid", signer.stolen(&with(header.clone(), json!({"kid": null})), &claims)),
    ] {
        assert!(
            matches!(signer.verify_at(&token, 0), Err(TokenError::NotOurs | TokenError::Malformed(_))),
            "{what}"
        );
    }
    for typ in [json!(NPM_TOKEN_TYPE), json!("JWT"), json!(null)] {
        let token = signer.stolen(&with(header.clone(), json!({ "typ": typ })), &claims);
        assert!(
            matches!(signer.verify_at(&token, 0), Err(TokenError::WrongType { member: "typ", .. })),
            "{typ}"
        );
    }
    for changes in [
        json!({"aud": [SERVICE]}),
        json!({"aud": "other.example"}),
        json!({"iss": "https://other.example"}),
        json!({"exp": seconds(3600)}),
        json!({"access": null}),
        json!({"access": [{"type": "registry", "name": "catalog", "actions": ["*"]}]}),
        json!({"access": [{"type": "repository", "name": "acme/*", "actions": ["pull"]}]}),
        json!({"access": [{"type": "repository", "name": "acme/core", "actions": ["admin"]}]}),
    ] {
        let token = signer.stolen(&header, &with(claims.clone(), changes.clone()));
        assert!(signer.verify_at(&token, 0).is_err(), "{changes}");
    }
    let end = i64::try_from(OCI_SECONDS + OWN_LEEWAY_SECONDS).expect("small");
    assert!(signer.verify_at(&good, end - 1).is_ok());
    assert_eq!(signer.verify_at(&good, end), Err(TokenError::Expired));
    assert_eq!(signer.verify_at(&good, -31), Err(TokenError::NotYetValid));
}

#[test]
fn a_key_that_is_none_is_refused() {
    for pkcs8 in [&b""[..], b"key", &[0x30; 1200]] {
        assert!(OciKey::from_pkcs8(pkcs8).is_none());
    }
}
