//! Google Cloud KMS through the whole program, by a stand-in that Google's own client takes for the real one.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    grants::{Lie, Limits, Service, Who},
    harness::World,
};

#[expect(dead_code, reason = "the tests of the keys use more of it")]
#[path = "../../crates/keys/tests/gcp_kms/fake.rs"]
mod fake;

pub(crate) use fake::Fake;

use fake::{Answer, Issuer, POOL, Pace, crc32c};

const KEY: &str = "projects/acme-prod/locations/europe-west1/keyRings/deliveries/cryptoKeys/globex";
const PUBLISHER: &str = "publisher@acme-prod.iam.gserviceaccount.com";
const GLOBEX: &str = "reader@globex-prod.iam.gserviceaccount.com";
const INITECH: &str = "reader@initech-prod.iam.gserviceaccount.com";

/// A key ring with one key, a job that becomes a service account, and customers with accounts of their own.
pub(crate) struct Ring {
    pub(crate) fake: Fake,
    /// The files of the customers' accounts, which are secret.
    files: TempDir,
}

impl Ring {
    pub(crate) fn start(world: &World) -> Self {
        let ring = Self { fake: Fake::start(), files: tempfile::tempdir().expect("folder") };
        let (issuer, keys) = world.issuer();
        let job = format!("principal://iam.googleapis.com/{POOL}/subject/repo:acme/core:ref:refs/heads/main");
        let mut cloud = ring.fake.cloud();
        cloud.key(KEY, "GOOGLE_SYMMETRIC_ENCRYPTION");
        cloud.trust_key(&issuer, &keys["keys"][0]);
        cloud.account(PUBLISHER, None, Some(&job));
        for role in ["admin", "cryptoKeyEncrypterDecrypter"] {
            cloud.bind(KEY, &format!("roles/cloudkms.{role}"), &format!("serviceAccount:{PUBLISHER}"));
        }
        for email in [GLOBEX, INITECH] {
            let key = Issuer::new();
            cloud.account(email, Some(&key), None);
            let file = key.file(email, "https://oauth2.googleapis.com/token");
            fs::write(ring.file(email), file.to_string()).expect("written");
        }
        drop(cloud);
        ring
    }

    fn file(&self, email: &str) -> PathBuf {
        self.files.path().join(email)
    }
}

fn email(who: Who) -> &'static str {
    match who {
        Who::Vendor => PUBLISHER,
        Who::Globex => GLOBEX,
        Who::Initech => INITECH,
    }
}

impl Service for Ring {
    fn limits(&self) -> Limits {
        Limits { one_bundle: false, expires: true }
    }

    fn key(&self) -> String {
        format!("gcp-kms://{KEY}")
    }

    fn environment(&self, who: Who) -> Vec<(String, String)> {
        let own = if who == Who::Vendor {
            vec![
                ("PROTECTED_REGISTRY_GCP_WORKLOAD_IDENTITY_PROVIDER", format!("{POOL}/providers/jobs")),
                ("PROTECTED_REGISTRY_GCP_SERVICE_ACCOUNT", PUBLISHER.to_owned()),
            ]
        } else {
            vec![("GOOGLE_APPLICATION_CREDENTIALS", self.file(email(who)).display().to_string())]
        };
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        self.fake.environment().into_iter().chain(own).collect()
    }

    fn grantee(&self, who: Who) -> String {
        format!("serviceAccount:{}", email(who))
    }

    fn audience(&self) -> String {
        format!("https://iam.googleapis.com/{POOL}/providers/jobs")
    }

    fn refusal(&self) -> &'static str {
        "PERMISSION_DENIED"
    }

    fn rotate(&self) -> Option<String> {
        self.fake.cloud().rotate(KEY);
        None
    }

    fn retire(&self) {
        self.fake.cloud().set_state(KEY, 1, "DISABLED");
    }

    fn lies(&self, try_with: &mut dyn FnMut(Lie)) {
        fn key(answer: &mut Answer, bytes: &[u8]) {
            let checksum = crc32c(bytes).to_string();
            answer.body = json!({"plaintext": STANDARD.encode(bytes), "plaintextCrc32c": checksum});
        }
        type Change = fn(&mut Answer);
        let changes: [(Change, i32, &'static str); 5] = [
            (|answer| key(answer, &[7; 32]), 7, "it was sealed under another key"),
            (|answer| key(answer, &[7; 16]), 1, "data key"),
            (|answer| key(answer, &[0; 32]), 1, "nothing but zeros"),
            (|answer| answer.body["plaintextCrc32c"] = "1".into(), 1, "the checksum that came with it"),
            (|answer| answer.pace = Pace::Flood, 1, "larger than"),
        ];
        for (change, code, says) in changes {
            self.fake.tamper(move |call, answer| {
                if call.path.ends_with(":decrypt") {
                    change(answer);
                }
            });
            try_with(Lie { environment: self.environment(Who::Globex), code, says });
        }
        self.fake.honest();
    }
}
