//! Requests through a proxy.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use protected_http::{Failure, HttpError};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use url::Url;

use crate::{
    SECRET, client_with,
    peer::{Peer, answer, answer_with, read_head},
    refused,
    tls::Authority,
    token, tries,
};

/// A proxy that connects everybody to one address, and notes what it was asked.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(target: SocketAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&heads);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accept");
                let Some(head) = read_head(&mut stream).await else { continue };
                noted.lock().expect("lock").push(head);
                stream.write_all(answer.as_bytes()).await.expect("write");
                if answer.contains(" 200 ") {
                    let mut onward = TcpStream::connect(target).await.expect("connect");
                    tokio::spawn(async move { copy_bidirectional(&mut stream, &mut onward).await });
                }
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("lock").clone()
    }
}

fn npm() -> Url {
    Url::parse("https://npm.example/a?b=c").expect("url")
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let authority = Authority::new();
    let peer = authority.serve("npm.example", vec![answer("200 OK")]).await;
    let proxy = Proxy::start(peer.address, "HTTP/1.1 200 OK\r\n\r\n").await;
    let variable = format!("http://user:p%40ss@{}", proxy.address);
    let client = client_with(&[("HTTPS_PROXY", &variable)], Some(&authority.pem())).expect("client");
    for _ in 0..2 {
        let response = client.get(npm()).bearer(&token()).send().await.expect("response");
        assert_eq!(response.status, 200);
    }
    let heads = proxy.heads();
    let [head] = heads.as_slice() else { panic!("{heads:?}") };
    assert!(head.starts_with("CONNECT npm.example:443 HTTP/1.1\r\n"), "{head}");
    let basic = format!("Basic {}", STANDARD.encode("user:p@ss"));
    assert!(head.to_ascii_lowercase().contains("proxy-authorization:") && head.contains(&basic), "{head}");
    assert!(!head.contains(SECRET));
    assert!(peer.seen().iter().all(|seen| seen.has_header("authorization: Bearer hunter2")));
    assert!(peer.seen().iter().all(|seen| seen.header("proxy-authorization").is_none()));
}

#[tokio::test]
async fn a_proxy_that_wants_credentials_says_so() {
    let peer = Peer::start(vec![answer("200 OK")]).await;
    let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
    let proxy = Proxy::start(peer.address, refusal).await;
    let variable = format!("http://user:hunter2@{}", proxy.address);
    let client = client_with(&[("HTTPS_PROXY", &variable)], None).expect("client");
    let error = refused(client.get(npm()).bearer(&token()).retry(tries(4)).send().await);
    let HttpError::Failed { failure, attempts, .. } = &error else { panic!("{error}") };
    assert_eq!((*failure, *attempts), (Failure::ProxyCredentials, 1));
    assert!(error.to_string().contains(&format!("through the proxy http://{}", proxy.address)), "{error}");
    assert_eq!(proxy.heads().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let (gone, listener) = Peer::bind(vec![answer("200 OK")]).await;
    drop(listener);
    let variable = format!("http://user:hunter2@{}", gone.address);
    let client = client_with(&[("ALL_PROXY", &variable)], None).expect("client");
    let error = refused(client.get(npm()).bearer(&token()).retry(tries(2)).send().await);
    let HttpError::Failed { failure, attempts, .. } = &error else { panic!("{error}") };
    assert_eq!((*failure, *attempts), (Failure::Connect, 2));
    assert!(error.hint().expect("hint").to_string().contains("HTTPS_PROXY"), "{error}");
}

#[tokio::test]
async fn plain_requests_are_forwarded() {
    let proxy = Peer::start(vec![answer("200 OK")]).await;
    let variable = format!("http://{}", proxy.address);
    let client = client_with(&[("http_proxy", &variable)], None).expect("client");
    let url = Url::parse("http://npm.example/a").expect("url");
    assert_eq!(client.get(url.clone()).send().await.expect("response").status, 200);
    assert_eq!(proxy.seen()[0].head.lines().next(), Some("GET http://npm.example/a HTTP/1.1"));
    let error = refused(client.get(url).bearer(&token()).send().await);
    assert!(matches!(error, HttpError::Insecure { .. }), "{error}");
    assert_eq!(proxy.seen().len(), 1);
}

#[tokio::test]
async fn nobody_outside_sends_us_to_this_machine() {
    let inside = Peer::start(vec![answer("200 OK")]).await;
    let location = inside.url("/admin").to_string();
    let proxy = Peer::start(vec![answer_with("302 Found", "location", &location)]).await;
    let variable = format!("http://{}", proxy.address);
    let client = client_with(&[("http_proxy", &variable)], None).expect("client");
    let url = Url::parse("http://npm.example/").expect("url");
    let error = refused(client.get(url).send().await);
    assert!(error.to_string().ends_with("which is this machine"), "{error}");
    assert!(inside.seen().is_empty());
}

#[tokio::test]
async fn this_machine_is_asked_directly() {
    let peer = Peer::start(vec![answer("200 OK")]).await;
    let proxy = Peer::start(vec![answer("502 Bad Gateway")]).await;
    let variable = format!("http://{}", proxy.address);
    let client = client_with(&[("ALL_PROXY", &variable)], None).expect("client");
    assert_eq!(client.get(peer.url("/")).bearer(&token()).send().await.expect("response").status, 200);
    let localhost = Url::parse(&format!("http://localhost:{}/", peer.address.port())).expect("url");
    assert_eq!(client.get(localhost).send().await.expect("response").status, 200);
    assert!(proxy.seen().is_empty());
}

#[tokio::test]
async fn exceptions_go_past_it() {
    let proxy = Peer::start(vec![answer("502 Bad Gateway")]).await;
    let variable = format!("http://{}", proxy.address);
    let environment = [("ALL_PROXY", variable.as_str()), ("NO_PROXY", ".invalid")];
    let client = client_with(&environment, None).expect("client");
    let url = Url::parse("http://npm.invalid/").expect("url");
    let error = refused(client.get(url).send().await);
    let HttpError::Failed { failure, proxy: through, .. } = &error else { panic!("{error}") };
    assert_eq!((*failure, through.as_deref()), (Failure::Resolve, None));
    assert!(proxy.seen().is_empty());
}
