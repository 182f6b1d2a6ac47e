//! ID tokens that must be refused, and the few that must not.

use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use protected_model::{api::problem::Code, identity::PlatformKind, time::numeric_date};
use protected_trust::{
    issuer::{Issuers, MAX_AGE_SECONDS},
    jwks::JwksCache,
    verify::{ALGORITHMS, IdTokenError, LEEWAY_SECONDS, MAX_TOKEN_BYTES, verify_id_token},
};
use serde_json::{Value, json};

use crate::support::{
    AUDIENCE, GITHUB, Key, OTHER_RSA, P256, RSA, at, b64, client, github_claims, gitlab_claims, issuers,
    jenkins_claims, now, seconds, static_issuer, verify, verify_at, with,
};

async fn refused(token: &str) -> IdTokenError {
    match verify(token).await {
        Ok(verified) => panic!("accepted: {:?}", verified.identity),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(token) || token.len() < 4, "the error repeats the token: {text}");
            error
        }
    }
}

/// Refuses the claims of a good token with `changes`, signed well.
async fn refused_claims(changes: Value) -> IdTokenError {
    refused(&RSA.sign(&with(github_claims(), changes))).await
}

async fn refused_header(changes: Value) -> IdTokenError {
    refused(&RSA.sign_with(&with(RSA.header(), changes), &github_claims())).await
}

#[tokio::test]
async fn a_good_token_is_a_run() {
    for key in [&*RSA, &*P256] {
        let verified = verify(&key.sign(&github_claims())).await.expect("accepted");
        let identity = &verified.identity;
        assert_eq!(identity.issuer, GITHUB);
        assert_eq!(identity.platform, PlatformKind::GithubActions);
        assert_eq!(identity.repository_id.as_deref(), Some("1001"));
        assert_eq!(identity.owner_id.as_deref(), Some("2002"));
        assert_eq!(identity.ref_protected, Some(true));
        assert_eq!(
            identity.run_url.as_deref(),
            Some("https://github.com/acme/core/actions/runs/42/attempts/1")
        );
        assert!(!identity.fork);
        assert_eq!(verified.expires, seconds(295));
        assert_eq!(numeric_date(verified.retain_until()), seconds(295) + LEEWAY_SECONDS);
    }
}

#[tokio::test]
async fn only_listed_claims_are_shown() {
    let claims = with(github_claims(), json!({"actor": "octocat", "email": "a@b", "secret": "hunter2"}));
    let identity = verify(&RSA.sign(&claims)).await.expect("accepted").identity;
    assert_eq!(identity.claims.get("repository").map(String::as_str), Some("acme/core"));
    for hidden in ["actor", "actor_id", "email", "secret", "jti", "workflow"] {
        assert!(!identity.claims.contains_key(hidden), "{hidden}");
    }
    let written = serde_json::to_string(&identity).expect("json");
    assert!(!written.contains("hunter2") && !written.contains("octocat"), "{written}");
}

#[tokio::test]
async fn texts_that_are_no_token() {
    let good = RSA.sign(&github_claims());
    let (message, signature) = good.rsplit_once('.').expect("parts");
    let (header, claims) = message.split_once('.').expect("parts");
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "x".to_owned(),
        message.to_owned(),
        format!("{message}."),
        format!("{good}.x"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}="),
        format!("{good} "),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}==.{signature}"),
        format!("{header} .{claims}.{signature}"),
        format!("{header}.{claims}.{}", signature.replace('_', "/").replace('-', "+") + "/"),
        format!("{}.{claims}.{signature}", b64("null")),
        format!("{}.{claims}.{signature}", b64("[]")),
        format!("{header}.{}.{signature}", b64("\"x\"")),
        format!("{header}.{}.{signature}", b64([0xff, 0xfe])),
        format!("Bearer {good}"),
        "\u{feff}".to_owned() + &good,
    ] {
        assert!(matches!(refused(&bad).await, IdTokenError::Malformed(_)), "{bad}");
    }
    // The last character of a signature has bits that say nothing; with them set it is another text for the same.
    let last = signature.chars().last().expect("signature");
    let other = char::from_u32(last as u32 + 1).expect("character");
    let twin = format!("{message}.{}{other}", &signature[..signature.len() - 1]);
    assert!(verify(&twin).await.is_err());
}

#[tokio::test]
async fn a_token_that_is_too_large_is_not_read() {
    let padded = |length: usize| RSA.sign(&with(github_claims(), json!({"padding": "x".repeat(length)})));
    let large = padded(MAX_TOKEN_BYTES);
    assert!(matches!(refused(&large).await, IdTokenError::Malformed(text) if text.contains("at most")));
    assert!(verify(&padded(2000)).await.is_ok());
}

#[tokio::test]
async fn members_that_are_there_twice() {
    let header = RSA.header().to_string();
    let claims = github_claims().to_string();
    let twice = |json: &str, member: &str| format!("{}{member}}}", &json[..json.len() - 1]);
    for bad in [
        RSA.sign_text(&header, &twice(&claims, r#","aud":"https://fractalops.example""#)),
        RSA.sign_text(&header, &twice(&claims, r#","repository_id":"9""#)),
        RSA.sign_text(&header, &twice(&claims, r#","repository\u005fid":"9""#)),
        RSA.sign_text(&twice(&header, r#","alg":"RS256""#), &claims),
        RSA.sign_text(&twice(&header, r#","kid":"rsa-1""#), &claims),
    ] {
        assert!(matches!(refused(&bad).await, IdTokenError::Malformed(_)));
    }
}

#[tokio::test]
async fn no_algorithm_but_the_two() {
    assert_eq!(ALGORITHMS, ["RS256", "ES256"]);
    let claims = github_claims();
    for algorithm in [
        "none", "nOnE", "NONE", "", "HS256", "HS512", "RS384", "RS512", "PS256", "ES384", "EdDSA", "rs256",
        "RS256 ",
    ] {
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": "rsa-1"});
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        assert!(refused(&format!("{message}.")).await.to_string().contains("signature"), "{algorithm}");
        let error = refused(&RSA.sign_with(&header, &claims)).await;
        assert!(matches!(error, IdTokenError::Header { member: "alg", .. }), "{algorithm}: {error}");
    }
    for algorithm in [json!(null), json!(["RS256"]), json!(256)] {
        let header = json!({"alg": algorithm, "kid": "rsa-1"});
        assert!(matches!(
            refused(&RSA.sign_with(&header, &claims)).await,
            IdTokenError::Header { member: "alg", .. }
        ));
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let jwk = RSA.jwk();
    let secrets = [jwk.to_string(), jwk["n"].as_str().expect("n").to_owned(), GITHUB.to_owned()];
    for secret in secrets {
        let header = jsonwebtoken::Header {
            kid: Some("rsa-1".to_owned()),
            ..jsonwebtoken::Header::new(Algorithm::HS256)
        };
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&header, &github_claims(), &key).expect("token");
        assert!(matches!(refused(&token).await, IdTokenError::Header { member: "alg", .. }));
    }
}

#[tokio::test]
async fn a_key_is_for_its_own_algorithm() {
    let mislabelled = with(P256.header(), json!({"kid": "rsa-1"}));
    let error = refused(&P256.sign_with(&mislabelled, &github_claims())).await;
    assert!(matches!(&error, IdTokenError::Algorithm { expected: "RS256", .. }), "{error}");
    let mislabelled = with(RSA.header(), json!({"kid": "ec-1"}));
    let error = refused(&RSA.sign_with(&mislabelled, &github_claims())).await;
    assert!(matches!(&error, IdTokenError::Algorithm { expected: "ES256", .. }), "{error}");
}

#[tokio::test]
async fn keys_that_the_token_brings_are_ignored() {
    let own = with(OTHER_RSA.jwk(), json!({"kid": "rsa-1"}));
    for header in [
        json!({"jwk": own}),
        json!({"jku": "https://evil.example/jwks"}),
        json!({"x5u": "https://evil.example/cert"}),
        json!({"x5c": ["MIIB"], "x5t": "x"}),
    ] {
        let header = with(RSA.header(), header);
        let error = refused(&OTHER_RSA.sign_with(&header, &github_claims())).await;
        assert!(matches!(error, IdTokenError::Signature { .. }), "{error}");
        // Ignored, not refused: GitHub's own tokens have `x5t`.
        assert!(verify(&RSA.sign_with(&header, &github_claims())).await.is_ok());
    }
}

#[tokio::test]
async fn key_ids_that_are_none() {
    let long = "k".repeat(10_000);
    for kid in
        [json!(null), json!(""), json!(1), json!(["rsa-1"]), json!({"kid": "rsa-1"}), json!("k".repeat(257))]
    {
        assert!(matches!(
            refused_header(json!({"kid": kid})).await,
            IdTokenError::Header { member: "kid", .. }
        ));
    }
    assert!(matches!(refused_header(json!({ "kid": long })).await, IdTokenError::Malformed(_)));
    for kid in [
        "rsa-3",
        "RSA-1",
        "rsa-1 ",
        "rsa",
        "../rsa-1",
        "../../etc/passwd",
        "'; DROP TABLE keys; --",
        "rsa-1\0",
        "__proto__",
    ] {
        let error = refused_header(json!({ "kid": kid })).await;
        assert!(matches!(error, IdTokenError::UnknownKey { .. }), "{kid}: {error}");
        assert!(!error.to_string().contains('\0'));
    }
}

#[tokio::test]
async fn headers_that_ask_for_more() {
    for crit in [json!(["exp"]), json!([]), json!("b64"), json!(["b64"])] {
        assert!(matches!(
            refused_header(json!({"crit": crit, "b64": false})).await,
            IdTokenError::Header { member: "crit", .. }
        ));
    }
    for typ in ["fo-npm+jwt", "fo-session+jwt", "fo-oci+jwt", "at+jwt", "dpop+jwt", "", "JWTX"] {
        let error = refused_header(json!({ "typ": typ })).await;
        assert!(matches!(error, IdTokenError::Header { member: "typ", .. }), "{typ}: {error}");
    }
    assert!(matches!(
        refused_header(json!({"typ": ["JWT"]})).await,
        IdTokenError::Header { member: "typ", .. }
    ));
    for typ in [json!(null), json!("jwt")] {
        assert!(
            verify(&RSA.sign_with(&with(RSA.header(), json!({"typ": typ})), &github_claims())).await.is_ok()
        );
    }
}

#[tokio::test]
async fn signatures_of_others() {
    let forged = OTHER_RSA.sign_with(&RSA.header(), &github_claims());
    assert!(matches!(refused(&forged).await, IdTokenError::Signature { .. }));
    let good = RSA.sign(&github_claims());
    let (message, signature) = good.rsplit_once('.').expect("parts");
    let (header, _) = message.split_once('.').expect("parts");
    let other = b64(with(github_claims(), json!({"repository_id": "9"})).to_string());
    assert!(matches!(
        refused(&format!("{header}.{other}.{signature}")).await,
        IdTokenError::Signature { .. }
    ));
    for signature in [b64([0; 256]), b64([0; 1]), b64([0xff; 256]), b64([0; 512])] {
        assert!(matches!(refused(&format!("{message}.{signature}")).await, IdTokenError::Signature { .. }));
    }
    for signature in [b64([0; 64]), b64([0; 63]), b64([0xff; 64])] {
        let good = P256.sign(&github_claims());
        let (message, _) = good.rsplit_once('.').expect("parts");
        assert!(matches!(refused(&format!("{message}.{signature}")).await, IdTokenError::Signature { .. }));
    }
}

#[tokio::test]
async fn issuers_are_compared_exactly() {
    for iss in [
        "https://token.actions.githubusercontent.com/",
        "https://TOKEN.actions.githubusercontent.com",
        "http://token.actions.githubusercontent.com",
        "https://token.actions.githubusercontent.com.evil.example",
        "https://token.actions.githubusercontent.com/acme",
        "https://evil.example",
        "",
    ] {
        let error = refused_claims(json!({ "iss": iss })).await;
        assert!(matches!(error, IdTokenError::UnknownIssuer { .. }), "{iss}: {error}");
        assert_eq!(error.code(), Code::INVALID_ID_TOKEN);
        assert!(error.server_detail().is_some_and(|detail| detail.contains(GITHUB)));
    }
    let error = refused_claims(json!({"iss": "https://token.actions.githubusercontent.com/"})).await;
    assert!(error.hint().is_some_and(|hint| hint.to_string().contains("`/` at its end")));
    // Who is trusted is nothing for strangers.
    let error = refused_claims(json!({"iss": "https://evil.example"})).await;
    assert!(!error.to_string().contains("githubusercontent"), "{error}");
    for iss in [json!(null), json!([GITHUB]), json!(1), json!({"iss": GITHUB})] {
        assert!(matches!(
            refused_claims(json!({"iss": iss})).await,
            IdTokenError::Claim { claim: "iss", .. }
        ));
    }
}

#[tokio::test]
async fn an_issuer_cannot_speak_for_another() {
    let ghes = "https://ghes.example/_services/token";
    let both: Issuers = [
        static_issuer(GITHUB, PlatformKind::GithubActions, &[RSA.jwk()]),
        static_issuer(
            ghes,
            PlatformKind::GithubActions,
            &[OTHER_RSA.jwk(), with(P256.jwk(), json!({"kid": "rsa-1"}))],
        ),
    ]
    .into_iter()
    .collect();
    // Its own key, under its own id and under the other's.
    assert!(matches!(
        verify_at(&OTHER_RSA.sign(&github_claims()), &both, now()).await,
        Err(IdTokenError::UnknownKey { .. })
    ));
    let header = with(P256.header(), json!({"kid": "rsa-1"}));
    assert!(matches!(
        verify_at(&P256.sign_with(&header, &github_claims()), &both, now()).await,
        Err(IdTokenError::Algorithm { .. })
    ));
    let own = with(github_claims(), json!({ "iss": ghes }));
    assert!(verify_at(&OTHER_RSA.sign(&own), &both, now()).await.is_ok());
}

#[tokio::test]
async fn audiences() {
    for aud in [
        "sigstore",
        "https://github.com/acme",
        "https://fractalops.example/",
        "https://FRACTALOPS.example",
        "https://fractalops.example.evil.example",
        "npm:fractalops.example",
        "",
    ] {
        assert!(
            matches!(refused_claims(json!({ "aud": aud })).await, IdTokenError::Audience { .. }),
            "{aud}"
        );
    }
    for aud in [
        json!(null),
        json!([]),
        json!([AUDIENCE]),
        json!([AUDIENCE, "sigstore"]),
        json!(1),
        json!({"aud": AUDIENCE}),
        json!(true),
    ] {
        assert!(
            matches!(refused_claims(json!({"aud": aud})).await, IdTokenError::Claim { claim: "aud", .. }),
            "{aud}"
        );
    }
    let error = refused_claims(json!({"aud": "sigstore"})).await;
    assert!(error.hint().is_some_and(|hint| hint.to_string().contains(AUDIENCE)));
}

#[tokio::test]
async fn jenkins_may_list_its_one_audience() {
    let jenkins: Issuers =
        [static_issuer("https://ci.example/oidc", PlatformKind::Jenkins, &[RSA.jwk()])].into_iter().collect();
    let verified = verify_at(&RSA.sign(&jenkins_claims()), &jenkins, now()).await.expect("accepted");
    assert_eq!(verified.identity.run_id.as_deref(), Some("17"));
    assert_eq!(verified.identity.run_url.as_deref(), Some("https://ci.example/job/core/job/main/17/"));
    assert!(verified.replay.as_str().starts_with("msg:"));
    for aud in [
        json!(null),
        json!([]),
        json!([AUDIENCE, AUDIENCE]),
        json!([AUDIENCE, "x"]),
        json!([[AUDIENCE]]),
        json!([1]),
        json!(["x"]),
    ] {
        let token = RSA.sign(&with(jenkins_claims(), json!({"aud": aud})));
        assert!(verify_at(&token, &jenkins, now()).await.is_err(), "{aud}");
    }
}

#[tokio::test]
async fn clocks() {
    let token =
        RSA.sign(&with(github_claims(), json!({"iat": seconds(0), "nbf": seconds(0), "exp": seconds(300)})));
    for (offset, ok) in [
        (-61, false),
        (-60, true),
        (-59, true),
        (0, true),
        (299, true),
        (359, true),
        (360, false),
        (361, false),
    ] {
        assert_eq!(verify_at(&token, &issuers(), at(offset)).await.is_ok(), ok, "at {offset} s");
    }
    assert!(matches!(verify_at(&token, &issuers(), at(361)).await, Err(IdTokenError::Expired { .. })));
    assert!(matches!(verify_at(&token, &issuers(), at(-61)).await, Err(IdTokenError::NotYetValid { .. })));
    assert!(matches!(
        refused_claims(json!({"nbf": seconds(61)})).await,
        IdTokenError::NotYetValid { claim: "nbf", .. }
    ));
    assert!(matches!(
        refused_claims(json!({"iat": seconds(61)})).await,
        IdTokenError::NotYetValid { claim: "iat", .. }
    ));
    assert!(
        verify(&RSA.sign(&with(github_claims(), json!({"nbf": seconds(59), "iat": seconds(59)}))))
            .await
            .is_ok()
    );
    assert!(verify(&RSA.sign(&with(github_claims(), json!({"nbf": null})))).await.is_ok());
    // An hour ahead: what a library with its defaults takes.
    assert!(verify(&RSA.sign(&with(github_claims(), json!({"nbf": seconds(3600)})))).await.is_err());
    assert!(
        verify(&RSA.sign(&with(github_claims(), json!({"iat": seconds(3600), "exp": seconds(7200)}))))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn old_tokens() {
    let aged =
        |age: i64| RSA.sign(&with(github_claims(), json!({"iat": seconds(-age), "exp": seconds(3600)})));
    let limit = i64::try_from(MAX_AGE_SECONDS).expect("seconds");
    assert!(verify(&aged(limit)).await.is_ok());
    assert!(matches!(verify(&aged(limit + 1)).await, Err(IdTokenError::TooOld { .. })));
    // A GitLab token lives as long as its job may, so its issuer can have another limit.
    let mut patient = static_issuer(GITHUB, PlatformKind::GithubActions, &[RSA.jwk()]);
    patient.max_age_seconds = 3600;
    let patient: Issuers = [patient].into_iter().collect();
    assert!(verify_at(&aged(3600), &patient, now()).await.is_ok());
    assert!(verify_at(&aged(3601), &patient, now()).await.is_err());
}

#[tokio::test]
async fn times_that_are_none() {
    for claim in ["exp", "iat", "nbf"] {
        for time in [
            json!(seconds(100).to_string()),
            json!(1e30),
            json!(-1),
            json!(seconds(0) as f64 + 0.5),
            json!(seconds(0) as f64),
            json!([seconds(100)]),
            json!({}),
            json!(true),
        ] {
            let error = refused_claims(json!({claim: time})).await;
            assert!(
                matches!(error, IdTokenError::Claim { claim: it, .. } if it == claim),
                "{claim} {time}: {error}"
            );
        }
        let text = github_claims().to_string().replacen(
            &format!("\"{claim}\":"),
            &format!("\"{claim}\":null,\"x\":"),
            1,
        );
        assert!(matches!(
            refused(&RSA.sign_text(&RSA.header().to_string(), &text)).await,
            IdTokenError::Claim { .. }
        ));
    }
    for claim in ["exp", "iat"] {
        assert!(matches!(refused_claims(json!({claim: null})).await, IdTokenError::Claim { .. }), "{claim}");
    }
    // The last second there is neither overflows nor is it far away.
    for time in [u64::MAX, u64::MAX - 59, i64::MAX as u64] {
        assert!(matches!(refused_claims(json!({"iat": time})).await, IdTokenError::NotYetValid { .. }));
        assert!(matches!(refused_claims(json!({"nbf": time})).await, IdTokenError::NotYetValid { .. }));
        let verified =
            verify(&RSA.sign(&with(github_claims(), json!({"exp": time})))).await.expect("accepted");
        assert!(verified.retain_until() > now());
    }
    assert!(matches!(refused_claims(json!({"exp": 0})).await, IdTokenError::Expired { .. }));
}

#[tokio::test]
async fn subjects_that_are_none() {
    for sub in [json!(null), json!(""), json!([]), json!({})] {
        assert!(
            matches!(refused_claims(json!({"sub": sub})).await, IdTokenError::Claim { claim: "sub", .. }),
            "{sub}"
        );
    }
}

#[tokio::test]
async fn used_tokens_are_known_again() {
    let replay = async |token: &str| verify(token).await.expect("accepted").replay;
    let one = replay(&RSA.sign(&github_claims())).await;
    // The issuer's number decides, whatever else the token says and whichever key signs.
    assert_eq!(one, replay(&P256.sign(&with(github_claims(), json!({"run_id": "43"})))).await);
    assert_ne!(one, replay(&RSA.sign(&with(github_claims(), json!({"jti": "other"})))).await);
    let unnumbered = with(github_claims(), json!({"jti": null}));
    let message = replay(&RSA.sign(&unnumbered)).await;
    assert_eq!(message, replay(&RSA.sign(&unnumbered)).await);
    assert_ne!(message, replay(&RSA.sign(&with(unnumbered, json!({"run_id": "43"})))).await);
    for key in [one, message] {
        assert!(
            key.as_str().len() <= 68 && key.as_str().bytes().all(|byte| byte.is_ascii_graphic()),
            "{key}"
        );
    }
    for jti in [json!(""), json!(1), json!(["a"]), json!("j".repeat(513))] {
        assert!(
            matches!(refused_claims(json!({"jti": jti})).await, IdTokenError::Claim { claim: "jti", .. }),
            "{jti}"
        );
    }
}

#[tokio::test]
async fn one_number_of_two_issuers_is_two() {
    let gitlab = static_issuer("https://gitlab.example", PlatformKind::GitlabCi, &[RSA.jwk()]);
    let both: Issuers = issuers().iter().cloned().chain([gitlab]).collect();
    let claims = with(gitlab_claims(), json!({"jti": github_claims()["jti"]}));
    let other = verify_at(&RSA.sign(&claims), &both, now()).await.expect("accepted").replay;
    let one = verify_at(&RSA.sign(&github_claims()), &both, now()).await.expect("accepted").replay;
    assert_ne!(one, other);
}

/// The order of P-256 (SEC 2 section 2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[tokio::test]
async fn the_other_form_of_a_signature_is_not_another_token() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    let token = P256.sign(&with(github_claims(), json!({"jti": null})));
    let (message, signature) = token.rsplit_once('.').expect("parts");
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64");
    let mut borrow = 0_i16;
    for i in (0..32).rev() {
        let difference = i16::from(ORDER[i]) - i16::from(bytes[32 + i]) - borrow;
        borrow = i16::from(difference < 0);
        bytes[32 + i] = u8::try_from(difference + 256 * borrow).expect("byte");
    }
    let twin = format!("{message}.{}", b64(&bytes));
    assert_ne!(token, twin);
    let one = verify(&token).await.expect("accepted");
    // It verifies: that is the attack. It must be the same token to the ledger.
    let other = verify(&twin).await.expect("the other form verifies as well");
    assert_eq!(one.replay, other.replay);
}

#[tokio::test]
async fn gitlab_says_where_code_and_job_are() {
    let gitlab: Issuers =
        [static_issuer("https://gitlab.example", PlatformKind::GitlabCi, &[RSA.jwk()])].into_iter().collect();
    let identity = async |changes| {
        verify_at(&RSA.sign(&with(gitlab_claims(), changes)), &gitlab, now())
            .await
            .expect("accepted")
            .identity
    };
    let own = identity(json!({})).await;
    assert!(!own.fork);
    assert_eq!(own.git_ref.as_deref(), Some("refs/heads/main"));
    assert_eq!(own.run_url.as_deref(), Some("https://gitlab.example/acme/core/-/jobs/44"));
    assert!(!own.claims.contains_key("user_email") && !own.claims.contains_key("user_login"));
    assert!(identity(json!({"project_id": "99"})).await.fork);
    assert!(identity(json!({"source_project_id": "99"})).await.fork);
    assert!(!identity(json!({"job_project_id": null})).await.fork);
    assert_eq!(identity(json!({"ref_protected": "false"})).await.ref_protected, Some(false));
    assert_eq!(identity(json!({"ref_protected": true})).await.ref_protected, Some(true));
    assert_eq!(identity(json!({"ref_protected": "True"})).await.ref_protected, None);
    let without_path = identity(json!({"ref_path": null, "ref_type": "tag", "ref": "v1"})).await;
    assert_eq!(without_path.git_ref.as_deref(), Some("refs/tags/v1"));
}

#[tokio::test]
async fn people_have_groups_and_runs_have_none() {
    let generic: Issuers =
        [static_issuer("https://login.example/", PlatformKind::Generic, &[RSA.jwk()])].into_iter().collect();
    let claims = json!({
        "iss": "https://login.example/", "aud": AUDIENCE, "sub": "ada", "iat": seconds(0), "exp": seconds(60),
        "groups": ["maintainers", 1, "all"],
    });
    let header = with(RSA.header(), json!({"typ": "at+jwt"}));
    let verified = verify_at(&RSA.sign_with(&header, &claims), &generic, now()).await.expect("accepted");
    assert_eq!(verified.groups, ["maintainers", "all"]);
    let run = verify(&RSA.sign(&with(github_claims(), json!({"groups": ["maintainers"]}))))
        .await
        .expect("accepted");
    assert!(run.groups.is_empty());
}

#[tokio::test]
async fn messages_of_strangers_cannot_forge_lines() {
    let error =
        refused_claims(json!({"aud": format!("a\n::error::b{}", "x".repeat(4000))})).await.to_string();
    assert!(!error.contains('\n') && error.len() < 1000, "{error}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_makes_it_panic(token in "\\PC{0,200}|[a-zA-Z0-9_.=-]{0,300}|(\\PC{0,20}\\.){2}\\PC{0,20}") {
        let (issuers, keys) = (issuers(), JwksCache::new(client()));
        let token = protected_model::secret::IdToken::new(token);
        let verified = runtime().block_on(verify_id_token(&token, &issuers, &keys, AUDIENCE, now()));
        prop_assert!(verified.is_err());
    }

    #[test]
    fn no_json_makes_it_panic(header in json_value(), claims in json_value(), signature in "[A-Za-z0-9_-]{0,90}") {
        let token = format!("{}.{}.{signature}", b64(header.to_string()), b64(claims.to_string()));
        prop_assert!(runtime().block_on(verify(&token)).is_err());
    }

    #[test]
    fn no_claim_of_any_type_makes_it_panic(
        claim in prop::sample::select(vec!["exp", "iat", "nbf", "jti", "sub", "aud", "ref", "repository", "workflow_ref", "run_id", "event_name"]),
        value in json_value(),
    ) {
        let _ = runtime().block_on(verify(&P256.sign(&with(github_claims(), json!({claim: value})))));
    }

    #[test]
    fn one_changed_character_is_one_too_many(position in any::<prop::sample::Index>(), replacement in "[A-Za-z0-9_-]") {
        let token = TOKEN.with(Clone::clone);
        let at = position.index(token.len());
        let changed = format!("{}{replacement}{}", &token[..at], &token[at + 1..]);
        prop_assume!(changed != token);
        prop_assert!(runtime().block_on(verify(&changed)).is_err(), "{}", changed);
    }
}

thread_local! {
    static TOKEN: String = RSA.sign(&github_claims());
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        prop::sample::select(vec![GITHUB, AUDIENCE, "RS256", "rsa-1", "JWT"]).prop_map(Value::from),
    ];
    let name = prop_oneof![
        "[a-z]{1,6}",
        prop::sample::select(vec!["alg", "kid", "typ", "iss", "aud", "exp", "iat", "sub"])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

#[test]
fn a_weak_key_is_none() {
    // 1024 bits are refused by their length alone, whatever they are.
    let weak = json!({"kty": "RSA", "n": b64([0xd3; 128]), "e": "AQAB", "kid": "weak"});
    let set = |keys: &[Value]| protected_trust::issuer::StaticKeys::from_jwks(&crate::support::jwks(keys));
    assert!(set(&[weak]).is_err());
    assert!(set(&[Key::p256("x").jwk()]).is_ok());
}
