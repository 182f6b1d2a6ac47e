//! How a delivery area and a delivery in it are written, and how not.

use protected_storage::{AreaRef, AreaRefError, DeliveryRef};

const AREAS: &[&str] = &[
    "deliveries",
    "/srv/deliveries",
    "../deliveries",
    "C:\\deliveries",
    "s3://acme-deliveries",
    "s3://acme.deliveries/core/2026",
    "gs://acme_deliveries",
    "gs://acme-deliveries/core",
    "az://acmestorage/deliveries",
    "az://acmestorage/deliveries/core",
    "oci://registry.example/acme/core",
    "oci://registry.example:5000/acme/core_x/a-b.c__d",
    "oci://127.0.0.1:5000/core",
    "oci://[::1]:5000/core",
    "oci://localhost:5000/core",
];

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn each_kind_has_one_writing() {
    for text in AREAS {
        let area: AreaRef = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(area.to_string(), *text);
        assert_eq!(text.contains("://"), !matches!(area, AreaRef::Folder(_)));
        let delivery = area.delivery(&"acme-1.2.3".parse().expect("id"));
        match delivery.uri() {
            Some(uri) => assert_eq!(uri.parse::<DeliveryRef>().as_ref(), Ok(&delivery), "{uri}"),
            None => assert!(matches!(area, AreaRef::Folder(_)), "{text}"),
        }
    }
    let pinned = format!("oci://registry.example:5000/acme/core@sha256:{DIGEST}");
    let delivery: DeliveryRef = pinned.parse().expect("reference");
    assert_eq!(delivery.to_string(), pinned);
    assert_eq!(delivery.area.to_string(), "oci://registry.example:5000/acme/core");
}

#[test]
fn whatever_is_a_little_different_is_refused() {
    for good in AREAS.iter().filter(|text| text.contains("://")) {
        for bad in [
            format!(" {good}"),
            format!("{good} "),
            format!("{good}\n"),
            format!("{good}/"),
            format!("{good}//a"),
            format!("{good}/.."),
            format!("{good}/../a"),
            format!("{good}/%2e%2e/a"),
            format!("{good}/."),
            format!("{good}?token=x"),
            format!("{good}#x"),
            format!("{good}\0"),
            format!("{good}/é"),
            good.replace("://", "://key:secret@"),
            good.replace("://", "://@"),
            good.replace("://", ":/"),
            good.replace("://", ":///"),
            good.replace("://", "://../"),
            good.to_uppercase(),
        ] {
            let error = bad.parse::<AreaRef>().expect_err(&bad);
            assert!(!error.to_string().contains("secret@"), "{error}");
            assert!(format!("{bad}/id").parse::<DeliveryRef>().is_err(), "{bad}");
        }
    }
    for bad in [
        "",
        "://",
        "s3:acme-deliveries",
        "s3:/acme-deliveries",
        "file:///srv/deliveries",
        "https://s3.example/acme",
        "http://registry.example/acme/core",
        "docker://registry.example/acme/core",
        "s3://",
        "s3://ab",
        "s3://Acme",
        "s3://-acme",
        "s3://acme..deliveries",
        "s3://acme_deliveries",
        "az://acmestorage",
        "az://acme-storage/deliveries",
        "az://acmestorage/deli--veries",
        "az://acmestorage.blob.core.windows.net/deliveries",
        "oci://registry.example",
        "oci://registry.example/Acme",
        "oci://registry.example/acme:tag",
        "oci://registry.example/a___b",
        "oci://registry.example/a._b",
        "oci://registry.example/-a",
        "oci://registry.example:/a",
        "oci://registry.example:0/a",
        "oci://registry.example:65536/a",
        "oci://registry.example:+80/a",
        "oci://registry.example./a",
        "oci://REGISTRY.example/a",
        "oci://2130706433/a",
        "oci://0x7f.1/a",
        "oci://127.1/a",
        "oci://0177.0.0.1/a",
        "oci://[::1/a",
        "oci://[::1]x/a",
        "oci://registry%2eexample/a",
    ] {
        assert!(bad.parse::<AreaRef>().is_err(), "{bad}");
    }
}

#[test]
fn a_manifest_never_names_a_file_here() {
    for bad in [
        "deliveries/acme-1.2.3",
        "/srv/deliveries/acme-1.2.3",
        "../acme-1.2.3",
        "file:///srv/deliveries/acme-1.2.3",
        "s3://acme-deliveries",
        "s3://acme-deliveries/",
        "s3://acme-deliveries/../id",
        "s3://acme-deliveries/.id",
        "az://acmestorage/deliveries",
        "oci://registry.example/acme/core",
        "oci://registry.example:5000/acme/core",
        "oci://registry.example/acme/core:",
        "oci://registry.example/acme/core:.x",
        "oci://registry.example/acme/core@sha256:",
        "oci://registry.example/acme/core@sha512:00",
        "oci://registry.example/acme/core:id@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "oci://user@registry.example/acme/core:id",
    ] {
        assert!(bad.parse::<DeliveryRef>().is_err(), "{bad}");
    }
}

#[test]
fn what_looks_like_a_key_is_refused_and_not_repeated() {
    let aws = format!("AKIA{}", "IOSFODNN7EXAMPLE");
    let base64 = "bXkgMzIgYnl0ZSBrZXkgbXkgMzIgYnl0ZSBrZXkhISE=";
    for key in [aws.as_str(), base64, DIGEST, "ghp_0123456789abcdefghijABCDEFGHIJ0123", "hvs.CAESIJ"] {
        for bad in [
            key.to_owned(),
            format!("deliveries/{key}"),
            format!("s3://acme-deliveries/{key}"),
            format!("gs://acme-deliveries/{key}"),
            format!("az://acmestorage/deliveries/{key}"),
            format!("s3://{key}"),
        ] {
            let error = bad.parse::<AreaRef>().expect_err(&bad);
            assert_eq!(error, AreaRefError::KeyMaterial, "{bad}");
            assert!(!error.to_string().contains(key));
        }
        for bad in [
            format!("s3://acme-deliveries/{key}"),
            format!("oci://registry.example/acme/core:{key}"),
            format!("oci://registry.example:5000/acme/core:{key}"),
        ] {
            assert_eq!(bad.parse::<DeliveryRef>(), Err(AreaRefError::KeyMaterial), "{bad}");
        }
    }
}
