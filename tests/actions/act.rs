//! Runs a workflow under act, on this machine, in a throwaway repository, with the embedded server as FractalOps and as
//! the issuer of ID tokens.

use std::{
    cell::Cell,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use sha2::Digest;

use crate::{
    harness::{CLI, Screen, World},
    suite::{blocks, path_with, root, tool},
};

/// What stands for the suite's commit in the READMEs.
const COMMIT: &str = "0000000000000000000000000000000000000000";

/// A repository with a workflow, and the world that it runs in.
pub(crate) struct Job {
    pub(crate) world: World,
    /// The event's name and payload.
    pub(crate) event: (&'static str, Value),
    /// The run whose identity the job has; `None` when the job has no `id-token: write`.
    pub(crate) identity: Option<&'static str>,
    /// Further variables of the workflow.
    pub(crate) variables: Vec<(&'static str, String)>,
    number: Cell<u32>,
}

impl Job {
    pub(crate) fn new(world: World) -> Self {
        let suite = world.path("suite");
        copy(&root().join("actions"), &suite.join("actions"));
        fs::copy(root().join("action.yml"), suite.join("action.yml")).expect("copy");
        let upload = world.path("upload-artifact");
        fs::create_dir(&upload).expect("folder");
        fs::write(upload.join("action.yml"), UPLOAD_ARTIFACT).expect("write");
        // A small program in the binary's place: it is copied, hashed and searched for secrets in every run.
        fs::write(world.path("mirror"), format!("#!/bin/sh\nexec '{CLI}' \"$@\"\n")).expect("write");
        let event = ("push", json!({ "ref": "refs/tags/v1.0.0" }));
        Self { world, event, identity: Some("release"), variables: Vec::new(), number: Cell::new(0) }
    }

    /// Returns the workflow that a README shows, with its examples' addresses replaced by those of this world.
    pub(crate) fn workflow(&self, readme: &str) -> String {
        let mirror = self.world.path("mirror");
        let sha256 = hex::encode(sha2::Sha256::digest(fs::read(&mirror).expect("the mirror")));
        blocks(&root().join(readme), "yaml")
            .remove(0)
            .replace(
                "https://mirror.example/protected-registry/linux-x64/protected-registry",
                &format!("file://{}", mirror.display()),
            )
            .replace(&"0".repeat(64), &sha256)
            .replace("https://fractalops.example", &self.world.base())
            .replace("project: core", "project: example")
    }

    /// Runs a workflow in a repository with the files of `source`.
    ///
    /// act can lose the last line of a step that fails, once in hundreds of runs. Where the summary tells of a failure
    /// and no annotation does, it is run again: a step that writes none has none the second time either.
    pub(crate) fn run(&self, workflow: &str, source: &Path) -> Run {
        let run = self.run_once(workflow, source);
        if run.summary().contains("failed") && run.errors().is_empty() {
            return self.run_once(workflow, source);
        }
        run
    }

    fn run_once(&self, workflow: &str, source: &Path) -> Run {
        let world = &self.world;
        self.number.set(self.number.get() + 1);
        let place = world.path(&format!("job-{}", self.number.get()));
        let repository = place.join("repository");
        copy(source, &repository);
        fs::create_dir_all(repository.join(".github/workflows")).expect("folder");
        fs::write(repository.join(".github/workflows/it.yml"), workflow).expect("write");
        for arguments in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["remote", "add", "origin", "https://github.com/acme/core.git"],
            &["add", "--all"],
            &[
                "-c",
                "user.name=ci",
                "-c",
                "user.email=ci@example.invalid",
                "commit",
                "--quiet",
                "--message=it",
            ],
        ] {
            let status = Command::new("git")
                .args(arguments)
                .current_dir(&repository)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_SYSTEM", "/dev/null")
                .status();
            assert!(status.expect("git").success(), "git {arguments:?}");
        }
        let (event, payload) = &self.event;
        let event_file = place.join("event.json");
        fs::write(&event_file, payload.to_string()).expect("write");

        let mut command = Command::new(tool("python/bin/act"));
        command
            .arg(event)
            .args(["--workflows", ".github/workflows/it.yml", "--platform", "ubuntu-latest=-self-hosted"])
            .args(["--json", "--no-cache-server", "--action-offline-mode", "--action-cache-path"])
            .arg(place.join("act"))
            .arg("--eventpath")
            .arg(event_file)
            .args([
                "--local-repository",
                &format!("your-org/protected-registry@{COMMIT}={}", world.path("suite").display()),
            ])
            .args(["--local-repository", &upload_artifact(&world.path("upload-artifact"))])
            .env_clear()
            .env("PATH", path_with(&["npm-11/bin/npm", "node-24/bin/node"]))
            .env("HOME", world.path("home"))
            .env("TMPDIR", world.path("tmp"))
            .env("XDG_CACHE_HOME", place.join("cache"))
            .current_dir(&repository)
            .stdin(Stdio::null());
        let mut variables = self.variables.clone();
        if let Some(run) = self.identity {
            let url = format!("{}/local-issuer/github-actions/token/{run}?api-version=2.0", world.base());
            let token = world.request_token(run);
            // As a secret too, so that act masks it, as GitHub does.
            command.args(["--secret", &format!("ACTIONS_ID_TOKEN_REQUEST_TOKEN={token}")]);
            variables.push(("ACTIONS_ID_TOKEN_REQUEST_URL", url));
            variables.push(("ACTIONS_ID_TOKEN_REQUEST_TOKEN", token));
        }
        for (name, value) in variables {
            command.args(["--env", &format!("{name}={value}")]);
        }
        let output = command.output().expect("act");
        let screen = Screen {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        let lines: Vec<Value> =
            screen.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        world.saw(Screen { stdout: without_masks(&screen.stdout), ..screen.clone() });
        Run { screen, lines }
    }
}

/// A job that has ended, as its runner understood it.
pub(crate) struct Run {
    pub(crate) screen: Screen,
    lines: Vec<Value>,
}

impl Run {
    fn commands<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["command"] == name)
    }

    /// The text of the error annotations.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.commands("error").map(|line| line["arg"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Returns whether the job told its runner to hide a text.
    pub(crate) fn masks(&self, text: &str) -> bool {
        self.commands("add-mask").any(|line| line["arg"] == text)
    }

    /// The job summary.
    pub(crate) fn summary(&self) -> String {
        self.commands("summary").map(|line| line["content"].as_str().unwrap_or_default()).collect()
    }

    /// The last value of a step's output.
    pub(crate) fn output(&self, step: &str, name: &str) -> Option<String> {
        let own = |line: &&Value| line["name"] == name && line["stepID"] == json!([step]);
        self.commands("set-output")
            .filter(own)
            .last()
            .and_then(|line| line["arg"].as_str())
            .map(str::to_owned)
    }

    /// Everything that steps printed.
    pub(crate) fn printed(&self) -> String {
        self.lines
            .iter()
            .filter(|line| line["raw_output"] == true)
            .map(|line| line["msg"].as_str().unwrap_or_default())
            .collect()
    }

    #[track_caller]
    pub(crate) fn succeeded(&self) -> &Self {
        assert!(self.screen.code == 0 && self.result() == "success", "{}", self.story());
        self
    }

    #[track_caller]
    pub(crate) fn failed(&self) -> &Self {
        assert!(self.screen.code != 0 && self.result() == "failure", "{}", self.story());
        self
    }

    fn result(&self) -> &str {
        self.lines.iter().rev().find_map(|line| line["jobResult"].as_str()).unwrap_or("none")
    }

    /// What somebody who reads the log sees.
    pub(crate) fn story(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let message = line["msg"].as_str().unwrap_or_default();
            text.push_str(message);
            if !message.ends_with('\n') {
                text.push('\n');
            }
        }
        format!("exit {}\n{text}{}", self.screen.code, self.screen.stderr)
    }
}

/// Stands in for GitHub's action: it keeps a file or a folder where a test finds it.
const UPLOAD_ARTIFACT: &str = "\
name: upload-artifact
description: copies
inputs:
  name: {description: name}
  path: {description: path}
  if-no-files-found: {description: unused}
runs:
  using: composite
  steps:
    - name: copy
      shell: bash
      env:
        NAME: ${{ inputs.name }}
        FILE: ${{ inputs.path }}
      run: mkdir -p \"$ARTIFACTS/$NAME\" && cp -r \"$FILE\" \"$ARTIFACTS/$NAME/\"
";

fn upload_artifact(folder: &Path) -> String {
    let text = fs::read_to_string(root().join("actions/protect-build/README.md")).expect("README");
    let (_, rest) = text.split_once("actions/upload-artifact@").expect("upload-artifact");
    format!("actions/upload-artifact@{}={}", &rest[..40], folder.display())
}

/// Leaves out how act repeats a mask command, which alone may say a secret: everything else is searched for one.
fn without_masks(stdout: &str) -> String {
    let is_mask =
        |line: &&str| serde_json::from_str::<Value>(line).is_ok_and(|line| line["command"] == "add-mask");
    stdout.lines().filter(|line| !is_mask(line)).map(|line| format!("{line}\n")).collect()
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("kind").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}
