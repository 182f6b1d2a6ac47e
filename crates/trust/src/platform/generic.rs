//! Any other issuer: only who it says it is about.

use protected_model::identity::RunIdentity;

use super::Claims;

pub(super) const SHOWN: &[&str] = &["iss", "sub", "aud"];

pub(super) fn fill(_: &mut RunIdentity, _: &Claims<'_>) {}
