//! Programs do the same, whichever shapes the seed chooses for their functions.

use protected_harden::{Obfuscation, Options, Profile};
use protected_model::secret::BuildSecret;

use crate::behaviour::compare;

#[test]
fn every_seed_keeps_what_programs_do() {
    for seed in 0..4 {
        for profile in [Profile::Standard, Profile::Strong] {
            let secret = Some(BuildSecret::new(format!("secret {seed}")));
            let obfuscation = Obfuscation { profile, secret, ..Obfuscation::default() };
            compare("cases", &Options { obfuscation, escrow: false, ..Options::default() });
        }
    }
}
