//! `cargo xtask bench harden [speed] [resistance] [run-time]`: the hardened build beside minifiers and obfuscators.
//!
//! Ours is the released program as a user starts it, with its source maps and its digests. What the figures have to
//! be stands in [`Goal`]s beside them; a missed one is printed as such and ends nothing. `docs/hardening.md` says what
//! the figures mean.

mod resistance;
mod run_time;
mod speed;
mod tool;

use std::{fmt, path::PathBuf, time::Duration};

use super::machine;
use crate::{
    failure::{Failure, Result},
    local,
    process::run,
    tools::{self, HARDEN_INPUTS, HARDEN_PEERS},
    workspace::Workspace,
};

/// The scripts that run in Node.js.
const SCRIPTS: &[(&str, &str)] = &[
    ("libraries.mjs", include_str!("harden/libraries.mjs")),
    ("peer.mjs", include_str!("harden/peer.mjs")),
    ("describe.mjs", include_str!("harden/describe.mjs")),
    ("public.mjs", include_str!("harden/public.mjs")),
    ("deobfuscate.mjs", include_str!("harden/deobfuscate.mjs")),
    ("score.mjs", include_str!("harden/score.mjs")),
    ("run_time.mjs", include_str!("harden/run_time.mjs")),
];

/// How long one tool may take for one file when nothing else is said.
const LIMIT: Duration = Duration::from_secs(180);

pub(super) fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let options = Options::read(arguments)?;
    tools::install_for_harden(workspace)?;
    let cli = match options.binary {
        Some(binary) => binary,
        None => {
            run(workspace.cargo().args(["build", "--release", "--package", "protected-cli", "--bins"]))?;
            workspace.target.join("release/protected-registry")
        }
    };
    let tools = workspace.tools();
    let folder = workspace.target.join("bench/harden");
    let bench = Bench {
        cli,
        node: tools.join("node-24/bin/node"),
        libraries: tools.join(HARDEN_PEERS),
        inputs: tools.join(HARDEN_INPUTS).join("node_modules"),
        scripts: folder.join("scripts"),
        folder,
        limit: options.limit,
        only: options.only,
    };
    local::make(&bench.scripts)?;
    for (name, text) in SCRIPTS {
        local::write(&bench.scripts.join(name), text)?;
    }
    println!("\nOn {}", machine());
    let wanted = |part: Part| options.parts.is_empty() || options.parts.contains(&part);
    let mut goals = Vec::new();
    if wanted(Part::Speed) {
        goals.extend(speed::measure(&bench)?);
    }
    if wanted(Part::Resistance) {
        goals.extend(resistance::measure(&bench)?);
    }
    if wanted(Part::RunTime) {
        goals.extend(run_time::measure(&bench)?);
    }
    println!("\nGoals");
    for goal in goals {
        println!("  {goal}");
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Speed,
    Resistance,
    RunTime,
}

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    parts: Vec<Part>,
    /// The built program to measure, instead of one that is built now.
    binary: Option<PathBuf>,
    limit: Duration,
    /// Only inputs whose name holds this text.
    only: Option<String>,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self> {
        let mut options = Self { parts: Vec::new(), binary: None, limit: LIMIT, only: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value =
                || rest.next().ok_or_else(|| Failure::new(format!("`{argument}` needs a value after it")));
            match argument.as_str() {
                "speed" => options.parts.push(Part::Speed),
                "resistance" => options.parts.push(Part::Resistance),
                "run-time" => options.parts.push(Part::RunTime),
                "--binary" => options.binary = Some(PathBuf::from(value()?)),
                "--limit" => {
                    let value = value()?;
                    let seconds = value.parse().map_err(|_| {
                        Failure::new(format!("`--limit` takes a number of seconds, not `{value}`"))
                    })?;
                    options.limit = Duration::from_secs(seconds);
                }
                "--only" => options.only = Some(value()?.clone()),
                _ => {
                    return Err(Failure::new(format!("cargo xtask bench harden knows no `{argument}`"))
                        .hint(
                            "speed, resistance, run-time; --binary <file>, --limit <seconds>, --only <name>",
                        ));
                }
            }
        }
        Ok(options)
    }
}

/// Where everything is.
struct Bench {
    cli: PathBuf,
    node: PathBuf,
    libraries: PathBuf,
    inputs: PathBuf,
    scripts: PathBuf,
    folder: PathBuf,
    limit: Duration,
    only: Option<String>,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

/// A figure that the product should reach.
struct Goal {
    what: String,
    figure: f64,
    bound: Bound,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn at_most(what: impl Into<String>, figure: f64, bound: f64) -> Self {
        Self { what: what.into(), figure, bound: Bound::AtMost(bound) }
    }

    fn at_least(what: impl Into<String>, figure: f64, bound: f64) -> Self {
        Self { what: what.into(), figure, bound: Bound::AtLeast(bound) }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, bound, met) = match self.bound {
            Bound::AtMost(bound) => ("at most", bound, self.figure <= bound),
            Bound::AtLeast(bound) => ("at least", bound, self.figure >= bound),
        };
        let verdict = if met { "met" } else { "MISSED" };
        write!(f, "{:<62} {:>9.3}  {word} {bound}: {verdict}", self.what, self.figure)
    }
}

/// Takes the one in the middle.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Options> {
        Options::read(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [&["sped"][..], &["--limit"], &["--limit", "soon"], &["--binary"], &["--limit", "-1"]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let options = read(&["speed", "--limit", "5", "run-time"]).expect("known words");
        assert_eq!(options.parts, [Part::Speed, Part::RunTime]);
        assert_eq!(options.limit, Duration::from_secs(5));
    }

    #[test]
    fn a_goal_says_whether_it_is_met() {
        assert!(Goal::at_most("size", 3.0, 3.0).to_string().ends_with("at most 3: met"));
        assert!(Goal::at_most("size", 3.01, 3.0).to_string().ends_with("at most 3: MISSED"));
        assert!(Goal::at_least("score", 94.9, 95.0).to_string().ends_with("at least 95: MISSED"));
        assert!(Goal::at_least("score", f64::NAN, 95.0).to_string().ends_with("MISSED"));
    }
}
