//! Delivery areas of every kind, each with a peer that nobody here wrote where there is one.

mod folder;
mod objects;
mod oci;
mod peers;
#[path = "../../../keys/tests/common/python.rs"]
mod python;
mod sample;

use std::path::{Path, PathBuf};

use protected_bundle::layout::{self, Delivery, signature::Part};
use protected_storage::{Address, Area, AreaRef, Settings, StorageError, Stored};

use peers::client;
use sample::{bundle, copy, layout, layout_of, rewrap, rewrap_signed, same, signed, unwatched};

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

/// What holds for every store: a delivery that lies there gets its signatures later, keeps them, and has none of its former
/// keys when they were wrapped anew.
async fn holds_signatures(area: &Area, folder: &Path) {
    let folder = folder.join("signatures");
    std::fs::create_dir(&folder).expect("folder");
    let at = |name: &str| folder.join(name);
    let sealed = layout_of(&at("to be signed"), "signed", 1000, 7);
    let unsigned = copy(&sealed, &at("unsigned"));
    let first = area.store(&unsigned, &unwatched).await.expect("stored");
    let fetched = async |name: &str| {
        let address = Address::Bundle("signed".parse().expect("id"));
        area.fetch(&address, None, &at(name), &unwatched).await.expect("fetched");
        at(name)
    };
    assert_eq!(signed(&fetched("before").await), [None, None]);
    let both = [Some(b"{1}".to_vec()), Some(b"{2}".to_vec())];
    let mut delivery = Delivery::open(&sealed).expect("delivery");
    delivery
        .add_signatures(&[(Part::Bundle, b"{1}".to_vec()), (Part::Keys, b"{2}".to_vec())])
        .expect("signatures");
    let second = area.store(&sealed, &unwatched).await.expect("stored");
    // Two documents, two manifests, and what names them.
    assert_eq!((&second.delivery, second.sent), (&first.delivery, 5));
    same(&sealed, &fetched("after").await);
    assert_eq!(area.store(&sealed, &unwatched).await.expect("repeated").sent, 0);
    // By somebody who has the delivery as it was sealed; who signed it himself is told that it is another signature.
    assert_eq!(area.store(&unsigned, &unwatched).await.expect("stored").sent, 0);
    let mut delivery = Delivery::open(&unsigned).expect("delivery");
    delivery.add_signatures(&[(Part::Bundle, b"{3}".to_vec())]).expect("signature");
    let error = area.store(&unsigned, &unwatched).await.expect_err("refused");
    assert!(matches!(error, StorageError::OtherSignature { part: "bundle", .. }), "{error:?}");
    assert!(told(&error).contains("verify whose signature lies there"), "{}", told(&error));
    assert_eq!(signed(&fetched("again").await), both);

    let read = rewrap_signed(&sealed, 2, Some(b"{4}"));
    area.replace_keys(&sealed, &read).await.expect("replaced");
    assert_eq!(area.replace_keys(&sealed, &read).await.expect("repeated").sent, 0);
    assert_eq!(signed(&fetched("rewrapped").await), [both[0].clone(), Some(b"{4}".to_vec())]);
    let read = rewrap(&sealed, 3);
    area.replace_keys(&sealed, &read).await.expect("replaced");
    assert_eq!(signed(&fetched("unsigned keys").await), [both[0].clone(), None]);
}
