//! `actions/setup`: a binary runs only when it is the expected one.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::Digest;
use tempfile::TempDir;

use crate::suite::{path_with, root};

/// A runner's folders, and a binary on a mirror.
struct Runner {
    folder: TempDir,
    sha256: String,
}

/// What the script printed, how it ended, and the output that it set.
struct Outcome {
    code: i32,
    said: String,
    cli_path: Option<PathBuf>,
}

impl Runner {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join("tools")).expect("folder");
        let content = "#!/bin/sh\necho protected-registry 9.9.9\n";
        let sha256 = hex::encode(sha2::Sha256::digest(content));
        executable(&folder.path().join("mirror"), content);
        Self { folder, sha256 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mirror(&self) -> String {
        format!("file://{}", self.path("mirror").display())
    }

    fn cached(&self) -> PathBuf {
        self.path("tools/protected-registry").join(&self.sha256).join("protected-registry")
    }

    fn run(&self, variables: &[(&str, &str)]) -> Outcome {
        let output_file = self.path("output");
        fs::write(&output_file, "").expect("output");
        let output = Command::new("bash")
            .arg(root().join("actions/setup/setup.sh"))
            .env_clear()
            .env("PATH", path_with(&[]))
            .env("HOME", self.folder.path())
            .env("RUNNER_TOOL_CACHE", self.path("tools"))
            .env("RUNNER_TEMP", self.folder.path())
            .env("GITHUB_OUTPUT", &output_file)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("bash");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let written = fs::read_to_string(output_file).expect("output");
        let cli_path = written.trim().strip_prefix("cli-path=").map(PathBuf::from);
        Outcome { code: output.status.code().unwrap_or(-1), said, cli_path }
    }
}

impl Outcome {
    #[track_caller]
    fn gives(&self, path: &Path) {
        assert_eq!(self.code, 0, "{}", self.said);
        assert_eq!(self.cli_path.as_deref(), Some(path), "{}", self.said);
        assert!(self.said.contains("protected-registry 9.9.9"), "{}", self.said);
    }

    /// Nothing was run, nothing was handed on, and an annotation says why.
    #[track_caller]
    fn refuses(&self, why: &str) {
        assert_eq!(self.code, 2, "{}", self.said);
        assert_eq!(self.cli_path, None, "{}", self.said);
        assert!(self.said.contains("::error title=") && self.said.contains(why), "{}", self.said);
        assert!(!self.said.contains("9.9.9"), "it was run:\n{}", self.said);
    }
}

fn executable(path: &Path, content: &str) {
    fs::write(path, content).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}

#[test]
fn a_mirror_s_binary_is_fetched_once_and_looked_at_again() {
    let runner = Runner::new();
    let variables = [("SETUP_URL", &*runner.mirror()), ("SETUP_SHA256", &*runner.sha256.to_uppercase())];
    runner.run(&variables).gives(&runner.cached());
    fs::remove_file(runner.path("mirror")).expect("the mirror goes away");
    runner.run(&variables).gives(&runner.cached());
}

/// Attack: an earlier job on the same machine changes what the tool cache holds.
#[test]
fn what_was_changed_in_the_tool_cache_is_not_run() {
    let runner = Runner::new();
    let variables = [("SETUP_URL", &*runner.mirror()), ("SETUP_SHA256", &*runner.sha256)];
    runner.run(&variables).gives(&runner.cached());
    executable(&runner.cached(), "#!/bin/sh\necho stolen\n");
    let again = runner.run(&variables);
    again.gives(&runner.cached());
    assert!(again.said.contains("::warning") && !again.said.contains("stolen"), "{}", again.said);
    executable(&runner.cached(), "#!/bin/sh\necho stolen\n");
    fs::remove_file(runner.path("mirror")).expect("the mirror goes away");
    runner.run(&variables).refuses("could not be fetched");
}

/// Attack: the mirror serves another program.
#[test]
fn other_content_is_refused_and_not_kept() {
    let runner = Runner::new();
    executable(&runner.path("mirror"), "#!/bin/sh\necho 9.9.9 stolen\n");
    let outcome = runner.run(&[("SETUP_URL", &*runner.mirror()), ("SETUP_SHA256", &*runner.sha256)]);
    outcome.refuses(&format!("expected {}", runner.sha256));
    let kept = crate::harness::files(&runner.path("tools"));
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn a_url_needs_a_checksum_and_a_safe_scheme() {
    let runner = Runner::new();
    let sha256 = &*runner.sha256;
    runner.run(&[("SETUP_URL", &*runner.mirror())]).refuses("needs the SHA-256");
    for odd in ["abc", &sha256[1..], &format!("{sha256}0"), &format!("{}\n{sha256}", &sha256[..10])] {
        runner
            .run(&[("SETUP_URL", &*runner.mirror()), ("SETUP_SHA256", odd)])
            .refuses("64 hexadecimal digits");
    }
    for (url, why) in [
        ("http://mirror.example/x", "https://"),
        ("ftp://mirror.example/x", "https://"),
        ("file://mirror.example/x", "file:///"),
        ("/etc/passwd", "https://"),
        ("-o/tmp/x", "https://"),
        ("https://user:hunter2@mirror.example/x", "credential"),
        ("https://mirror.example/x\n::warning::y", "line end"),
    ] {
        let outcome = runner.run(&[("SETUP_URL", url), ("SETUP_SHA256", sha256)]);
        outcome.refuses(why);
        assert!(!outcome.said.contains("hunter2") && !outcome.said.contains("::warning"), "{}", outcome.said);
    }
    runner.run(&[]).refuses("Give the path of a binary, or a URL");
}

#[test]
fn a_binary_that_is_here_is_taken_as_it_is() {
    let runner = Runner::new();
    let path = runner.path("mirror");
    let text = path.to_str().expect("path");
    runner.run(&[("SETUP_BINARY_PATH", text)]).gives(&path);
    runner.run(&[("SETUP_BINARY_PATH", text), ("SETUP_SHA256", &*runner.sha256)]).gives(&path);
    let wrong = "0".repeat(64);
    runner.run(&[("SETUP_BINARY_PATH", text), ("SETUP_SHA256", &*wrong)]).refuses("expected 0000");
    runner.run(&[("SETUP_BINARY_PATH", text), ("SETUP_URL", &*runner.mirror())]).refuses("not both");
    runner.run(&[("SETUP_BINARY_PATH", "/does/not/exist")]).refuses("no executable file");
    runner
        .run(&[("SETUP_BINARY_PATH", runner.folder.path().to_str().expect("path"))])
        .refuses("no executable file");
}

/// Attack: a `.curlrc` on the runner sends a credential along, or a `.netrc` does.
#[test]
fn the_runner_s_curl_configuration_is_not_read() {
    let runner = Runner::new();
    fs::write(runner.path(".curlrc"), "output = \"stolen\"\nheader = \"authorization: Bearer x\"\n")
        .expect("write");
    let variables = [("SETUP_URL", &*runner.mirror()), ("SETUP_SHA256", &*runner.sha256)];
    runner.run(&variables).gives(&runner.cached());
    assert!(!runner.path("stolen").exists());
}

#[test]
fn a_binary_for_another_machine_is_told() {
    let runner = Runner::new();
    let path = runner.path("foreign");
    executable(&path, "\x7fELF no program");
    let outcome = runner.run(&[("SETUP_BINARY_PATH", path.to_str().expect("path")), ("RUNNER_OS", "Linux")]);
    outcome.refuses("does not run here");
}
