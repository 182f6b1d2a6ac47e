//! A program in Python, with a provider's own client, beside us.

use std::{ffi::OsStr, path::Path, process::Stdio};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

/// Runs `script`, below the folder of tests, by the Python of a tool, and returns its answer to `input`.
pub(crate) async fn answer(tool: &str, script: &str, environment: &[(&str, &OsStr)], input: &Value) -> Value {
    let home = tempfile::tempdir().expect("home");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = folder.join("../../target/tools").join(tool).join("bin/python");
    let mut child = Command::new(&program)
        .arg(folder.join("tests").join(script))
        .env_clear()
        .env("HOME", home.path())
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask tools`", program.display()));
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(input.to_string().as_bytes()).await.expect("write");
    drop(stdin);
    let output = child.wait_with_output().await.expect("output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("json")
}
