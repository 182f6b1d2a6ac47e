//! Our own tokens: what is signed, what is taken, and what a key may do after its time.

use std::fs;

use jsonwebtoken::{Algorithm, EncodingKey};
use protected_model::{
    action::{Action, ArtifactPolicy},
    claims::{
        INSTALL_SECONDS, NPM_TOKEN_TYPE, PUBLISH_SECONDS, RegistryClaims, SESSION_AUDIENCE, SESSION_SECONDS,
        SESSION_TOKEN_TYPE, SessionClaims,
    },
    identity::{PlatformKind, RunIdentity},
    secret::Secret,
};
use protected_trust::{
    issuer::{Issuer, Issuers, Jwks, MAX_AGE_SECONDS},
    local_issuer::LocalIssuer,
    mint::{Expect, KeyFileError, OWN_LEEWAY_SECONDS, SignError, SigningKeys, TokenError},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{GITHUB, OTHER_RSA, at, b64, github_claims, now, seconds, verify_at, with};

const ISSUER: &str = "https://fractalops.example";
const REGISTRY: &str = "https://npm.example/repository/npm-hosted/";
const NPM: Expect<'_> = Expect { typ: NPM_TOKEN_TYPE, issuer: ISSUER, audience: REGISTRY };
const SESSION: Expect<'_> = Expect { typ: SESSION_TOKEN_TYPE, issuer: ISSUER, audience: SESSION_AUDIENCE };

fn keys() -> (TempDir, SigningKeys) {
    let folder = tempfile::tempdir().expect("folder");
    let keys = SigningKeys::load_or_create(&folder.path().join("keys"), now()).expect("keys");
    (folder, keys)
}

fn reload(folder: &TempDir, offset: i64) -> Result<SigningKeys, KeyFileError> {
    SigningKeys::load_or_create(&folder.path().join("keys"), at(offset))
}

fn npm_claims(actions: &[Action]) -> RegistryClaims {
    let life = if actions.contains(&Action::Publish) { PUBLISH_SECONDS } else { INSTALL_SECONDS };
    RegistryClaims {
        iss: ISSUER.to_owned(),
        aud: REGISTRY.to_owned(),
        sub: "repo:acme/core".to_owned(),
        iat: seconds(0),
        nbf: seconds(0),
        exp: seconds(0) + life,
        jti: "01J".to_owned(),
        tenant_id: "acme".parse().expect("tenant"),
        project_slug: "core".parse().expect("project"),
        package_name: "@acme/core".parse().expect("name"),
        package_scope: "@acme".parse().expect("scope"),
        allowed_actions: actions.to_vec(),
        entitlement_snapshot_id: "snap-1".parse().expect("snapshot"),
        artifact_policy: vec![ArtifactPolicy::Hardened],
        version: None,
        integrity: None,
        publisher: None,
    }
}

fn session_claims() -> SessionClaims {
    SessionClaims {
        iss: ISSUER.to_owned(),
        aud: SESSION_AUDIENCE.to_owned(),
        sub: "repo:acme/core".to_owned(),
        iat: seconds(0),
        nbf: seconds(0),
        exp: seconds(0) + SESSION_SECONDS,
        jti: "01K".to_owned(),
        tenant_id: "acme".parse().expect("tenant"),
        identity: RunIdentity::new(PlatformKind::GithubActions, GITHUB, "repo:acme/core"),
    }
}

fn publish() -> RegistryClaims {
    npm_claims(&[Action::Publish])
}

fn npm_at(keys: &SigningKeys, token: &str, offset: i64) -> Result<RegistryClaims, TokenError> {
    keys.verify(token, NPM, at(offset))
}

#[test]
fn what_is_signed_is_taken() {
    let (_folder, keys) = keys();
    let token = keys.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    assert_eq!(npm_at(&keys, &token, 0), Ok(publish()));
    assert_eq!(npm_at(&keys, &token, 0), Ok(publish()), "the second time from memory");
    let token = keys.sign(SESSION_TOKEN_TYPE, &session_claims()).expect("token");
    assert_eq!(keys.verify(&token, SESSION, now()), Ok(session_claims()));
}

#[test]
fn another_library_reads_it_with_the_served_keys() {
    let (_folder, keys) = keys();
    let token = keys.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    let header = jsonwebtoken::decode_header(&token).expect("header");
    assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::EdDSA, Some(NPM_TOKEN_TYPE)));
    let served: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys.jwks(now())).expect("key set");
    let jwk = served.find(&header.kid.expect("kid")).expect("the key is served");
    let mut validation = jsonwebtoken::Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[REGISTRY]);
    validation.validate_exp = false;
    let key = jsonwebtoken::DecodingKey::from_jwk(jwk).expect("key");
    let read = jsonwebtoken::decode::<Value>(&token, &key, &validation).expect("verified");
    assert_eq!(read.claims["package_name"], "@acme/core");
    let written = keys.jwks(now()).to_string();
    assert!(!written.contains("\"d\"") && !written.contains("pkcs8"), "{written}");
}

#[test]
fn one_kind_is_not_taken_for_another() {
    let (_folder, keys) = keys();
    let session = keys.sign(SESSION_TOKEN_TYPE, &session_claims()).expect("token");
    let wrong = |member, expected: &str| TokenError::WrongType { member, expected: expected.to_owned() };
    assert_eq!(npm_at(&keys, &session, 0), Err(wrong("typ", NPM_TOKEN_TYPE)));
    let npm = keys.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    assert_eq!(keys.verify::<SessionClaims>(&npm, SESSION, now()), Err(wrong("typ", SESSION_TOKEN_TYPE)));
    // The right kind, for another service, and from another one.
    for (expect, member) in [
        (Expect { audience: "https://npm.example/repository/other/", ..NPM }, "aud"),
        (Expect { audience: "https://npm.example/repository/npm-hosted", ..NPM }, "aud"),
        (Expect { issuer: "https://fractalops.example/", ..NPM }, "iss"),
    ] {
        let error = keys.verify::<RegistryClaims>(&npm, expect, now()).expect_err("refused");
        assert!(matches!(&error, TokenError::WrongType { member: it, .. } if *it == member), "{error}");
    }
    // An audience in a list is none.
    let listed = with(serde_json::to_value(publish()).expect("claims"), json!({"aud": [REGISTRY]}));
    assert!(matches!(keys.sign(NPM_TOKEN_TYPE, &listed), Err(SignError::Unacceptable(_))));
}

#[tokio::test]
async fn a_ci_id_token_is_not_ours() {
    let (folder, keys) = keys();
    let issuer = LocalIssuer::load_or_create(&folder.path().join("local")).expect("issuer");
    let token = issuer.sign(&github_claims()).expect("token");
    assert_eq!(npm_at(&keys, token.reveal(), 0), Err(TokenError::NotOurs));
    let ours = keys.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    let issuers: Issuers = [Issuer {
        url: ISSUER.to_owned(),
        platform: PlatformKind::Generic,
        jwks: Jwks::Static(issuer.static_keys()),
        max_age_seconds: MAX_AGE_SECONDS,
    }]
    .into_iter()
    .collect();
    assert!(verify_at(&ours, &issuers, now()).await.is_err(), "and ours is no ID token");
}

#[test]
fn what_others_signed() {
    let (_folder, keys) = keys();
    let (_other_folder, others) = self::keys();
    let token = keys.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    let theirs = others.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    assert_eq!(npm_at(&keys, &theirs, 0), Err(TokenError::NotOurs));
    let parts: Vec<_> = token.split('.').collect();
    let foreign: Vec<_> = theirs.split('.').collect();
    let changed =
        with(serde_json::to_value(publish()).expect("claims"), json!({"package_name": "@acme/other"}));
    let changed = b64(changed.to_string());
    let kid = keys.jwks(now())["keys"][0]["kid"].as_str().expect("kid").to_owned();
    let header = |changes: Value| {
        b64(with(json!({"alg": "EdDSA", "typ": NPM_TOKEN_TYPE, "kid": kid}), changes).to_string())
    };
    // Known to be good: a change below is then the only thing wrong.
    assert_eq!(npm_at(&keys, &token, 0), Ok(publish()));
    for bad in [
        format!("{}.{changed}.{}", parts[0], parts[2]),
        format!("{}.{}.{}", parts[0], foreign[1], foreign[2]),
        format!("{}.{}.{}", parts[0], parts[1], b64([0; 64])),
        format!("{}.{}.{}", parts[0], parts[1], b64([0; 63])),
        format!("{}.{}.{}", header(json!({"alg": "none"})), parts[1], parts[2]),
        format!("{}.{}.{}", header(json!({"alg": "HS256"})), parts[1], parts[2]),
        format!("{}.{}.{}", header(json!({"crit": ["x"]})), parts[1], parts[2]),
        format!("{}.{}.{}", header(json!({"kid": null})), parts[1], parts[2]),
        format!("{}.{}.{}", header(json!({"kid": "../x"})), parts[1], parts[2]),
        format!("{}.{}.{}", header(json!({"kid": [kid]})), parts[1], parts[2]),
        format!("{}.{}.{}", header(json!({"x": 1})), parts[1], parts[2]),
    ] {
        assert_eq!(npm_at(&keys, &bad, 0), Err(TokenError::NotOurs), "{bad}");
    }
    for bad in [
        "",
        "npm_0123456789",
        "a.b.c",
        &parts[..2].join("."),
        &format!("{}.{}.", parts[0], parts[1]),
        &"x".repeat(100_000),
    ] {
        assert!(matches!(npm_at(&keys, bad, 0), Err(TokenError::Malformed(_))), "{bad}");
    }
    // The public key as the secret of an HMAC.
    let secret = keys.jwks(now())["keys"][0]["x"].as_str().expect("x").to_owned();
    let mut hmac = jsonwebtoken::Header::new(Algorithm::HS256);
    (hmac.kid, hmac.typ) = (Some(kid), Some(NPM_TOKEN_TYPE.to_owned()));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&hmac, &publish(), &key).expect("token");
    assert_eq!(npm_at(&keys, &token, 0), Err(TokenError::NotOurs));
}

#[test]
fn clocks() {
    let (_folder, keys) = keys();
    assert_eq!(OWN_LEEWAY_SECONDS, 30);
    let token = keys.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    let life = i64::try_from(PUBLISH_SECONDS).expect("seconds");
    for (offset, expected) in [
        (-31, Err(TokenError::NotYetValid)),
        (-30, Ok(())),
        (-29, Ok(())),
        (0, Ok(())),
        (life, Ok(())),
        (life + 29, Ok(())),
        (life + 30, Err(TokenError::Expired)),
        (life + 31, Err(TokenError::Expired)),
    ] {
        assert_eq!(npm_at(&keys, &token, offset).map(drop), expected, "at {offset} s");
    }
}

#[test]
fn a_life_that_no_token_has_is_not_signed() {
    let (_folder, keys) = keys();
    let changed = |claims: Value, changes| with(claims, changes);
    let npm = |actions: &[Action]| serde_json::to_value(npm_claims(actions)).expect("claims");
    let session = serde_json::to_value(session_claims()).expect("claims");
    let both = [Action::Install, Action::Publish];
    for (typ, claims, longest) in [
        (NPM_TOKEN_TYPE, npm(&[Action::Publish]), PUBLISH_SECONDS),
        (NPM_TOKEN_TYPE, npm(&both), PUBLISH_SECONDS),
        (NPM_TOKEN_TYPE, npm(&[Action::Install]), INSTALL_SECONDS),
        (SESSION_TOKEN_TYPE, session, SESSION_SECONDS),
    ] {
        assert!(keys.sign(typ, &claims).is_ok());
        for changes in [
            json!({"exp": seconds(0) + longest + 1}),
            json!({"exp": seconds(0)}),
            json!({"exp": seconds(-1)}),
            json!({"exp": u64::MAX}),
            json!({"exp": null}),
            json!({"iat": null}),
            json!({"nbf": null}),
            json!({"iat": "0"}),
            json!({"iss": null}),
            json!({"aud": ""}),
            json!({"sub": null}),
            json!({"jti": null}),
        ] {
            let refused = keys.sign(typ, &changed(claims.clone(), changes.clone()));
            assert!(matches!(refused, Err(SignError::Unacceptable(_))), "{typ} {changes}");
        }
    }
    for actions in [json!([]), json!(null), json!(["admin"]), json!("publish"), json!(["install", "*"])] {
        let claims = changed(npm(&[Action::Install]), json!({ "allowed_actions": actions }));
        assert!(matches!(keys.sign(NPM_TOKEN_TYPE, &claims), Err(SignError::Unacceptable(_))), "{actions}");
    }
    for typ in ["JWT", "", "fo-oci+jwt", "FO-NPM+JWT"] {
        assert!(matches!(keys.sign(typ, &publish()), Err(SignError::Unacceptable(_))), "{typ}");
    }
    let large = changed(npm(&[Action::Install]), json!({"padding": "x".repeat(8192)}));
    assert!(matches!(keys.sign(NPM_TOKEN_TYPE, &large), Err(SignError::Unacceptable(_))));
}

/// Signs with the keys' own private key what the keys themselves would not.
fn stolen(folder: &TempDir, typ: &str, claims: &Value) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};

    let file = fs::read_to_string(folder.path().join("keys/signing-keys.json")).expect("file");
    let kept: Value = serde_json::from_str(&file).expect("json");
    let pkcs8 = STANDARD.decode(kept["keys"][0]["pkcs8"].as_str().expect("key")).expect("base64");
    let keys = reload(folder, 0).expect("keys");
    let kid = keys.jwks(now())["keys"][0]["kid"].clone();
    let message = format!(
        "{}.{}",
        b64(json!({"alg": "EdDSA", "typ": typ, "kid": kid}).to_string()),
        b64(claims.to_string())
    );
    let key = EncodingKey::from_ed_der(&pkcs8);
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA).expect("signature");
    format!("{message}.{signature}")
}

#[test]
fn a_stolen_key_makes_no_token_that_lasts() {
    let (folder, keys) = keys();
    let claims = serde_json::to_value(publish()).expect("claims");
    assert_eq!(npm_at(&keys, &stolen(&folder, NPM_TOKEN_TYPE, &claims), 0), Ok(publish()));
    for changes in [
        json!({"exp": seconds(3600)}),
        json!({"iat": seconds(-1)}),
        json!({"iat": seconds(3600), "nbf": seconds(0), "exp": seconds(3900)}),
        json!({"iat": null}),
        json!({"exp": null}),
        json!({"nbf": null}),
        json!({"nbf": seconds(31)}),
        json!({"allowed_actions": []}),
        json!({"allowed_actions": ["admin"]}),
        json!({"allowed_actions": null}),
        json!({"aud": [REGISTRY]}),
        json!({"aud": null}),
        json!({"iss": null}),
        json!({"package_name": "@ACME/core"}),
        json!({"package_name": null}),
    ] {
        let token = stolen(&folder, NPM_TOKEN_TYPE, &with(claims.clone(), changes.clone()));
        assert!(npm_at(&keys, &token, 0).is_err(), "{changes}");
    }
    let token = stolen(&folder, "fo-oci+jwt", &claims);
    let oci = Expect { typ: "fo-oci+jwt", ..NPM };
    assert!(keys.verify::<RegistryClaims>(&token, oci, now()).is_err(), "a kind that other keys sign");
}

#[test]
fn keys_outlive_the_process() {
    let (folder, keys) = keys();
    let token = keys.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    drop(keys);
    let again = reload(&folder, 10).expect("keys");
    assert_eq!(npm_at(&again, &token, 10), Ok(publish()));
    assert_eq!(again.since(), Some(now()));
}

#[test]
fn rotation_overlaps_and_ends() {
    let (folder, keys) = keys();
    let before = keys.sign(SESSION_TOKEN_TYPE, &session_claims()).expect("token");
    let take =
        |keys: &SigningKeys, token: &str, offset| keys.verify::<SessionClaims>(token, SESSION, at(offset));
    assert!(take(&keys, &before, 0).is_ok());
    keys.rotate(at(1)).expect("rotated");
    let after = keys.sign(SESSION_TOKEN_TYPE, &session_claims()).expect("token");
    let kid = |token: &str| jsonwebtoken::decode_header(token).expect("header").kid;
    assert_ne!(kid(&before), kid(&after));
    let served = |keys: &SigningKeys, offset| keys.jwks(at(offset))["keys"].as_array().expect("keys").len();
    let last = i64::try_from(SESSION_SECONDS + OWN_LEEWAY_SECONDS).expect("seconds") - 1;
    for keys in [&keys, &reload(&folder, 2).expect("keys")] {
        assert!(take(keys, &before, last).is_ok(), "to the last second of the old key's last token");
        assert!(take(keys, &after, last).is_ok());
        assert_eq!((served(keys, last), served(keys, last + 60)), (2, 1));
        // By then its tokens are over; what is refused is the key, also for a token that was remembered.
        assert_eq!(take(keys, &before, last + 60), Err(TokenError::NotOurs));
        assert_eq!(take(keys, &after, last + 60), Err(TokenError::Expired));
    }
    keys.rotate(at(last + 60)).expect("rotated");
    assert_eq!(served(&keys, last + 60), 2, "the first one is gone from the file as well");
    assert_eq!(served(&reload(&folder, last + 60).expect("keys"), last + 60), 2);
}

#[test]
fn a_key_that_cannot_be_kept_is_not_used() {
    let (folder, keys) = keys();
    let before = keys.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    let moved = folder.path().join("moved");
    fs::rename(folder.path().join("keys"), &moved).expect("moved");
    assert!(matches!(keys.rotate(at(1)), Err(KeyFileError::File { .. })));
    assert_eq!(npm_at(&keys, &before, 0), Ok(publish()));
    let after = keys.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    let kid = |token: &str| jsonwebtoken::decode_header(token).expect("header").kid;
    assert_eq!(kid(&before), kid(&after));
}

#[cfg(unix)]
#[test]
fn nobody_else_reads_the_keys() {
    use std::os::unix::fs::PermissionsExt;

    let (folder, _keys) = keys();
    let _issuer = LocalIssuer::load_or_create(&folder.path().join("keys")).expect("issuer");
    let keys = folder.path().join("keys");
    let mode = |path: &std::path::Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
    };
    assert_eq!(mode(&keys), 0o700);
    for name in ["signing-keys.json", "local-issuer.pk8"] {
        assert_eq!(mode(&keys.join(name)), 0o600, "{name}");
    }
    assert_eq!(fs::read_dir(&keys).expect("folder").count(), 2, "no temporary file stays");
    for exposed in [0o640, 0o604, 0o620] {
        set(&keys.join("signing-keys.json"), exposed);
        assert!(matches!(reload(&folder, 0), Err(KeyFileError::Exposed { mode, .. }) if mode == exposed));
    }
    set(&keys.join("signing-keys.json"), 0o600);
    set(&keys, 0o750);
    assert!(matches!(reload(&folder, 0), Err(KeyFileError::Exposed { .. })));
    set(&keys, 0o700);
    assert!(reload(&folder, 0).is_ok());
}

#[test]
fn files_that_hold_no_keys() {
    let (folder, _keys) = keys();
    let file = folder.path().join("keys/signing-keys.json");
    let good = fs::read_to_string(&file).expect("file");
    let kept: Value = serde_json::from_str(&good).expect("json");
    let replaced = with(kept["keys"][0].clone(), json!({"replaced": "2026-11-05T12:00:00Z"}));
    for bad in [
        String::new(),
        "{}".to_owned(),
        "{\"keys\":[]}".to_owned(),
        good[..good.len() / 2].to_owned(),
        json!({"keys": [with(kept["keys"][0].clone(), json!({"pkcs8": "AAAA"}))]}).to_string(),
        json!({"keys": [kept["keys"][0], kept["keys"][0]]}).to_string(),
        json!({ "keys": [replaced] }).to_string(),
    ] {
        fs::write(&file, &bad).expect("written");
        // A new key in place of a broken file would end every token without a word.
        let error = reload(&folder, 0).map(drop).expect_err("refused");
        assert!(matches!(error, KeyFileError::Content { .. }), "{bad}: {error}");
        assert_eq!(fs::read_to_string(&file).expect("file"), bad, "it is left for a person to look at");
    }
}

#[test]
fn remembering_is_bounded_and_only_of_signatures() {
    let (folder, keys) = keys();
    let good = keys.sign(NPM_TOKEN_TYPE, &publish()).expect("token");
    assert!(npm_at(&keys, &good, 0).is_ok());
    for i in 0..17_000 {
        let mut claims = npm_claims(&[Action::Install]);
        claims.jti = i.to_string();
        let token = keys.sign(NPM_TOKEN_TYPE, &claims).expect("token");
        assert!(npm_at(&keys, &token, 0).is_ok());
    }
    assert!(npm_at(&keys, &good, 0).is_ok());
    assert_eq!(npm_at(&keys, &good, 1000), Err(TokenError::Expired));
    assert!(keys.verify::<SessionClaims>(&good, SESSION, now()).is_err());
    drop(folder);
}

#[tokio::test]
async fn the_local_issuer_is_an_issuer() {
    let folder = tempfile::tempdir().expect("folder");
    let issuer = LocalIssuer::load_or_create(&folder.path().join("local")).expect("issuer");
    let again = LocalIssuer::load_or_create(&folder.path().join("local")).expect("issuer");
    assert_eq!(issuer.jwks(), again.jwks());
    let url = "http://127.0.0.1:8787/_local/github-actions";
    let issuers: Issuers = [Issuer {
        url: url.to_owned(),
        platform: PlatformKind::GithubActions,
        jwks: Jwks::Static(issuer.static_keys()),
        max_age_seconds: MAX_AGE_SECONDS,
    }]
    .into_iter()
    .collect();
    let token = again.sign(&with(github_claims(), json!({ "iss": url }))).expect("token");
    verify_at(token.reveal(), &issuers, now()).await.expect("accepted");
    // Forged with another key under the same id.
    let kid = issuer.jwks()["keys"][0]["kid"].clone();
    let forged = OTHER_RSA
        .sign_with(&json!({"alg": "RS256", "kid": kid}), &with(github_claims(), json!({ "iss": url })));
    assert!(verify_at(&forged, &issuers, now()).await.is_err());
    let document = issuer.discovery(url, "http://127.0.0.1:8787/_local/jwks");
    assert_eq!(document["issuer"], url);
    assert_eq!(document["jwks_uri"], "http://127.0.0.1:8787/_local/jwks");
}
