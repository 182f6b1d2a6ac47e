//! Hardens one file and prints it: `one <file> <profile> [seed]`. For those who work on the passes.
#![expect(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "a developer's tool")]

use std::sync::atomic::AtomicBool;

use protected_harden::*;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let path = std::path::Path::new(&arguments[1]);
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let out = std::env::temp_dir().join(format!("one-{}", std::process::id()));
    let (artifact, escrow) = (out.join("a"), out.join("e"));
    std::fs::create_dir_all(&artifact).unwrap();
    std::fs::create_dir_all(&escrow).unwrap();
    let profile = match arguments.get(2).map(String::as_str) {
        Some("standard") => Profile::Standard,
        Some("strong") => Profile::Strong,
        _ => Profile::Light,
    };
    let secret = arguments.get(3).map(|text| protected_model::secret::BuildSecret::new(text.clone()));
    let obfuscation = Obfuscation { profile, secret, ..Default::default() };
    let options = Options { obfuscation, threads: Some(1), ..Options::default() };
    let files = [SourceFile { path: name.clone(), absolute: path.to_owned(), mode: 0o644 }];
    let package_json = r#"{"name":"one","version":"1.0.0"}"#;
    let request = Request {
        files: &files,
        package_json,
        tsconfig: None,
        artifact: &artifact,
        escrow: &escrow,
        options: &options,
        cancelled: &AtomicBool::new(false),
    };
    match harden(&request) {
        Ok(done) => {
            for (path, reason) in &done.unprotected {
                eprintln!("{path}: {reason}");
            }
            println!("{}", std::fs::read_to_string(artifact.join(&name)).unwrap());
        }
        Err(error) => {
            eprintln!("{error}");
            return std::process::ExitCode::FAILURE;
        }
    }
    std::fs::remove_dir_all(out).unwrap();
    std::process::ExitCode::SUCCESS
}
