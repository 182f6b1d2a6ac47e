//! `completions`: a completion script for a shell.

use std::{io, process::ExitCode};

use clap::CommandFactory;

use crate::args::{Arguments, Completions};

/// Writes the script to standard output.
pub(crate) fn run(arguments: &Completions) -> ExitCode {
    let mut command = Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "protected-registry", &mut io::stdout());
    ExitCode::SUCCESS
}
