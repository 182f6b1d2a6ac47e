//! What is sent again, how often, and for how long.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use protected_http::{Failure, HttpError, Retry};
use url::Url;

use crate::{
    client,
    peer::{Act, Peer, answer, answer_with},
    refused, token, tries,
};

fn failure(error: &HttpError) -> (Failure, u32) {
    match error {
        HttpError::Failed { failure, attempts, .. } => (*failure, *attempts),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn gets_through_a_storm() {
    let peer = Peer::start(vec![
        answer("503 Service Unavailable"),
        Act::Reset,
        answer("429 Too Many Requests"),
        Act::Close,
        answer("408 Request Timeout"),
        Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut".to_vec()),
        answer("500 Internal Server Error"),
        answer("201 Created"),
    ])
    .await;
    let request = client().post(peer.url("/a")).header("idempotency-key", "k").json(&[1, 2]);
    let response = request.retry(tries(8)).send().await.expect("response");
    assert_eq!(response.status, 201);
    let seen = peer.seen();
    assert_eq!(seen.len(), 8);
    assert!(
        seen.iter().all(|seen| seen.body == b"[1,2]" && seen.has_header("idempotency-key: k")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn the_last_answer_is_handed_back() {
    let peer = Peer::start(vec![answer("503 Service Unavailable")]).await;
    let response = client().get(peer.url("/")).retry(tries(3)).send().await.expect("response");
    assert_eq!((response.status, response.body().as_ref()), (503, b"body".as_slice()));
    assert_eq!(peer.seen().len(), 3);
}

#[tokio::test]
async fn the_last_failure_says_how_often_and_how_long() {
    for (act, expected) in [(Act::Reset, Failure::Interrupted), (Act::Close, Failure::Interrupted)] {
        let peer = Peer::start(vec![act]).await;
        let request = client().get(peer.url("/a?token=hunter2")).bearer(&token()).retry(tries(3));
        let error = refused(request.send().await);
        assert_eq!(failure(&error), (expected, 3));
        assert!(error.is_transient());
        let text = error.to_string();
        let start = format!("GET http://{}/a: the connection was interrupted (3 attempts in ", peer.address);
        assert!(text.starts_with(&start), "{text}");
        assert_eq!(peer.seen().len(), 3);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let (peer, listener) = Peer::bind(vec![Act::Close]).await;
    drop(listener);
    let error = refused(client().get(peer.url("/")).retry(tries(4)).send().await);
    assert_eq!(failure(&error), (Failure::Connect, 4));
    let source = std::error::Error::source(&error).expect("source").to_string();
    assert!(source.contains("refused"), "{source}");
}

#[tokio::test]
async fn no_such_host() {
    let url = Url::parse("https://does-not-exist.invalid/").expect("url");
    let error = refused(client().get(url).send().await);
    assert_eq!(failure(&error), (Failure::Resolve, 1));
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn stalls_end_with_the_attempt() {
    for stall in [b"".as_slice(), b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]
    {
        let peer = Peer::start(vec![Act::Stall(stall), answer("200 OK")]).await;
        let started = Instant::now();
        let request = client().get(peer.url("/")).timeout(Duration::from_millis(300)).retry(tries(2));
        assert_eq!(request.send().await.expect("response").status, 200);
        assert!(started.elapsed() >= Duration::from_millis(300));
        let peer = Peer::start(vec![Act::Stall(stall)]).await;
        let error = refused(client().get(peer.url("/")).timeout(Duration::from_millis(300)).send().await);
        assert!(matches!(failure(&error), (Failure::Timeout(_), 1)), "{error}");
        assert!(error.to_string().contains("no complete answer came within 0.3 s"), "{error}");
    }
}

#[tokio::test]
async fn what_is_final_is_not_tried_again() {
    for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "409 Conflict"] {
        let peer = Peer::start(vec![answer(status), answer("200 OK")]).await;
        let response = client().get(peer.url("/")).retry(tries(5)).send().await.expect("response");
        assert_eq!(response.status.to_string(), status[..3]);
        assert_eq!(peer.seen().len(), 1);
    }
}

#[tokio::test]
async fn nothing_is_tried_again_unasked() {
    let peer = Peer::start(vec![answer("503 Service Unavailable"), answer("200 OK")]).await;
    assert_eq!(client().post(peer.url("/")).send().await.expect("response").status, 503);
    let peer = Peer::start(vec![Act::Reset, answer("200 OK")]).await;
    assert_eq!(failure(&refused(client().post(peer.url("/")).send().await)).1, 1);
    assert_eq!(peer.seen().len(), 1);
}

#[tokio::test]
async fn retry_after_is_kept_to() {
    let wait = answer_with("503 Service Unavailable", "retry-after", "1");
    let peer = Peer::start(vec![wait, answer("200 OK")]).await;
    let started = Instant::now();
    let response = client().get(peer.url("/")).retry(tries(2)).send().await.expect("response");
    assert_eq!(response.status, 200);
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn retry_after_beyond_the_budget_is_not_waited_for() {
    for value in ["3600", "99999999999999999999", "Fri, 01 Mar 2999 00:00:00 GMT"] {
        let peer = Peer::start(vec![answer_with("429 Too Many Requests", "retry-after", value)]).await;
        let started = Instant::now();
        let response = client().get(peer.url("/")).retry(tries(5)).send().await.expect("response");
        assert_eq!(response.status, 429);
        assert!(response.retry_after().is_some_and(|wait| wait >= Duration::from_secs(3600)), "{value}");
        assert_eq!(peer.seen().len(), 1);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn the_budget_is_never_exceeded() {
    for act in [Act::Stall(b""), answer("503 Service Unavailable"), Act::Reset] {
        let peer = Peer::start(vec![act]).await;
        let budget = Duration::from_millis(900);
        let started = Instant::now();
        let request = client().get(peer.url("/")).timeout(Duration::from_millis(400));
        let _ = request.retry(Retry { attempts: u32::MAX, budget }).send().await;
        let elapsed = started.elapsed();
        assert!(elapsed < budget + Duration::from_millis(500), "{elapsed:?}");
        assert!(peer.seen().len() >= 2);
    }
}

fn chunks(count: usize) -> impl Iterator<Item = Result<Bytes, io::Error>> + Send {
    (0..count).map(|number| Ok(Bytes::from(vec![b'a' + (number % 26) as u8; 1000])))
}

#[tokio::test]
async fn a_stream_starts_afresh_with_each_attempt() {
    let peer = Peer::start(vec![answer("503 Service Unavailable"), Act::Reset, answer("201 Created")]).await;
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let request = client().put(peer.url("/")).stream(50_000, "application/octet-stream", move || {
        counted.fetch_add(1, Ordering::Relaxed);
        stream::iter(chunks(50))
    });
    assert_eq!(request.retry(tries(3)).send().await.expect("response").status, 201);
    assert_eq!(made.load(Ordering::Relaxed), 3);
    let whole: Vec<u8> = chunks(50).flat_map(|chunk| chunk.expect("chunk").to_vec()).collect();
    for seen in peer.seen() {
        assert_eq!(seen.body, whole);
        assert!(seen.has_header("content-length: 50000"), "{}", seen.head);
        assert!(seen.has_header("content-type: application/octet-stream"), "{}", seen.head);
        assert_eq!(seen.header("transfer-encoding"), None);
    }
}

#[tokio::test]
async fn a_stream_of_another_length_is_not_sent_as_this_one() {
    for (length, reason) in [(49_999, "longer than 49999 bytes"), (50_001, "50000 bytes instead of 50001")] {
        let peer = Peer::start(vec![answer("201 Created")]).await;
        let request = client().put(peer.url("/")).stream(length, "text/plain", || stream::iter(chunks(50)));
        let result = request.retry(tries(5)).send().await;
        let error = refused(result);
        assert_eq!(failure(&error), (Failure::Body, 1), "{length}");
        let source = std::error::Error::source(&error).expect("source").to_string();
        assert!(source.contains(reason), "{source}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_read_ends_it() {
    let peer = Peer::start(vec![answer("201 Created")]).await;
    let request = client().put(peer.url("/")).stream(50_000, "text/plain", || {
        stream::iter(chunks(2).chain([Err(io::Error::other("the disk is on fire"))]))
    });
    let error = refused(request.retry(tries(5)).send().await);
    assert_eq!(failure(&error), (Failure::Body, 1));
    assert_eq!(std::error::Error::source(&error).expect("source").to_string(), "the disk is on fire");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_is_heard() {
    let peer = Peer::start(vec![Act::Early("403 Forbidden")]).await;
    let request =
        client().put(peer.url("/")).stream(200_000_000, "text/plain", || stream::iter(chunks(200_000)));
    let response = request.send().await.expect("response");
    assert_eq!((response.status, response.body().as_ref()), (403, b"early".as_slice()));
}

#[tokio::test]
async fn connections_are_kept() {
    let peer = Peer::start(vec![answer("200 OK")]).await;
    let client = client();
    for _ in 0..5 {
        client.clone().get(peer.url("/")).send().await.expect("response");
    }
    assert!(peer.seen().iter().all(|seen| seen.connection == 0), "{:?}", peer.seen());
}
