//! A real OpenBao, for one test.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{World, tool},
    raw,
};

/// A real OpenBao.
pub(crate) struct Bao {
    child: Child,
    pub(crate) address: String,
    pub(crate) root: String,
}

impl Bao {
    pub(crate) fn start(world: &World) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
        let address = format!("127.0.0.1:{port}");
        let root = "root-of-a-test".to_owned();
        let log = fs::File::create(world.path("tmp/bao.log")).expect("log");
        let child = Command::new(tool("openbao").join("bao"))
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={root}"))
            .arg(format!("-dev-listen-address={address}"))
            .env("HOME", world.path("home"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("bao");
        let bao = Self { child, address, root };
        let since = Instant::now();
        while std::net::TcpStream::connect(&bao.address).is_err()
            || bao.post("sys/mounts/transit", "{\"type\":\"transit\"}") >= 500
        {
            assert!(since.elapsed() < Duration::from_secs(60), "OpenBao does not start");
            thread::sleep(Duration::from_millis(100));
        }
        bao
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> u16 {
        self.ask("POST", path, body).0
    }

    /// Asks as the root and returns status and body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let address = self.address.parse().expect("address");
        let headers = [("x-vault-token", self.root.as_str()), ("content-type", "application/json")];
        let path = format!("/v1/{path}");
        let (status, _, body) = raw::request(address, method, &path, None, &headers, body.as_bytes());
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Makes a token with the policies that `body` names, and returns it.
    pub(crate) fn token(&self, path: &str, body: &str) -> String {
        let (status, made) = self.ask("POST", path, body);
        assert_eq!(status, 200, "{made}");
        made["auth"]["client_token"].as_str().expect("token").to_owned()
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
