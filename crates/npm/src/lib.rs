//! The client side of npm: `package.json`, packing, publishing, and the package managers.
//!
//! A token enters a foreign process only where nothing else will do: publishing is done here, and a package
//! manager that must have one reads it from a private file of one command.

mod glob;
pub mod hostile;
mod json;
pub mod manager;
pub mod pack;
pub mod package_json;
mod redact;
pub mod run;
pub mod tarball;
pub mod temporary;
pub mod upload;
mod yaml;

pub use json::Json;
