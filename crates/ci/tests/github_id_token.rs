//! GitHub's ID-token endpoint in good and in bad times, played by a TCP server.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use protected_ci::{IdTokenError, detect};
use protected_http::{Client, Settings};
use protected_model::{
    environment::Environment,
    secret::{IdToken, Secret},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln";
const AUDIENCE: &str = "https://fractalops.example/a?b=c&d";

/// What the endpoint does with one request.
#[derive(Clone, Copy)]
enum Act {
    Answer(&'static str, &'static str),
    Reset,
}

const OK: Act = Act::Answer("200 OK", r#"{"count":1,"value":"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"}"#);

/// Starts an endpoint that goes through `acts`, the last one again and again, and notes what it was sent.
async fn endpoint(acts: &'static [Act]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let requests = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut buffer = [0; 1024];
                let read = stream.read(&mut buffer).await.expect("read");
                request.extend_from_slice(&buffer[..read]);
            }
            let number = {
                let mut noted = noted.lock().expect("lock");
                noted.push(String::from_utf8(request).expect("utf-8"));
                noted.len() - 1
            };
            match acts[number.min(acts.len() - 1)] {
                Act::Reset => drop(stream),
                Act::Answer(status, body) => {
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    stream.write_all(answer.as_bytes()).await.expect("write");
                }
            }
        }
    });
    (address, requests)
}

async fn ask(pairs: &[(&str, &str)]) -> Result<IdToken, IdTokenError> {
    let environment: Environment = [("GITHUB_ACTIONS", "true")].iter().chain(pairs).copied().collect();
    let settings = Settings::from_environment(&Environment::default(), None, "test").expect("settings");
    let client = Client::new(&settings).expect("client");
    detect(&environment).expect("platform").id_token(&client, AUDIENCE).await
}

async fn ask_at(url: &str) -> Result<IdToken, IdTokenError> {
    ask(&[("ACTIONS_ID_TOKEN_REQUEST_URL", url), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "bearer-hunter2")]).await
}

async fn ask_through(acts: &'static [Act]) -> (Result<IdToken, IdTokenError>, Vec<String>) {
    let (address, requests) = endpoint(acts).await;
    let result = ask_at(&format!("http://{address}/token?api-version=2.0&secret=hunter2")).await;
    if let Err(error) = &result {
        let text = format!("{error} {error:?} {:?}", error.hint());
        assert!(!text.contains("hunter2"), "{text}");
    }
    let requests = requests.lock().expect("lock").clone();
    (result, requests)
}

#[tokio::test]
async fn asks_as_the_contract_says() {
    let (result, requests) = ask_through(&[OK]).await;
    assert_eq!(result.expect("token").reveal(), TOKEN);
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    let line = request.lines().next().expect("line");
    let audience = "audience=https%3A%2F%2Ffractalops.example%2Fa%3Fb%3Dc%26d";
    assert_eq!(line, format!("GET /token?api-version=2.0&secret=hunter2&{audience} HTTP/1.1"));
    let headers = request.to_ascii_lowercase();
    assert!(headers.contains("\r\nauthorization: bearer bearer-hunter2\r\n"), "{request}");
    assert!(headers.contains("\r\naccept: application/json\r\n"), "{request}");
}

#[tokio::test]
async fn gets_through_a_bad_patch() {
    const BUSY: Act = Act::Answer("503 Service Unavailable", "");
    const LIMIT: Act = Act::Answer("429 Too Many Requests", "");
    const BROKEN: Act = Act::Answer("500 Internal Server Error", "<html>");
    let (result, requests) = ask_through(&[BUSY, Act::Reset, LIMIT, BROKEN, OK]).await;
    assert_eq!(result.expect("token").reveal(), TOKEN);
    assert_eq!(requests.len(), 5);
}

#[tokio::test]
async fn a_refusal_is_not_asked_again() {
    for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let act: &'static [Act] = Box::leak(Box::new([Act::Answer(status, "{}"), OK]));
        let (result, requests) = ask_through(act).await;
        let error = result.expect_err(status);
        assert!(matches!(error, IdTokenError::Refused { .. }) && !error.is_transient(), "{error}");
        assert_eq!(requests.len(), 1, "{status}");
    }
}

#[tokio::test]
async fn gives_up_within_its_budget() {
    let started = Instant::now();
    let (result, requests) = ask_through(&[Act::Answer("503 Service Unavailable", "")]).await;
    let error = result.expect_err("error");
    assert!(
        matches!(error, IdTokenError::Unavailable { status: 503, .. }) && error.is_transient(),
        "{error}"
    );
    assert!(requests.len() > 3 && requests.len() <= 8, "{}", requests.len());
    assert!(started.elapsed() < Duration::from_secs(31));
}

#[tokio::test]
async fn takes_no_other_answer_for_a_token() {
    for body in [
        "",
        "{}",
        r#"{"value":null}"#,
        r#"{"value":""}"#,
        r#"{"value":"hunter2"}"#,
        r#"{"value":"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln"}"#,
        r#"{"token":"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"}"#,
        "<html>Sign in</html>",
    ] {
        let act: &'static [Act] = Box::leak(Box::new([Act::Answer("200 OK", body)]));
        let (result, requests) = ask_through(act).await;
        assert!(matches!(result, Err(IdTokenError::Malformed { .. } | IdTokenError::Http(_))), "{body}");
        assert_eq!(requests.len(), 1, "{body}");
    }
}

#[tokio::test]
async fn the_request_token_goes_nowhere_else() {
    for url in
        ["http://evil.example/token", "ftp://localhost/", "not a url", "http://127.0.0.1.evil.example/"]
    {
        let error = ask_at(url).await.expect_err(url);
        assert!(matches!(error, IdTokenError::Endpoint { .. }), "{error}");
    }
    let (result, requests) =
        ask_through(&[Act::Answer("302 Found\r\nlocation: http://127.0.0.1:1/x", "")]).await;
    let error = result.expect_err("redirect");
    assert!(error.to_string().contains("http://127.0.0.1:1"), "{error}");
    assert_eq!(requests.len(), 1);
}

#[tokio::test]
async fn without_the_permission_it_says_so() {
    for pairs in [
        &[][..],
        &[("ACTIONS_ID_TOKEN_REQUEST_URL", "https://x.example")],
        &[("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "x")],
        &[("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_EVENT_PATH", "/does/not/exist")],
    ] {
        let error = ask(pairs).await.expect_err("error");
        assert!(matches!(error, IdTokenError::Permission { .. }), "{error}");
        assert!(error.hint().expect("hint").to_string().contains("id-token: write"));
    }
}

#[tokio::test]
async fn a_fork_is_told_that_it_is_one() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("event.json");
    std::fs::write(&path, r#"{"pull_request":{"head":{"repo":{"fork":true}}}}"#).expect("write");
    let event = [("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_EVENT_PATH", path.to_str().expect("path"))];
    let error = ask(&event).await.expect_err("error");
    assert!(error.to_string().starts_with("fork PR: "), "{error}");
    assert!(!error.hint().expect("hint").to_string().contains("id-token"));
}
