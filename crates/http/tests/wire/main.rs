//! Requests over real connections, to servers that misbehave.

mod bodies;
mod peer;
mod proxies;
mod redirects;
mod retries;
mod tls;

use std::time::Duration;

use protected_http::{Client, HttpError, Response, Retry, Settings};
use protected_model::{environment::Environment, secret::AccessToken};

/// What must never be seen in a message.
const SECRET: &str = "hunter2";

fn client() -> Client {
    client_with(&[], None).expect("client")
}

fn client_with(environment: &[(&str, &str)], ca_pem: Option<&str>) -> Result<Client, HttpError> {
    let environment: Environment = environment.iter().copied().collect();
    let ca_pem = ca_pem.map(|pem| pem.as_bytes().to_vec());
    Settings::from_environment(&environment, ca_pem, "wire-test/1")
        .and_then(|settings| Client::new(&settings))
}

fn token() -> AccessToken {
    AccessToken::new(SECRET)
}

fn tries(attempts: u32) -> Retry {
    Retry { attempts, budget: Duration::from_secs(20) }
}

/// Unwraps the error, and checks that it keeps the secret in every form.
fn refused(result: Result<Response, HttpError>) -> HttpError {
    let error = match result {
        Ok(response) => panic!("answered {}", response.status),
        Err(error) => error,
    };
    let mut text = format!("{error} {error:?} {:?}", error.hint());
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    assert!(!text.contains(SECRET), "{text}");
    error
}
