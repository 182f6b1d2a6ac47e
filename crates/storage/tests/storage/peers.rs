//! The stores that nobody here wrote, each on a port of its own, and a proxy that cuts connections.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use protected_http::{Client, Response};
use protected_model::environment::Environment;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use url::Url;

/// The suite's own client, which knows nothing of the environment.
pub(crate) fn client() -> Client {
    let settings = protected_http::Settings::from_environment(&Environment::default(), None, "test");
    settings.and_then(|settings| Client::new(&settings)).expect("client")
}

/// A store that runs, and ends with this.
pub(crate) struct Peer {
    child: Child,
    pub(crate) address: SocketAddr,
    _home: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the tests need is installed here.
pub(crate) fn tool(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools").join(path)
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port()
}

impl Peer {
    /// Starts a program that listens on `port` soon.
    pub(crate) async fn start(command: &mut Command, port: u16, install: &str) -> Self {
        let home = tempfile::tempdir().expect("home");
        let program = PathBuf::from(command.get_program());
        let child = command
            .env("HOME", home.path())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run `{install}`", program.display()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut peer = Self { child, address, _home: home };
        let since = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            let ended = peer.child.try_wait().expect("status");
            assert!(ended.is_none(), "{} ended: {ended:?}; run `{install}`", program.display());
            assert!(since.elapsed() < Duration::from_secs(60), "{} does not start", program.display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        peer
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).expect("url")
    }
}

const TOOLS: &str = "cargo xtask tools";

/// Amazon S3, as moto has it. It looks at no signature.
pub(crate) async fn moto() -> Peer {
    moto_after("inf").await
}

/// Amazon S3, as moto has it. After so many requests it takes none that IAM does not let through.
pub(crate) async fn moto_after(requests: &str) -> Peer {
    let port = free_port();
    let mut command = Command::new(tool("aws/bin/moto_server"));
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    command.env("INITIAL_NO_AUTH_ACTION_COUNT", requests);
    Peer::start(&mut command, port, TOOLS).await
}

/// The token that the stand-in of Google Cloud Storage takes.
pub(crate) const GCS_TOKEN: &str = "ya29.hunter2";

/// The XML API of Google Cloud Storage before moto: it is S3's but for who asks and on what condition. No stand-in of
/// it is to be had; those there are speak the JSON API.
///
/// Whoever has no token is refused. A generation stands for an ETag (Cloud Storage, XML API, request preconditions).
pub(crate) async fn gcs(moto: SocketAddr) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let generations = Arc::new(Mutex::new(BTreeMap::<u64, String>::new()));
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let generations = generations.clone();
            tokio::spawn(async move {
                let _ = gcs_request(near, moto, &generations).await;
            });
        }
    });
    address
}

/// A proxy that passes requests on, one to a connection, but for those that `refuse` has an answer to.
pub(crate) async fn gate(
    to: SocketAddr,
    refuse: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let refuse = Arc::new(refuse);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let refuse = refuse.clone();
            tokio::spawn(async move {
                let (head, rest) = read_head(&mut near).await?;
                if let Some(answer) = refuse(&head) {
                    near.write_all(answer.as_bytes()).await?;
                    return near.shutdown().await;
                }
                let mut far = TcpStream::connect(to).await?;
                far.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
                far.write_all(&rest).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await.map(|_| ())
            });
        }
    });
    address
}

/// Passes one request on, and ends the connection.
async fn gcs_request(
    mut near: TcpStream,
    moto: SocketAddr,
    generations: &Mutex<BTreeMap<u64, String>>,
) -> std::io::Result<()> {
    let (head, rest) = read_head(&mut near).await?;
    let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
    let bearer = format!("authorization: Bearer {GCS_TOKEN}").to_lowercase();
    if !lines.iter().any(|line| line.to_lowercase() == bearer) {
        near.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await?;
        return near.shutdown().await;
    }
    lines.retain(|line| !line.to_lowercase().starts_with("authorization:"));
    for line in &mut lines {
        if let Some(("x-goog-if-generation-match", generation)) = line.split_once(": ") {
            let generation: u64 = generation.parse().expect("a generation");
            let known = generations.lock().expect("generations").get(&generation).cloned();
            *line = match (generation, known) {
                (0, _) => "if-none-match: *".to_owned(),
                (_, Some(etag)) => format!("if-match: {etag}"),
                (_, None) => panic!("generation {generation} was never told"),
            };
        }
    }
    // moto takes the name of a bucket as it is written.
    for (escaped, plain) in [("%2D", "-"), ("%2E", "."), ("%2F", "/"), ("%5F", "_")] {
        lines[0] = lines[0].replace(escaped, plain);
    }
    // It asks for a signature, and looks at none.
    let scope = "Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    lines.push(format!("authorization: AWS4-HMAC-SHA256 {scope}"));
    lines.push("connection: close".to_owned());
    let mut far = TcpStream::connect(moto).await?;
    far.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).await?;
    far.write_all(&rest).await?;
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let up = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut near_read, &mut far_write).await;
    });
    let (head, rest) = read_head(&mut far_read).await?;
    let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
    lines.retain(|line| !line.to_lowercase().starts_with("connection:"));
    let etag = lines.iter().find_map(|line| Some(line.to_lowercase().strip_prefix("etag: ")?.to_owned()));
    if let Some(etag) = etag {
        let digits: String = etag.chars().filter(char::is_ascii_hexdigit).take(12).collect();
        let generation = u64::from_str_radix(&digits, 16).expect("digits");
        generations.lock().expect("generations").insert(generation, etag);
        lines.push(format!("x-goog-generation: {generation}"));
        // Of what was sent whole it is the MD5, and Google's own client wants that.
        let md5 = etag_md5(&lines);
        lines.extend(md5.map(|md5| format!("x-goog-hash: md5={}", STANDARD.encode(md5))));
    }
    lines.push("connection: close".to_owned());
    near_write.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).await?;
    near_write.write_all(&rest).await?;
    tokio::io::copy(&mut far_read, &mut near_write).await?;
    near_write.shutdown().await?;
    up.abort();
    Ok(())
}

/// Returns the MD5 that an ETag is where an object or a part was sent whole.
fn etag_md5(lines: &[String]) -> Option<Vec<u8>> {
    let etag = lines.iter().find_map(|line| Some(line.to_lowercase().strip_prefix("etag: ")?.to_owned()))?;
    let digits = etag.trim_matches('"');
    let pairs = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok());
    pairs.collect::<Option<Vec<u8>>>().filter(|md5| md5.len() == 16)
}

/// Reads up to the empty line, and what came with it.
async fn read_head(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<(String, Vec<u8>)> {
    let (mut head, mut buffer) = (Vec::new(), [0; 1 << 12]);
    loop {
        if let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") {
            let rest = head.split_off(end + 4);
            head.truncate(end);
            return Ok((String::from_utf8_lossy(&head).into_owned(), rest));
        }
        match from.read(&mut buffer).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
}

pub(crate) const ACCOUNT: &str = "acmestorage";

/// The key of the account in Azurite: nobody else's.
pub(crate) fn account_key() -> String {
    STANDARD.encode("the key of an account in a test")
}

/// Azure Blob Storage, as Azurite has it.
pub(crate) async fn azurite() -> Peer {
    let port = free_port();
    let mut command = Command::new(tool("azurite/bin/azurite-blob"));
    command
        .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--silent", "--disableTelemetry"])
        .args(["--skipApiVersionCheck", "--disableProductStyleUrl", "--inMemoryPersistence"])
        .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", account_key()));
    Peer::start(&mut command, port, TOOLS).await
}

/// Makes a container (Azure Storage, authorization with a shared key).
pub(crate) async fn make_container(peer: &Peer, name: &str) {
    let (date, version) = ("Thu, 01 Jan 2026 00:00:00 GMT", "2023-11-03");
    let resource = format!("/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container");
    let signed = format!("PUT{}x-ms-date:{date}\nx-ms-version:{version}\n{resource}", "\n".repeat(12));
    let key = STANDARD.decode(account_key()).expect("key");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).expect("key");
    mac.update(signed.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let answer = client()
        .put(peer.url(&format!("/{ACCOUNT}/{name}?restype=container")))
        .header("x-ms-date", date)
        .header("x-ms-version", version)
        .header("authorization", &format!("SharedKey {ACCOUNT}:{signature}"))
        .send();
    made(&answer.await.expect("answer"));
}

pub(crate) fn made(answer: &Response) {
    assert!(answer.is_success(), "{} {}", answer.status, String::from_utf8_lossy(answer.body()));
}

/// `hunter2`, as htpasswd has it.
pub(crate) const HASH: &str = "$2b$04$niQVVnJRzVdYQ2yQljAtkOX7c.P08ujiYBNc.5Z11OFPEAV478vd.";

/// Debian's registry, for everybody or for the user `ci` with the password of this hash.
pub(crate) async fn registry(password: Option<&str>) -> (Peer, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    let auth = password.map(|hash| {
        let file = folder.path().join("htpasswd");
        std::fs::write(&file, format!("ci:{hash}\n")).expect("file");
        format!("htpasswd:\n    realm: test\n    path: {}\n", file.display())
    });
    (registry_at(free_port(), folder.path(), auth).await, folder)
}

/// Debian's registry on this port, with its data in a folder, for everybody or for whom its `auth` says.
pub(crate) async fn registry_at(port: u16, folder: &Path, auth: Option<String>) -> Peer {
    let root = folder.display();
    let auth = auth.map(|auth| format!("auth:\n  {auth}")).unwrap_or_default();
    let config = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\n  \
         delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n{auth}"
    );
    let file = folder.join("config.yml");
    std::fs::write(&file, config).expect("file");
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&file);
    Peer::start(&mut command, port, "apt-get install docker-registry skopeo").await
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// A proxy that ends some connections in the middle.
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    cuts: Arc<AtomicU64>,
}

impl Cutter {
    /// Starts one that cuts this many connections, each after this many bytes went this way.
    pub(crate) async fn start(to: SocketAddr, way: Way, after: u64, cuts: u64) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let cuts = Arc::new(AtomicU64::new(cuts));
        let left = cuts.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let left = left.clone();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(to).await else { return };
                    let (near_read, near_write) = near.into_split();
                    let (far_read, far_write) = far.into_split();
                    let limit = |of| if of == way { after } else { u64::MAX };
                    tokio::select! {
                        () = pass(near_read, far_write, limit(Way::Up), &left) => {}
                        () = pass(far_read, near_write, limit(Way::Down), &left) => {}
                    }
                });
            }
        });
        Self { address, cuts }
    }

    /// Returns how many connections it will still cut.
    pub(crate) fn left(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    limit: u64,
    left: &AtomicU64,
) {
    let (mut passed, mut buffer) = (0, vec![0; 1 << 14]);
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        passed += read as u64;
        let cut = |left: u64| left.checked_sub(1);
        if passed > limit && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, cut).is_ok() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// A server that answers whatever it is asked with what `answer` makes of the request's first line, and closes.
pub(crate) async fn liar(answer: impl Fn(&str) -> Lie + Send + Sync + 'static) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let Ok((head, _)) = read_head(&mut connection).await else { return };
                match answer(head.lines().next().unwrap_or_default()) {
                    Lie::Answer(text) => {
                        let _ = connection.write_all(text.as_bytes()).await;
                    }
                    Lie::Endless(head) => {
                        let _ = connection.write_all(head.as_bytes()).await;
                        let junk = vec![b' '; 1 << 16];
                        while connection.write_all(&junk).await.is_ok() {}
                    }
                }
                let _ = connection.shutdown().await;
            });
        }
    });
    address
}

/// What a [`liar`] answers.
pub(crate) enum Lie {
    Answer(String),
    /// This, and then blanks for ever.
    Endless(String),
}
