//! Where an answer may send us: almost nowhere.

use protected_http::HttpError;

use crate::{
    client,
    peer::{Peer, answer, answer_with},
    refused, token, tries,
};

#[tokio::test]
async fn a_credential_is_never_redirected() {
    for status in
        ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let thief = Peer::start(vec![answer("200 OK")]).await;
        let location = format!("http://{}/steal?secret=hunter2", thief.address);
        let peer = Peer::start(vec![answer_with(status, "location", &location)]).await;
        let client = client();
        for request in [
            client.get(peer.url("/")).bearer(&token()),
            client.get(peer.url("/")).header("authorization", "Basic hunter2"),
            client.get(peer.url("/")).header("x-vault-token", "hunter2"),
            client.put(peer.url("/")).bearer(&token()).json(&1),
            client.delete(peer.url("/")).bearer(&token()),
        ] {
            let error = refused(request.retry(tries(3)).send().await);
            let HttpError::Redirect { target, .. } = &error else { panic!("{error}") };
            assert_eq!(*target, format!("http://{}", thief.address));
            assert!(!error.is_transient() && error.hint().is_some());
        }
        assert!(thief.seen().is_empty());
        assert_eq!(peer.seen().len(), 5);
    }
}

#[tokio::test]
async fn nor_is_a_body_even_to_the_same_host() {
    let peer = Peer::start(vec![answer_with("307 Temporary Redirect", "location", "/there")]).await;
    let error = refused(client().post(peer.url("/")).form(&[("subject_token", "hunter2")]).send().await);
    assert!(matches!(error, HttpError::Redirect { .. }), "{error}");
    assert_eq!(peer.seen().len(), 1);
}

#[tokio::test]
async fn a_plain_get_goes_a_short_way() {
    let hop = || answer_with("302 Found", "location", "next?a=b");
    let peer = Peer::start(vec![hop(), hop(), hop(), hop(), hop(), answer("200 OK")]).await;
    let response = client().get(peer.url("/x/y")).send().await.expect("response");
    assert_eq!(response.status, 200);
    assert_eq!(peer.seen().len(), 6);
    assert_eq!(peer.seen()[5].head.lines().next(), Some("GET /x/next?a=b HTTP/1.1"));
    let peer = Peer::start(vec![hop()]).await;
    let error = refused(client().get(peer.url("/")).retry(tries(3)).send().await);
    assert!(error.to_string().contains("one redirect too many"), "{error}");
    assert_eq!(peer.seen().len(), 6);
}

#[tokio::test]
async fn and_not_everywhere() {
    for location in [
        "ftp://npm.example/",
        "file:///etc/passwd",
        "http://user:hunter2@127.0.0.1:1/",
        "data:text/plain,x",
        "http://",
        "http://[::1",
    ] {
        let peer = Peer::start(vec![answer_with("302 Found", "location", location)]).await;
        let error = refused(client().get(peer.url("/")).send().await);
        assert!(matches!(error, HttpError::Redirect { .. } | HttpError::Invalid { .. }), "{error}");
        assert_eq!(peer.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_to_nowhere_is_an_answer() {
    for status in ["302 Found", "304 Not Modified", "300 Multiple Choices"] {
        let peer = Peer::start(vec![answer_with(status, "x", "y")]).await;
        let response = client().get(peer.url("/")).bearer(&token()).send().await.expect("response");
        assert_eq!(response.status.to_string(), status[..3]);
    }
}

#[tokio::test]
async fn a_credential_stays_behind_where_redirects_are_followed_bare() {
    let store = Peer::start(vec![answer("200 OK")]).await;
    // Elsewhere, and from there back again.
    let there = format!("http://{}/blob", store.address);
    let peer = Peer::start(vec![answer_with("307 Temporary Redirect", "location", &there)]).await;
    let request =
        client().get(peer.url("/")).bearer(&token()).header("accept", "a/b").header("x-token", "hunter2");
    let response = request.bare_redirects().send().await.expect("response");
    assert_eq!(response.status, 200);
    assert!(peer.seen()[0].has_header("authorization: Bearer hunter2"), "{}", peer.seen()[0].head);
    let seen = store.seen().remove(0);
    assert!(seen.has_header("accept: a/b"), "{}", seen.head);
    assert!(!seen.head.contains("hunter2"), "{}", seen.head);
    // Within the origin it is the same service.
    let peer = Peer::start(vec![answer_with("302 Found", "location", "/there"), answer("200 OK")]).await;
    client().get(peer.url("/")).bearer(&token()).bare_redirects().send().await.expect("response");
    assert!(peer.seen()[1].has_header("authorization: Bearer hunter2"), "{}", peer.seen()[1].head);
    // What is sent is sent nowhere else.
    let peer = Peer::start(vec![answer_with("307 Temporary Redirect", "location", "/there")]).await;
    let error = refused(client().put(peer.url("/")).bearer(&token()).bare_redirects().send().await);
    assert!(matches!(error, HttpError::Redirect { .. }), "{error}");
}

#[tokio::test]
async fn who_sends_us_away_and_back_does_not_get_the_credential_again() {
    let peer = Peer::start(vec![answer("200 OK")]).await;
    let home = format!("http://localhost:{}/blob", peer.address.port());
    let away = Peer::start(vec![answer_with("302 Found", "location", &home)]).await;
    let there = format!("http://{}/", away.address);
    let first = Peer::start(vec![answer_with("302 Found", "location", &there)]).await;
    client().get(first.url("/")).bearer(&token()).bare_redirects().send().await.expect("response");
    for seen in [away.seen().remove(0), peer.seen().remove(0)] {
        assert!(!seen.head.contains("hunter2"), "{}", seen.head);
    }
}
