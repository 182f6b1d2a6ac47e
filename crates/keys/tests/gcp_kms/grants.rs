//! Who may open, until when, and what happens when two change that at once.

use jiff::{SignedDuration, Timestamp};
use protected_keys::{GrantLimits, KeyError, Revoked};
use protected_model::{
    key_ref::{KeyProvider, looks_like_key_material},
    time::whole_seconds,
};
use serde_json::{Value, json};

use crate::{
    GLOBEX, INITECH, PUBLISHER, RING, SYMMETRIC, Terms, World, context, data_key, fake::Pace, named,
};

const DECRYPTER: &str = "roles/cloudkms.cryptoKeyDecrypter";

/// The bindings that stand in the key's policy beside what the publisher needs.
fn bindings(world: &World) -> Vec<Value> {
    let policy = world.fake.cloud().policy(&named("acme"));
    let bindings = policy["bindings"].as_array().expect("bindings").clone();
    bindings.into_iter().filter(|binding| binding["members"] != json!([PUBLISHER])).collect()
}

#[tokio::test]
async fn a_customer_opens_until_it_ends_and_nobody_else_does() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    let key = data_key();
    let one = service.wrap(&key, &context("one")).await.expect("wrapped");
    let globex = world.connect("acme", GLOBEX);
    let initech = world.connect("acme", INITECH);
    let is_forbidden = |error: KeyError| matches!(error, KeyError::Service { status: 403, .. });
    assert!(is_forbidden(globex.unwrap(&one.text, &context("one")).await.expect_err("before")));

    let end = "2099-01-01T00:00:00Z".parse().expect("time");
    let terms = Terms::new("one", GLOBEX, Some(end));
    let given = terms.get();
    let made = service.grant(&given).await.expect("granted");
    assert_eq!((made.provider, made.status.as_str()), (KeyProvider::GcpKms, "materialized"));
    assert_eq!(made.operation, "SetIamPolicy");
    assert_eq!(made.materialized_at, given.now);
    assert_eq!(
        bindings(&world),
        [json!({
            "role": DECRYPTER,
            "members": [GLOBEX],
            "condition": {
                "title": "protected-registry:one",
                "expression": "request.time < timestamp(\"2099-01-01T00:00:00Z\")",
            },
        })]
    );
    let opened = globex.unwrap(&one.text, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());
    assert!(is_forbidden(initech.unwrap(&one.text, &context("one")).await.expect_err("another customer")));
    assert!(is_forbidden(globex.wrap(&key, &context("one")).await.expect_err("wrapping")));
    let error = globex.grant(&Terms::new("one", INITECH, None).get()).await.expect_err("granting");
    assert!(is_forbidden(error));

    // What it says of itself is so: the key, and not the bundle.
    let two = service.wrap(&data_key(), &context("two")).await.expect("wrapped");
    assert!(globex.unwrap(&two.text, &context("two")).await.is_ok());
    assert!(matches!(service.limits(), GrantLimits { one_bundle: false, expires: true, .. }));

    // The same again is the same, and is not written again.
    let writes = || world.fake.calls().iter().filter(|call| call.path.ends_with(":setIamPolicy")).count();
    let before = writes();
    assert_eq!(service.grant(&given).await.expect("granted again"), made);
    assert_eq!(writes(), before);
    let found = service.grants(&terms.bundle, &terms.context).await.expect("grants");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].reference, made.reference);
    assert_eq!(found[0].grantee.as_ref(), Some(&terms.grantee));
    assert_eq!(found[0].expires_at, Some(end));

    // When its time is over it opens nothing, though nobody did anything.
    let later = Terms::new("one", GLOBEX, Some(Timestamp::now() + SignedDuration::from_mins(10)));
    service.grant(&later.get()).await.expect("granted with another end");
    assert_eq!(bindings(&world).len(), 1, "in place of the one before");
    assert!(globex.unwrap(&one.text, &context("one")).await.is_ok());
    world.fake.cloud().ahead = SignedDuration::from_mins(20);
    assert!(is_forbidden(globex.unwrap(&one.text, &context("one")).await.expect_err("it is over")));
    service.grant(&given).await.expect("granted anew");
    assert!(globex.unwrap(&one.text, &context("one")).await.is_ok());

    assert!(service.revoke(&given).await.expect("revoked").was);
    assert!(is_forbidden(globex.unwrap(&one.text, &context("one")).await.expect_err("it was taken back")));
    assert!(!service.revoke(&given).await.expect("there is none").was);
    assert!(service.grants(&terms.bundle, &terms.context).await.expect("grants").is_empty());
    assert!(bindings(&world).is_empty());
}

#[tokio::test]
async fn taking_one_back_leaves_the_others() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    let wrapped = service.wrap(&data_key(), &context("one")).await.expect("wrapped");
    let globex = world.connect("acme", GLOBEX);
    let terms = [("one", GLOBEX), ("two", GLOBEX), ("one", INITECH)]
        .map(|(bundle, grantee)| Terms::new(bundle, grantee, None));
    for terms in &terms {
        service.grant(&terms.get()).await.expect("granted");
    }
    assert_eq!(bindings(&world).len(), 2, "one for each bundle");
    let found = service.grants(&terms[0].bundle, &terms[0].context).await.expect("grants");
    let grantees: Vec<_> = found.iter().filter_map(|grant| grant.grantee.as_ref()).collect();
    assert_eq!(grantees, [&terms[0].grantee, &terms[2].grantee]);
    assert!(found.iter().all(|grant| grant.expires_at.is_none()), "9999 is never");

    let revoked = service.revoke(&terms[0].get()).await.expect("revoked");
    assert_eq!(revoked, Revoked { was: true, still: vec!["the grant of the delivery two".to_owned()] });
    assert!(globex.unwrap(&wrapped.text, &context("one")).await.is_ok(), "for the grant on the other bundle");
    let revoked = service.revoke(&terms[1].get()).await.expect("revoked");
    assert_eq!(revoked, Revoked { was: true, still: Vec::new() });
    assert!(globex.unwrap(&wrapped.text, &context("one")).await.is_err());
    assert!(world.connect("acme", INITECH).unwrap(&wrapped.text, &context("one")).await.is_ok());
}

/// IAM takes twenty different ends for one grantee. Those of ours that have ended make room when the policy is written anyway.
#[tokio::test]
async fn what_has_ended_is_cleared_when_the_policy_is_written() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    let hours = |ago: i64| Timestamp::now().checked_sub(SignedDuration::from_hours(ago)).expect("time");
    let ended = |ago: i64| format!("request.time < timestamp(\"{}\")", whole_seconds(hours(ago)));
    let mut stays = Vec::new();
    {
        let mut cloud = world.fake.cloud();
        let mut bind = |role: &str, member: &str, title: &str, expression: &str| {
            let condition = json!({"title": title, "expression": expression});
            cloud.bind_if(&named("acme"), role, member, condition.clone());
            json!({"role": role, "members": [member], "condition": condition})
        };
        bind(DECRYPTER, GLOBEX, "protected-registry:old", &ended(2));
        bind(DECRYPTER, INITECH, "protected-registry:older", &ended(48));
        // Just ended, by a clock that may be ahead; not ours; another role; and what never ends.
        let ended = ended(48);
        let not_yet = format!("request.time < timestamp(\"{}\")", whole_seconds(hours(0)));
        for (role, title, expression) in [
            (DECRYPTER, "protected-registry:new", not_yet.as_str()),
            (DECRYPTER, "break glass", &ended),
            (DECRYPTER, "protected-registry", &ended),
            ("roles/cloudkms.cryptoKeyEncrypter", "protected-registry:old", &ended),
            (DECRYPTER, "protected-registry:never", "request.time < timestamp(\"9999-01-01T00:00:00Z\")"),
        ] {
            stays.push(bind(role, GLOBEX, title, expression));
        }
    }
    let before = bindings(&world);
    // Looking, and what changes nothing, writes nothing.
    let terms = Terms::new("never", GLOBEX, None);
    service.grants(&terms.bundle, &terms.context).await.expect("grants");
    service.grant(&terms.get()).await.expect("granted before");
    let absent = Terms::new("absent", GLOBEX, None);
    assert!(!service.revoke(&absent.get()).await.expect("there is none").was);
    assert_eq!(bindings(&world), before);

    let terms = Terms::new("one", INITECH, Some("2099-01-01T00:00:00Z".parse().expect("time")));
    service.grant(&terms.get()).await.expect("granted");
    let now = bindings(&world);
    assert_eq!(now.len(), stays.len() + 1, "{now:?}");
    assert!(stays.iter().all(|binding| now.contains(binding)), "{now:?}");
    let old = json!({"title": "protected-registry:old", "expression": ended(2)});
    world.fake.cloud().bind_if(&named("acme"), DECRYPTER, GLOBEX, old);
    assert!(service.revoke(&terms.get()).await.expect("revoked").was);
    let now = bindings(&world);
    assert!(now.len() == stays.len() && stays.iter().all(|binding| now.contains(binding)), "{now:?}");
}

/// A grant whose record was lost is found, and taken back; what others gave is neither.
#[tokio::test]
async fn what_nobody_recorded_is_listed_and_what_is_not_ours_stays() {
    let world = World::new();
    let audit =
        json!([{"service": "cloudkms.googleapis.com", "auditLogConfigs": [{"logType": "DATA_READ"}]}]);
    {
        let mut cloud = world.fake.cloud();
        let condition = json!({
            "title": "protected-registry:one",
            "description": "by hand",
            "expression": "request.time < timestamp(\"2030-01-01T00:00:00Z\")",
        });
        cloud.bind_if(&named("acme"), DECRYPTER, INITECH, condition.clone());
        // The same title on another role, another title, and no condition at all.
        cloud.bind_if(&named("acme"), "roles/cloudkms.cryptoKeyEncrypter", INITECH, condition.clone());
        let mut other = condition;
        other["title"] = "break glass".into();
        cloud.bind_if(&named("acme"), DECRYPTER, INITECH, other);
        cloud.bind(&named("acme"), DECRYPTER, INITECH);
        cloud.audit(&named("acme"), audit.clone());
    }
    let service = world.connect("acme", PUBLISHER);
    let terms = Terms::new("one", &INITECH.replace("milton", "Milton"), None);
    let found = service.grants(&terms.bundle, &terms.context).await.expect("grants");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].expires_at, "2030-01-01T00:00:00Z".parse().ok());
    let before = bindings(&world);
    let revoked = service.revoke(&terms.get()).await.expect("revoked");
    assert!(revoked.was, "a mail address has no capitals");
    let conditional = format!("the role {DECRYPTER} on the condition `break glass`");
    assert_eq!(revoked.still, [conditional, format!("the role {DECRYPTER}")]);
    assert_eq!(bindings(&world), before[1..]);
    assert_eq!(world.fake.cloud().policy(&named("acme"))["auditConfigs"], audit);
}

/// What is told, when a grant is taken back, of a binding that stands in the policy besides.
async fn still(binding: Value) -> Vec<String> {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    world.fake.tamper(move |_, answer| {
        if let Some(bindings) = answer.body["bindings"].as_array_mut() {
            bindings.push(binding.clone());
        }
    });
    service.revoke(&Terms::new("one", GLOBEX, None).get()).await.expect("revoked").still
}

/// Attack: a key that everybody may decrypt with, while whoever takes a grant back reads that nothing opens any more.
#[tokio::test]
async fn whatever_still_decrypts_is_told() {
    for role in [
        DECRYPTER,
        "roles/cloudkms.cryptoKeyEncrypterDecrypter",
        "roles/cloudkms.cryptoOperator",
        "roles/owner",
        "projects/acme-prod/roles/opener",
    ] {
        for (member, to) in [
            (GLOBEX, ""),
            ("allUsers", " to allUsers"),
            ("allAuthenticatedUsers", " to allAuthenticatedUsers"),
        ] {
            let told = still(json!({"role": role, "members": [INITECH, member]})).await;
            assert_eq!(told, [format!("the role {role}{to}")]);
        }
    }
    for (role, member) in [
        ("roles/cloudkms.viewer", GLOBEX),
        ("roles/cloudkms.cryptoKeyEncrypter", "allUsers"),
        (DECRYPTER, INITECH),
    ] {
        assert!(still(json!({"role": role, "members": [member]})).await.is_empty(), "{role} {member}");
    }
    // A grant of ours is of one role: another one under its title is none that `revoke-grant` takes back.
    let condition = json!({"title": "protected-registry:two", "expression": "true"});
    for (role, told) in [
        (DECRYPTER, "the grant of the delivery two"),
        ("roles/owner", "the role roles/owner on the condition `protected-registry:two`"),
    ] {
        assert_eq!(still(json!({"role": role, "members": [GLOBEX], "condition": condition})).await, [told]);
    }
    // So it is: whoever asks opens, and a grant that is taken back changes nothing.
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    let wrapped = service.wrap(&data_key(), &context("one")).await.expect("wrapped");
    let terms = Terms::new("one", GLOBEX, None);
    service.grant(&terms.get()).await.expect("granted");
    world.fake.cloud().bind(&named("acme"), DECRYPTER, "allUsers");
    let revoked = service.revoke(&terms.get()).await.expect("revoked");
    assert_eq!(revoked, Revoked { was: true, still: vec![format!("the role {DECRYPTER} to allUsers")] });
    for member in [GLOBEX, INITECH] {
        let asked = world.connect("acme", member);
        asked.unwrap(&wrapped.text, &context("one")).await.expect("everybody");
    }
}

/// A condition that is over opens nothing. What is not understood may open, and is told.
#[tokio::test]
async fn a_condition_on_the_time_is_read_as_google_writes_it() {
    const UNTIL: &str = "request.time < timestamp";
    for (expression, is_over) in [
        (format!("{UNTIL}(\"2099-01-01T00:00:00Z\")"), false),
        (format!("{UNTIL}(\"2020-01-01T00:00:00Z\")"), true),
        (format!("{UNTIL}(\"2020-01-01T00:00:00.000Z\")"), true),
        (format!("{UNTIL}('2099-01-01T00:00:00.000Z')"), false),
        (format!("{UNTIL}('2020-01-01T00:00:00.000Z')"), true),
        (format!("{UNTIL}(\"2020-01-01T00:00:00Z')"), false),
        (format!("{UNTIL}(\"2020-01-01T00:00:00Z\") || true"), false),
        (format!("{UNTIL}(\"2020-01-01T00:00:00Z\") || {UNTIL}(\"2099-01-01T00:00:00Z\")"), false),
        (format!("!({UNTIL}(\"2020-01-01T00:00:00Z\"))"), false),
        ("request.time > timestamp(\"2020-01-01T00:00:00Z\")".to_owned(), false),
        ("true".to_owned(), false),
        (String::new(), false),
    ] {
        let condition = json!({"title": "theirs", "expression": expression});
        let told = still(json!({"role": DECRYPTER, "members": [GLOBEX], "condition": condition})).await;
        let by = format!("the role {DECRYPTER} on the condition `theirs`");
        assert_eq!(told, if is_over { Vec::new() } else { vec![by] }, "{expression}");
    }
}

#[tokio::test]
async fn publishers_that_grant_at_once_lose_nothing() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    let terms: Vec<_> = (0..6).map(|at| Terms::new(&format!("bundle-{at}"), GLOBEX, None)).collect();
    let grants = terms.iter().map(|terms| async { service.grant(&terms.get()).await });
    for granted in futures_util::future::join_all(grants).await {
        granted.expect("granted");
    }
    assert_eq!(bindings(&world).len(), terms.len());
    let refused = world.fake.calls().iter().filter(|call| call.path.ends_with(":setIamPolicy")).count();
    assert!(refused > terms.len(), "nobody was in anybody's way: {refused}");
}

/// Attack: whoever holds the policy up, so that a grant is tried for ever, or written without looking.
#[tokio::test]
async fn a_policy_that_always_changes_is_given_up_and_one_without_etag_is_not_written() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    let terms = Terms::new("one", GLOBEX, None);
    world.fake.tamper(|call, answer| {
        if call.path.ends_with(":getIamPolicy") {
            answer.body["etag"] = "b2xk".into();
        }
    });
    let before = world.fake.calls().len();
    let error = service.grant(&terms.get()).await.expect_err("given up");
    assert!(error.to_string().contains("changed by others 8 times in a row"), "{error}");
    assert_eq!(world.fake.calls().len() - before, 16);

    world.fake.tamper(|_, answer| {
        answer.body.as_object_mut().expect("object").remove("etag");
    });
    let error = service.grant(&terms.get()).await.expect_err("no etag");
    assert!(error.to_string().contains("no etag"), "{error}");
    world.fake.tamper(|call, answer| {
        if call.path.ends_with(":setIamPolicy") {
            answer.body["bindings"] = json!([]);
        }
    });
    let error = service.grant(&Terms::new("two", GLOBEX, None).get()).await.expect_err("not written");
    assert!(error.to_string().contains("not the one that it was given"), "{error}");
}

/// The answer gets lost after the policy was written: asked again, it is there, once.
#[tokio::test]
async fn a_lost_answer_grants_once_and_takes_back_for_good() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    let terms = Terms::new("one", GLOBEX, None);
    let lose_one = || {
        let mut lost = false;
        world.fake.tamper(move |call, answer| {
            if call.path.ends_with(":setIamPolicy") && !lost {
                lost = true;
                answer.pace = Pace::Lost;
            }
        });
    };
    lose_one();
    service.grant(&terms.get()).await.expect("granted");
    assert_eq!(bindings(&world).len(), 1);
    lose_one();
    assert!(service.revoke(&terms.get()).await.expect("revoked").was, "there was one");
    assert!(bindings(&world).is_empty());
}

/// Attack: a grantee that is everybody.
#[tokio::test]
async fn a_grantee_is_somebody() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    for bad in [
        "allUsers",
        "allAuthenticatedUsers",
        "domain:globex.example",
        "projectViewer:acme-prod",
        "deleted:user:milton@initech.example?uid=1",
        "milton@initech.example",
        "user:milton",
        "principal://evil.example/subject/x",
        "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/ci/*",
    ] {
        let error = service.grant(&Terms::new("one", bad, None).get()).await.expect_err(bad);
        assert!(matches!(error, KeyError::Grant { .. }) && error.to_string().contains(bad), "{error}");
    }
    assert!(world.fake.calls().is_empty(), "nothing was asked");
    for good in [
        "group:readers@globex.example",
        "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/ci/subject/globex",
        "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/ci/attribute.repository/globex/app",
    ] {
        service.grant(&Terms::new("one", good, None).get()).await.expect(good);
    }
    assert_eq!(bindings(&world)[0]["members"].as_array().map(Vec::len), Some(3), "one binding");
}

#[tokio::test]
async fn a_title_is_as_long_as_it_may_be_names_one_bundle_and_looks_like_no_key() {
    let world = World::new();
    let service = world.connect("acme", PUBLISHER);
    for length in [81, 82, 128] {
        let (one, other) = ("a".repeat(length), format!("{}b", "a".repeat(length - 1)));
        service.grant(&Terms::new(&one, GLOBEX, None).get()).await.expect("granted");
        let other = Terms::new(&other, GLOBEX, None);
        assert!(service.grants(&other.bundle, &other.context).await.expect("grants").is_empty());
        assert!(!service.revoke(&other.get()).await.expect("none").was);
        assert!(service.revoke(&Terms::new(&one, GLOBEX, None).get()).await.expect("revoked").was);
    }
    // A name as `deliver` makes them: nothing that looks like a key can be put on record.
    let usual = Terms::new("01M8BBKE9SXDWDKVTPEMV0AJ6J", GLOBEX, None);
    let made = service.grant(&usual.get()).await.expect("granted");
    assert!(!looks_like_key_material(&made.reference), "{made:?}");
}

/// More ends for one customer than IAM takes: it says so, and nothing is lost.
#[tokio::test]
async fn the_limits_of_iam_are_said() {
    let world = World::new();
    world.key("busy", SYMMETRIC);
    let service = world.connect("busy", PUBLISHER);
    let end = |at: i64| Timestamp::from_second(4_000_000_000 + at).ok();
    for at in 0..20 {
        service.grant(&Terms::new(&format!("b{at}"), GLOBEX, end(at)).get()).await.expect("granted");
    }
    let error = service.grant(&Terms::new("b20", GLOBEX, end(20)).get()).await.expect_err("too many");
    assert!(error.to_string().contains("more than 20 conditions"), "{error}");
    service.grant(&Terms::new("b20", GLOBEX, end(7)).get()).await.expect("an end that is there already");
    assert!(
        world.fake.cloud().policy(&format!("{RING}/busy"))["bindings"]
            .as_array()
            .is_some_and(|all| all.len() == 24)
    );
}
