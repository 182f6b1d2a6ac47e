//! Made-up bytes, and right ones with changes, held against what holds for any. `cargo fuzz` runs the same for longer.

use proptest::{
    collection::vec,
    prelude::{any, proptest},
    test_runner::Config,
};

use crate::checks;

proptest! {
    #![proptest_config(Config::with_cases(2_000))]

    #[test]
    fn a_path(text in ".{0,40}") {
        checks::path(&text);
    }

    #[test]
    fn a_key_reference(bytes in vec(any::<u8>(), 0..60)) {
        checks::key_reference(&bytes);
    }

    #[test]
    fn a_descriptor(bytes in vec(any::<u8>(), 0..30)) {
        checks::descriptor(&bytes);
    }

    #[test]
    fn a_keys_document(bytes in vec(any::<u8>(), 0..30)) {
        checks::keys_document(&bytes);
    }
}

proptest! {
    #![proptest_config(Config::with_cases(300))]

    #[test]
    fn an_archive(bytes in vec(any::<u8>(), 0..200)) {
        checks::an_archive(&bytes);
    }

    #[test]
    fn a_changed_message_is_refused(bytes in vec(any::<u8>(), 0..200)) {
        checks::a_message(&bytes);
    }

    #[test]
    fn an_index(bytes in vec(any::<u8>(), 0..30)) {
        checks::an_index(&bytes);
    }

    #[test]
    fn a_delivery_in_a_tar_file(bytes in vec(any::<u8>(), 0..200)) {
        checks::a_tar_file(&bytes);
    }
}

/// The changes of nothing leave what is right, which is taken.
#[test]
fn what_is_right_is_taken() {
    for check in [
        checks::key_reference as fn(&[u8]),
        checks::descriptor,
        checks::keys_document,
        checks::an_archive,
        checks::a_message,
        checks::an_index,
        checks::a_tar_file,
    ] {
        check(&[1]);
    }
}
