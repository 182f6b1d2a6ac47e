//! The one way to send a request.
//!
//! Owns TLS and its roots, the proxy, timeouts, retries, the size cap on answers, the redirect rule, and errors
//! that repeat no secret. A request either ends in a [`Response`], whatever its status, or in an [`HttpError`]; what is
//! too large to be held comes as an [`Incoming`].

mod client;
mod connections;
mod error;
mod limits;
mod proxy;
mod request;
mod response;
mod retry;
mod settings;

pub use client::Client;
pub use error::{Cause, Failure, HttpError, RequestLine};
pub use request::Request;
pub use response::{Incoming, Response};
pub use retry::Retry;
pub use settings::Settings;
