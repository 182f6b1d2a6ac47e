//! Whether what is signed of a delivery is said of this one.

use protected_model::{
    delivery::{DELIVERY_STATEMENT, Descriptor},
    digest::Sha256,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Check, Refused, Verified, unverified_statement};
use crate::{
    delivery::{Delivered, Wrapped, subject},
    statement::Statement,
};

/// Holds a verified statement over a bundle against the descriptor in it, member by member.
///
/// Attack: a statement that is signed over one bundle and speaks of another: the reader would be told of the delivery that
/// the statement names.
///
/// # Errors
/// The first member that is another.
pub fn delivered(verified: &Verified, descriptor: &Descriptor) -> Result<Delivered, Refused> {
    let said: Delivered = said(verified)?;
    held(&Delivered::of(descriptor, said.build_id.clone()), &said)?;
    Ok(said)
}

/// Holds what a bundle says of a delivery against it, and asks nobody who says so: whoever keeps it for others to verify wants it
/// to be about this delivery, in its strict form.
///
/// # Errors
/// When it is no Sigstore bundle with such a statement, or the statement is about another artifact, or says anything else.
pub fn unverified_delivered(bytes: &[u8], expected: &Delivered, bundle: &Sha256) -> Result<(), Refused> {
    let statement = unverified_statement(bytes, &subject(&expected.bundle_id, bundle), DELIVERY_STATEMENT)?;
    held(expected, &read::<Delivered>(&statement)?)
}

/// Holds a verified statement over keys against the delivery whose keys they are.
///
/// # Errors
/// The first member that is another.
pub fn wrapped(verified: &Verified, descriptor: &Descriptor, bundle: &Sha256) -> Result<Wrapped, Refused> {
    let said: Wrapped = said(verified)?;
    let bundle_id = descriptor.bundle_id.clone();
    held(&Wrapped { bundle_id, bundle_sha256: *bundle, wrapped_at: said.wrapped_at }, &said)?;
    Ok(said)
}

fn said<P: DeserializeOwned>(verified: &Verified) -> Result<P, Refused> {
    let refuse = |found: String| Refused::new(Check::Delivery, "what is said of a delivery", found);
    read(verified.statement.as_ref().ok_or_else(|| refuse("no statement".to_owned()))?)
}

fn read<P: DeserializeOwned>(statement: &Statement) -> Result<P, Refused> {
    let refuse = |found: String| Refused::new(Check::Delivery, "what is said of a delivery", found);
    serde_json::from_value(statement.predicate.clone()).map_err(|error| refuse(error.to_string()))
}

fn held(expected: &impl Serialize, found: &impl Serialize) -> Result<(), Refused> {
    let members = |of: Result<Value, serde_json::Error>| {
        of.map_err(|error| Refused::new(Check::Delivery, "what is said of a delivery", error.to_string()))
    };
    let (expected, found) = (members(serde_json::to_value(expected))?, members(serde_json::to_value(found))?);
    for (name, expected) in expected.as_object().into_iter().flatten() {
        let found = &found[name];
        if found != expected {
            let told = |value: &Value| match value.as_str() {
                Some(text) => format!("{name} `{text}`"),
                None => format!("{name} {value}"),
            };
            return Err(Refused::new(Check::Delivery, told(expected), told(found)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protected_model::{
        delivery::{CONTENT, DESCRIPTOR},
        escrow::SUITE,
    };
    use serde_json::json;

    use super::*;
    use crate::{delivery, statement::Statement, verify::Signer};

    fn descriptor() -> Descriptor {
        Descriptor {
            schema: DESCRIPTOR.to_owned(),
            suite: SUITE.to_owned(),
            bundle_id: "01JDELIVERY".parse().expect("id"),
            tenant_id: "acme".parse().expect("id"),
            project_slug: "core".parse().expect("slug"),
            customer_slug: "globex".parse().expect("slug"),
            package_name: "@acme/core".parse().expect("name"),
            version: "1.2.3".parse().expect("version"),
            created_at: "2026-01-02T03:04:05Z".parse().expect("time"),
            media_type: CONTENT.to_owned(),
            archive_bytes: 1024,
            contents: Vec::new(),
        }
    }

    fn verified(statement: &impl Serialize, change: Option<(&str, Value)>) -> Verified {
        let mut statement = serde_json::to_value(statement).expect("JSON");
        if let Some((pointer, lie)) = change {
            *statement.pointer_mut(pointer).expect(pointer) = lie;
        }
        let statement: Statement = serde_json::from_value(statement).expect("statement");
        let (signer, log, times) = (Signer::Key { sha256: Sha256::of("key") }, Vec::new(), Vec::new());
        Verified { statement: Some(statement), signer, log, times, sha256: Sha256::of("") }
    }

    #[test]
    fn every_member_is_held_against_the_delivery() {
        let (descriptor, bundle) = (descriptor(), Sha256::of("bundle"));
        let said = delivery::delivered(&descriptor, &bundle, Some("a-build".to_owned()));
        assert_eq!(
            serde_json::to_value(&said).expect("JSON"),
            json!({
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [{"name": "01JDELIVERY", "digest": {"sha256": bundle}}],
                "predicateType": "https://protected-registry.dev/statements/delivery/v1",
                "predicate": {
                    "bundle_id": "01JDELIVERY", "tenant_id": "acme", "project_slug": "core",
                    "customer_slug": "globex", "package_name": "@acme/core", "version": "1.2.3",
                    "created_at": "2026-01-02T03:04:05Z", "descriptor_sha256": descriptor.sha256(),
                    "build_id": "a-build",
                },
            })
        );
        let good = delivered(&verified(&said, None), &descriptor).expect("so it is");
        assert_eq!(good.build_id.as_deref(), Some("a-build"));
        for (member, lie) in [
            ("bundle_id", json!("01JOTHER")),
            ("tenant_id", json!("initech")),
            ("project_slug", json!("other")),
            ("customer_slug", json!("initech")),
            ("package_name", json!("@acme/other")),
            ("version", json!("1.2.4")),
            ("created_at", json!("2026-01-02T03:04:06Z")),
            ("descriptor_sha256", json!(Sha256::of("another"))),
            ("version", json!("latest")),
            ("created_at", json!(0)),
        ] {
            let bad = verified(&said, Some((&format!("/predicate/{member}"), lie.clone())));
            let refused = delivered(&bad, &descriptor).expect_err(member);
            assert_eq!(refused.check, Check::Delivery, "{member} {lie}");
        }
        let refused = delivered(&verified(&said, Some(("/predicate", json!({})))), &descriptor);
        assert_eq!(refused.expect_err("nothing is said").check, Check::Delivery);

        let time = "2026-02-03T04:05:06Z".parse().expect("time");
        let said = delivery::wrapped(&descriptor, &bundle, &Sha256::of("keys"), time);
        let good = wrapped(&verified(&said, None), &descriptor, &bundle).expect("so it is");
        assert_eq!(good.wrapped_at, time);
        for (member, lie) in [
            ("bundle_id", json!("01JOTHER")),
            ("bundle_sha256", json!(Sha256::of("another"))),
            ("wrapped_at", json!("yesterday")),
        ] {
            let bad = verified(&said, Some((&format!("/predicate/{member}"), lie)));
            assert_eq!(wrapped(&bad, &descriptor, &bundle).expect_err(member).check, Check::Delivery);
        }
    }
}
