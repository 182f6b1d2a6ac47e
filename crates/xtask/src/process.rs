//! Runs other programs and says clearly which one failed.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::failure::{Failure, Result};

/// Finds a program in the folders of `PATH`.
#[expect(clippy::disallowed_methods, reason = "a developer command lives in the developer's environment")]
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|p| p.is_file())
}

/// Runs a command that talks on our terminal; fails unless it exits with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("`{}` ended with {status}", shown(command))))
    }
}

/// Runs a command quietly; what it said is shown only when it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(command, &error))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("`{}` ended with {}\n{stdout}{stderr}", shown(command), output.status)))
}

/// Runs a command, hands each line of its standard output to `each`, and tells whether it exited with 0.
pub(crate) fn run_lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| not_started(command, &error))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line
                .map_err(|error| Failure::new(format!("reading what `{}` says: {error}", shown(command))))?;
            each(&String::from_utf8_lossy(&line));
        }
    }
    let status =
        child.wait().map_err(|error| Failure::new(format!("waiting for `{}`: {error}", shown(command))))?;
    Ok(status.success())
}

fn not_started(command: &Command, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot start `{}`: {error}", shown(command)))
}

/// The command as one would type it, with the program's folder left out.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
