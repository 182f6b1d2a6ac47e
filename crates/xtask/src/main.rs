//! Developer commands: `cargo xtask <command>`.
//!
//! Light on purpose: it must build in seconds in a fresh clone, before anything else is compiled.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer command talks on its terminal")]

mod audit;
mod bench;
mod conformance;
mod demo;
mod failure;
mod http;
mod local;
mod process;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use failure::Result;
use workspace::Workspace;

/// A developer command: its name, what it does, and the function that does it.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace, &[String]) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command { name: "demo", about: "run the main job end to end on this machine", run: demo::run_command },
    Command { name: "tools", about: "install the pinned tools that the tests use", run: tools::run_command },
    Command { name: "test", about: "run every check and every test", run: test::run_command },
    Command {
        name: "bench",
        about: "measure beside our peers, in one run: publish (as if not said) or harden",
        run: bench::run_command,
    },
    Command {
        name: "conformance",
        about: "run test262 and packages' own tests against hardened code",
        run: conformance::run_command,
    },
    Command {
        name: "audit",
        about: "look the dependencies up in the RustSec advisories",
        run: audit::run_command,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        println!("{}", usage());
        return ExitCode::from(2);
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("error: no command `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    match Workspace::find().and_then(|workspace| (command.run)(&workspace, rest)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = String::from("Usage: cargo xtask <command>\n\nCommands:");
    for command in COMMANDS {
        text.push_str(&format!("\n  {:<12} {}", command.name, command.about));
    }
    text
}
