//! What is measured, ours and the others, and one run of it on one file.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::Bench;
use crate::{
    failure::{Failure, Result},
    local,
    process::find,
};

/// A profile of ours, or another tool as `peer.mjs` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Ours(&'static str),
    Peer(&'static str),
}

pub(super) const PROFILES: &[Tool] = &[Tool::Ours("light"), Tool::Ours("standard"), Tool::Ours("strong")];

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(profile) => f.pad(&format!("ours {profile}")),
            Self::Peer(name) => f.pad(name),
        }
    }
}

/// What a run cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Of ours the whole program; of another tool its call alone, without starting Node.js or loading the tool.
    pub(super) wall_ms: f64,
    /// User and system time of the same.
    pub(super) cpu_ms: f64,
    /// Of the whole process.
    pub(super) peak_bytes: f64,
    pub(super) output_bytes: f64,
}

/// How a run ended.
pub(super) enum Outcome {
    Done(Cost),
    /// Not within the time limit.
    Late,
    /// It refused the file, or failed on it.
    Failed(String),
}

/// A source file, which becomes a package of its own for ours.
pub(super) struct Input<'a> {
    pub(super) file: &'a Path,
    /// Whether it is an ECMAScript module.
    pub(super) module: bool,
}

impl Bench {
    /// Runs `tool` on a file, on one core, and leaves the result in `output`.
    pub(super) fn transform(&self, tool: Tool, input: &Input<'_>, output: &Path) -> Result<Outcome> {
        match tool {
            Tool::Ours(profile) => self.ours(profile, input, output),
            Tool::Peer(name) => self.peer(name, input, output),
        }
    }

    fn peer(&self, name: &str, input: &Input<'_>, output: &Path) -> Result<Outcome> {
        let mut command = self.script("peer.mjs");
        // The larger inputs need more than what Node.js takes by itself.
        command.arg(name).arg(input.file).arg(output).arg(if input.module { "module" } else { "script" });
        command.env("NODE_OPTIONS", "--max-old-space-size=6144");
        let run = self.measured(&command, Cores::One)?;
        Ok(match run.ended {
            Ended::Well => {
                let said: Value = serde_json::from_str(run.stdout.lines().last().unwrap_or_default())
                    .map_err(|error| {
                        Failure::new(format!("{name} gave no figures: {error}\n{}", run.stdout))
                    })?;
                let figure = |key: &str| said[key].as_f64().unwrap_or(f64::NAN);
                Outcome::Done(Cost {
                    wall_ms: figure("ms"),
                    cpu_ms: figure("cpu_ms"),
                    peak_bytes: run.peak_bytes,
                    output_bytes: figure("bytes"),
                })
            }
            Ended::Late => Outcome::Late,
            Ended::Badly => Outcome::Failed(reason(&run.stderr)),
        })
    }

    fn ours(&self, profile: &str, input: &Input<'_>, output: &Path) -> Result<Outcome> {
        let package = self.folder.join("one/package");
        clear(&package)?;
        let kind = if input.module { "module" } else { "commonjs" };
        let manifest = format!(
            "{{\"name\": \"@bench/one\", \"version\": \"1.0.0\", \"main\": \"index.js\", \"type\": \"{kind}\"}}"
        );
        local::write(&package.join("package.json"), &manifest)?;
        copy(input.file, &package.join("index.js"))?;
        let (outcome, build) = self.build(profile, &package, Cores::One)?;
        if let Outcome::Done(mut cost) = outcome {
            copy(&build.join("artifact/index.js"), output)?;
            cost.output_bytes = size(output);
            return Ok(Outcome::Done(cost));
        }
        Ok(outcome)
    }

    /// Has the package in `folder` hardened, and returns the folder of the build too.
    pub(super) fn build(&self, profile: &str, folder: &Path, cores: Cores) -> Result<(Outcome, PathBuf)> {
        let config = format!("project = \"example\"\n\n[harden]\nprofile = \"{profile}\"\n");
        local::write(&folder.join("protected-registry.toml"), &config)?;
        let build = self.folder.join("one/build");
        if build.exists() {
            fs::remove_dir_all(&build)
                .map_err(|error| Failure::new(format!("cannot remove `{}`: {error}", build.display())))?;
        }
        let mut command = Command::new(&self.cli);
        command.args(["protect-build", "--no-record", "--source"]).arg(folder);
        command.arg("--out").arg(&build).current_dir(folder);
        let run = self.measured(&command, cores)?;
        let outcome = match run.ended {
            Ended::Well => {
                obfuscated_as_asked(&build, profile)?;
                Outcome::Done(Cost {
                    wall_ms: run.wall_ms,
                    cpu_ms: run.cpu_ms,
                    peak_bytes: run.peak_bytes,
                    output_bytes: size(&build.join("artifact")),
                })
            }
            Ended::Late => Outcome::Late,
            Ended::Badly => Outcome::Failed(reason(&run.stderr)),
        };
        Ok((outcome, build))
    }

    /// A script of ours in the pinned Node.js, with the tools at hand.
    pub(super) fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.node);
        command.arg(self.scripts.join(name)).env("BENCH_LIBRARIES", &self.libraries);
        command
    }

    /// Runs a command within the time limit, with its cost.
    pub(super) fn measured(&self, command: &Command, cores: Cores) -> Result<Run> {
        let program = |name: &str| {
            find(name).ok_or_else(|| {
                Failure::new(format!("no `{name}` on PATH")).hint("run `cargo xtask tools --bench`")
            })
        };
        let figures = self.folder.join("figures");
        let mut outer = Command::new(program("time")?);
        outer.args(["--quiet", "--format=%e %U %S %M", "--output"]).arg(&figures);
        outer.arg(program("timeout")?).arg("--signal=KILL").arg(self.limit.as_secs().to_string());
        outer.arg(program("taskset")?).args(["--cpu-list", cores.list()]);
        outer.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                outer.env(name, value);
            }
        }
        if let Some(folder) = command.get_current_dir() {
            outer.current_dir(folder);
        }
        let output = outer.output().map_err(|error| Failure::new(format!("cannot start `time`: {error}")))?;
        let text = local::read(&figures)?;
        let numbers: Vec<f64> =
            text.lines().last().unwrap_or_default().split(' ').filter_map(|each| each.parse().ok()).collect();
        let [wall, user, system, peak] = numbers[..] else {
            return Err(Failure::new(format!("`time` gave no figures: {text}")));
        };
        Ok(Run {
            ended: match output.status.code() {
                Some(0) => Ended::Well,
                Some(KILLED) if wall + 1.0 >= self.limit.as_secs_f64() => Ended::Late,
                _ => Ended::Badly,
            },
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            wall_ms: wall * 1000.0,
            cpu_ms: (user + system) * 1000.0,
            peak_bytes: peak * 1024.0,
        })
    }
}

/// The exit code of what `timeout` killed.
const KILLED: i32 = 137;

#[derive(Clone, Copy)]
pub(super) enum Cores {
    One,
    Two,
}

impl Cores {
    fn list(self) -> &'static str {
        match self {
            Self::One => "0",
            Self::Two => "0,1",
        }
    }
}

pub(super) enum Ended {
    Well,
    Late,
    Badly,
}

pub(super) struct Run {
    pub(super) ended: Ended,
    pub(super) stdout: String,
    pub(super) stderr: String,
    wall_ms: f64,
    cpu_ms: f64,
    peak_bytes: f64,
}

/// The line of an error that says what happened.
pub(super) fn reason(stderr: &str) -> String {
    let told = |line: &&str| line.contains("rror") && !line.trim_start().starts_with("at ");
    let line = stderr.lines().find(told).or_else(|| stderr.lines().last()).unwrap_or("no reason was given");
    line.trim().chars().take(120).collect()
}

/// Fails unless the build did what the profile says: a build that did less would look fast and small.
fn obfuscated_as_asked(build: &Path, profile: &str) -> Result<()> {
    let manifest: Value = serde_json::from_str(&local::read(&build.join("evidence/build-manifest.json"))?)
        .map_err(|error| Failure::new(format!("the build manifest is not JSON: {error}")))?;
    let obfuscated = manifest["protection"]["obfuscated"].as_bool();
    if obfuscated == Some(profile != "light") {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "the build for profile `{profile}` is recorded as obfuscated: {}",
            manifest["protection"]["obfuscated"]
        )))
    }
}

pub(super) fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .map_err(|error| Failure::new(format!("cannot remove `{}`: {error}", folder.display())))?;
    }
    local::make(folder)
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(|error| {
        Failure::new(format!("cannot copy `{}` to `{}`: {error}", from.display(), to.display()))
    })
}

/// Copies what a package publishes, without what is installed below it.
pub(super) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    local::make(to)?;
    let failed = |error: std::io::Error| Failure::new(format!("cannot read `{}`: {error}", from.display()));
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let target = to.join(entry.file_name());
        match entry.file_type().map_err(failed)? {
            kind if kind.is_dir() && entry.file_name() != "node_modules" => {
                copy_folder(&entry.path(), &target)?
            }
            kind if kind.is_file() => copy(&entry.path(), &target)?,
            _ => {}
        }
    }
    Ok(())
}

/// Bytes in a file, or in all files of a folder.
pub(super) fn size(path: &Path) -> f64 {
    if path.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        return entries.map(|entry| size(&entry.path())).sum();
    }
    fs::metadata(path).map_or(f64::NAN, |metadata| metadata.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_did_less_than_asked_is_no_figure() {
        let folder = std::env::temp_dir().join(format!("xtask-bench-{}", std::process::id()));
        local::make(&folder.join("evidence")).expect("folder");
        let manifest = folder.join("evidence/build-manifest.json");
        local::write(&manifest, r#"{"protection": {"obfuscated": false}}"#).expect("manifest");
        assert!(obfuscated_as_asked(&folder, "light").is_ok());
        assert!(obfuscated_as_asked(&folder, "standard").is_err());
        local::write(&manifest, r#"{"protection": {}}"#).expect("manifest");
        assert!(obfuscated_as_asked(&folder, "light").is_err());
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn the_reason_is_the_error_and_not_its_stack() {
        let stderr = "node:internal:1\n  throw x;\n\nTypeError: no such thing\n    at f (errors.js:1:1)\n\nNode.js v24\n";
        assert_eq!(reason(stderr), "TypeError: no such thing");
        assert_eq!(reason(""), "no reason was given");
    }
}
