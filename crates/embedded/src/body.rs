//! A request's body, within its limits: how slow, how large, of which type.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody as _},
    http::{HeaderMap, StatusCode, header},
};
use futures_util::{Stream, StreamExt};
use protected_model::api::problem::Code;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::problem::{Answer, Refusal};

/// The largest body of a request that carries no document.
pub(crate) const FORM_BYTES: u64 = 64 * 1024;

/// The longest wait for the next piece of a body. Attack: a client that sends a byte now and then and keeps
/// thousands of connections open.
pub(crate) const BODY_IDLE: Duration = Duration::from_secs(10);
/// The slowest body, once [`BODY_GRACE`] is over. Attack: as above, one byte within each [`BODY_IDLE`].
pub(crate) const BODY_MIN_BYTES_PER_SECOND: u64 = 1024;
/// How long a body may be slower than [`BODY_MIN_BYTES_PER_SECOND`].
pub(crate) const BODY_GRACE: Duration = Duration::from_secs(15);

/// How long, and how much of, a refused body is read and thrown away.
const LINGER: Duration = Duration::from_secs(2);
/// See [`LINGER`].
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Ends a body that comes too slowly, see [`BODY_IDLE`] and [`BODY_MIN_BYTES_PER_SECOND`]. One that `lingers` is read on
/// for a moment when nobody wants it, see [`Unread`].
pub(crate) fn paced(body: Body, lingers: bool) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    let start = Instant::now();
    let pieces = if body.is_end_stream() { None } else { Some(body.into_data_stream()) };
    let body = Unread { pieces, lingers };
    futures_util::stream::unfold((body, 0_u64), move |(mut body, sent_bytes)| async move {
        let pieces = body.pieces.as_mut()?;
        let piece = match tokio::time::timeout(BODY_IDLE, pieces.next()).await {
            Ok(None) => {
                body.pieces.take();
                return None;
            }
            Ok(Some(piece)) => piece,
            Err(_) => Err(axum::Error::new(TooSlow)),
        };
        let sent_bytes = sent_bytes + piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let late = start.elapsed().saturating_sub(BODY_GRACE).as_secs();
        let piece = match sent_bytes < late * BODY_MIN_BYTES_PER_SECOND {
            true => Err(axum::Error::new(TooSlow)),
            false => piece,
        };
        if piece.is_err() {
            body.pieces = None;
        }
        Some((piece, (body, sent_bytes)))
    })
}

/// A body that nobody may have read to its end.
///
/// A client that is still sending when the connection closes sees it reset, and never the refusal that was on its
/// way: npm then tries again and reports the network. So what is left is read and thrown away for a moment.
struct Unread {
    pieces: Option<BodyDataStream>,
    /// Not from a client that waits to be told to go on: reading would tell it.
    lingers: bool,
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(mut pieces) = self.pieces.take().filter(|_| self.lingers) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(LINGER, async move {
            let mut bytes = 0;
            while let Some(Ok(piece)) = pieces.next().await {
                bytes += piece.len();
                if bytes > LINGER_BYTES {
                    break;
                }
            }
        }));
    }
}

/// A body came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
struct TooSlow;

/// Reads a body of at most `limit_bytes`, before its first byte when its length is announced as more.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body, limit_bytes: u64) -> Answer<Bytes> {
    let too_large = || {
        Refusal::new(Code::TOO_LARGE, format!("the body is larger than the {limit_bytes} bytes allowed here"))
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > limit_bytes) {
        return Err(too_large());
    }
    let mut pieces = body.into_data_stream();
    let mut bytes = Vec::with_capacity(usize::try_from(announced.unwrap_or(0)).unwrap_or(0));
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| {
            Refusal::new(Code::INVALID_REQUEST, "the body ended early or came too slowly")
                .status(StatusCode::REQUEST_TIMEOUT)
        })?;
        if (bytes.len() + piece.len()) as u64 > limit_bytes {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

/// Reads a JSON document; an unknown member or a wrong type is named with its line and column.
pub(crate) fn json<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Answer<T> {
    expect_type(headers, "application/json")?;
    serde_json::from_slice(bytes)
        .map_err(|error| Refusal::new(Code::INVALID_REQUEST, format!("the JSON body is refused: {error}")))
}

/// Reads a form; a member that is given twice is refused (RFC 6749 section 3.2).
pub(crate) fn form<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Answer<T> {
    form_with(headers, bytes, None)
}

/// Reads a form in which one member may be given more than once: its values are joined by spaces.
pub(crate) fn form_repeating<T: DeserializeOwned>(
    headers: &HeaderMap,
    bytes: &[u8],
    repeated: &str,
) -> Answer<T> {
    form_with(headers, bytes, Some(repeated))
}

fn form_with<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8], repeated: Option<&str>) -> Answer<T> {
    expect_type(headers, "application/x-www-form-urlencoded")?;
    members(url::form_urlencoded::parse(bytes), repeated)
}

/// Reads the members of a form or a query, of which `repeated` may be given more than once.
pub(crate) fn members<T: DeserializeOwned>(
    parsed: url::form_urlencoded::Parse<'_>,
    repeated: Option<&str>,
) -> Answer<T> {
    let mut members = serde_json::Map::new();
    for (name, value) in parsed {
        match members.get_mut(name.as_ref()) {
            None => {
                members.insert(name.into_owned(), value.into_owned().into());
            }
            Some(Value::String(before)) if Some(&*name) == repeated => {
                before.push(' ');
                before.push_str(&value);
            }
            Some(_) => return Err(Refusal::new(Code::INVALID_REQUEST, "a member is given twice")),
        }
    }
    // The parser's text may repeat a value, and the values here are tokens.
    serde_json::from_value(members.into())
        .map_err(|_| Refusal::new(Code::INVALID_REQUEST, "a required member is missing"))
}

fn expect_type(headers: &HeaderMap, expected: &str) -> Answer<()> {
    let actual = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = actual.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let message = format!("expected Content-Type `{expected}`");
    Err(Refusal::new(Code::INVALID_REQUEST, message).status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}
