//! One HTTP GET to the server on this machine that a demo or benchmark has started itself.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::Value;

use crate::failure::{Failure, Result};

/// Asks `base`, which is `http://<address>`, for a JSON document. HTTP/1.0, so that the answer ends with the
/// connection and is never chunked.
pub(crate) fn get(base: &str, path: &str, bearer: &str) -> Result<Value> {
    let broken = |error: std::io::Error| Failure::new(format!("asking the server for {path}: {error}"));
    let authority = base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(authority).map_err(broken)?;
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {authority}\r\nAuthorization: Bearer {bearer}\r\nAccept: application/json\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(broken)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200") {
        return Err(Failure::new(format!("asking the server for {path}: `{status}`")));
    }
    serde_json::from_str(body)
        .map_err(|error| Failure::new(format!("the answer to {path} is no JSON: {error}")))
}
