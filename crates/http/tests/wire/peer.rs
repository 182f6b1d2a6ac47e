//! A server that does as it is told, over plain TCP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// What the server does with one request.
#[derive(Clone)]
pub(crate) enum Act {
    /// Answers with this status line's end, these headers and this body.
    Answer(&'static str, Vec<(String, String)>, Vec<u8>),
    /// Sends these bytes, whatever they are, and closes.
    Raw(Vec<u8>),
    /// Answers before it has read the body, and closes.
    Early(&'static str),
    /// Sends these bytes and then nothing, and keeps the connection.
    Stall(&'static [u8]),
    /// Ends the connection with RST.
    Reset,
    /// Ends the connection with FIN.
    Close,
    /// Sends header lines for ever.
    EndlessHeaders,
    /// Sends a chunked body for ever.
    EndlessBody,
    /// Sends a body for ever, a byte each so often.
    Drip(std::time::Duration),
}

/// Answers with a status and a short body.
pub(crate) fn answer(status: &'static str) -> Act {
    Act::Answer(status, Vec::new(), b"body".to_vec())
}

/// Answers with a status and one header.
pub(crate) fn answer_with(status: &'static str, name: &str, value: &str) -> Act {
    Act::Answer(status, vec![(name.to_owned(), value.to_owned())], Vec::new())
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The number of its connection.
    pub(crate) connection: usize,
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn has_header(&self, line: &str) -> bool {
        self.head.lines().any(|found| found.eq_ignore_ascii_case(line))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A server that goes through a list of acts, the last one again and again.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    acts: Arc<Vec<Act>>,
}

impl Peer {
    pub(crate) async fn start(acts: Vec<Act>) -> Self {
        let (peer, listener) = Self::bind(acts).await;
        let served = peer.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.expect("accept");
                let served = served.clone();
                tokio::spawn(async move { served.serve(connection, stream).await });
            }
        });
        peer
    }

    pub(crate) async fn bind(acts: Vec<Act>) -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        (Self { address, seen: Arc::default(), acts: Arc::new(acts) }, listener)
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).expect("url")
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("lock").clone()
    }

    fn next(&self, seen: Seen) -> Act {
        let mut all = self.seen.lock().expect("lock");
        all.push(seen);
        self.acts[(all.len() - 1).min(self.acts.len() - 1)].clone()
    }

    /// Serves one connection until an act ends it.
    pub(crate) async fn serve<S: Conn>(&self, connection: usize, mut stream: S) {
        while let Some(head) = read_head(&mut stream).await {
            let early = {
                let all = self.seen.lock().expect("lock");
                matches!(self.acts[all.len().min(self.acts.len() - 1)], Act::Early(_))
            };
            let mut seen = Seen { connection, head, body: Vec::new() };
            if !early {
                let length = seen.header("content-length").map_or(0, |value| value.parse().expect("length"));
                seen.body = vec![0; length];
                if stream.read_exact(&mut seen.body).await.is_err() {
                    return;
                }
            }
            if !self.act(self.next(seen), &mut stream).await {
                return;
            }
        }
    }

    /// Does `act` and returns whether the connection goes on. The client may hang up at any time.
    async fn act<S: Conn>(&self, act: Act, stream: &mut S) -> bool {
        match act {
            Act::Answer(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str("\r\n");
                stream.write_all(&[head.into_bytes(), body].concat()).await.is_ok()
            }
            Act::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                false
            }
            Act::Early(status) => {
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\nconnection: close\r\n\r\nearly");
                let _ = stream.write_all(answer.as_bytes()).await;
                // As real servers do: wait for the client to notice before the connection is torn down.
                tokio::time::sleep(Duration::from_millis(200)).await;
                false
            }
            Act::Stall(bytes) => {
                let _ = stream.write_all(bytes).await;
                std::future::pending().await
            }
            Act::Reset => {
                stream.reset();
                false
            }
            Act::Close => false,
            Act::EndlessHeaders => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
                let line = format!("x: {}\r\n", "y".repeat(1000));
                while stream.write_all(line.as_bytes()).await.is_ok() {}
                false
            }
            Act::EndlessBody => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                let chunk = format!("10000\r\n{}\r\n", "z".repeat(0x10000));
                while stream.write_all(chunk.as_bytes()).await.is_ok() {}
                false
            }
            Act::Drip(every) => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                while stream.write_all(b"1\r\nz\r\n").await.is_ok() {
                    tokio::time::sleep(every).await;
                }
                false
            }
        }
    }
}

/// A connection, plain or within TLS.
pub(crate) trait Conn: AsyncRead + AsyncWrite + Unpin + Send {
    fn reset(&self);
}

impl Conn for TcpStream {
    fn reset(&self) {
        self.set_zero_linger().expect("linger");
    }
}

impl<S: Conn> Conn for tokio_rustls::server::TlsStream<S> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

/// Reads up to the empty line, byte by byte so that nothing of the body is taken.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("utf-8"))
}
