//! Every way to change a signed document, given to us and to the verifiers that others wrote.
//!
//! Ours refuses all of it. What the others let through stands in docs/verifying.md, and is compared with it here: what
//! they check may change, and so may what a reader has to know.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use protected_evidence::{
    sign::{LogVersion, Services, Signer, StatementToSign, TransparencyLog},
    statement::{PROVENANCE, Statement, Subject},
    verify::{self, Check, Expected, ExpectedBuild, Identity, Refused, Trust},
};
use protected_http::{Client, Settings};
use protected_model::{
    digest::{Integrity, Sha256},
    environment::Environment,
    secret::IdToken,
    service_url::ServiceUrl,
};
use serde_json::{Value, json};

use crate::{clients::tool, harness::World};

const ARTIFACT: &str = "the tarball";
const WORKFLOW: &str = "acme/core/.github/workflows/release.yml@refs/heads/main";
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verifying.md");
const ENTRY: &str = "/verificationMaterial/tlogEntries/0";
const TIMESTAMP: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";

/// One way to change a bundle, and the check that tells.
struct Change {
    name: &'static str,
    check: Check,
    /// `false` where the bundle has no such part.
    change: fn(&mut Value, other: &Value) -> bool,
}

const fn change(name: &'static str, check: Check, change: fn(&mut Value, &Value) -> bool) -> Change {
    Change { name, check, change }
}

const CHANGES: &[Change] = &[
    change("media type", Check::Format, |it, _| text(it, "/mediaType", |it| it.replace("v0.3", "v0.4"))),
    change("payload", Check::Signature, |it, _| byte(it, "/dsseEnvelope/payload", None)),
    change("payload type", Check::Format, |it, _| {
        text(it, "/dsseEnvelope/payloadType", |_| "application/x".to_owned())
    }),
    change("signature", Check::Timestamp, |it, _| byte(it, "/dsseEnvelope/signatures/0/sig", None)),
    change("key id beside a certificate", Check::Signature, |it, _| {
        add(it, "/dsseEnvelope/signatures/0", "keyid", json!("anybody"))
    }),
    change("certificate", Check::Certificate, |it, _| {
        byte(it, "/verificationMaterial/certificate/rawBytes", None)
    }),
    change("log index", Check::Log, |it, _| number(it, "logIndex")),
    change("log id", Check::Log, |it, _| byte(it, &format!("{ENTRY}/logId/keyId"), None)),
    change("entry kind", Check::Format, |it, _| {
        text(it, &format!("{ENTRY}/kindVersion/kind"), |_| "rekord".to_owned())
    }),
    change("entry body", Check::Log, |it, _| byte(it, &format!("{ENTRY}/canonicalizedBody"), None)),
    change("integrated time", Check::Log, |it, _| number(it, "integratedTime")),
    change("integrated time that nobody signed", Check::Log, |it, _| {
        let unsigned = it.pointer(&format!("{ENTRY}/inclusionPromise")).is_none();
        unsigned && add(it, ENTRY, "integratedTime", json!("1"))
    }),
    change("signed entry timestamp", Check::Log, |it, _| {
        byte(it, &format!("{ENTRY}/inclusionPromise/signedEntryTimestamp"), None)
    }),
    change("proof index", Check::Log, |it, _| number(it, "inclusionProof/logIndex")),
    change("proof root hash", Check::Log, |it, _| {
        byte(it, &format!("{ENTRY}/inclusionProof/rootHash"), None)
    }),
    change("proof tree size", Check::Log, |it, _| number(it, "inclusionProof/treeSize")),
    change("proof hash", Check::Log, |it, _| byte(it, &format!("{ENTRY}/inclusionProof/hashes/0"), None)),
    change("checkpoint root", Check::Log, |it, _| {
        note(it, |note| {
            let root = note.lines().nth(2).unwrap_or_default().to_owned();
            note.replacen(&root, &STANDARD.encode([7; 32]), 1)
        })
    }),
    change("checkpoint signature", Check::Log, |it, _| {
        note(it, |note| {
            let (head, signature) = note.trim_end().rsplit_once(' ').expect("a signature");
            let mut bytes = STANDARD.decode(signature).expect("base64");
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            format!("{head} {}\n", STANDARD.encode(bytes))
        })
    }),
    change("checkpoint, text behind it", Check::Log, |it, _| note(it, |note| format!("{note}\nanything\n"))),
    change("timestamp: time", Check::Timestamp, |it, _| {
        token(it, |bytes| {
            let at = bytes.windows(4).position(|it| it == b"\x18\x0f20").expect("a time");
            at + 15
        })
    }),
    change("timestamp: certificate in it", Check::Timestamp, |it, _| {
        token(it, |bytes| {
            // Somewhere in the public key, before the extension that says what it is for.
            let usage = [0x06, 0x03, 0x55, 0x1d, 0x25];
            bytes.windows(5).position(|it| it == usage).expect("a certificate") - 40
        })
    }),
    change("timestamp: status", Check::Timestamp, |it, _| token(it, |_| 8)),
    change("unknown member", Check::Format, |it, _| add(it, "", "comment", json!("by nobody"))),
    change("unknown member of the entry", Check::Format, |it, _| {
        add(it, ENTRY, "comment", json!("by nobody"))
    }),
    change("without log entries", Check::Log, |it, _| {
        add(it, "/verificationMaterial", "tlogEntries", json!([]))
    }),
    change("without proof", Check::Log, |it, _| remove(it, ENTRY, "inclusionProof")),
    change("without checkpoint", Check::Log, |it, _| {
        remove(it, &format!("{ENTRY}/inclusionProof"), "checkpoint")
    }),
    change("without signed entry timestamp", Check::Log, |it, _| remove(it, ENTRY, "inclusionPromise")),
    change("without timestamps", Check::Timestamp, |it, _| {
        // The log of version 1 says the time itself.
        let has_time = it.pointer(&format!("{ENTRY}/inclusionPromise")).is_some();
        !has_time && remove(it, "/verificationMaterial", "timestampVerificationData")
    }),
    change("statement of the other bundle", Check::Timestamp, |it, other| swap(it, other, "/dsseEnvelope")),
    change("log entry of the other bundle", Check::Log, |it, other| swap(it, other, ENTRY)),
    change("certificate of the other bundle", Check::Signature, |it, other| {
        swap(it, other, "/verificationMaterial/certificate")
    }),
    change("timestamp of the other bundle", Check::Timestamp, |it, other| {
        swap(it, other, "/verificationMaterial/timestampVerificationData")
    }),
];

fn text(it: &mut Value, pointer: &str, with: impl Fn(&str) -> String) -> bool {
    let Some(leaf) = it.pointer_mut(pointer) else { return false };
    let changed = leaf.as_str().map(with);
    *leaf = changed.map(Value::String).expect("a text");
    true
}

fn byte(it: &mut Value, pointer: &str, at: Option<usize>) -> bool {
    text(it, pointer, |base64| {
        let mut bytes = STANDARD.decode(base64).expect("base64");
        let at = at.unwrap_or(bytes.len() / 2);
        bytes[at] ^= 1;
        STANDARD.encode(bytes)
    })
}

fn number(it: &mut Value, member: &str) -> bool {
    text(it, &format!("{ENTRY}/{member}"), |number| {
        (number.parse::<u64>().expect("a number") + 1).to_string()
    })
}

fn note(it: &mut Value, with: impl Fn(&str) -> String) -> bool {
    text(it, &format!("{ENTRY}/inclusionProof/checkpoint/envelope"), with)
}

fn token(it: &mut Value, place: impl Fn(&[u8]) -> usize) -> bool {
    let token = it.pointer(TIMESTAMP).and_then(Value::as_str).expect("a timestamp");
    let at = place(&STANDARD.decode(token).expect("base64"));
    byte(it, TIMESTAMP, Some(at))
}

fn add(it: &mut Value, pointer: &str, member: &str, value: Value) -> bool {
    it.pointer_mut(pointer).expect("a part")[member] = value;
    true
}

fn remove(it: &mut Value, pointer: &str, member: &str) -> bool {
    it.pointer_mut(pointer).and_then(Value::as_object_mut).expect("a part").remove(member).is_some()
}

fn swap(it: &mut Value, other: &Value, pointer: &str) -> bool {
    *it.pointer_mut(pointer).expect("a part") = other.pointer(pointer).expect("a part").clone();
    true
}

fn subject() -> Subject {
    let (name, version) = ("@acme/core".parse().expect("name"), "1.2.3".parse().expect("version"));
    Subject::npm(&name, &version, &Sha256::of(ARTIFACT), &Integrity::of(ARTIFACT))
}

/// Signs statements with the authority of `world`, as the run `release`.
pub(crate) async fn sign(world: &World, version: LogVersion, payload: Vec<u8>) -> Vec<u8> {
    let settings = Settings::from_environment(&Environment::default(), None, "test").expect("settings");
    let http = Client::new(&settings).expect("client");
    let base: ServiceUrl = format!("{}/sigstore", world.base()).parse().expect("url");
    let services = Services {
        fulcio: Some(base.clone()),
        log: Some(TransparencyLog { url: base, version }),
        timestamp: Some(format!("{}/sigstore/api/v1/timestamp", world.base()).parse().expect("url")),
    };
    let token = IdToken::new(sigstore_token(world));
    let signer = Signer::keyless(http, services, trust_of(world), &token).await.expect("a certificate");
    let statement = StatementToSign { name: "provenance".to_owned(), payload };
    let signed = signer.sign(vec![statement]).await.expect("signed");
    signed.into_iter().next().expect("a bundle").bundle
}

/// Signs a statement, and another one, so that there is another bundle to take parts from.
async fn signed_twice(world: &World, version: LogVersion) -> [Value; 2] {
    let mut bundles = Vec::new();
    for number in [1, 2] {
        let predicate = json!({
            "buildDefinition": {"buildType": "https://example.com/type", "externalParameters": {"number": number}},
            "runDetails": {"builder": {"id": "https://example.com/builder"}},
        });
        let payload = Statement::new(subject(), PROVENANCE, predicate).to_json().expect("json");
        bundles.push(serde_json::from_slice(&sign(world, version, payload).await).expect("json"));
    }
    bundles.try_into().expect("two")
}

fn trust_of(world: &World) -> Trust {
    Trust::from_trusted_root(&get(world, "/sigstore/trusted_root.json")).expect("root")
}

pub(crate) fn get(world: &World, path: &str) -> Vec<u8> {
    let (status, body) = world.request("GET", path, None, &[], b"");
    assert_eq!(status, 200, "{path}");
    body
}

fn sigstore_token(world: &World) -> String {
    let path = "/local-issuer/github-actions/token/release?api-version=2.0&audience=sigstore";
    let (status, body) = world.request("GET", path, Some(&world.request_token("release")), &[], b"");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    answer["value"].as_str().expect("a token").to_owned()
}

fn ours(bundle: &[u8], trust: &Trust, identity: &Identity) -> Result<(), Refused> {
    let subject = subject();
    let expected = Expected { subject: &subject, predicate_type: Some(PROVENANCE), identity: Some(identity) };
    let verified = verify::bundle(bundle, trust, &expected)?;
    verify::provenance(&verified, &ExpectedBuild::default()).map(|_| ())
}

/// Returns what a peer accepts of the bundles in `folder`.
fn accepted(command: &mut Command) -> BTreeSet<String> {
    let output = command.output().expect("the peer starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let accepted = said.lines().filter_map(|line| line.strip_suffix("\taccepted"));
    accepted.map(str::to_owned).collect()
}

/// The folder of pinned libraries, which have no commands.
fn libraries(name: &str) -> PathBuf {
    let node = tool("node-24");
    let folder = node.ancestors().nth(2).expect("the tools").join(name);
    assert!(folder.is_dir(), "{name} is not installed: run `cargo xtask tools`");
    folder
}

#[test]
fn nothing_changed_is_accepted_and_the_others_do_what_the_page_says() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let issuer = format!("{}/local-issuer/github-actions", world.base());
    let identity = format!("{}/{WORKFLOW}", world.base());
    let stated: Identity =
        serde_json::from_value(json!({"issuer": issuer, "subject": identity})).expect("identity");
    let trust = trust_of(&world);
    let copies = world.path("work/copies");
    fs::create_dir(&copies).expect("folder");
    let mut wrong = Vec::new();
    for (version, name) in [(LogVersion::V1, "v1"), (LogVersion::V2, "v2")] {
        // The later one: a certificate of a second later would not be valid yet.
        let [other, good] = runtime.block_on(signed_twice(&world, version));
        let keep = |what: &str, bytes: &[u8]| {
            fs::write(copies.join(format!("{name} {what}")), bytes).expect("write");
        };
        keep("nothing changed", good.to_string().as_bytes());
        ours(good.to_string().as_bytes(), &trust, &stated).expect(name);
        for Change { name: what, check, change } in CHANGES {
            let mut bad = good.clone();
            if !change(&mut bad, &other) || bad == good {
                continue;
            }
            keep(what, bad.to_string().as_bytes());
            match ours(bad.to_string().as_bytes(), &trust, &stated) {
                Ok(()) => wrong.push(format!("{name} {what}: accepted")),
                Err(refused) if refused.check != *check => {
                    wrong.push(format!("{name} {what}: expected the check {check}, found {refused}"));
                }
                Err(_) => {}
            }
        }
        let text = good.to_string();
        keep("truncated", &text.as_bytes()[..text.len() / 2]);
        assert_eq!(
            ours(&text.as_bytes()[..text.len() / 2], &trust, &stated).expect_err("half").check,
            Check::Format
        );

        // The bundle as it is, and everything else wrong.
        let bytes = text.as_bytes();
        for (member, value) in [
            ("issuer", json!("https://token.actions.githubusercontent.com")),
            (
                "subject",
                json!(format!("{}/acme/core/.github/workflows/other.yml@refs/heads/main", world.base())),
            ),
            ("repository", json!(format!("{}/acme/other", world.base()))),
            ("ref", json!("refs/tags/*")),
        ] {
            let other = serde_json::from_value(json!({ member: value })).expect("identity");
            assert_eq!(ours(bytes, &trust, &other).expect_err(member).check, Check::Identity, "{member}");
        }
        let mut root: Value =
            serde_json::from_slice(&get(&world, "/sigstore/trusted_root.json")).expect("root");
        let own = root["tlogs"][0]["publicKey"]["rawBytes"].clone();
        let other = root["ctlogs"][0]["publicKey"]["rawBytes"].clone();
        assert_ne!(own, other);
        for log in root["tlogs"].as_array_mut().expect("logs") {
            log["publicKey"]["rawBytes"] = other.clone();
        }
        let wrong_key = Trust::from_trusted_root(root.to_string().as_bytes()).expect("root");
        assert_eq!(ours(bytes, &wrong_key, &stated).expect_err("another key").check, Check::Log);
        let public = Trust::public_good().expect("root");
        assert!(ours(bytes, &public, &stated).is_err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let config = world
        .write("config.json", &String::from_utf8_lossy(&get(&world, "/sigstore/client_trust_config.json")));
    let root =
        world.write("root.json", &String::from_utf8_lossy(&get(&world, "/sigstore/trusted_root.json")));
    let digest = Sha256::of(ARTIFACT).to_string();
    let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/end_to_end").join(name);
    let python = accepted(
        Command::new(tool("sigstore-python").join("python"))
            .arg(script("verdicts.py"))
            .args([&config, &copies])
            .args([&digest, &identity, &issuer]),
    );
    let js = accepted(
        Command::new(tool("node-24").join("node"))
            .arg(script("verdicts.mjs"))
            .args([&libraries("sigstore-js"), &root, &copies])
            .args([&digest, &identity, &issuer]),
    );
    let page = documented();
    assert_eq!(python, page.0, "what sigstore-python accepts, and docs/verifying.md");
    assert_eq!(js, page.1, "what sigstore-js accepts, and docs/verifying.md");
}

/// Every member of every statement that a publish and its registry sign, changed in turn.
#[test]
fn no_member_of_a_signed_statement_can_be_changed() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.2.3");
    world.cli_in(&folder, &["publish", "--out", "../built"]).succeeded();
    let tarball = fs::read(world.path("work/built/acme-core-1.2.3.tgz")).expect("tarball");
    let (name, version) = ("@acme/core".parse().expect("name"), "1.2.3".parse().expect("version"));
    let subject = Subject::npm(&name, &version, &Sha256::of(&tarball), &Integrity::of(&tarball));
    let token = world.npm_token("release", "@acme/core", "install");
    let read = |path: &str| -> Value {
        let (status, body) =
            world.request("GET", &format!("/repository/npm-hosted/{path}"), Some(&token), &[], b"");
        assert_eq!(status, 200, "{path}");
        serde_json::from_slice(&body).expect("JSON")
    };
    let key = read("-/npm/v1/keys");
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        key["keys"][0]["key"].as_str().expect("key")
    );
    let id = key["keys"][0]["keyid"].as_str().map(str::to_owned);
    let trust = trust_of(&world).with_key(&pem, id).expect("key");
    let by_key = Trust::from_public_key(&pem).expect("key");
    let served = read("-/protected-registry/v1/attestations/@acme%2fcore@1.2.3");
    let mut bundles: Vec<Value> =
        served["attestations"].as_array().expect("list").iter().map(|it| it["bundle"].clone()).collect();
    for name in ["sbom.cdx", "sbom.spdx"] {
        let file = world.path(&format!("work/built/evidence/{name}.sigstore.json"));
        bundles.push(serde_json::from_slice(&fs::read(file).expect("bundle")).expect("JSON"));
    }
    let expected = Expected { subject: &subject, predicate_type: None, identity: None };
    let ask = |bundle: &Value| {
        let is_logged = bundle.pointer(ENTRY).is_some();
        let trust = if is_logged { &trust } else { &by_key };
        verify::bundle(bundle.to_string().as_bytes(), trust, &expected)
    };
    let (mut kinds, mut wrong) = (BTreeSet::new(), Vec::new());
    for good in &bundles {
        let statement = ask(good).expect("as it was signed").statement.expect("a statement");
        kinds.insert(statement.predicate_type.clone());
        let payload =
            STANDARD.decode(good["dsseEnvelope"]["payload"].as_str().expect("text")).expect("base64");
        let said: Value = serde_json::from_slice(&payload).expect("JSON");
        for (pointer, lie) in lies(&said) {
            let mut bad_statement = said.clone();
            *bad_statement.pointer_mut(&pointer).expect("leaf") = lie.clone();
            let mut bad = good.clone();
            bad["dsseEnvelope"]["payload"] = STANDARD.encode(bad_statement.to_string()).into();
            match ask(&bad) {
                Ok(_) => wrong.push(format!("{pointer} = {lie}: accepted")),
                Err(refused) if refused.check == Check::Signature => {}
                Err(refused) => wrong.push(format!("{pointer} = {lie}: {refused}")),
            }
        }
    }
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Another value of its own kind for every member of a document that is no container: a digest stays a digest.
pub(crate) fn lies(document: &Value) -> Vec<(String, Value)> {
    fn walk(value: &Value, at: String, into: &mut Vec<(String, Value)>) {
        let lie = match value {
            Value::Object(members) => {
                return members.iter().for_each(|(name, member)| {
                    walk(member, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), into);
                });
            }
            Value::Array(items) => {
                return items
                    .iter()
                    .enumerate()
                    .for_each(|(index, it)| walk(it, format!("{at}/{index}"), into));
            }
            Value::Null => json!("anything"),
            Value::Bool(is) => json!(!is),
            Value::Number(number) => json!(number.as_u64().expect("a whole number") + 1),
            Value::String(text) => {
                let mut chars: Vec<char> = text.chars().collect();
                match chars.last_mut() {
                    Some(last) => *last = if *last == '1' { '2' } else { '1' },
                    None => chars.push('1'),
                }
                json!(chars.into_iter().collect::<String>())
            }
        };
        into.push((at, lie));
    }
    let mut all = Vec::new();
    walk(document, String::new(), &mut all);
    all
}

/// A certificate of an authority that is trusted, for whose ten minutes somebody kept its key: what it signs after them
/// or dates before them is not believed. The authority is one of this test's own, the timestamps are the service's.
#[test]
fn a_certificate_counts_only_while_it_is_valid() {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};

    let world = World::new();
    let ca_key = KeyPair::generate().expect("key");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name.push(rcgen::DnType::CommonName, "an authority of a test");
    let ca_certificate = ca.self_signed(&ca_key).expect("certificate");
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);

    // Trusted: this authority, and the service's timestamps; no log is asked for.
    let mut root: Value = serde_json::from_slice(&get(&world, "/sigstore/trusted_root.json")).expect("root");
    root["tlogs"] = json!([]);
    root["ctlogs"] = json!([]);
    root["certificateAuthorities"] = json!([{
        "subject": {"organization": "test", "commonName": "test"},
        "uri": "https://fulcio.example",
        "certChain": {"certificates": [{"rawBytes": STANDARD.encode(ca_certificate.der())}]},
        "validFor": {"start": "2000-01-01T00:00:00Z"},
    }]);
    let trust = Trust::from_trusted_root(root.to_string().as_bytes()).expect("root");
    let payload = Statement::new(subject(), PROVENANCE, json!({})).to_json().expect("JSON");
    let head = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len());
    let message = world.path("tmp/message");
    fs::write(&message, [head.as_bytes(), &payload].concat()).expect("write");
    let subject = subject();
    let expected = Expected { subject: &subject, predicate_type: Some(PROVENANCE), identity: None };
    for (years, is_valid) in [((2000, 2100), true), ((2020, 2021), false), ((2099, 2100), false)] {
        let key = KeyPair::generate().expect("key");
        let mut leaf = CertificateParams::default();
        leaf.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        leaf.subject_alt_names = vec![SanType::URI("https://ci.example/run".try_into().expect("URI"))];
        let certificate = leaf.signed_by(&key, &issuer).expect("certificate");
        let key_file = world.path("tmp/leaf.pem");
        fs::write(&key_file, key.serialize_pem()).expect("write");
        let signed = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .args([&key_file, &message])
            .output()
            .expect("openssl");
        assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        let digest = hex::decode(Sha256::of(&signed.stdout).to_string()).expect("hex");
        let asked = json!({"artifactHash": STANDARD.encode(digest), "hashAlgorithm": "sha256"}).to_string();
        let headers = [("content-type", "application/json")];
        let (status, time) =
            world.request("POST", "/sigstore/api/v1/timestamp", None, &headers, asked.as_bytes());
        assert_eq!(status, 201);
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": STANDARD.encode(certificate.der())},
                "timestampVerificationData":
                    {"rfc3161Timestamps": [{"signedTimestamp": STANDARD.encode(time)}]},
            },
            "dsseEnvelope": {
                "payload": STANDARD.encode(&payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": STANDARD.encode(&signed.stdout)}],
            },
        });
        let result = verify::bundle(bundle.to_string().as_bytes(), &trust, &expected);
        match result {
            Ok(_) => assert!(is_valid, "{years:?} is accepted"),
            Err(refused) => {
                assert!(!is_valid, "{years:?}: {refused}");
                assert_eq!(refused.check, Check::Certificate, "{years:?}: {refused}");
                assert!(refused.expected.contains("valid when the signature was made"), "{refused}");
            }
        }
    }
}

/// Reads the table of docs/verifying.md: what sigstore-python accepts, and what sigstore-js does.
fn documented() -> (BTreeSet<String>, BTreeSet<String>) {
    let page = fs::read_to_string(DOCS).expect("docs/verifying.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| what was changed |")).skip(2);
    let (mut python, mut js) = (BTreeSet::new(), BTreeSet::new());
    for name in ["v1 nothing changed", "v2 nothing changed"] {
        python.insert(name.to_owned());
        js.insert(name.to_owned());
    }
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        for (cell, accepted) in [(cells[2], &mut python), (cells[3], &mut js)] {
            for version in ["v1", "v2"] {
                if cell.split(", ").any(|it| it == version) {
                    accepted.insert(format!("{version} {}", cells[0]));
                }
            }
        }
    }
    (python, js)
}
