//! Deliveries that lie in a delivery area and are opened from there, each kind of area with a peer that nobody here
//! wrote, and a proxy before it that looks on and breaks what it is told to.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use tokio::runtime::Runtime;

use crate::{
    deliver::{content, customer, deliver, key, large, nothing_left, open, read_json, small, vendor},
    harness::{Screen, Setup, World, files},
    proxy::{Exchange, Fault, Proxy},
    raw,
};

#[expect(dead_code, reason = "the tests of the areas use more of it")]
#[path = "../../crates/storage/tests/storage/peers.rs"]
mod peers;

use peers::{
    ACCOUNT, GCS_TOKEN, HASH, Peer, account_key, azurite, free_port, make_container, moto, moto_after,
    registry, registry_at,
};

/// How a program reaches an area: what it is called, and the variables that it is given.
type Reach = (String, Vec<(&'static str, String)>);

/// A store with the proxy before it, and what about it is its own.
struct Store {
    wire: Proxy,
    reach: Box<dyn Fn(SocketAddr) -> Reach>,
    /// The same area by a name that nothing has, where areas are made by somebody.
    missing: Option<&'static str>,
    /// What stands between the area and the name of a delivery.
    between: &'static str,
    /// Another credential, which is refused with these words.
    wrong: (&'static str, String),
    refused: &'static [&'static str],
    /// What no screen may repeat.
    secrets: Vec<String>,
    /// The request that lets a delivery be found: its method, and what is only in its address.
    last: (&'static str, &'static str),
    /// The method of requests that show a credential; all of them do where there is none.
    shows: &'static str,
    _peers: Vec<Peer>,
    _folder: Option<tempfile::TempDir>,
    /// What stands before a peer runs on it.
    _runtime: Arc<Runtime>,
}

const BUNDLE: &str = "core-1.0.0-globex";

impl Store {
    /// Amazon S3, which looks at every signature.
    fn s3() -> Self {
        let runtime = Arc::new(Runtime::new().expect("runtime"));
        // The bucket, the user, its key and what it may.
        let peer = runtime.block_on(moto_after("4"));
        let ask = |service: &str, method: &str, path: &str, body: &str| {
            let scope = format!("AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/{service}/aws4_request");
            let headers = [
                ("authorization", scope.as_str()),
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ];
            let (status, _, answer) =
                raw::request(peer.address, method, path, None, &headers, body.as_bytes());
            let answer = String::from_utf8(answer).expect("text");
            assert_eq!(status, 200, "{answer}");
            answer
        };
        ask("s3", "PUT", "/acme-deliveries", "");
        let iam = |action: &str| {
            ask("iam", "POST", "/", &format!("Version=2010-05-08&UserName=ci&Action={action}"))
        };
        iam("CreateUser");
        let made = iam("CreateAccessKey");
        let within = |name: &str| {
            let (_, rest) = made.split_once(&format!("<{name}>")).expect(name);
            rest.split_once('<').expect(name).0.to_owned()
        };
        let (id, secret) = (within("AccessKeyId"), within("SecretAccessKey"));
        let allowed = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22s3%3A*%22%2C%22Resource%22%3A%22*%22%7D%5D%7D";
        iam(&format!("PutUserPolicy&PolicyName=s3&PolicyDocument={allowed}"));
        let (address, wrong) = (peer.address, secret.chars().rev().collect::<String>());
        let secrets = vec![secret.clone(), wrong.clone()];
        Self::before(runtime, address, vec![peer], None)
            .named("s3://acme-deliveries/core", Some("s3://acme-missing/core"))
            .told(move |address| {
                vec![
                    ("AWS_ENDPOINT_URL", format!("http://{address}")),
                    ("AWS_REGION", "us-east-1".to_owned()),
                    ("AWS_ACCESS_KEY_ID", id.clone()),
                    ("AWS_SECRET_ACCESS_KEY", secret.clone()),
                ]
            })
            .refusing(
                ("AWS_SECRET_ACCESS_KEY", wrong),
                &["was answered 403, SignatureDoesNotMatch: ", "let these credentials read and write"],
                secrets,
            )
    }

    /// Google Cloud Storage, as its stand-in has it.
    fn gcs() -> Self {
        let runtime = Arc::new(Runtime::new().expect("runtime"));
        let peer = runtime.block_on(moto());
        let (status, ..) = raw::request(peer.address, "PUT", "/acme-deliveries", None, &[], b"");
        assert_eq!(status, 200);
        let address = runtime.block_on(peers::gcs(peer.address));
        Self::before(runtime, address, vec![peer], None)
            .named("gs://acme-deliveries/core", Some("gs://acme-missing/core"))
            .told(|address| {
                vec![
                    ("STORAGE_EMULATOR_HOST", address.to_string()),
                    ("CLOUDSDK_AUTH_ACCESS_TOKEN", GCS_TOKEN.to_owned()),
                ]
            })
            .refusing(
                ("CLOUDSDK_AUTH_ACCESS_TOKEN", "ya29.hunter3".to_owned()),
                &["was answered 401", "let these credentials read and write"],
                vec![GCS_TOKEN.to_owned(), "ya29.hunter3".to_owned()],
            )
    }

    /// Azure Blob Storage.
    fn azure() -> Self {
        let runtime = Arc::new(Runtime::new().expect("runtime"));
        let peer = runtime.block_on(azurite());
        runtime.block_on(make_container(&peer, "deliveries"));
        let wrong = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI=".to_owned();
        Self::before(runtime, peer.address, vec![peer], None)
            .named("az://acmestorage/deliveries/core", Some("az://acmestorage/missing/core"))
            .told(|address| {
                vec![
                    ("AZURE_STORAGE_SERVICE_ENDPOINT", format!("http://{address}/{ACCOUNT}")),
                    ("AZURE_STORAGE_KEY", account_key()),
                ]
            })
            .refusing(
                ("AZURE_STORAGE_KEY", wrong.clone()),
                &["was answered 403, AuthorizationFailure: ", "let these credentials read and write"],
                vec![account_key(), wrong],
            )
    }

    /// Debian's registry.
    fn oci() -> Self {
        let runtime = Arc::new(Runtime::new().expect("runtime"));
        let (peer, folder) = runtime.block_on(registry(Some(HASH)));
        let mut store = Self::before(runtime, peer.address, vec![peer], Some(folder)).refusing(
            ("PROTECTED_REGISTRY_OCI_PASSWORD", "hunter3".to_owned()),
            &["was answered 401, UNAUTHORIZED: ", "log in with `docker login`, or set"],
            vec!["hunter2".to_owned(), "hunter3".to_owned()],
        );
        store.reach = Box::new(|address| {
            let variables = vec![
                ("PROTECTED_REGISTRY_OCI_HOST", address.to_string()),
                ("PROTECTED_REGISTRY_OCI_USERNAME", "ci".to_owned()),
                ("PROTECTED_REGISTRY_OCI_PASSWORD", "hunter2".to_owned()),
            ];
            (format!("oci://{address}/acme/core"), variables)
        });
        store.between = ":";
        store.last = ("PUT", "/manifests/core-1.0.0-globex");
        // A registry is asked without one first, and says then that it wants one.
        store.shows = "POST";
        store
    }

    fn before(
        runtime: Arc<Runtime>,
        to: SocketAddr,
        peers: Vec<Peer>,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        let wire = Proxy::start();
        wire.forward_to(to);
        Self {
            wire,
            reach: Box::new(|_| (String::new(), Vec::new())),
            missing: None,
            between: "/",
            wrong: ("", String::new()),
            refused: &[],
            secrets: Vec::new(),
            last: ("PUT", "index"),
            shows: "",
            _peers: peers,
            _folder: folder,
            _runtime: runtime,
        }
    }

    fn named(mut self, area: &'static str, missing: Option<&'static str>) -> Self {
        self.missing = missing;
        self.reach = Box::new(move |_| (area.to_owned(), Vec::new()));
        self
    }

    fn told(mut self, variables: impl Fn(SocketAddr) -> Vec<(&'static str, String)> + 'static) -> Self {
        let area = (self.reach)(self.wire.address).0;
        self.reach = Box::new(move |address| (area.clone(), variables(address)));
        self
    }

    fn refusing(
        mut self,
        wrong: (&'static str, String),
        refused: &'static [&'static str],
        secrets: Vec<String>,
    ) -> Self {
        (self.wrong, self.refused, self.secrets) = (wrong, refused, secrets);
        self
    }

    fn area(&self) -> String {
        (self.reach)(self.wire.address).0
    }

    /// Returns what names the delivery in the area.
    fn uri(&self) -> String {
        format!("{}{}{BUNDLE}", self.area(), self.between)
    }

    /// Returns the command with the variables of the area.
    fn with(&self, mut command: Command) -> Command {
        command.envs((self.reach)(self.wire.address).1);
        command
    }

    /// Counts the requests that wrote something, from this one on. What was there already is refused, and is none.
    fn written_since(&self, first: usize) -> usize {
        let wrote = |exchange: &Exchange| {
            let writes =
                ["PUT ", "POST", "PATC"].iter().any(|it| exchange.request.starts_with(it.as_bytes()));
            writes && exchange.answer.starts_with(b"HTTP/1.1 2")
        };
        self.wire.exchanges()[first..].iter().filter(|exchange| wrote(exchange)).count()
    }
}

/// A delivery of a small build to an area, and its customer's commands.
struct Delivery<'a> {
    world: &'a World,
    store: &'a Store,
    built: PathBuf,
}

impl<'a> Delivery<'a> {
    fn of(world: &'a World, store: &'a Store) -> Self {
        key(world, "keys", "globex", "00");
        Self { world, store, built: small(world) }
    }

    fn command(&self, to: &str, out: &str) -> Command {
        let more = ["--bundle-id", BUNDLE, "--to", to];
        self.store.with(deliver(self.world, &self.built, out, &more))
    }

    fn deliver(&self) -> Screen {
        self.run(self.command(&self.store.area(), "sealed"))
    }

    fn open(&self, place: &str, out: &str) -> Screen {
        self.run(self.store.with(customer(self.world, "keys", &["open-bundle", place, "--out", out])))
    }

    /// Runs a command, and looks for secrets on its screen.
    fn run(&self, command: Command) -> Screen {
        let screen = self.world.run(command);
        for secret in &self.store.secrets {
            assert!(!format!("{screen}").contains(secret), "{secret}\n{screen}");
        }
        screen
    }

    fn same(&self, opened: &str) {
        let opened = self.world.path("work").join(opened);
        let mut seen = 0;
        for file in files(&opened) {
            let original = self.built.join(file.strip_prefix(&opened).expect("below"));
            assert_eq!(
                fs::read(&file).expect("read"),
                fs::read(original).expect("read"),
                "{}",
                file.display()
            );
            seen += 1;
        }
        assert!(seen > 4, "{seen} files");
    }
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address")
}

/// A server that says whether it was asked.
fn thief() -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    thread::spawn(move || {
        for _ in listener.incoming() {
            seen.store(true, Ordering::SeqCst);
        }
    });
    (address, asked)
}

/// What holds for every area that is a service.
fn holds(store: &Store) {
    let world = World::new();
    let delivery = Delivery::of(&world, store);
    key(&world, "keys", "new", "ff");

    // Nothing answers; nothing has that name; who asks is another; and a redirect is not followed.
    let (area, away) = (store.reach)(nobody());
    let mut command = delivery.command(&area, "sealed");
    command.envs(away);
    delivery.run(command).failed(5, &["storing the delivery", "the same command again goes on from there"]);
    if let Some(missing) = store.missing {
        delivery
            .run(delivery.command(missing, "sealed"))
            .failed(2, &[&format!("`{missing}` is not there"), "create it, or check its name"]);
    }
    let (name, wrong) = &store.wrong;
    let mut command = delivery.command(&store.area(), "sealed");
    command.env(name, wrong);
    delivery.run(command).failed(4, store.refused);
    let (address, asked) = thief();
    let redirect =
        format!("HTTP/1.1 307 Elsewhere\r\nlocation: http://{address}/\r\ncontent-length: 0\r\n\r\n");
    let redirect: &'static [u8] = redirect.leak().as_bytes();
    let shows = store.shows;
    store.wire.decide(
        move |method, _, _| {
            if method.starts_with(shows) { Fault::Say(redirect) } else { Fault::None }
        },
    );
    delivery.deliver().failed(1, &["a credential is not carried along"]);
    if shows.is_empty() {
        delivery.open(&store.uri(), "opened").failed(1, &["a credential is not carried along"]);
    }
    assert!(!asked.load(Ordering::SeqCst), "the redirect was followed");

    // All but the last request goes through: nobody finds it, and nothing is on record.
    let (method, target) = store.last;
    let is_last = move |asked: &str, at: &str| asked == method && at.contains(target);
    store.wire.decide(move |method, target, _| {
        let no = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
        if is_last(method, target) { Fault::Say(no) } else { Fault::None }
    });
    delivery.deliver().failed(4, &["was answered 403", "the same command again goes on from there"]);
    assert_eq!(world.count("bundle.create", "allow", None), 0);
    delivery.open(&store.uri(), "opened").failed(2, &[&format!("there is no delivery `{}`", store.uri())]);
    nothing_left(&world, "opened");
    store.wire.decide(|_, _, _| Fault::None);
    let before = store.wire.exchanges().len();
    let screen = delivery.deliver();
    screen.succeeded();
    assert!(screen.stderr.contains("store     1 files"), "{screen}");
    assert_eq!(store.written_since(before), 1, "what was there was sent again");
    let before = store.wire.exchanges().len();
    let screen = delivery.deliver();
    assert!(screen.succeeded().stderr.contains("store     there already"), "{screen}");
    assert_eq!(store.written_since(before), 0);

    // It is on record, with where it lies and no credential.
    let manifest = read_json(&world.path("work/sealed/delivery-manifest.json"));
    let digest = manifest["bundle"]["sha256"].as_str().expect("digest").to_owned();
    let pinned = match store.between {
        ":" => format!("{}@sha256:{digest}", store.area()),
        _ => store.uri(),
    };
    assert_eq!(manifest["bundle"]["uri"], pinned);
    let recorded = world.operator_get(&format!("/v1/packages/delivery/bundles/{BUNDLE}"));
    assert_eq!(recorded["manifest"], manifest);
    assert_eq!(world.count("bundle.create", "allow", None), 1);
    let submit = ["submit-bundle", "--manifest", "sealed/delivery-manifest.json"];
    delivery.run(vendor(&world, &submit)).succeeded();
    delivery.run(customer(&world, "nobody", &["verify", "sealed"])).succeeded();

    // Its customer opens it by its address, or by its manifest alone.
    delivery.open(&store.uri(), "opened").succeeded();
    delivery.same("opened");
    let mailed = world.write("mail/manifest.json", "");
    fs::copy(world.path("work/sealed/delivery-manifest.json"), mailed).expect("copy");
    delivery.open("mail/manifest.json", "opened-by-manifest").succeeded();
    delivery.same("opened-by-manifest");
    let mut command = store.with(customer(&world, "keys", &["open-bundle", &store.uri(), "--out", "no"]));
    command.env(name, wrong);
    delivery.run(command).failed(4, store.refused);

    // One bit of what comes back is another.
    let sealed = content(&world.path("work/sealed/bundle"));
    let sealed = sealed.file_name().and_then(|name| name.to_str()).expect("name").to_owned();
    let is_content = sealed.clone();
    store.wire.change(move |target, body| {
        let mut body = body.to_vec();
        let middle = body.len() / 2;
        *body.get_mut(middle).filter(|_| target.contains(&is_content))? ^= 1;
        Some(body)
    });
    for place in [&store.uri(), "mail/manifest.json"] {
        delivery
            .open(place, "no")
            .failed(7, &["is not used", &sealed, "what lies there was changed or cut off"]);
        nothing_left(&world, "no");
    }
    store.wire.change(|_, _| None);

    // The name is taken.
    let before = store.wire.exchanges().len();
    delivery
        .run(delivery.command(&store.area(), "other"))
        .failed(6, &["is another delivery", &digest, "give the delivery a bundle id of its own"]);
    assert_eq!(store.written_since(before), 0);
    assert_eq!(world.count("bundle.create", "allow", None), 1);

    // Wrapped anew where it lies: the keys are others, and the content is not touched.
    let before = store.wire.exchanges().len();
    let by_hand = ["--sign", "off", "--accept-unproven"];
    let rewrap = ["rewrap", &store.uri(), "--key-ref", "local-file://new"];
    let rewrap = customer(&world, "keys", &[&rewrap[..], &by_hand].concat());
    let screen = delivery.run(store.with(rewrap));
    let unchanged = format!("content   unchanged: sha256:{digest}");
    assert!(screen.succeeded().stderr.contains(&unchanged), "{screen}");
    assert!(store.written_since(before) > 0);
    let exchanges = store.wire.exchanges();
    let sent = exchanges[before..].iter().map(|it| String::from_utf8_lossy(&it.request).into_owned());
    assert_eq!(sent.filter(|it| it.contains(&sealed) && !it.starts_with("GET ")).count(), 0);
    fs::remove_file(world.path("keys/globex.key")).expect("remove");
    delivery.open(&store.uri(), "opened-anew").succeeded();
    delivery.same("opened-anew");
    delivery.open("mail/manifest.json", "opened-anew-by-manifest").succeeded();
    // Named by its manifest, that has the new wrapping, and the record follows.
    let rewrap = customer(&world, "keys", &["rewrap", "mail/manifest.json", "--key-ref", "local-file://new"]);
    let screen = delivery.run(store.with(rewrap));
    assert!(screen.succeeded().stderr.contains("manifest  has the new wrapping"), "{screen}");
    let mailed = read_json(&world.path("work/mail/manifest.json"));
    assert_eq!(mailed["key_ref"], "local-file://new");
    delivery.run(vendor(&world, &["submit-bundle", "--manifest", "mail/manifest.json"])).succeeded();
    let recorded = world.operator_get(&format!("/v1/packages/delivery/bundles/{BUNDLE}"));
    assert_eq!(recorded["manifest"], mailed);
    // What was sealed at first does not take the place of the newer keys.
    key(&world, "keys", "globex", "00");
    delivery.deliver().failed(6, &["has the keys sha256:"]);
    assert_eq!(read_json(&world.path("work/sealed/delivery-manifest.json")), manifest);
    no_secret(&world, &store.secrets);
}

/// No credential of an area stands in a file.
fn no_secret(world: &World, secrets: &[String]) {
    for file in files(&world.path("")) {
        let bytes = fs::read(&file).expect("read");
        let text = String::from_utf8_lossy(&bytes);
        for secret in secrets {
            assert!(!text.contains(secret.as_str()), "{secret} in {}", file.display());
        }
    }
}

#[test]
fn a_delivery_lies_in_s3() {
    holds(&Store::s3());
}

#[test]
fn a_delivery_lies_in_google_cloud_storage() {
    holds(&Store::gcs());
}

#[test]
fn a_delivery_lies_in_azure() {
    holds(&Store::azure());
}

#[test]
fn a_delivery_lies_in_a_registry() {
    holds(&Store::oci());
}

/// Attack: the name is moved to another delivery while this one is fetched, so that parts of two are put together.
#[test]
fn a_tag_that_moves_meanwhile_moves_nothing() {
    let store = Store::oci();
    let world = World::new();
    let delivery = Delivery::of(&world, &store);
    delivery.deliver().succeeded();
    let more = ["--bundle-id", "other", "--to", &store.area()];
    delivery.run(store.with(deliver(&world, &delivery.built, "other", &more))).succeeded();
    let registry = store._peers[0].address;
    let manifest = move |name: &'static str| {
        let basic = ("authorization", "Basic Y2k6aHVudGVyMg==");
        let accept = ("accept", "application/vnd.oci.image.manifest.v1+json");
        let path = format!("/v2/acme/core/manifests/{name}");
        move |method: &str, body: &[u8]| {
            let headers = [basic, accept, ("content-type", accept.1)];
            let (status, _, body) = raw::request(registry, method, &path, None, &headers, body);
            assert!([200, 201].contains(&status), "{status}");
            body
        }
    };
    let (mine, other) = (manifest(BUNDLE)("GET", b""), manifest("other")("GET", b""));
    assert_ne!(mine, other);
    let before = store.wire.exchanges().len();
    store.wire.decide(move |_, target, _| {
        if target.contains("/blobs/") {
            manifest(BUNDLE)("PUT", &other);
        }
        Fault::None
    });
    delivery.open(&store.uri(), "opened").succeeded();
    delivery.same("opened");
    store.wire.decide(|_, _, _| Fault::None);
    let digest = read_json(&world.path("work/sealed/delivery-manifest.json"))["bundle"]["sha256"].clone();
    let digest = digest.as_str().expect("digest");
    let named = store.wire.exchanges()[before..]
        .iter()
        .filter(|it| String::from_utf8_lossy(&it.request).contains(&format!("/manifests/{BUNDLE} ")))
        .count();
    // Without a credential first, and with it.
    assert_eq!(named, 2, "the tag is read once");
    // Whoever has the manifest gets what it names, whatever the tag says now.
    delivery.open("sealed/delivery-manifest.json", "opened-pinned").succeeded();
    let other = read_json(&world.path("work/other/delivery-manifest.json"))["bundle"]["sha256"].clone();
    assert_ne!(other, digest);
    delivery
        .open(&store.uri(), "opened-other")
        .failed(7, &[&format!("it is the delivery `other`, not `{BUNDLE}`")]);
    nothing_left(&world, "opened-other");
}

/// A registry may keep its blobs elsewhere: they are fetched from there, and the credential stays behind.
#[test]
fn a_credential_stays_behind_where_a_registry_sends_its_clients_elsewhere() {
    let store = Store::oci();
    let world = World::new();
    let delivery = Delivery::of(&world, &store);
    delivery.deliver().succeeded();
    let sealed = content(&world.path("work/sealed/bundle"));
    let name = sealed.file_name().and_then(|name| name.to_str()).expect("name").to_owned();
    let elsewhere = Proxy::start();
    let bytes = fs::read(&sealed).expect("read");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
    let answer: &'static [u8] = [head.as_bytes(), &bytes].concat().leak();
    elsewhere.decide(move |_, _, _| Fault::Say(answer));
    let to = format!(
        "HTTP/1.1 307 Elsewhere\r\nlocation: http://{}/blob?signature=a\r\ncontent-length: 0\r\n\r\n",
        elsewhere.address
    );
    let to: &'static [u8] = to.leak().as_bytes();
    store.wire.decide(move |_, target, _| if target.contains(&name) { Fault::Say(to) } else { Fault::None });
    delivery.open(&store.uri(), "opened").succeeded();
    delivery.same("opened");
    let asked = elsewhere.exchanges();
    assert!(!asked.is_empty());
    for exchange in asked {
        let request = String::from_utf8_lossy(&exchange.request).to_ascii_lowercase();
        assert!(
            request.starts_with("get /blob?signature=a ") && !request.contains("authorization"),
            "{request}"
        );
    }
}

/// A repository of the customer's.
const HERS: &str = "acme/example/globex/core";

/// A Docker registry that trusts the tokens of the world's FractalOps, and calls itself by its address.
struct Trusting {
    world: World,
    address: String,
    _peer: Peer,
    _runtime: Runtime,
}

impl Trusting {
    fn start(limits: &'static str) -> Self {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let customer = |name: &str, more: &str| {
            format!(
                "[[customer]]\nid = \"{name}\"\ntenant_id = \"acme\"\nissuer = \"local:generic\"\ngroup = \"{name}\"\n\
                 [[oci_licence]]\nid = \"{name}-2026\"\nplan = \"globex\"\nholders = [\"{name}\"]\n{more}\n\
                 [[local_issuer.run]]\nname = \"{name}\"\nplatform = \"generic\"\nclaims = {{ sub = \"{name}\", groups = [\"{name}\"] }}\n"
            )
        };
        let plan = |id: &str, below: &str, actions: &str| {
            format!(
                "[[oci_plan]]\nid = \"{id}\"\ntenant_id = \"acme\"\nproject_slug = \"example\"\n\
                 repositories = [{{ below = \"{below}\", actions = [{actions}] }}]\n"
            )
        };
        let more = [
            format!("[oci]\nservice = \"{address}\"\nrevoked_licences = [\"umbrella-2026\"]\n"),
            "[[issuer]]\nurl = \"local:generic\"\nplatform = \"generic\"\npeople = true\n".to_owned(),
            plan("release", "acme/example", "\"pull\", \"push\""),
            plan("globex", "acme/example/globex", "\"pull\""),
            "[[oci_licence]]\nid = \"release\"\nplan = \"release\"\nholders = [\"release\"]\n".to_owned(),
            customer("globex", ""),
            customer("umbrella", ""),
            customer("initech", "until = \"2026-01-01T00:00:00Z\"\n"),
        ];
        let world = World::with(Setup { more: more.concat(), limits, ..Setup::default() });
        let (status, root) = world.request("GET", "/.well-known/oci-root.pem", None, &[], b"");
        assert_eq!(status, 200);
        let root_file = world.path("server/root.pem");
        fs::write(&root_file, root).expect("write");
        let auth = format!(
            "token:\n    realm: {base}/token\n    service: {address}\n    issuer: {base}\n    rootcertbundle: {}\n",
            root_file.display(),
            base = world.base()
        );
        let runtime = Runtime::new().expect("runtime");
        let folder = world.path("registry");
        fs::create_dir(&folder).expect("folder");
        let peer = runtime.block_on(registry_at(port, &folder, Some(auth)));
        Self { world, address, _peer: peer, _runtime: runtime }
    }

    fn area(&self, repository: &str) -> String {
        format!("oci://{}/{repository}", self.address)
    }

    /// Runs a command of somebody who logs in to the registry with a token of FractalOps'.
    fn with(&self, mut command: Command, token: &str) -> Screen {
        command
            .env("PROTECTED_REGISTRY_OCI_HOST", &self.address)
            .env("PROTECTED_REGISTRY_OCI_USERNAME", "fractalops")
            .env("PROTECTED_REGISTRY_OCI_PASSWORD", token);
        self.world.run(command)
    }

    fn open(&self, who: &str, repository: &str, out: &str) -> Screen {
        let place = format!("{}:{BUNDLE}", self.area(repository));
        let command = customer(&self.world, "keys", &["open-bundle", &place, "--out", out]);
        self.with(command, &self.world.id_token(who, "generic"))
    }
}

#[test]
fn a_job_delivers_to_a_registry_with_no_credential_and_its_customer_opens() {
    // Sessions live for a second, and half a minute of leeway.
    let trusting = Trusting::start("session_seconds = 1\n");
    let world = &trusting.world;
    let (old, since) = (world.session("release"), Instant::now());
    key(world, "keys", "globex", "00");
    key(world, "keys", "new", "ff");
    let built = small(world);
    let to = |area: &str, out: &str| deliver(world, &built, out, &["--bundle-id", BUNDLE, "--to", area]);
    world.run(to(&trusting.area(HERS), "sealed")).succeeded();
    let mints = || {
        let events = world.audit();
        events.into_iter().filter(|event| event["action"] == "oci_token.mint").collect::<Vec<_>>()
    };
    let minted = mints();
    assert_eq!(minted.len(), 1, "{minted:?}");
    assert_eq!((&minted[0]["decision"], &minted[0]["policy_id"]), (&"allow".into(), &"release".into()));
    // Somebody's session of their own, as a password.
    world.run(to(&trusting.area(HERS), "sealed")).succeeded();
    trusting.with(to(&trusting.area(HERS), "sealed"), &world.session("release")).succeeded();

    trusting.open("globex", HERS, "opened").succeeded();
    assert!(world.path("work/opened/acme-core-1.0.0.tgz").is_file());
    // It pulls, and no more: new keys are not stored.
    let place = format!("{}:{BUNDLE}", trusting.area(HERS));
    let rewrap = ["rewrap", &place, "--key-ref", "local-file://new", "--sign", "off", "--accept-unproven"];
    let rewrap = customer(world, "keys", &rewrap);
    trusting.with(rewrap, &world.id_token("globex", "generic")).failed(
        4,
        &["does not let these credentials `pull,push`", "have whoever runs the registry allow it"],
    );
    trusting.open("globex", HERS, "opened-again").succeeded();

    // Other projects, and names that share letters with what is allowed.
    for repository in [
        "acme/other/globex",
        "rival/example/globex",
        "acme/example2/globex",
        "acme/example-evil/globex",
        "evil/acme/example/globex",
        "example/globex",
        "acme/example",
    ] {
        let area = trusting.area(repository);
        world
            .run(to(&area, "refused"))
            .failed(4, &[&format!("`{area}` does not let these credentials `pull,push`"), "check the name"]);
        let last = mints().pop().expect("an event");
        assert_eq!((&last["decision"], &last["code"]), (&"deny".into(), &"action_denied".into()), "{last}");
    }
    for repository in ["acme/example/globex2", "acme/example", "acme/example/globe"] {
        trusting
            .open("globex", repository, "refused-too")
            .failed(4, &["does not let these credentials `pull`"]);
    }
    trusting
        .open("umbrella", HERS, "refused-too")
        .failed(4, &["was answered 401, DENIED: licence `umbrella-2026` was revoked"]);
    trusting
        .open("initech", HERS, "refused-too")
        .failed(4, &["was answered 401, DENIED: licence `initech-2026` ended at 2026-01-01T00:00:00Z"]);
    let command = customer(world, "keys", &["open-bundle", &place, "--out", "refused-too"]);
    world
        .run(command)
        .failed(4, &["was answered 401, UNAUTHORIZED: no credential; log in with a FractalOps"]);
    let session = world.session("release");
    let form = format!("token={session}");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(world.request("POST", "/v1/oauth/revoke", None, &headers, form.as_bytes()).0, 200);
    let command = customer(world, "keys", &["open-bundle", &place, "--out", "refused-too"]);
    trusting.with(command, &session).failed(4, &["UNAUTHORIZED: the token was revoked"]);
    thread::sleep(Duration::from_secs(32).saturating_sub(since.elapsed()));
    let command = customer(world, "keys", &["open-bundle", &place, "--out", "refused-too"]);
    trusting.with(command, &old).failed(4, &["UNAUTHORIZED: the token is refused: the token has expired"]);
    nothing_left(world, "refused-too");
}

/// Attack: a registry sends its clients to FractalOps for a token of another registry, and keeps what they show it.
#[test]
fn a_session_gets_no_token_of_another_registry() {
    let trusting = Trusting::start("");
    let world = &trusting.world;
    key(world, "keys", "globex", "00");
    let built = small(world);
    let evil = Proxy::start();
    let challenge = format!(
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"{}/token\",service=\"{}\"\r\ncontent-length: 0\r\n\r\n",
        world.base(),
        trusting.address
    );
    let challenge: &'static [u8] = challenge.leak().as_bytes();
    evil.decide(move |_, _, _| Fault::Say(challenge));
    let port = evil.address.port();
    for (host, code, words) in [
        ("127.0.0.1", 4, "was answered 401, UNAUTHORIZED: no credential"),
        ("localhost", 2, "and the credential is not for that host"),
    ] {
        let area = format!("oci://{host}:{port}/acme/example/globex");
        world.run(deliver(world, &built, "sealed", &["--to", &area])).failed(code, &[words]);
    }
    let shown = evil.exchanges().iter().any(|exchange| {
        String::from_utf8_lossy(&exchange.request).to_ascii_lowercase().contains("authorization")
    });
    assert!(!shown);
    assert_eq!(world.count("oci_token.mint", "allow", None), 0);
}

/// Runs a command with an area on a file system of its own: a small one, one that cannot be written.
fn on_its_own_disk(world: &World, options: &str, script: &str, command: &Command) -> Screen {
    fs::create_dir_all(world.path("work/area")).expect("folder");
    let mut shell = world.bare("unshare", &["-rm", "sh", "-c"]);
    shell
        .arg(format!("mount -t tmpfs -o {options} tmpfs area || exit 99; {script}"))
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let screen = world.run(shell);
    let needs = "namespaces of a user's own are needed: run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`";
    assert_ne!(screen.code, 99, "{needs}\n{screen}");
    screen
}

#[test]
fn a_folder_that_is_full_or_cannot_be_written_has_nothing_half_written() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let file = large(&world, "app.bin", 4);
    let more = ["@acme/core", "--version", "1.0.0", "--bundle-id", BUNDLE];
    let sealing = |more: &[&str]| deliver(&world, &file, "sealed", more);
    world.run(sealing(&more)).succeeded();
    let storing = sealing(&[&more[..], &["--to", "area"]].concat());

    let list = "find area -type f >> left";
    let screen =
        on_its_own_disk(&world, "ro,size=64m", &format!("\"$@\"; code=$?; {list}; exit $code"), &storing);
    screen.failed(1, &["Read-only file system", "let the user that runs this write into the delivery area"]);
    // Full: what was being written is gone, and with more room it goes on.
    let script = format!(
        "\"$@\"; code=$?; {list}; mount -o remount,size=64m area; \"$@\" && cp -r area kept; exit $code"
    );
    let screen = on_its_own_disk(&world, "size=2m", &script, &storing);
    screen.failed(1, &["No space left on device", "make room in the delivery area and repeat the command"]);
    let left = fs::read_to_string(world.path("work/left")).expect("read");
    assert!(!left.contains("index.json") && !left.contains(".new-"), "{left}");
    open(&world, "keys", &format!("kept/{BUNDLE}"), "opened").succeeded();
    assert_eq!(world.count("bundle.create", "allow", None), 1);

    // A quota: no file may become larger than a mebibyte.
    fs::create_dir(world.path("work/quota")).expect("folder");
    let storing = sealing(&[&more[..], &["--to", "quota"]].concat());
    let mut shell = world.bare("sh", &["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$@\"", "sh"]);
    shell.arg(storing.get_program()).args(storing.get_args());
    shell.envs(storing.get_envs().filter_map(|(name, value)| Some((name, value?))));
    world.run(shell).failed(1, &["File too large", "make room in the delivery area"]);
    let left: Vec<_> = files(&world.path("work/quota")).into_iter().filter(|file| is_half(file)).collect();
    assert!(left.is_empty(), "{left:?}");
    fs::remove_dir_all(world.path("work")).expect("remove");
}

/// Returns whether a file of an area is being written, or was, or lets a delivery be found.
fn is_half(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).expect("name");
    name.starts_with(".new-") || name == "index.json"
}

#[test]
fn what_was_killed_while_it_was_stored_goes_on() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let file = large(&world, "app.bin", 96);
    let more = ["@acme/core", "--version", "1.0.0", "--bundle-id", BUNDLE];
    world.run(deliver(&world, &file, "sealed", &more)).succeeded();
    fs::create_dir(world.path("work/area")).expect("folder");
    let storing = || deliver(&world, &file, "sealed", &[&more[..], &["--to", "area"]].concat());
    let half = || {
        let found = files(&world.path("work/area")).into_iter();
        let large = |file: &PathBuf| fs::metadata(file).is_ok_and(|it| it.len() > 1 << 20);
        found.filter(|file| is_half(file)).find(large)
    };
    let mut child = storing().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
    let since = Instant::now();
    while half().is_none() {
        assert!(since.elapsed() < Duration::from_secs(60), "nothing is stored");
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    let left = half().expect("what was left");
    assert!(!world.path(&format!("work/area/{BUNDLE}/index.json")).exists());
    open(&world, "keys", &format!("area/{BUNDLE}"), "opened").failed(2, &["holds no delivery"]);
    assert_eq!(world.count("bundle.create", "allow", None), 1, "by the run that sealed it");
    // The next one sweeps what is old enough that nobody writes it any more.
    let old = SystemTime::now() - Duration::from_secs(120);
    fs::File::options().write(true).open(&left).and_then(|file| file.set_modified(old)).expect("time");
    let screen = world.run(storing());
    assert!(screen.succeeded().stderr.contains("store     "), "{screen}");
    assert!(!left.exists());
    open(&world, "keys", &format!("area/{BUNDLE}"), "opened").succeeded();
    assert!(world.run(storing()).succeeded().stderr.contains("there already"));
    assert_eq!(world.count("bundle.create", "allow", None), 1);
    fs::remove_dir_all(world.path("work")).expect("remove");
}

/// What a killed process fetched it cannot remove: the next one does, beside what is opened and in the temporary folder.
#[test]
fn what_was_killed_while_it_was_fetched_is_swept() {
    let store = Store::oci();
    let world = World::new();
    let delivery = Delivery::of(&world, &store);
    delivery.deliver().succeeded();
    fs::create_dir(world.path("temporary")).expect("folder");
    let uri = store.uri();
    let by_hand = ["rewrap", &uri, "--sign", "off", "--accept-unproven"];
    for (place, args) in
        [("work", &["open-bundle", &uri, "--out", "opened"] as &[&str]), ("temporary", &by_hand)]
    {
        let command = || {
            let mut command = store.with(customer(&world, "keys", args));
            command.env("TMPDIR", world.path("temporary"));
            command
        };
        let left = || {
            let names =
                fs::read_dir(world.path(place)).expect("folder").map(|it| it.expect("entry").file_name());
            names.filter(|name| name.as_encoded_bytes().starts_with(b".")).count()
        };
        assert_eq!(left(), 0);
        store.wire.decide(
            |_, target, _| {
                if target.contains("/blobs/") { Fault::StallMs(10_000) } else { Fault::None }
            },
        );
        for _ in 0..2 {
            let before = store.wire.exchanges().len();
            let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
            let since = Instant::now();
            let asks_for_a_blob = || {
                let asked = store.wire.exchanges().split_off(before);
                asked.iter().any(|it| String::from_utf8_lossy(&it.request).contains("/blobs/"))
            };
            while !asks_for_a_blob() {
                assert!(since.elapsed() < Duration::from_secs(60), "nothing is fetched");
                thread::sleep(Duration::from_millis(5));
            }
            child.kill().expect("kill");
            child.wait().expect("wait");
            assert_eq!(left(), 1, "in {place}: its own, and what was left before it is swept");
        }
        store.wire.decide(|_, _, _| Fault::None);
        delivery.run(command()).succeeded();
        assert_eq!(left(), 0, "in {place}");
    }
    delivery.same("opened");
}
