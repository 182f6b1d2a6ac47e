//! Delivery areas of every kind, each with a peer that nobody here wrote where there is one.

mod folder;
mod objects;
mod oci;
mod peers;
mod sample;

use protected_http::Client;
use protected_model::environment::Environment;
use protected_storage::{Area, AreaRef, Settings, StorageError};

fn client() -> Client {
    let settings = protected_http::Settings::from_environment(&Environment::default(), None, "test");
    settings.and_then(|settings| Client::new(&settings)).expect("client")
}

fn connect(area: &AreaRef, environment: &[(&str, &str)]) -> Result<Area, StorageError> {
    let settings = Settings { environment: environment.iter().copied().collect() };
    Area::connect(area, &settings, &client())
}

/// What a person reads: the error, what it came from, and the advice.
fn told(error: &StorageError) -> String {
    let mut told = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        told += &format!(": {cause}");
        next = cause.source();
    }
    if let Some(hint) = error.hint() {
        told += &format!("\n{hint}");
    }
    told
}
