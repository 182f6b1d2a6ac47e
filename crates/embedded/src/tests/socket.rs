//! What a hostile or broken client sends over a socket of its own.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::service::{Service, refused, wanted};
use crate::audit::STRANGERS_PER_MINUTE;

async fn connect(service: &Service) -> TcpStream {
    TcpStream::connect(service.url.authority()).await.expect("connected")
}

/// Sends a request as it is and returns everything that comes back.
async fn send(service: &Service, request: &str) -> String {
    let mut stream = connect(service).await;
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn exactly_one_authorization_header_of_a_bearable_size() {
    let service = Service::start().await;
    let get = |headers: &str| {
        format!("GET /v1/audit/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
    };
    use protected_model::secret::Secret as _;
    let operator = service.operator();
    let good = format!("Authorization: Bearer {}\r\n", operator.reveal());
    assert!(send(&service, &get(&good)).await.starts_with("HTTP/1.1 200"));
    assert!(send(&service, &get(&good.replace("Bearer", "bearer"))).await.starts_with("HTTP/1.1 200"));
    for bad in [
        String::new(),
        format!("{good}{good}"),
        format!("{good}authorization: Basic eA==\r\n"),
        good.replace("Bearer", "Basic"),
        good.replace("Bearer ", ""),
        format!("Authorization: Bearer {}\r\n", "a".repeat(8 * 1024)),
        good.replace("\r\n", " \t x\r\n"),
    ] {
        let answer = send(&service, &get(&bad)).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{bad}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer}");
    }
    let huge = send(&service, &get(&format!("X: {}\r\n", "a".repeat(64 * 1024)))).await;
    assert!(huge.starts_with("HTTP/1.1 431"), "{huge}");
    let many = send(&service, &get(&"X: y\r\n".repeat(100))).await;
    assert!(many.starts_with("HTTP/1.1 431"), "{many}");
}

#[tokio::test]
async fn a_correlation_id_is_echoed_when_it_is_one() {
    let service = Service::start().await;
    let get = |id: &str| {
        format!("GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-correlation-id: {id}\r\n\r\n")
    };
    let answer = send(&service, &get("run-42")).await;
    assert!(
        answer.contains("x-correlation-id: run-42\r\n") && answer.contains(r#""correlation_id":"run-42""#)
    );
    for bad in ["a b", "<script>", &"a".repeat(129)] {
        assert!(!send(&service, &get(bad)).await.contains(bad), "{bad}");
    }
}

#[tokio::test]
async fn a_body_is_refused_by_its_announced_length() {
    let service = Service::start().await;
    let request = "POST /v1/oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\
                   Content-Type: application/x-www-form-urlencoded\r\n\r\n";
    let start = Instant::now();
    let mut stream = connect(&service).await;
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer before the body");
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(start.elapsed() < Duration::from_secs(5));
    // And one that does not announce it, by what came.
    let mut request = "POST /v1/oauth/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
                       Connection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n"
        .to_owned();
    for _ in 0..70 {
        request.push_str(&format!("400\r\n{}\r\n", "a".repeat(1024)));
    }
    let mut stream = connect(&service).await;
    let _ = stream.write_all(request.as_bytes()).await;
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn slow_clients_are_not_waited_for() {
    let service = Service::start().await;
    let head = async {
        let start = Instant::now();
        let mut stream = connect(&service).await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        start.elapsed()
    };
    let body = async {
        let start = Instant::now();
        let request = "POST /v1/oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nConnection: close\r\n\
                       Content-Type: application/x-www-form-urlencoded\r\n\r\na";
        let answer = send(&service, request).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        start.elapsed()
    };
    // A byte now and then, each within the time for the next.
    let drip = async {
        let start = Instant::now();
        let mut stream = connect(&service).await;
        let request = "POST /v1/oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nConnection: close\r\n\
                       Content-Type: application/x-www-form-urlencoded\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("sent");
        let (mut reading, mut writing) = stream.into_split();
        let write = async {
            while writing.write_all(b"a").await.is_ok() && start.elapsed() < Duration::from_secs(40) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let read = async {
            let mut answer = [0; 12];
            reading.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 408");
            start.elapsed()
        };
        tokio::select! {
            () = write => panic!("never refused"),
            elapsed = read => elapsed,
        }
    };
    let (head, body, drip) = tokio::join!(head, body, drip);
    for elapsed in [head, body, drip] {
        assert!((9..25).contains(&elapsed.as_secs()), "{elapsed:?}");
    }
}

#[tokio::test]
async fn a_client_has_so_many_connections() {
    let limited = |text: String| text.replace("[limits]", "[limits]\nconnections_per_client = 3");
    let service = Service::start_with(limited).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(connect(&service).await);
    }
    let get = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // The service closes the fourth without an answer.
    let mut closed = false;
    for _ in 0..50 {
        if send(&service, get).await.is_empty() {
            closed = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(closed);
    drop(open);
    for attempt in 0.. {
        if send(&service, get).await.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(attempt < 100, "never let in again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let service = Service::start().await;
    for (request, status) in [
        ("GET /../etc/passwd", 404),
        ("GET /local-issuer/github-actions/token/release?audience=x", 401),
        ("GET /local-issuer/unknown/jwks", 404),
        ("DELETE /v1/oauth/token", 405),
        ("GET /v1/packages/registry/tokens/npm", 405),
        ("GET /healthz", 200),
        ("GET /.well-known/jwks.json", 200),
        ("GET /.well-known/oauth-authorization-server", 200),
        ("GET /local-issuer/jenkins/.well-known/openid-configuration", 200),
    ] {
        let answer =
            send(&service, &format!("{request} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"))
                .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(!answer.contains("evil.example"), "the public URL is never a request's Host: {answer}");
    }
}

#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let service = Service::start().await;
    let body = vec![b'a'; 8 * 1024 * 1024];
    let head = format!(
        "POST /v1/packages/protection/builds HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = connect(&service).await;
    stream.write_all(head.as_bytes()).await.expect("sent");
    // It reads nothing before it has sent everything.
    stream.write_all(&body).await.expect("the connection is not reset while the client sends");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn a_client_that_waits_is_not_told_to_go_on() {
    let service = Service::start().await;
    let request = "POST /v1/packages/protection/builds HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\
                   Expect: 100-continue\r\nContent-Type: application/json\r\n\r\n";
    let answer = send(&service, request).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn strangers_do_not_fill_the_trail() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let before = service.events().await.len();
    // Two minutes at most go by.
    for _ in 0..4 {
        let all = (0..80).map(|_| service.exchange("a.b.c", None));
        for response in futures_util::future::join_all(all).await {
            refused(&response, 400, "invalid_id_token");
        }
    }
    let most = 2 * usize::try_from(STRANGERS_PER_MINUTE).expect("small");
    assert!((100..=most).contains(&(service.events().await.len() - before)));
    // Who is known is written down all the same.
    refused(&service.mint(&session, &wanted("@acme/disabled", "install")).await, 403, "package_disabled");
    assert_eq!(service.last_event().await.target.package_name.expect("package").as_str(), "@acme/disabled");
}

#[tokio::test]
async fn a_signing_key_is_replaced_and_the_old_tokens_still_work() {
    let service = Service::start().await;
    let keys = async || {
        let response =
            service.http.get(service.url.join(".well-known/jwks.json")).send().await.expect("answer");
        let set: serde_json::Value = response.json().expect("json");
        set["keys"].as_array().expect("keys").iter().map(|key| key["kid"].to_string()).collect::<Vec<_>>()
    };
    let first = keys().await;
    assert_eq!(first.len(), 1);
    service.pass(30 * 24 * 60 * 60 + 1);
    let session = service.session("release").await;
    let mut now = keys().await;
    for _ in 0..60 {
        if now.len() > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        now = keys().await;
    }
    assert_eq!((now.len(), now.contains(&first[0])), (2, true));
    let response = service.mint(&session, &wanted("@acme/plain", "install")).await;
    assert_eq!(response.status, 201, "{:?}", response.body());
}
