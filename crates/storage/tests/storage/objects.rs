//! Delivery areas in object stores.

use std::{fs, net::SocketAddr};

use protected_storage::{Address, Area, AreaRef, StorageError};
use serde_json::json;

use crate::{
    SIZE, connect, fetch, holds_one, holds_signatures,
    peers::{
        self, ACCOUNT, Cutter, GCS_TOKEN, Lie, Peer, Way, account_key, azurite, client, liar, made,
        make_container, moto,
    },
    python,
    sample::{BUNDLE, content, copy, layout, layout_of, names, rewrap, same, unwatched},
    told,
};

/// A store that runs, and how it is reached.
struct Store {
    peer: Peer,
    address: SocketAddr,
    area: &'static str,
    missing: &'static str,
    environment: fn(SocketAddr) -> Vec<(&'static str, String)>,
}

impl Store {
    /// Amazon S3.
    async fn s3() -> Self {
        let peer = moto().await;
        made(&client().put(peer.url("/acme-deliveries")).send().await.expect("answer"));
        Self {
            address: peer.address,
            peer,
            area: "s3://acme-deliveries/core",
            missing: "s3://acme-missing/core",
            environment: |address| {
                vec![
                    ("AWS_ENDPOINT_URL", format!("http://{address}")),
                    ("AWS_REGION", "eu-central-1".to_owned()),
                    ("AWS_ACCESS_KEY_ID", "test".to_owned()),
                    ("AWS_SECRET_ACCESS_KEY", "hunter2".to_owned()),
                ]
            },
        }
    }

    /// Google Cloud Storage.
    async fn gcs() -> Self {
        let store = Self::s3().await;
        let address = peers::gcs(store.address).await;
        Self {
            address,
            peer: store.peer,
            area: "gs://acme-deliveries/core",
            missing: "gs://acme-missing/core",
            environment: |address| {
                vec![
                    ("STORAGE_EMULATOR_HOST", address.to_string()),
                    ("CLOUDSDK_AUTH_ACCESS_TOKEN", GCS_TOKEN.to_owned()),
                ]
            },
        }
    }

    /// Azure Blob Storage.
    async fn azure() -> Self {
        let peer = azurite().await;
        make_container(&peer, "deliveries").await;
        Self {
            address: peer.address,
            peer,
            area: "az://acmestorage/deliveries/core",
            missing: "az://acmestorage/missing/core",
            environment: |address| {
                vec![
                    ("AZURE_STORAGE_SERVICE_ENDPOINT", format!("http://{address}/{ACCOUNT}")),
                    ("AZURE_STORAGE_KEY", account_key()),
                ]
            },
        }
    }

    fn connect(&self) -> Area {
        self.through(self.address, self.area)
    }

    fn through(&self, address: SocketAddr, area: &str) -> Area {
        let environment = (self.environment)(address);
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        connect(&area.parse().expect("area"), &environment).expect("connected")
    }
}

/// What holds for every store.
async fn holds(store: Store) {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    let area = store.connect();
    let (sealed, stored) = holds_one(&area, folder.path()).await;
    assert_eq!(stored.delivery.uri().as_deref(), Some(format!("{}/{BUNDLE}", store.area).as_str()));

    // Keys, by two at once.
    let (one, two) = (copy(&sealed, &at("one")), copy(&sealed, &at("two")));
    let read = rewrap(&one, 2);
    rewrap(&two, 3);
    let (first, second) = tokio::join!(area.replace_keys(&one, &read), area.replace_keys(&two, &read));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let won = if first.is_ok() { &one } else { &two };
    let error = first.err().or(second.err()).expect("refused");
    assert!(matches!(error, StorageError::OtherKeys { .. }), "{error:?}");
    fetch(&area, &at("rewrapped")).await.expect("fetched");
    same(won, &at("rewrapped"));

    holds_signatures(&area, folder.path()).await;

    // Two publishers at once.
    let (one, two) = (layout_of(&at("a"), "raced", 100_000, 1), layout_of(&at("b"), "raced", 100_000, 2));
    let (first, second) = tokio::join!(area.store(&one, &unwatched), area.store(&two, &unwatched));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let error = first.err().or(second.err()).expect("refused");
    assert!(matches!(error, StorageError::OtherDelivery { .. }), "{error:?}");

    // Connections that end in the middle.
    let big = layout_of(&at("big"), "big", SIZE, 3);
    let cutter = Cutter::start(store.address, Way::Up, 3 << 20, 2).await;
    let through = store.through(cutter.address, store.area);
    through.store(&big, &unwatched).await.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(cutter.left(), 0, "no connection was cut");
    let cutter = Cutter::start(store.address, Way::Down, 5 << 20, 2).await;
    let through = store.through(cutter.address, store.area);
    let address = Address::Bundle("big".parse().expect("id"));
    let fetched = through.fetch(&address, None, &at("cut"), &unwatched).await;
    fetched.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(cutter.left(), 0, "no connection was cut");
    same(&big, &at("cut"));

    // What is not there.
    let missing = store.through(store.address, store.missing);
    for error in [
        missing.store(&sealed, &unwatched).await.map(|_| ()).expect_err("store"),
        fetch(&missing, &at("none")).await.expect_err("fetch"),
    ] {
        let told = told(&error);
        assert!(matches!(error, StorageError::NoArea { .. }), "{told}");
        assert!(told.starts_with(&format!("the delivery area `{}` is not there: ", store.missing)), "{told}");
        assert!(told.ends_with("create it, or check its name, the region and the account"), "{told}");
    }
    let hidden = names(folder.path()).into_iter().filter(|name| name.starts_with('.')).count();
    assert_eq!(hidden, 0, "nothing is left behind");
}

#[tokio::test]
async fn deliveries_lie_in_s3() {
    holds(Store::s3().await).await;
}

#[tokio::test]
async fn deliveries_lie_in_google_cloud_storage() {
    holds(Store::gcs().await).await;
}

#[tokio::test]
async fn deliveries_lie_in_azure() {
    holds(Store::azure().await).await;
}

/// Google's own client takes the stand-in for its service, and what it sends is what we find.
#[tokio::test]
async fn the_stand_in_of_google_is_one_to_googles_own_client() {
    let store = Store::gcs().await;
    let folder = tempfile::tempdir().expect("folder");
    let sealed = layout(&folder.path().join("sealed"), SIZE, 1);
    let content = content(&sealed);
    let name = content.file_name().and_then(|name| name.to_str()).expect("name");
    let input = json!({
        "host": format!("http://{}", store.address),
        "token": GCS_TOKEN,
        "bucket": "acme-deliveries",
        "name": format!("core/{BUNDLE}/blobs/sha256/{name}"),
        "file": content,
    });
    let said = python::answer("google-storage", "storage/gcs.py", &[], &input).await;
    // To a 401 it gets another token, and has nothing to get one with.
    assert!(said["stranger"].as_str().expect("text").contains("refresh"), "{said}");
    assert!(said["anonymous"].as_str().expect("text").contains("refresh"), "{said}");
    let expected = [
        ("size", 200),
        ("absent", 404),
        ("created", 200),
        ("created_again", 412),
        ("replaced", 200),
        ("replaced_again", 412),
    ];
    for (what, status) in expected {
        assert_eq!(said[what], status, "{what}: {said}");
    }
    assert_eq!(said["same_generation"], true, "{said}");
    let area = store.connect();
    let stored = area.store(&sealed, &unwatched).await.expect("stored");
    assert_eq!((stored.sent, stored.already_there), (7, 1), "all but what the other client sent");
    fetch(&area, &folder.path().join("fetched")).await.expect("fetched");
    same(&sealed, &folder.path().join("fetched"));
}

#[tokio::test]
async fn a_token_that_google_does_not_know_is_refused() {
    let store = Store::gcs().await;
    let host = store.address.to_string();
    for environment in [
        vec![("STORAGE_EMULATOR_HOST", host.as_str())],
        vec![("STORAGE_EMULATOR_HOST", host.as_str()), ("CLOUDSDK_AUTH_ACCESS_TOKEN", "other")],
    ] {
        let area = connect(&store.area.parse().expect("area"), &environment).expect("connected");
        let folder = tempfile::tempdir().expect("folder");
        let error = fetch(&area, &folder.path().join("fetched")).await.expect_err("refused");
        assert!(told(&error).contains("was answered 401"), "{}", told(&error));
    }
}

#[tokio::test]
async fn a_key_of_another_account_is_refused_and_not_repeated() {
    let store = Store::azure().await;
    let wrong = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI=";
    let endpoint = format!("http://{}/{ACCOUNT}", store.address);
    let environment = [("AZURE_STORAGE_SERVICE_ENDPOINT", endpoint.as_str()), ("AZURE_STORAGE_KEY", wrong)];
    let area = connect(&store.area.parse().expect("area"), &environment).expect("connected");
    let folder = tempfile::tempdir().expect("folder");
    let error = fetch(&area, &folder.path().join("fetched")).await.expect_err("refused");
    let told = told(&error);
    assert!(matches!(error, StorageError::Refused { .. }), "{told}");
    assert!(told.contains("was answered 403, AuthorizationFailure: "), "{told}");
    assert!(told.contains("let these credentials read and write"), "{told}");
    assert!(!format!("{told} {error:?}").contains(wrong), "{told}");
}

#[tokio::test]
async fn nobody_who_is_not_named_is_asked() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("credentials.json");
    fs::write(&file, "{\"type\": \"hunter2\"").expect("file");
    let file = file.to_str().expect("path");
    let key = ("AWS_ACCESS_KEY_ID", "AKIAHUNTER2HUNTER2HU");
    let region = ("AWS_REGION", "eu-central-1");
    for (area, environment, expected) in [
        (
            "s3://acme",
            vec![],
            "nothing says in which region it is for the delivery area `s3://acme`\nset AWS_REGION",
        ),
        (
            "s3://acme",
            vec![region],
            "nothing says who asks for it for the delivery area `s3://acme`\nset AWS_ACCESS_KEY_ID",
        ),
        ("s3://acme", vec![region, key], "nothing says the other half of the access key"),
        (
            "s3://acme",
            vec![region, ("AWS_ROLE_ARN", "arn:aws:iam::1:role/a")],
            "nothing says who asks for it",
        ),
        ("gs://acme", vec![], "nothing says who asks for it for the delivery area `gs://acme`\nset GOOGLE_"),
        (
            "gs://acme",
            vec![("GOOGLE_APPLICATION_CREDENTIALS", file)],
            "the settings of the delivery area `gs://acme`",
        ),
        (
            "az://acme/core",
            vec![],
            "nothing says who asks for it for the delivery area `az://acme/core`\nset AZURE_",
        ),
        (
            "az://acme/core",
            vec![("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")],
            "nothing says who asks for it",
        ),
        ("az://acme/core", vec![("AZURE_STORAGE_KEY", "hunter2!")], "the settings of the delivery area"),
    ] {
        let area: AreaRef = area.parse().expect("area");
        let error = connect(&area, &environment).err().expect(expected);
        assert!(told(&error).starts_with(expected), "{}", told(&error));
        assert!(!format!("{} {error:?}", told(&error)).to_lowercase().contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn credentials_do_not_travel_in_clear() {
    let folder = tempfile::tempdir().expect("folder");
    for (area, environment) in [
        (
            "s3://acme",
            vec![
                ("AWS_ENDPOINT_URL", "http://s3.example"),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ],
        ),
        (
            "gs://acme",
            vec![("STORAGE_EMULATOR_HOST", "gcs.example"), ("CLOUDSDK_AUTH_ACCESS_TOKEN", "hunter2")],
        ),
        (
            "az://acme/core",
            vec![
                ("AZURE_STORAGE_SERVICE_ENDPOINT", "http://blob.example"),
                ("AZURE_STORAGE_KEY", "aHVudGVyMg=="),
            ],
        ),
    ] {
        let area = connect(&area.parse().expect("area"), &environment).expect("connected");
        let error = fetch(&area, &folder.path().join("fetched")).await.expect_err("refused");
        assert!(told(&error).contains("a credential is only sent over https"), "{}", told(&error));
    }
}

/// A store that answers as it likes.
async fn lying(answer: impl Fn(&str) -> Lie + Send + Sync + 'static) -> Area {
    let endpoint = format!("http://{}", liar(answer).await);
    let environment = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
    ];
    connect(&"s3://acme-deliveries".parse().expect("area"), &environment).expect("connected")
}

fn answered(status: &str, headers: &str, body: &str) -> Lie {
    Lie::Answer(format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        body.len()
    ))
}

#[tokio::test]
async fn what_a_store_says_is_bounded() {
    let folder = tempfile::tempdir().expect("folder");
    let object = "HTTP/1.1 200 OK\r\netag: \"a\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
    for (head, expected) in [
        (format!("{object}content-length: 1073741824\r\n\r\n"), "`index.json` of"),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 1073741824\r\n\r\n".to_owned(), "was answered 403"),
    ] {
        let area = lying(move |_| Lie::Endless(head.clone())).await;
        let error = fetch(&area, &folder.path().join("fetched")).await.expect_err(expected);
        assert!(told(&error).contains(expected), "{}", told(&error));
    }
}

#[tokio::test]
async fn what_a_store_refuses_is_told_with_its_reason() {
    let folder = tempfile::tempdir().expect("folder");
    let error = |code: &str| {
        format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>No\u{1b}[31m\nway.</Message></Error>"
        )
    };
    for (status, code, expected) in [
        (
            "403 Forbidden",
            "AccessDenied",
            "was answered 403, AccessDenied: No [31m way.\nlet these credentials",
        ),
        (
            "400 Bad Request",
            "ExpiredToken",
            "was answered 400, ExpiredToken: No [31m way.\nget the credentials anew",
        ),
        ("404 Not Found", "NoSuchBucket", "is not there: NoSuchBucket: No [31m way."),
        ("501 Not Implemented", "NotImplemented", "set AWS_CONDITIONAL_PUT to `disabled`"),
    ] {
        let body = error(code);
        let area = lying(move |_| answered(status, "", &body)).await;
        let told = told(&fetch(&area, &folder.path().join("fetched")).await.expect_err(code));
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    // A redirect takes no signature along.
    let thief = liar(|_| panic!("asked")).await;
    let area =
        lying(move |_| answered("307 Temporary Redirect", &format!("location: http://{thief}/\r\n"), ""))
            .await;
    let told = told(&fetch(&area, &folder.path().join("fetched")).await.expect_err("redirect"));
    assert!(told.contains("a credential is not carried along"), "{told}");
}

#[tokio::test]
async fn a_store_that_cannot_refuse_is_used_where_that_is_said() {
    let store = Store::s3().await;
    let environment = (store.environment)(store.address);
    let mut environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    environment.push(("AWS_CONDITIONAL_PUT", "disabled"));
    let area = connect(&store.area.parse().expect("area"), &environment).expect("connected");
    let folder = tempfile::tempdir().expect("folder");
    let sealed = layout(&folder.path().join("sealed"), 1000, 1);
    assert_eq!(area.store(&sealed, &unwatched).await.expect("stored").sent, 8);
    assert_eq!(area.store(&sealed, &unwatched).await.expect("stored").sent, 0);
    let read = rewrap(&sealed, 2);
    area.replace_keys(&sealed, &read).await.expect("replaced");
    fetch(&area, &folder.path().join("fetched")).await.expect("fetched");
    same(&sealed, &folder.path().join("fetched"));
    environment.pop();
    environment.push(("AWS_CONDITIONAL_PUT", "maybe"));
    let error = connect(&store.area.parse().expect("area"), &environment).err().expect("refused");
    assert!(told(&error).ends_with("`etag` or `disabled`"), "{}", told(&error));
}
