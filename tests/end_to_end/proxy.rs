//! A proxy in front of the server under test: it records every request and answer, and can break them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It goes through.
    None,
    /// It never reaches the server; the answer is 503.
    Unavailable,
    /// It never reaches the server; the connection is reset.
    Reset,
    /// It never reaches the server; nothing is said for this many milliseconds, then the connection ends.
    StallMs(u64),
    /// The server answers, and the answer is lost.
    LoseAnswer,
    /// It reaches the server this many milliseconds later.
    DelayMs(u64),
    /// It never reaches the server; this is the answer, head and all.
    Say(&'static [u8]),
}

/// Decides about a request by its method and target, and its number.
pub(crate) type Decide = Arc<dyn Fn(&str, &str, usize) -> Fault + Send + Sync>;

/// Makes another answer of the body of the answer about a target; `None` leaves it as it is.
pub(crate) type Change = Arc<dyn Fn(&str, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// One request with its answer.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) request: Vec<u8>,
    pub(crate) answer: Vec<u8>,
}

struct Shared {
    upstream: Mutex<Option<SocketAddr>>,
    decide: Mutex<Decide>,
    change: Mutex<Option<Change>>,
    exchanges: Mutex<Vec<Exchange>>,
    stopped: AtomicBool,
}

/// Listens from its making until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(None),
            decide: Mutex::new(Arc::new(|_, _, _| Fault::None)),
            change: Mutex::new(None),
            exchanges: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if served.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let served = Arc::clone(&served);
                thread::spawn(move || served.serve(stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn forward_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().expect("lock") = Some(upstream);
    }

    pub(crate) fn decide(&self, decide: impl Fn(&str, &str, usize) -> Fault + Send + Sync + 'static) {
        *self.shared.decide.lock().expect("lock") = Arc::new(decide);
    }

    /// Changes answers on their way, from now on. They are asked for without compression then.
    pub(crate) fn change(&self, change: impl Fn(&str, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) {
        *self.shared.change.lock().expect("lock") = Some(Arc::new(change));
    }

    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.shared.exchanges.lock().expect("lock").clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
        let Ok(reading) = stream.try_clone() else { return };
        let mut reader = BufReader::new(reading);
        let Some((method, target, request)) = read_request(&mut reader, &stream) else { return };
        let number = self.exchanges.lock().expect("lock").len();
        let decide = Arc::clone(&self.decide.lock().expect("lock"));
        let fault = decide(&method, &target, number);
        let reached = matches!(fault, Fault::None | Fault::LoseAnswer | Fault::DelayMs(_));
        if let Fault::DelayMs(ms) = fault {
            thread::sleep(Duration::from_millis(ms));
        }
        let change = self.change.lock().expect("lock").clone();
        let answer = match change {
            _ if !reached => Vec::new(),
            None => self.ask(&request),
            Some(change) => changed(&target, &self.ask(&uncompressed(&request)), &change),
        };
        let exchange = Exchange { request, answer: answer.clone() };
        self.exchanges.lock().expect("lock").push(exchange);
        let mut writer = &stream;
        match fault {
            Fault::None | Fault::DelayMs(_) => {
                let _ = writer.write_all(&answer);
            }
            Fault::Say(answer) => {
                let _ = writer.write_all(answer);
            }
            Fault::Unavailable => {
                let _ = writer.write_all(
                    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                );
            }
            Fault::StallMs(ms) => thread::sleep(Duration::from_millis(ms)),
            Fault::Reset | Fault::LoseAnswer => {}
        }
        // Dropping a socket with unread bytes resets it; this one is read to its end, so it just closes.
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }

    fn ask(&self, request: &[u8]) -> Vec<u8> {
        let Some(upstream) = *self.upstream.lock().expect("lock") else { return Vec::new() };
        let mut answer = Vec::new();
        if let Ok(mut stream) = TcpStream::connect(upstream) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
            if stream.write_all(request).is_ok() {
                let _ = stream.read_to_end(&mut answer);
            }
        }
        answer
    }
}

/// Reads one request whole and rewrites it so that the connection ends with the answer.
fn read_request(reader: &mut impl BufRead, writer: &TcpStream) -> Option<(String, String, Vec<u8>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|count| *count > 0)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = first.clone().into_bytes();
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line == "\r\n" || line.is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
        if lower.starts_with("expect:") {
            let mut writer = writer;
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
            continue;
        }
        if !lower.starts_with("connection:") && !lower.starts_with("keep-alive:") {
            request.extend_from_slice(line.as_bytes());
        }
    }
    request.extend_from_slice(b"connection: close\r\n\r\n");
    if chunked {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let count = usize::from_str_radix(size.trim().split(';').next()?, 16).ok()?;
            let mut chunk = vec![0; count + 2];
            reader.read_exact(&mut chunk).ok()?;
            request.extend_from_slice(size.as_bytes());
            request.extend_from_slice(&chunk);
            if count == 0 {
                break;
            }
        }
    } else {
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        request.extend_from_slice(&body);
    }
    Some((method, target, request))
}

/// Takes `Accept-Encoding` out of a request.
fn uncompressed(request: &[u8]) -> Vec<u8> {
    let end = head_length(request);
    let head = String::from_utf8_lossy(&request[..end]);
    let kept = head
        .split_inclusive("\r\n")
        .filter(|line| !line.to_ascii_lowercase().starts_with("accept-encoding:"));
    let mut request_without = kept.collect::<String>().into_bytes();
    request_without.extend_from_slice(&request[end..]);
    request_without
}

fn changed(target: &str, answer: &[u8], change: &Change) -> Vec<u8> {
    let end = head_length(answer);
    let Some(body) = change(target, &answer[end..]) else { return answer.to_vec() };
    let head = String::from_utf8_lossy(&answer[..end]);
    let is_of_old = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !line.starts_with("content-length:") && *line != *"\r\n"
    };
    let mut changed = head.split_inclusive("\r\n").filter(is_of_old).collect::<String>().into_bytes();
    changed.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    changed.extend_from_slice(&body);
    changed
}

fn head_length(message: &[u8]) -> usize {
    message.windows(4).position(|window| window == b"\r\n\r\n").map_or(message.len(), |at| at + 4)
}
