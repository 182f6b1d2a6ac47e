//! What a wrapping is bound to, and what is not taken from a service.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::SignedDuration;
use protected_keys::KeyError;
use serde_json::{Value, json};

use crate::{
    INITECH, P256, PUBLISHER, SYMMETRIC, World, context, data_key,
    fake::{Answer, Pace, crc32c},
    named,
};

#[tokio::test]
async fn a_wrapping_opens_for_its_bundle_alone_and_outlives_a_rotation() {
    let world = World::new();
    world.key("other", SYMMETRIC);
    let service = world.connect("acme", PUBLISHER);
    let key = data_key();
    let wrapped = service.wrap(&key, &context("one")).await.expect("wrapped");
    assert_eq!(wrapped.version.as_deref(), Some("1"));
    let opened = service.unwrap(&wrapped.text, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());
    assert_ne!(service.wrap(&key, &context("one")).await.expect("wrapped").text, wrapped.text);

    let mut flipped = STANDARD.decode(&wrapped.text).expect("base64");
    *flipped.last_mut().expect("a tag") ^= 1;
    let other = world.connect("other", PUBLISHER).wrap(&key, &context("one")).await.expect("wrapped");
    for (what, wrapped, context) in [
        ("another bundle", wrapped.text.as_str(), context("two")),
        ("no context", &wrapped.text, [].into()),
        ("a changed byte", &STANDARD.encode(flipped), context("one")),
        ("another key's", &other.text, context("one")),
        ("no base64", "vault:v1:AAAA", context("one")),
        ("nothing", "", context("one")),
        ("the key itself", &STANDARD.encode(key.reveal()), context("one")),
    ] {
        let error = service.unwrap(wrapped, &context).await.expect_err(what);
        assert!(matches!(error, KeyError::Refused(_)), "{what}: {error}");
    }

    world.fake.cloud().rotate(&named("acme"));
    let anew = service.rewrap(&wrapped.text, &context("one")).await.expect("rewrapped");
    assert_eq!(anew.version.as_deref(), Some("2"));
    assert!(matches!(service.rewrap(&anew.text, &context("two")).await, Err(KeyError::Refused(_))));
    for state in ["DISABLED", "DESTROY_SCHEDULED", "DESTROYED"] {
        world.fake.cloud().set_state(&named("acme"), 1, state);
        let error = service.unwrap(&wrapped.text, &context("one")).await.expect_err(state);
        assert!(matches!(error, KeyError::Service { status: 400, .. }), "{error}");
        assert!(
            error
                .to_string()
                .ends_with(&format!("cryptoKeyVersions/1 is not enabled, current state is: {state}.")),
            "{error}"
        );
        let opened = service.unwrap(&anew.text, &context("one")).await.expect("opened");
        assert_eq!(opened.reveal(), key.reveal());
    }
}

#[tokio::test]
async fn a_version_in_the_reference_is_the_one_to_wrap_with() {
    let world = World::new();
    world.fake.cloud().rotate(&named("acme"));
    let pinned = world.connect("acme/cryptoKeyVersions/1", PUBLISHER);
    let key = data_key();
    let wrapped = pinned.wrap(&key, &context("one")).await.expect("wrapped");
    assert_eq!(wrapped.version.as_deref(), Some("1"));
    let newest = world.connect("acme", PUBLISHER);
    let anew = newest.rewrap(&wrapped.text, &context("one")).await.expect("rewrapped");
    assert_eq!(anew.version.as_deref(), Some("2"));
    let opened = pinned.unwrap(&anew.text, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal(), "the service finds the version that opens");

    let absent = world.connect("acme/cryptoKeyVersions/9", PUBLISHER);
    let error = absent.wrap(&key, &context("one")).await.expect_err("absent");
    assert!(matches!(error, KeyError::Service { status: 404, .. }), "{error}");
}

#[tokio::test]
async fn who_may_not_is_told_what_is_missing_and_no_token_is_repeated() {
    let world = World::new();
    world.key("signing", P256);
    let key = data_key();
    let stranger = world.connect("acme", INITECH);
    for name in ["acme", "absent"] {
        let service = world.connect(name, INITECH);
        let error = service.wrap(&key, &context("one")).await.expect_err(name);
        assert!(matches!(error, KeyError::Service { status: 403, .. }), "{error}");
        assert!(error.to_string().contains("cloudkms.cryptoKeyVersions.useToEncrypt"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.to_string().contains("cryptoKeyEncrypter")), "{error}");
    }
    let error = stranger.unwrap(&STANDARD.encode([0; 80]), &context("one")).await.expect_err("stranger");
    assert!(matches!(error, KeyError::Service { status: 403, .. }), "no access is no wrong key: {error}");
    let error = world.connect("signing", PUBLISHER).wrap(&key, &context("one")).await.expect_err("signing");
    assert!(matches!(error, KeyError::Service { status: 400, .. }), "{error}");

    // A service that repeats what it was sent.
    world.fake.tamper(|call, answer| {
        let token = call.headers["authorization"].clone();
        *answer = Answer {
            status: 401,
            body: json!({"error": {"code": 401, "status": "UNAUTHENTICATED", "message": token}}),
            pace: Pace::Whole,
        };
    });
    let error = world.connect("acme", PUBLISHER).wrap(&key, &context("one")).await.expect_err("401");
    assert!(!format!("{error} {error:?}").contains("ya29."), "{error:?}");
}

#[tokio::test]
async fn a_token_that_is_over_is_refused() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    world.fake.cloud().ahead = SignedDuration::from_hours(2);
    let error = service.wrap(&data_key(), &context("one")).await.expect_err("over");
    assert!(matches!(error, KeyError::Service { status: 401, .. }), "{error}");
}

/// Attack: a service, or somebody before it, that answers with something else than what was asked for.
#[tokio::test]
async fn answers_that_do_not_add_up_are_not_used() {
    let world = World::new();
    world.fake.cloud().rotate(&named("acme"));
    let service = world.connect("acme", PUBLISHER);
    let pinned = world.connect("acme/cryptoKeyVersions/1", PUBLISHER);
    let key = data_key();
    let wrapped = service.wrap(&key, &context("one")).await.expect("wrapped");

    let with = |body: &mut Value, field: &str, bytes: &[u8]| {
        body[field] = STANDARD.encode(bytes).into();
        body[format!("{field}Crc32c")] = crc32c(bytes).to_string().into();
    };
    let elsewhere = named("other/cryptoKeyVersions/1");
    type Change = Box<dyn Fn(&mut Value) + Send>;
    let wraps: Vec<(&str, Change)> = vec![
        ("the version that it wrapped with", Box::new(move |body| body["name"] = elsewhere.clone().into())),
        ("the version that it wrapped with", Box::new(|body| body["name"] = named("acme").into())),
        (
            "the version that it wrapped with",
            Box::new(|body| body["name"] = named("acme/cryptoKeyVersions/2/x").into()),
        ),
        (
            "the version that it wrapped with",
            Box::new(|body| body["name"] = named("acme/cryptoKeyVersions/+1").into()),
        ),
        ("the version that it wrapped with", Box::new(|body| body["name"] = "".into())),
        ("checksums of what it was sent", Box::new(|body| body["verifiedPlaintextCrc32c"] = false.into())),
        (
            "checksums of what it was sent",
            Box::new(|body| body["verifiedAdditionalAuthenticatedDataCrc32c"] = false.into()),
        ),
        ("does not have the checksum", Box::new(|body| body["ciphertextCrc32c"] = "1".into())),
        ("without a checksum", Box::new(|body| body["ciphertextCrc32c"] = Value::Null)),
        ("is not base64", Box::new(|body| body["ciphertext"] = "?".into())),
        ("too short", Box::new(move |body| with(body, "ciphertext", &[7; 32]))),
        ("too short", Box::new(move |body| with(body, "ciphertext", &[]))),
    ];
    for (reason, change) in wraps {
        world.fake.tamper(move |_, answer| change(&mut answer.body));
        let error = service.wrap(&key, &context("one")).await.expect_err(reason);
        assert!(
            matches!(error, KeyError::Answer { .. }) && error.to_string().contains(reason),
            "{reason}: {error}"
        );
    }
    world.fake.tamper(|_, answer| answer.body["name"] = named("acme/cryptoKeyVersions/2").into());
    let error = pinned.wrap(&key, &context("one")).await.expect_err("another version");
    assert!(error.to_string().contains("the version that it wrapped with"), "{error}");

    let secret = *key.reveal();
    let opens: Vec<(&str, Change)> = vec![
        ("does not have the checksum", Box::new(|body| body["plaintextCrc32c"] = "1".into())),
        (
            "does not have the checksum",
            Box::new(move |body| body["plaintext"] = STANDARD.encode([7; 32]).into()),
        ),
        ("without a checksum", Box::new(|body| body["plaintextCrc32c"] = Value::Null)),
        ("is not base64", Box::new(|body| body["plaintext"] = "?".into())),
        ("a data key has 32 bytes, not 16", Box::new(move |body| with(body, "plaintext", &secret[..16]))),
        ("a data key has 32 bytes, not 0", Box::new(move |body| with(body, "plaintext", &[]))),
        ("nothing but zeros", Box::new(move |body| with(body, "plaintext", &[0; 32]))),
    ];
    for (reason, change) in opens {
        world.fake.tamper(move |_, answer| change(&mut answer.body));
        let error = service.unwrap(&wrapped.text, &context("one")).await.expect_err(reason);
        assert!(
            matches!(error, KeyError::Answer { .. }) && error.to_string().contains(reason),
            "{reason}: {error}"
        );
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains(&STANDARD.encode(secret)) && !shown.contains(&crc32c(&secret).to_string()),
            "{shown}"
        );
    }
    world.fake.honest();
    let opened = service.unwrap(&wrapped.text, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());
}

/// What gets lost or changed on the way to the service is noticed there.
#[tokio::test]
async fn the_checksums_of_what_is_sent_are_right_and_compared() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    service.wrap(&data_key(), &context("one")).await.expect("wrapped");
    let call = world.fake.calls().pop().expect("a call");
    let token = world.fake.cloud().token(PUBLISHER);
    let sent: Value = serde_json::from_slice(&call.body).expect("JSON");
    for field in ["plaintextCrc32c", "additionalAuthenticatedDataCrc32c"] {
        let mut changed = sent.clone();
        changed[field] = "1".into();
        let url = format!("{}{}", world.fake.url(), call.path).parse().expect("URL");
        let request = world.http.post(url).header("authorization", &format!("Bearer {token}"));
        let answer = request.json(&changed).send().await.expect("answer");
        assert_eq!(answer.status, 400, "{field}");
        assert!(String::from_utf8_lossy(answer.body()).contains("checksum"), "{field}");
    }
    // That is told as what it is, and not as a delivery for another key.
    let wrapped = service.wrap(&data_key(), &context("one")).await.expect("wrapped");
    for (message, is_refused) in [
        ("Decryption failed: the ciphertext is invalid.", true),
        ("The checksum in field ciphertext_crc32c did not match the data in field ciphertext.", false),
    ] {
        world.fake.tamper(move |_, answer| {
            answer.status = 400;
            answer.body = json!({"error": {"status": "INVALID_ARGUMENT", "message": message}});
        });
        let error = service.unwrap(&wrapped.text, &context("one")).await.expect_err(message);
        assert_eq!(matches!(error, KeyError::Refused(_)), is_refused, "{error}");
    }
}

#[tokio::test]
async fn a_service_that_fails_is_asked_a_few_times_and_one_that_pours_is_not_listened_to() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    let key = data_key();
    for status in [429, 503] {
        let before = world.fake.calls().len();
        world.fake.tamper(move |_, answer| answer.status = status);
        let error = service.wrap(&key, &context("one")).await.expect_err("storm");
        assert!(error.is_transient(), "{error}");
        assert_eq!(world.fake.calls().len() - before, 4, "{status}");
    }
    let mut left = 2;
    world.fake.tamper(move |_, answer| {
        if left > 0 {
            (left, answer.pace) = (left - 1, Pace::Lost);
        }
    });
    service.wrap(&key, &context("one")).await.expect("wrapped in the end");
    world.fake.tamper(|_, answer| answer.pace = Pace::Flood);
    let error = service.wrap(&key, &context("one")).await.expect_err("flood");
    assert!(matches!(error, KeyError::Http { .. }), "{error}");
}
