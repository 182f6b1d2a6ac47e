//! Issuers that rotate, fail, stall and lie, over TCP.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use protected_model::{api::problem::Code, secret::IdToken};
use protected_trust::{
    issuer::{Issuer, Issuers, Jwks, StaticKeys},
    jwks::{COOLDOWN, FetchError, JwksCache, KeySource, KeySourceError, STALE_WHILE_ERROR, TTL},
    key::{KeySet, VerifyingKey},
    verify::{IdTokenError, verify_id_token},
};
use serde_json::{Value, json};

use crate::support::{
    AUDIENCE, Answer, Key, OTHER_RSA, P256, RSA, Server, at, client, github_claims, jwks, now, with,
};

const DISCOVERY: &str = "/.well-known/openid-configuration";

fn cache() -> JwksCache {
    JwksCache::new(client())
}

async fn has(cache: &JwksCache, issuer: &Issuer, kid: &str, seconds: i64) -> bool {
    cache.key(issuer, kid, at(seconds)).await.expect("an answer").is_some()
}

async fn fails(cache: &JwksCache, issuer: &Issuer, kid: &str, seconds: i64) -> KeySourceError {
    match cache.key(issuer, kid, at(seconds)).await {
        Ok(found) => panic!("answered: {}", found.is_some()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_token_is_verified_with_keys_that_were_found() {
    let server = Server::with_keys(&[RSA.jwk()]).await;
    let issuers: Issuers = [server.issuer()].into_iter().collect();
    let cache = cache();
    let token = IdToken::new(RSA.sign(&with(github_claims(), json!({"iss": server.url}))));
    for _ in 0..5 {
        verify_id_token(&token, &issuers, &cache, AUDIENCE, now()).await.expect("accepted");
    }
    assert_eq!((server.count(DISCOVERY), server.count("/jwks")), (1, 1));
}

#[tokio::test]
async fn unknown_key_ids_cost_one_fetch_a_minute() {
    let server = Server::with_keys(&[RSA.jwk()]).await;
    let (cache, issuer) = (cache(), server.issuer());
    for i in 0..50 {
        assert!(!has(&cache, &issuer, &format!("made-up-{i}"), i).await);
    }
    assert_eq!(server.count("/jwks"), 1);
    assert!(has(&cache, &issuer, "rsa-1", 59).await);
    assert!(!has(&cache, &issuer, "made-up", 59).await);
    assert_eq!(server.count("/jwks"), 1);
    assert!(!has(&cache, &issuer, "made-up", 60).await);
    assert_eq!(server.count("/jwks"), 2);
    // Ids of any shape are only looked up.
    for kid in ["../jwks", "a/b?c#d", "", "\0", &"k".repeat(10_000)] {
        assert!(!has(&cache, &issuer, kid, 61).await);
    }
    assert_eq!(server.count("/jwks"), 2);
    assert_eq!(COOLDOWN.as_secs(), 60);
}

#[tokio::test]
async fn a_failed_fetch_starts_the_cooldown_too() {
    for broken in [Answer::Text(500, String::new()), Answer::HangUp, Answer::Text(200, "<html>".to_owned())] {
        for path in [DISCOVERY, "/jwks"] {
            let server = Server::with_keys(&[RSA.jwk()]).await;
            server.answer(path, broken.clone());
            let (cache, issuer) = (cache(), server.issuer());
            for second in 0..20 {
                fails(&cache, &issuer, "rsa-1", second).await;
            }
            assert_eq!(server.count(path), 1, "{path}");
            // It comes back, and nobody notices before the minute is over.
            let good = Server::with_keys(&[RSA.jwk()]).await;
            let discovery = json!({"issuer": server.url, "jwks_uri": format!("{}/jwks", server.url)});
            server.answer(DISCOVERY, Answer::Json(discovery));
            server.answer("/jwks", Answer::Json(jwks(&[RSA.jwk()])));
            fails(&cache, &issuer, "rsa-1", 59).await;
            assert!(has(&cache, &issuer, "rsa-1", 60).await);
            drop(good);
        }
    }
}

#[tokio::test]
async fn an_outage_is_not_a_refusal() {
    let server = Server::start().await;
    server.answer(DISCOVERY, Answer::Text(503, String::new()));
    let issuers: Issuers = [server.issuer()].into_iter().collect();
    let token = IdToken::new(RSA.sign(&with(github_claims(), json!({"iss": server.url}))));
    for second in [0, 1] {
        let error =
            verify_id_token(&token, &issuers, &cache(), AUDIENCE, at(second)).await.expect_err("no keys");
        assert!(matches!(error, IdTokenError::Keys(_)));
        assert_eq!(error.code(), Code::ISSUER_UNAVAILABLE);
        assert!(error.hint().is_some_and(|hint| hint.to_string() == "try again in a minute"));
    }
}

#[tokio::test]
async fn keys_outlive_an_outage_but_not_for_ever() {
    let server = Server::with_keys(&[RSA.jwk()]).await;
    let (cache, issuer) = (cache(), server.issuer());
    assert!(has(&cache, &issuer, "rsa-1", 0).await);
    server.answer("/jwks", Answer::Text(500, String::new()));
    let (ttl, stale) = (TTL.as_secs(), STALE_WHILE_ERROR.as_secs());
    assert_eq!((ttl, stale), (3600, 24 * 3600));
    assert!(has(&cache, &issuer, "rsa-1", ttl - 1).await);
    assert_eq!(server.count("/jwks"), 1);
    assert!(has(&cache, &issuer, "rsa-1", ttl).await);
    assert_eq!(server.count("/jwks"), 2);
    assert!(has(&cache, &issuer, "rsa-1", ttl + 59).await);
    assert_eq!(server.count("/jwks"), 2);
    // That a key is not among the old ones says nothing about the new ones.
    fails(&cache, &issuer, "rsa-2", ttl + 59).await;
    assert!(has(&cache, &issuer, "rsa-1", stale - 1).await);
    fails(&cache, &issuer, "rsa-1", stale + 120).await;
}

#[tokio::test]
async fn rotation_with_overlap_and_removal() {
    let server = Server::with_keys(&[RSA.jwk()]).await;
    let (cache, issuer) = (cache(), server.issuer());
    assert!(has(&cache, &issuer, "rsa-1", 0).await);
    assert!(!has(&cache, &issuer, "rsa-2", 0).await);
    server.answer("/jwks", Answer::Json(jwks(&[RSA.jwk(), OTHER_RSA.jwk()])));
    assert!(has(&cache, &issuer, "rsa-2", 100).await, "a new key is found after the cooldown");
    assert!(has(&cache, &issuer, "rsa-1", 100).await);
    server.answer("/jwks", Answer::Json(jwks(&[OTHER_RSA.jwk()])));
    assert!(has(&cache, &issuer, "rsa-1", 100 + TTL.as_secs() - 1).await);
    assert!(!has(&cache, &issuer, "rsa-1", 100 + TTL.as_secs()).await, "a withdrawn key is dropped");
    assert!(has(&cache, &issuer, "rsa-2", 100 + TTL.as_secs()).await);
    assert_eq!(server.count("/jwks"), 3);
}

#[tokio::test]
async fn what_is_no_key_set_replaces_nothing() {
    let garbage = json!({"kty": "RSA", "n": "!!", "e": "AQAB", "kid": "rsa-1"});
    for bad in [
        Answer::Text(200, String::new()),
        Answer::Text(200, "null".to_owned()),
        Answer::Text(200, "{".to_owned()),
        Answer::Text(204, String::new()),
        Answer::Text(404, jwks(&[OTHER_RSA.jwk()]).to_string()),
        Answer::Json(json!([])),
        Answer::Json(json!({})),
        Answer::Json(json!({"keys": {}})),
        Answer::Json(json!({"keys": []})),
        Answer::Json(json!({"keys": [null, 1, "x", [], {}]})),
        Answer::Json(json!({"keys": [garbage]})),
        Answer::Json(json!({"keys": vec![OTHER_RSA.jwk(); 129]})),
        Answer::Json(with(jwks(&[OTHER_RSA.jwk()]), json!({"padding": "x".repeat(256 * 1024)}))),
    ] {
        let server = Server::with_keys(&[RSA.jwk()]).await;
        let (cache, issuer) = (cache(), server.issuer());
        assert!(has(&cache, &issuer, "rsa-1", 0).await);
        server.answer("/jwks", bad.clone());
        assert!(has(&cache, &issuer, "rsa-1", TTL.as_secs()).await);
        assert_eq!(server.count("/jwks"), 2);
        // And with nothing before, it is nothing.
        let fresh = self::cache();
        fails(&fresh, &issuer, "rsa-1", 0).await;
        fails(&fresh, &issuer, "rsa-2", 0).await;
        assert_eq!(server.count("/jwks"), 3);
    }
}

#[tokio::test]
async fn one_bad_key_costs_only_itself() {
    let odd = [
        json!(null),
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": "hmac", "alg": "HS256"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "ed"}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA", "kid": "p521"}),
        with(P256.jwk(), json!({"crv": "P-384", "kid": "p384"})),
        with(P256.jwk(), json!({"x": "AAAA", "kid": "short"})),
        with(P256.jwk(), json!({"x": P256.jwk()["y"], "kid": "off-curve"})),
        with(RSA.jwk(), json!({"use": "enc", "kid": "enc"})),
        with(RSA.jwk(), json!({"key_ops": ["sign"], "kid": "ops"})),
        with(RSA.jwk(), json!({"alg": "RS512", "kid": "rs512"})),
        with(RSA.jwk(), json!({"alg": "PS256", "kid": "ps256"})),
        with(RSA.jwk(), json!({"d": "AQAB", "kid": "private"})),
        with(RSA.jwk(), json!({"n": "", "kid": "empty"})),
        with(RSA.jwk(), json!({"e": "", "kid": "no-exponent"})),
        with(RSA.jwk(), json!({"e": "AA", "kid": "zero-exponent"})),
        with(RSA.jwk(), json!({"kid": null})),
        with(RSA.jwk(), json!({"kid": ""})),
        with(RSA.jwk(), json!({"kid": 7})),
        with(RSA.jwk(), json!({"kid": "k".repeat(257)})),
    ];
    let mut listed = odd.to_vec();
    listed.insert(7, RSA.jwk());
    listed.push(with(P256.jwk(), json!({"key_ops": ["verify"], "use": "sig", "alg": "ES256"})));
    let set = KeySet::from_jwks(&jwks(&listed)).unwrap_or_else(|error| panic!("{error}"));
    assert!(set.get("rsa-1").is_some() && set.get("ec-1").is_some());
    for jwk in odd {
        let kid = jwk["kid"].as_str().unwrap_or_default();
        assert!(set.get(kid).is_none(), "{kid}");
        assert!(KeySet::from_jwks(&jwks(std::slice::from_ref(&jwk))).is_err(), "{jwk}");
    }
}

#[tokio::test]
async fn two_keys_with_one_id_are_none() {
    let twin = with(OTHER_RSA.jwk(), json!({"kid": "rsa-1"}));
    for listed in [[RSA.jwk(), twin.clone()], [twin.clone(), RSA.jwk()]] {
        let set = KeySet::from_jwks(&jwks(&[&listed[..], &[P256.jwk()]].concat()))
            .unwrap_or_else(|it| panic!("{it}"));
        assert!(set.get("rsa-1").is_none() && set.get("ec-1").is_some());
        assert!(KeySet::from_jwks(&jwks(&listed)).is_err());
        assert!(
            KeySet::from_jwks(&jwks(&[&listed[..], &listed[..1]].concat())).is_err(),
            "a third is no way out"
        );
    }
    assert!(KeySet::from_jwks(&jwks(&[RSA.jwk(), RSA.jwk()])).is_ok_and(|set| set.get("rsa-1").is_some()));
}

#[tokio::test]
async fn a_modulus_as_jenkins_writes_it() {
    let jwk = RSA.jwk();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().expect("n")).expect("base64");
    let padded = |zeros: usize| URL_SAFE_NO_PAD.encode([vec![0; zeros], modulus.clone()].concat());
    assert_eq!((jwk["n"].as_str().map(str::len), padded(1).len()), (Some(342), 343));
    for zeros in [1, 3] {
        let jenkins = with(RSA.jwk(), json!({"n": padded(zeros), "e": "AAEAAQ"}));
        let server = Server::with_keys(&[jenkins]).await;
        let issuers: Issuers = [server.issuer()].into_iter().collect();
        let token = IdToken::new(RSA.sign(&with(github_claims(), json!({"iss": server.url}))));
        verify_id_token(&token, &issuers, &cache(), AUDIENCE, now()).await.expect("accepted");
    }
    // Zeros do not make a short key long.
    let short = URL_SAFE_NO_PAD.encode([vec![0; 200], vec![0xd3; 128]].concat());
    assert!(VerifyingKey::from_jwk(&with(RSA.jwk(), json!({ "n": short }))).is_err());
    // The library that most others use does not take the zero, which is why we strip it.
    let key = jsonwebtoken::DecodingKey::from_rsa_components(&padded(1), "AQAB").expect("key");
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.validate_aud = false;
    validation.validate_exp = false;
    let token = RSA.sign(&github_claims());
    assert!(jsonwebtoken::decode::<Value>(&token, &key, &validation).is_err());
    let key = jsonwebtoken::DecodingKey::from_rsa_components(&padded(0), "AQAB").expect("key");
    assert!(jsonwebtoken::decode::<Value>(&token, &key, &validation).is_ok());
}

#[tokio::test]
async fn discovery_that_lies() {
    let server = Server::with_keys(&[RSA.jwk()]).await;
    let elsewhere = Server::with_keys(&[RSA.jwk()]).await;
    let own_keys = format!("{}/jwks", server.url);
    let discover = async |document: Value| {
        server.answer(DISCOVERY, Answer::Json(document));
        fails(&cache(), &server.issuer(), "rsa-1", 0).await.source
    };
    for issuer in
        [format!("{}/", server.url), elsewhere.url.clone(), server.url.to_uppercase(), String::new()]
    {
        let error = discover(json!({"issuer": issuer, "jwks_uri": own_keys})).await;
        assert!(matches!(error, FetchError::IssuerMismatch { .. }), "{issuer}: {error}");
    }
    for jwks_uri in [
        format!("{}/jwks", elsewhere.url),
        "https://evil.example/jwks".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        server.url.replace("http://", "http://user:password@").replace("127.0.0.1", "evil.example"),
        "/jwks".to_owned(),
        String::new(),
    ] {
        let error = discover(json!({"issuer": server.url, "jwks_uri": jwks_uri})).await;
        assert!(matches!(error, FetchError::Elsewhere { .. }), "{jwks_uri}: {error}");
    }
    for document in
        [json!({}), json!([]), json!({"issuer": server.url}), json!({"issuer": server.url, "jwks_uri": 1})]
    {
        assert!(matches!(discover(document).await, FetchError::Document { .. }));
    }
    assert_eq!((server.count("/jwks"), elsewhere.count("/jwks")), (0, 0));
}

#[tokio::test]
async fn an_issuer_without_tls_is_not_asked() {
    let mut issuer = Server::start().await.issuer();
    for url in [
        "http://gitlab.example",
        "http://127.0.0.1.evil.example",
        "ftp://gitlab.example",
        "gitlab.example",
        "",
    ] {
        issuer.url = url.to_owned();
        let error = fails(&cache(), &issuer, "rsa-1", 0).await.source;
        assert!(matches!(error, FetchError::Insecure { .. }), "{url}: {error}");
    }
}

#[tokio::test]
async fn keys_at_a_url_of_their_own() {
    let server = Server::with_keys(&[RSA.jwk()]).await;
    server.answer("/keys/", Answer::Json(jwks(&[P256.jwk()])));
    let mut issuer = server.issuer();
    issuer.jwks = Jwks::Url(format!("{}/keys/", server.url).parse().expect("url"));
    assert!(has(&cache(), &issuer, "ec-1", 0).await);
    assert_eq!(server.count(DISCOVERY), 0);
}

#[tokio::test]
async fn known_keys_are_never_asked_for() {
    let server = Server::with_keys(&[P256.jwk()]).await;
    let mut issuer = server.issuer();
    issuer.jwks =
        Jwks::Static(StaticKeys::from_jwks(&jwks(&[RSA.jwk()])).unwrap_or_else(|error| panic!("{error}")));
    let cache = cache();
    assert!(has(&cache, &issuer, "rsa-1", 0).await && !has(&cache, &issuer, "ec-1", 0).await);
    assert_eq!(server.count(DISCOVERY), 0);
}

#[tokio::test]
async fn issuers_share_nothing() {
    let one = Server::with_keys(&[RSA.jwk()]).await;
    let other = Server::with_keys(&[OTHER_RSA.jwk()]).await;
    let cache = cache();
    assert!(has(&cache, &one.issuer(), "rsa-1", 0).await && !has(&cache, &one.issuer(), "rsa-2", 0).await);
    assert!(
        has(&cache, &other.issuer(), "rsa-2", 0).await && !has(&cache, &other.issuer(), "rsa-1", 0).await
    );
}

#[tokio::test]
async fn many_ask_at_once_and_one_fetches() {
    let server = Server::with_keys(&[]).await;
    server.answer("/jwks", Answer::Late(Duration::from_millis(300), jwks(&[RSA.jwk()])));
    let (cache, issuer) = (Arc::new(cache()), server.issuer());
    let asking: Vec<_> = (0..40)
        .map(|_| {
            let (cache, issuer) = (Arc::clone(&cache), issuer.clone());
            tokio::spawn(async move { has(&cache, &issuer, "rsa-1", 0).await })
        })
        .collect();
    for asked in asking {
        assert!(asked.await.expect("task"));
    }
    assert_eq!((server.count(DISCOVERY), server.count("/jwks")), (1, 1));
}

#[tokio::test]
async fn a_rotated_key_is_waited_for_by_all() {
    let server = Server::with_keys(&[RSA.jwk()]).await;
    let (cache, issuer) = (Arc::new(cache()), server.issuer());
    assert!(has(&cache, &issuer, "rsa-1", 0).await);
    server.answer("/jwks", Answer::Late(Duration::from_millis(300), jwks(&[RSA.jwk(), OTHER_RSA.jwk()])));
    let asking: Vec<_> = (0..10)
        .map(|_| {
            let (cache, issuer) = (Arc::clone(&cache), issuer.clone());
            tokio::spawn(async move { has(&cache, &issuer, "rsa-2", 61).await })
        })
        .collect();
    for asked in asking {
        assert!(asked.await.expect("task"), "nobody is refused while the new key is on its way");
    }
    assert_eq!(server.count("/jwks"), 2);
}

#[tokio::test]
async fn a_stalled_issuer_holds_up_no_key_that_is_there() {
    let server = Server::with_keys(&[RSA.jwk()]).await;
    let (cache, issuer) = (Arc::new(cache()), server.issuer());
    assert!(has(&cache, &issuer, "rsa-1", 0).await);
    server.answer("/jwks", Answer::Silent);
    let waiting = {
        let (cache, issuer) = (Arc::clone(&cache), issuer.clone());
        tokio::spawn(async move { fails(&cache, &issuer, "made-up", TTL.as_secs()).await })
    };
    while server.count("/jwks") < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Fresh, and stale while somebody else is asking.
    for second in [1, TTL.as_secs()] {
        let found =
            tokio::time::timeout(Duration::from_millis(500), has(&cache, &issuer, "rsa-1", second)).await;
        assert!(found.expect("at once"));
    }
    let error =
        tokio::time::timeout(Duration::from_secs(9), waiting).await.expect("within its time").expect("task");
    assert!(matches!(error.source, FetchError::Http(_)));
    assert_eq!(server.count("/jwks"), 2);
}

#[tokio::test]
async fn who_hangs_up_does_not_end_the_fetch() {
    let server = Server::with_keys(&[]).await;
    server.answer("/jwks", Answer::Late(Duration::from_millis(300), jwks(&[RSA.jwk()])));
    let (cache, issuer) = (cache(), server.issuer());
    for _ in 0..3 {
        let impatient =
            tokio::time::timeout(Duration::from_millis(30), cache.key(&issuer, "made-up", now())).await;
        assert!(impatient.is_err());
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(has(&cache, &issuer, "rsa-1", 1).await);
    assert_eq!(server.count("/jwks"), 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_refreshing() {
    let server = Server::with_keys(&[RSA.jwk()]).await;
    let (cache, issuer) = (cache(), server.issuer());
    assert!(has(&cache, &issuer, "rsa-1", 100_000).await);
    server.answer("/jwks", Answer::Json(jwks(&[OTHER_RSA.jwk()])));
    assert!(has(&cache, &issuer, "rsa-2", 0).await);
}

#[test]
fn keys_that_are_too_long_or_too_short() {
    let of = |bytes: usize| {
        let modulus = [vec![0xd3; bytes - 1], vec![1]].concat();
        VerifyingKey::from_jwk(&json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"}))
    };
    assert_eq!(of(255).err(), Some("it is shorter than 2048 bits"));
    assert_eq!(of(1025).err(), Some("it is longer than 8192 bits"));
    assert!(of(256).is_ok());
    let eighth =
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([vec![0x7f], vec![1; 255]].concat()), "e": "AQAB"});
    assert_eq!(VerifyingKey::from_jwk(&eighth).err(), Some("it is shorter than 2048 bits"), "2047 bits");
    assert_eq!(Key::p256("x").header()["alg"], "ES256");
}
