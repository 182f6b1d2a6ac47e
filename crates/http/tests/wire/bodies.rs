//! What is sent, and what is taken in return.

use std::time::{Duration, Instant};

use protected_http::{Failure, HttpError};
use protected_model::secret::AccessToken;
use serde::Deserialize;
use url::Url;

use crate::{
    SECRET, client,
    peer::{Act, Peer, answer},
    refused, token, tries,
};

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Document {
    id: u64,
    name: String,
}

fn json(body: &str) -> Act {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Act::Answer("200 OK", headers, body.as_bytes().to_vec())
}

#[tokio::test]
async fn forms_and_headers_arrive() {
    let peer = Peer::start(vec![answer("200 OK")]).await;
    let request =
        client().post(peer.url("/a%2fb?c=d")).form(&[("a", "1 2&=%\n"), ("b", "ü")]).bearer(&token());
    assert!(request.header("x-correlation-id", "01").send().await.expect("response").is_success());
    let seen = peer.seen().remove(0);
    assert_eq!(seen.head.lines().next(), Some("POST /a%2fb?c=d HTTP/1.1"));
    assert_eq!(seen.body, b"a=1+2%26%3D%25%0A&b=%C3%BC");
    for line in [
        "content-type: application/x-www-form-urlencoded",
        "authorization: Bearer hunter2",
        "x-correlation-id: 01",
        "user-agent: wire-test/1",
    ] {
        assert!(seen.has_header(line), "{}", seen.head);
    }
    assert_eq!(seen.header("accept-encoding"), None);
    assert_eq!(seen.header("cookie"), None);
}

#[tokio::test]
async fn an_empty_post_says_that_it_is_empty() {
    let peer = Peer::start(vec![answer("200 OK")]).await;
    client().post(peer.url("/")).send().await.expect("response");
    assert!(peer.seen()[0].has_header("content-length: 0"), "{}", peer.seen()[0].head);
}

#[tokio::test]
async fn answers_are_bounded() {
    let whole = Act::Answer("200 OK", Vec::new(), vec![b'x'; 1001]);
    let peer = Peer::start(vec![whole, Act::EndlessBody]).await;
    for _ in 0..2 {
        let error = refused(client().get(peer.url("/")).max_bytes(1000).retry(tries(5)).send().await);
        assert!(matches!(error, HttpError::TooLarge { limit_bytes: 1000, .. }), "{error}");
        assert!(!error.is_transient());
    }
    assert_eq!(peer.seen().len(), 2);
    let peer = Peer::start(vec![Act::Answer("200 OK", Vec::new(), vec![b'x'; 1000])]).await;
    let response = client().get(peer.url("/")).max_bytes(1000).send().await.expect("response");
    assert_eq!(response.into_body().len(), 1000);
}

#[tokio::test]
async fn answers_are_bounded_by_themselves() {
    let peer = Peer::start(vec![Act::EndlessBody, Act::EndlessHeaders]).await;
    let error = refused(client().get(peer.url("/")).send().await);
    assert!(matches!(error, HttpError::TooLarge { limit_bytes: 8_388_608, .. }), "{error}");
    refused(client().get(peer.url("/")).send().await);
}

#[tokio::test]
async fn nothing_is_unpacked() {
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let headers = vec![("content-encoding".to_owned(), "gzip".to_owned())];
    let peer = Peer::start(vec![Act::Answer("200 OK", headers, bomb.to_vec())]).await;
    let response = client().get(peer.url("/")).send().await.expect("response");
    assert_eq!(response.body().as_ref(), bomb);
}

#[tokio::test]
async fn json_errors_do_not_repeat_values() {
    for (body, reason) in [
        (r#"{"id":"hunter2","name":"x"}"#, "another type"),
        (r#"{"id":1}"#, "missing field `name`"),
        (r#"{"id":1,"name":"hunter2"#, "ends too early"),
        ("<html>hunter2</html>", "not JSON"),
        ("hunter2", "not JSON"),
        ("", "ends too early"),
        (r#"{"id":1,"name":"x"} hunter2"#, "not JSON"),
    ] {
        let peer = Peer::start(vec![json(body)]).await;
        let response = client().get(peer.url("/")).send().await.expect("response");
        let error = response.json::<Document>().expect_err(body);
        let text = format!("{error} {error:?}");
        assert!(text.contains(reason) && !text.contains(SECRET), "{text}");
    }
    let peer = Peer::start(vec![json(r#"{"id":1,"name":"x","more":[]}"#)]).await;
    client().get(peer.url("/")).send().await.expect("response").json::<Document>().expect("document");
}

#[tokio::test]
async fn garbage_is_no_answer() {
    for bytes in [b"hunter2\r\n\r\n".as_slice(), b"HTTP/9.9 200 OK\r\n\r\n", b"\x16\x03\x01\x02\x00", b""] {
        let peer = Peer::start(vec![Act::Raw(bytes.to_vec())]).await;
        let error = refused(client().get(peer.url("/")).send().await);
        assert!(matches!(error, HttpError::Failed { failure: Failure::Interrupted, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_not() {
    let peer = Peer::start(vec![answer("200 OK")]).await;
    let client = client();
    for request in [
        client.get(peer.url("/")).bearer(&AccessToken::new("hunter2\r\nx: y")),
        client.get(peer.url("/")).header("authorization", "hunter2\nx: y"),
        client.get(peer.url("/")).header("a b", "c"),
        client.get(Url::parse("file:///etc/passwd").expect("url")),
        client.get(Url::parse(&format!("http://u:hunter2@{}/", peer.address)).expect("url")),
        client.get(Url::parse(&format!("http://hunter2@{}/", peer.address)).expect("url")),
    ] {
        let error = refused(request.send().await);
        assert!(matches!(error, HttpError::Invalid { .. }), "{error}");
    }
    assert!(peer.seen().is_empty());
}

#[tokio::test]
async fn credentials_do_not_travel_in_clear() {
    let client = client();
    for url in
        ["http://evil.example/", "http://127.0.0.1.evil.example/", "http://10.0.0.1/", "http://[fe80::1]/"]
    {
        let url = Url::parse(url).expect("url");
        for request in [
            client.get(url.clone()).bearer(&token()),
            client.get(url.clone()).header("Authorization", "Basic hunter2"),
            client.get(url.clone()).header("Cookie", "a=hunter2"),
            client.get(url.clone()).header("private-token", "hunter2"),
            client.get(url.clone()).header("x-auth", "hunter2"),
        ] {
            let error = refused(request.send().await);
            assert!(matches!(error, HttpError::Insecure { .. }) && error.hint().is_some(), "{error}");
        }
    }
}

#[tokio::test]
async fn a_large_answer_comes_piece_by_piece() {
    let whole = || Act::Answer("200 OK", vec![("x-a".to_owned(), "b".to_owned())], vec![b'x'; 1_000_000]);
    let peer = Peer::start(vec![answer("503 Service Unavailable"), whole()]).await;
    let mut answer = client().get(peer.url("/")).retry(tries(2)).open().await.expect("answer");
    assert_eq!((answer.status, answer.header("x-a")), (200, Some("b")));
    let mut read = 0;
    while let Some(piece) = answer.piece().await.expect("piece") {
        read += piece.len();
    }
    assert_eq!(read, 1_000_000);
    let peer = Peer::start(vec![whole(), Act::EndlessBody]).await;
    let told = client().get(peer.url("/")).max_bytes(999_999).open().await.err().expect("refused");
    assert!(matches!(told, HttpError::TooLarge { .. }), "{told}");
    let endless = client().get(peer.url("/")).max_bytes(999_999).open().await.expect("answer");
    let error = endless.into_body().await.expect_err("refused");
    assert!(matches!(error, HttpError::TooLarge { limit_bytes: 999_999, .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_told_from_one_that_ends() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
    let peer = Peer::start(vec![Act::Raw(cut.to_vec()), Act::Stall(cut)]).await;
    for expected in ["interrupted", "no complete answer came within 0.2 s"] {
        let request = client().get(peer.url("/?secret=hunter2")).timeout(Duration::from_millis(200));
        let mut answer = request.open().await.expect("answer");
        let mut error = None;
        while error.is_none() {
            error = answer.piece().await.map(|piece| assert!(piece.is_some(), "it ended")).err();
        }
        let error = error.expect("error");
        assert!(error.is_transient() && error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
}

/// Attack: a byte at a time, each of them in time, for as long as somebody waits.
#[tokio::test]
async fn a_whole_body_has_the_time_of_one_request() {
    let peer = Peer::start(vec![Act::Drip(Duration::from_millis(20))]).await;
    let answer =
        client().get(peer.url("/")).timeout(Duration::from_millis(400)).open().await.expect("answer");
    let since = Instant::now();
    let whole = tokio::time::timeout(Duration::from_secs(20), answer.into_body()).await.expect("it ends");
    let error = whole.expect_err("refused");
    assert!(matches!(error, HttpError::Failed { failure: Failure::Timeout(_), .. }), "{error}");
    assert!(since.elapsed() >= Duration::from_millis(200), "{:?}", since.elapsed());
}
