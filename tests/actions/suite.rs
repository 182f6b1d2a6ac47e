//! Where the repository and the pinned tools are, and how their files are read.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// Returns a tool that `cargo xtask tools` has put under the target folder.
#[track_caller]
pub(crate) fn tool(path: &str) -> PathBuf {
    let tools =
        Path::new(env!("CARGO_BIN_EXE_protected-registry")).ancestors().map(|folder| folder.join("tools"));
    let found = tools.map(|tools| tools.join(path)).find(|tool| tool.is_file());
    found.unwrap_or_else(|| panic!("{path} is not installed; this installs it: cargo xtask tools"))
}

/// Returns the folders of such tools, and then `PATH`, as a value for `PATH`.
#[expect(clippy::disallowed_methods, reason = "children need the PATH of this process")]
pub(crate) fn path_with(tools: &[&str]) -> std::ffi::OsString {
    let mut folders: Vec<PathBuf> =
        tools.iter().map(|tool_path| tool(tool_path).parent().expect("folder").to_owned()).collect();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").expect("PATH")));
    std::env::join_paths(folders).expect("PATH")
}

/// What a program printed, and whether it was content.
pub(crate) struct Verdict {
    pub(crate) content: bool,
    pub(crate) said: String,
}

impl Verdict {
    #[track_caller]
    pub(crate) fn is_content(&self) {
        assert!(self.content, "{}", self.said);
    }

    #[track_caller]
    pub(crate) fn complains(&self, about: &str) {
        assert!(
            !self.content && self.said.contains(about),
            "expected a complaint about `{about}`:\n{}",
            self.said
        );
    }
}

/// Runs a tool in the repository.
#[track_caller]
pub(crate) fn check(tool_path: &str, arguments: &[&str], files: &[PathBuf]) -> Verdict {
    let output = Command::new(tool(tool_path))
        .args(arguments)
        .args(files)
        .current_dir(root())
        .env("PATH", path_with(&["python/bin/shellcheck"]))
        .stdin(Stdio::null())
        .output()
        .expect("the tool starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Verdict { content: output.status.success(), said }
}

/// Reads the documents of a YAML file, as JSON.
#[track_caller]
pub(crate) fn yaml(path: &Path) -> Vec<Value> {
    let program =
        "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let output =
        Command::new(tool("python/bin/python")).args(["-c", program]).arg(path).output().expect("python");
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Returns the fenced blocks of a language in a Markdown file.
pub(crate) fn blocks(markdown: &Path, language: &str) -> Vec<String> {
    let text = fs::read_to_string(markdown).expect("Markdown");
    let fence = format!("```{language}\n");
    let found: Vec<String> = text
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect();
    assert!(!found.is_empty(), "{} has no {language} block", markdown.display());
    found
}

/// Returns the rows of the table in a Markdown file whose first heading is `heading`, cell by cell, without backticks
/// round a whole cell.
pub(crate) fn table(markdown: &Path, heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(markdown).expect("Markdown");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("| {heading} |")));
    assert!(lines.next().is_some(), "{} has no table of {heading}s", markdown.display());
    let bare = |cell: &str| {
        let cell = cell.trim();
        let inner = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
        inner.filter(|inner| !inner.contains('`')).unwrap_or(cell).to_owned()
    };
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(bare).collect())
        .collect()
}

/// The settings that a command takes: its options and its positional argument, by their names.
pub(crate) fn settings(command: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_protected-registry"))
        .args([command, "--help"])
        .output()
        .expect("help");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    let mut found = Vec::new();
    for line in help.lines().map(str::trim_start) {
        if let Some(argument) = line.strip_prefix('[').and_then(|rest| rest.split(']').next())
            && argument.chars().all(|c| c.is_ascii_uppercase())
        {
            found.push(argument.to_ascii_lowercase());
        }
        if (line.starts_with("--") || line.starts_with('-'))
            && let Some(option) = line.split_once("--").map(|(_, rest)| rest)
        {
            let end = option.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(option.len());
            found.push(option[..end].to_owned());
        }
    }
    // How the command talks is no setting of a step: the platform's own forms are used there.
    found.retain(|name| !["format", "verbose", "help"].contains(&name.as_str()));
    assert!(found.len() > 4, "`{command} --help` was not understood:\n{help}");
    found
}

/// Returns the variable that the command reads a setting from.
pub(crate) fn variable(setting: &str) -> String {
    match setting {
        "fractalops-url" => "FRACTALOPS_BASE_URL".to_owned(),
        setting => format!("PROTECTED_REGISTRY_{}", setting.to_ascii_uppercase().replace('-', "_")),
    }
}
