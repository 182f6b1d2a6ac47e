//! Delivery areas of every kind, each with a peer that nobody here wrote where there is one.

mod folder;
mod objects;
mod oci;
mod peers;
mod sample;

use std::path::{Path, PathBuf};

use protected_bundle::layout::{self, Delivery};
use protected_http::Client;
use protected_model::environment::Environment;
use protected_storage::{Address, Area, AreaRef, Settings, StorageError, Stored};

use sample::{bundle, layout, same, unwatched};

fn client() -> Client {
    let settings = protected_http::Settings::from_environment(&Environment::default(), None, "test");
    settings.and_then(|settings| Client::new(&settings)).expect("client")
}

fn connect(area: &AreaRef, environment: &[(&str, &str)]) -> Result<Area, StorageError> {
    let settings = Settings { environment: environment.iter().copied().collect() };
    Area::connect(area, &settings, &client())
}

/// What a person reads: the error, what it came from, and the advice.
fn told(error: &StorageError) -> String {
    let mut told = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        told += &format!(": {cause}");
        next = cause.source();
    }
    if let Some(hint) = error.hint() {
        told += &format!("\n{hint}");
    }
    told
}

/// Fetches the delivery of [`sample::BUNDLE`].
async fn fetch(area: &Area, into: &Path) -> Result<(), StorageError> {
    area.fetch(&Address::Bundle(bundle()), None, into, &unwatched).await
}

fn digest(layout: &Path) -> layout::Digest {
    Delivery::open(layout).expect("delivery").bundle().digest
}

/// The content of a delivery that is sent in several pieces, the last one short.
const SIZE: u64 = (20 << 20) + 7;

/// What holds for every store: a delivery is stored once and fetched as it was, and no other takes its place. They lie
/// in `sealed` and `other` of the folder.
async fn holds_one(area: &Area, folder: &Path) -> (PathBuf, Stored) {
    let at = |name: &str| folder.join(name);
    let sealed = layout(&at("sealed"), SIZE, 1);
    let error = fetch(area, &at("none")).await.expect_err("nothing there");
    assert!(matches!(error, StorageError::NoDelivery(_)), "{error:?}");
    let stored = area.store(&sealed, &unwatched).await.expect("stored");
    // Six blobs and manifests, the keys' place and that of the bundle.
    assert_eq!((stored.sent, stored.already_there), (8, 0));
    assert!(stored.bytes > SIZE);
    let again = area.store(&sealed, &unwatched).await.expect("stored again");
    assert_eq!((&again.delivery, again.sent, again.already_there), (&stored.delivery, 0, 8));
    fetch(area, &at("fetched")).await.expect("fetched");
    same(&sealed, &at("fetched"));

    let other = layout(&at("other"), 1000, 2);
    let error = area.store(&other, &unwatched).await.expect_err("refused");
    assert!(matches!(error, StorageError::OtherDelivery { .. }), "{error:?}");
    let expected = digest(&other).0;
    let fetched = area.fetch(&Address::Bundle(bundle()), Some(&expected), &at("wrong"), &unwatched).await;
    assert!(matches!(fetched, Err(StorageError::OtherDelivery { .. })), "{fetched:?}");
    (sealed, stored)
}
