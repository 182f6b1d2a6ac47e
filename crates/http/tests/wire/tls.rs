//! Whose certificates are trusted.

use std::sync::Arc;

use protected_http::{Failure, HttpError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};
use url::Url;

use crate::{
    client_with,
    peer::{Act, Peer, answer, answer_with},
    refused, token, tries,
};

/// A certificate authority of one's own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        Self(CertifiedIssuer::self_signed(params, key).expect("authority"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn acceptor(&self, host: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec![host.to_owned()]).expect("params");
        let certificate = params.signed_by(&key, &self.0).expect("certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("config");
        TlsAcceptor::from(Arc::new(config))
    }

    /// Starts a server whose certificate is for `host`.
    pub(crate) async fn serve(&self, host: &str, acts: Vec<Act>) -> Peer {
        let acceptor = self.acceptor(host);
        let (peer, listener) = Peer::bind(acts).await;
        let served = peer.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.expect("accept");
                let (served, acceptor) = (served.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        served.serve(connection, stream).await;
                    }
                });
            }
        });
        peer
    }
}

fn https(peer: &Peer) -> Url {
    Url::parse(&format!("https://{}/a", peer.address)).expect("url")
}

fn is_tls(error: &HttpError) -> bool {
    matches!(error, HttpError::Failed { failure: Failure::Tls, attempts: 1, .. }) && !error.is_transient()
}

#[tokio::test]
async fn an_authority_of_ones_own_is_added() {
    let authority = Authority::new();
    let peer = authority.serve("127.0.0.1", vec![answer("200 OK")]).await;
    let client = client_with(&[], Some(&authority.pem())).expect("client");
    let response = client.get(https(&peer)).bearer(&token()).send().await.expect("response");
    assert_eq!(response.status, 200);
    let bundle = format!("# two\n{}\n{}", Authority::new().pem(), authority.pem());
    let client = client_with(&[], Some(&bundle)).expect("client");
    assert_eq!(client.get(https(&peer)).send().await.expect("response").status, 200);
}

#[tokio::test]
async fn nobody_else_is_trusted() {
    let authority = Authority::new();
    let peer = authority.serve("127.0.0.1", vec![answer("200 OK")]).await;
    for ca in [None, Some(Authority::new().pem())] {
        let client = client_with(&[], ca.as_deref()).expect("client");
        let error = refused(client.get(https(&peer)).bearer(&token()).retry(tries(4)).send().await);
        assert!(is_tls(&error), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.to_string().contains("PEM")), "{error:?}");
    }
    let other = authority.serve("npm.example", vec![answer("200 OK")]).await;
    let client = client_with(&[], Some(&authority.pem())).expect("client");
    let error = refused(client.get(https(&other)).bearer(&token()).retry(tries(4)).send().await);
    assert!(is_tls(&error), "{error:?}");
    assert!(peer.seen().is_empty() && other.seen().is_empty());
}

#[tokio::test]
async fn https_to_a_plain_server() {
    let peer = Peer::start(vec![Act::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())]).await;
    let (garbage, listener) = Peer::bind(vec![Act::Close]).await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    drop(peer);
    let client = client_with(&[], None).expect("client");
    let error = refused(client.get(https(&garbage)).bearer(&token()).send().await);
    assert!(is_tls(&error), "{error:?}");
}

#[tokio::test]
async fn https_does_not_become_http() {
    let plain = Peer::start(vec![answer("200 OK")]).await;
    let authority = Authority::new();
    let location = format!("http://{}/", plain.address);
    let peer = authority.serve("127.0.0.1", vec![answer_with("302 Found", "location", &location)]).await;
    let client = client_with(&[], Some(&authority.pem())).expect("client");
    let error = refused(client.get(https(&peer)).send().await);
    assert!(error.to_string().contains("not https"), "{error}");
    assert!(plain.seen().is_empty());
}

#[test]
fn an_authority_that_cannot_be_used_is_refused_at_once() {
    let key = KeyPair::generate().expect("key").serialize_pem();
    for pem in [
        "",
        "hunter2",
        key.as_str(),
        "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n",
    ] {
        let Err(error) = client_with(&[], Some(pem)) else { panic!("{pem}") };
        assert!(
            matches!(error, HttpError::Settings { .. }) && !error.to_string().contains("hunter2"),
            "{error}"
        );
    }
}
