//! AWS KMS through the whole program: moto behind the checks that the real service makes, and ministack, which makes none.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_bundle::layout::Delivery;
use protected_model::digest::Sha256;
use serde_json::{Value, json};

use crate::{
    clients::tool,
    deliver::{customer, nothing_left, small},
    grants::{Lie, Limits, Service, Who},
    harness::{CLI, Screen, World},
};

/// moto with the checks, which takes the identities of a world's jobs.
pub(crate) struct Kms {
    ready: Value,
    service: Child,
}

fn python() -> Command {
    let mut command = Command::new(tool("aws").join("python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../keys/tests/aws_kms.py"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Calls a KMS as boto3 does.
fn boto(environment: Vec<(String, String)>, operation: &str, question: &Value) -> Value {
    let mut client = python().args(["call", "kms", operation]).envs(environment).spawn().expect("boto3");
    client.stdin.take().expect("input").write_all(question.to_string().as_bytes()).expect("written");
    serde_json::from_slice(&client.wait_with_output().expect("output").stdout).expect("JSON")
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

impl Kms {
    pub(crate) fn start(world: &World) -> Self {
        let (issuer, keys) = world.issuer();
        // It ends when its input is closed.
        let mut service = python().args(["serve", &issuer, &keys.to_string()]).spawn().expect("python");
        let mut line = String::new();
        BufReader::new(service.stdout.take().expect("output")).read_line(&mut line).expect("line");
        Self { ready: serde_json::from_str(&line).expect("it started"), service }
    }

    fn text(&self, pointer: &str) -> &str {
        self.ready.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}"))
    }

    /// Returns the reference of a key, or of an alias.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("aws-kms://{}", self.ready["keys"][name].as_str().expect("key"))
    }

    /// The variables of somebody who has credentials.
    pub(crate) fn credentials(&self, who: &str) -> Vec<(String, String)> {
        let given = self.ready["credentials"][who].as_object().expect("who");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let mut all: Vec<_> = given.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        all.push(("AWS_ENDPOINT_URL".to_owned(), self.text("/url").to_owned()));
        all
    }

    /// Does something as the publisher, as boto3 does it.
    pub(crate) fn call(&self, operation: &str, question: &Value) -> Value {
        boto(self.credentials("publisher"), operation, question)
    }
}

impl Drop for Kms {
    fn drop(&mut self) {
        drop(self.service.stdin.take());
        let _ = self.service.wait();
    }
}

impl Service for Kms {
    fn limits(&self) -> Limits {
        Limits { one_bundle: true, expires: false }
    }

    fn key(&self) -> String {
        self.key("one")
    }

    fn environment(&self, who: Who) -> Vec<(String, String)> {
        match who {
            Who::Vendor => {
                pairs([("AWS_ROLE_ARN", self.text("/role")), ("AWS_ENDPOINT_URL", self.text("/url"))])
            }
            Who::Globex => self.credentials("globex"),
            Who::Initech => self.credentials("initech"),
        }
    }

    fn grantee(&self, who: Who) -> String {
        self.text(if who == Who::Globex { "/grantees/globex" } else { "/grantees/initech" }).to_owned()
    }

    fn audience(&self) -> String {
        "sts.amazonaws.com".to_owned()
    }

    fn refusal(&self) -> &'static str {
        "AccessDeniedException"
    }

    fn rotate(&self) -> Option<String> {
        let rotated = self.call("rotate_key_on_demand", &json!({"KeyId": self.ready["keys"]["one"]}));
        assert!(rotated.get("error").is_none(), "{rotated}");
        None
    }

    /// Here a rotation changes no key, so that nothing can end.
    fn retire(&self) {}

    fn lies(&self, try_with: &mut dyn FnMut(Lie)) {
        for (fault, code, says) in [
            ("plaintext-other", 7, "it was sealed under another key"),
            ("plaintext-16", 1, "data key"),
            ("plaintext-zeros", 1, "nothing but zeros"),
            ("wrong-key-id", 1, "expected the key"),
            ("redirect", 1, "redirects"),
            ("huge", 1, "larger than"),
        ] {
            let mut environment = self.environment(Who::Globex);
            environment
                .push(("AWS_ENDPOINT_URL_KMS".to_owned(), format!("{}fault/{fault}/", self.text("/url"))));
            try_with(Lie { environment, code, says });
        }
    }
}

/// A service whose wrapping can be changed, and that gives a key where it should refuse.
struct Ministack {
    child: Child,
    environment: Vec<(String, String)>,
}

impl Ministack {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
        let child = Command::new(tool("ministack").join("ministack"))
            .env_clear()
            .envs([("BIND_HOST", "127.0.0.1"), ("SERVICES", "kms"), ("GATEWAY_PORT", &port.to_string())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ministack");
        let url = format!("http://127.0.0.1:{port}/");
        let environment = pairs([
            ("AWS_ENDPOINT_URL", &url),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]);
        let ministack = Self { child, environment };
        let since = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(60), "ministack does not start");
            thread::sleep(Duration::from_millis(100));
        }
        ministack
    }

    fn key(&self) -> String {
        let made = boto(self.environment.clone(), "create_key", &json!({}));
        format!("aws-kms://{}", made["KeyMetadata"]["Arn"].as_str().expect("ARN"))
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Attack: whoever can change a wrapped key, at a service that does not notice, chooses the data key. The delivery
/// commits to its own and opens with no other.
#[test]
fn a_wrong_key_from_the_service_opens_nothing() {
    let world = World::new();
    let ministack = Ministack::start();
    let (key, other) = (ministack.key(), ministack.key());
    let built = small(&world);
    let seal = |key: &str, out: &str| {
        let mut command = world.github("release", CLI, &["deliver", "--no-submit", "--tenant", "acme"]);
        command.args(["--customer", "globex", "--key-ref", key, "--out", out, "--artifact"]).arg(&built);
        command.envs(ministack.environment.clone());
        world.run(command).succeeded();
    };
    seal(&key, "sealed");
    seal(&other, "other");
    let open = |out: &str| -> Screen {
        let mut command = customer(&world, "none", &["open-bundle", "sealed", "--out", out]);
        command.envs(ministack.environment.clone());
        world.run(command)
    };
    open("opened").succeeded();

    // As whoever has the bundle can: with every digest made anew.
    let read = |out: &str| Delivery::open(&world.path(&format!("work/{out}/bundle"))).expect("delivery");
    let wrapped = |out: &str| read(out).keys().keys[0].wrapped_key.clone();
    let (own, theirs) = (wrapped("sealed"), wrapped("other"));
    let set = |text: &str| {
        let mut delivery = read("sealed");
        let mut keys = delivery.keys().clone();
        keys.keys[0].wrapped_key = text.to_owned();
        keys.keys[0].wrapped_key_sha256 = Sha256::of(text);
        delivery.set_keys(keys, None, &Default::default()).expect("written");
    };
    let length = STANDARD.decode(&own).expect("base64").len();
    let mut wrong = 0;
    for at in (0..length).step_by(7).chain([length - 1]) {
        let mut changed = STANDARD.decode(&own).expect("base64");
        changed[at] ^= 1;
        set(&STANDARD.encode(changed));
        let screen = open("changed");
        match screen.code {
            // The service does not read this byte, and gave the key of this delivery all the same.
            0 => fs::remove_dir_all(world.path("work/changed")).expect("opened"),
            7 => wrong += usize::from(screen.stderr.contains("it was sealed under another key")),
            _ => assert_eq!(screen.code, 4, "{at}\n{screen}"),
        }
        nothing_left(&world, "changed");
    }
    assert!(wrong >= 4, "ministack gave another key {wrong} times, of {length} bytes");
    // The wrapped key of another delivery, which the service knows; and one that somebody has it wrap for this one.
    set(&theirs);
    open("changed").failed(4, &["does not open this data key"]);
    let question = json!({
        "KeyId": key.trim_start_matches("aws-kms://"),
        "Plaintext": {"base64": STANDARD.encode([7; 32])},
        "EncryptionContext": read("sealed").descriptor().key_context(),
    });
    let made = boto(ministack.environment.clone(), "encrypt", &question);
    set(made["CiphertextBlob"].as_str().expect("wrapped"));
    open("changed").failed(7, &["it was sealed under another key"]);
    nothing_left(&world, "changed");
    set(&own);
    open("opened-again").succeeded();
}
