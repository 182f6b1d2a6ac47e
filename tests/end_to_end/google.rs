//! Google Cloud KMS through the whole program, by a stand-in that Google's own client takes for the real one.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    deliver::{copy, small},
    grants::{Lie, Limits, Service, Story, Who},
    harness::{Screen, World},
    proxy::Fault,
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

    /// Makes another key with the same rights, and returns its reference.
    pub(crate) fn second_key(&self) -> String {
        let name = KEY.replace("globex", "next");
        let mut cloud = self.fake.cloud();
        cloud.key(&name, "GOOGLE_SYMMETRIC_ENCRYPTION");
        for role in ["admin", "cryptoKeyEncrypterDecrypter"] {
            cloud.bind(&name, &format!("roles/cloudkms.{role}"), &format!("serviceAccount:{PUBLISHER}"));
        }
        format!("gcp-kms://{name}")
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

/// FractalOps does not take the grant, and the key service does not take it back: what is told to run finishes it, either
/// way.
#[test]
fn what_can_neither_be_recorded_nor_taken_back_is_told_how_to_finish() {
    let world = crate::grants::world();
    let ring = Ring::start(&world);
    let story = Story { world: &world, service: &ring };
    let built = small(&world);
    let one = story.seal(&built, "one");
    let fake = ring.fake.clone();
    let fail = |method: &str, target: &str| method == "POST" && target.contains("delivery/grants");
    let unrecorded = |more: &[&str]| {
        let fake = fake.clone();
        world.proxy.decide(move |method, target, _| {
            if !fail(method, target) {
                return Fault::None;
            }
            // From here on nobody may write the policy.
            fake.cloud().denies = Some("cryptoKeys.setIamPolicy");
            Fault::Say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        });
        let screen = story.granted(&one, Who::Globex, more);
        screen.failed(1, &["which is not on record and could not be taken back", "PERMISSION_DENIED"]);
        world.proxy.decide(|_, _, _| Fault::None);
        ring.fake.cloud().denies = None;
        screen
    };
    let told = |screen: &Screen, before: &str| -> Vec<String> {
        let line =
            screen.stderr.lines().find_map(|line| line.trim().strip_prefix(before)).expect("a command");
        line.split(' ').map(str::to_owned).collect()
    };
    let run = |command: &[String]| story.vendor(&command.iter().map(String::as_str).collect::<Vec<_>>());

    let screen = unrecorded(&["--expires", "2099-01-01T00:00:00Z"]);
    assert_eq!(story.listed(&one)[0]["orphan"], "it is not on record");
    story.opens(Who::Globex, "one");
    run(&told(&screen, "hint: or take it back: protected-registry ")).succeeded();
    story.refuses(Who::Globex, "one");
    assert!(story.listed(&one).is_empty());

    let screen = unrecorded(&["--expires", "2099-01-01T00:00:00Z"]);
    run(&told(&screen, "hint: finish it: protected-registry ")).succeeded();
    let rows = story.listed(&one);
    assert_eq!((&rows[0]["on_record"], &rows[0]["orphan"]), (&json!("materialized"), &Value::Null));
    assert_eq!(rows[0]["expires_at"], "2099-01-01T00:00:00Z");

    // Under another key than the one on record, the commands name that key.
    let other = ring.second_key();
    story.vendor(&["rewrap", "one", "--key-ref", &other]).succeeded();
    story.refuses(Who::Globex, "one");
    let screen = unrecorded(&["--expires", "2099-01-01T00:00:00Z", "--key-ref", &other]);
    story.opens(Who::Globex, "one");
    run(&told(&screen, "hint: or take it back: protected-registry ")).succeeded();
    story.refuses(Who::Globex, "one");
    let screen = unrecorded(&["--expires", "2099-01-01T00:00:00Z", "--key-ref", &other]);
    run(&told(&screen, "hint: finish it: protected-registry ")).succeeded();
    story.opens(Who::Globex, "one");
}

/// Attack: a delivery that was wrapped anew with another key, and somebody kept it as it was before. Both keys take the grant
/// back, and it counts as taken back whichever of them had it.
#[test]
fn a_grant_is_taken_back_on_the_former_key_as_well_as_on_the_new_one() {
    let world = crate::grants::world();
    let ring = Ring::start(&world);
    let story = Story { world: &world, service: &ring };
    let one = story.seal(&small(&world), "one");
    let grantee = ring.grantee(Who::Globex);
    let other = ring.second_key();
    let revoked = |key: &str| -> Value {
        let args = ["revoke-grant", "--bundle-id", &one, "--grantee", &grantee, "--key-ref", key];
        let screen = story.vendor(&[&args[..], &["--format", "json"]].concat());
        serde_json::from_str(&screen.succeeded().stdout).expect("JSON")
    };
    story.granted(&one, Who::Globex, &[]).succeeded();
    copy(&world, "one", "kept");
    story.vendor(&["rewrap", "one", "--key-ref", &other]).succeeded();
    story.opens(Who::Globex, "kept");
    let told = revoked(&other);
    assert_eq!(
        (&told["grant"]["status"], &told["taken_back_in_key_service"]),
        (&json!("revoked"), &json!(true))
    );
    story.refuses(Who::Globex, "kept");

    // This time the new key alone has it.
    story.granted(&one, Who::Globex, &["--key-ref", &other]).succeeded();
    story.opens(Who::Globex, "one");
    let told = revoked(&other);
    assert_eq!(
        (&told["grant"]["status"], &told["taken_back_in_key_service"]),
        (&json!("revoked"), &json!(true))
    );
    story.refuses(Who::Globex, "one");

    // One that the key service was never told is taken back on record.
    let args = ["--bundle-id", &one, "--grantee", &grantee];
    let run = |command: &str, more: &[&str]| story.vendor(&[&[command], &args[..], more].concat());
    run("grant-delivery", &[]).succeeded();
    let screen = run("revoke-grant", &["--format", "json"]);
    let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert_eq!(
        (&told["grant"]["status"], &told["taken_back_in_key_service"]),
        (&json!("revoked"), &json!(false))
    );

    // What the key service does not take back stays on record.
    story.granted(&one, Who::Globex, &[]).succeeded();
    ring.fake.cloud().denies = Some("cryptoKeys.setIamPolicy");
    run("revoke-grant", &[]).failed(4, &["PERMISSION_DENIED"]);
    assert_eq!(story.listed(&one).last().expect("a grant")["on_record"], "materialized");
    story.opens(Who::Globex, "kept");
    ring.fake.cloud().denies = None;
    run("revoke-grant", &[]).succeeded();

    // Taken back on one side alone, while somebody else's binding opens it: both are told.
    let role = "roles/cloudkms.cryptoKeyDecrypter";
    let condition = json!({
        "title": format!("protected-registry:{one}"),
        "expression": "request.time < timestamp(\"9999-01-01T00:00:00Z\")",
    });
    ring.fake.cloud().bind(KEY, role, &grantee);
    ring.fake.cloud().bind_if(KEY, role, &grantee, condition);
    let screen = story.vendor(&["list-grants", "--bundle-id", &one]);
    assert!(screen.succeeded().stdout.contains("ORPHAN: the key service still has it"), "{screen}");
    assert!(screen.stderr.contains("`revoke-grant` takes an orphan back"), "{screen}");
    let still = format!(
        "the grant is taken back, and `{grantee}` still opens the delivery `{one}`, by the role {role}"
    );
    run("revoke-grant", &[]).failed(6, &[&still]);
    run("grant-delivery", &[]).succeeded();
    run("revoke-grant", &[]).failed(6, &[&still]);
    run("revoke-grant", &[]).failed(6, &["there is no grant, and "]);
}
