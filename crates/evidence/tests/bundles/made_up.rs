//! Bundles that nobody made.

use proptest::prelude::*;

use crate::checks;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_bundle(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
        checks::a_bundle(&bytes);
    }

    /// Text that looks like a bundle's, so that it comes further than the first byte.
    #[test]
    fn text(made_up in r#"\{("(mediaType|verificationMaterial|dsseEnvelope|payload)":(null|[0-9]{1,3}|"[a-zA-Z0-9+/=. ]{0,40}"|\{\}|\[\]),?){0,4}\}"#) {
        checks::a_bundle(&[&[0], made_up.as_bytes()].concat());
    }
}
