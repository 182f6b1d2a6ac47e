//! Shows that hardened programs do what their sources do: `cargo xtask conformance [test262] [packages] [programs]`.
//!
//! `test262` runs the language's own tests as they are and transformed, by our profiles and by other minifiers,
//! and lists every test that passes only untransformed. `packages` runs packages' own test suites against their
//! hardened code. `programs` compares what random programs print. Reports are left under `target/conformance`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{
    failure::{Failure, Result},
    process::{run, run_quietly},
    tools,
    workspace::Workspace,
};

const USAGE: &str = "\
Usage: cargo xtask conformance [test262] [packages] [programs] [options]
  --profile <name>   light, standard or strong; may be given several times; light unless given
  --names <which>    keep, shorten or both: whether names of functions are kept; both unless given
  --bundle           packages: merge their modules as well
  --peers            measure the other minifiers as well
  --sample <n>       only so many tests, the same ones each time; so many packages, others each day;
                     so many random programs, 2,000 unless given
  --seed <n>         the first random program's seed; any unless given
  --only <text>      only tests or packages whose path holds it, or matches it as a pattern
  --skip <text>      no tests or packages whose path holds it, or matches it as a pattern
  --tree <folder>    a folder of test262's tests; language and built-ins unless given
  --debug            build without optimisation: slower to run, faster to build";

/// What was asked for.
struct Wanted {
    test262: bool,
    packages: bool,
    programs: bool,
    profiles: Vec<String>,
    names: String,
    bundle: bool,
    peers: bool,
    sample: Option<u32>,
    seed: Option<u32>,
    only: Option<String>,
    skip: Option<String>,
    trees: Vec<String>,
    debug: bool,
}

/// `cargo xtask conformance`
pub(crate) fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let wanted = Wanted::read(arguments)?;
    tools::install_folders(workspace, &[tools::NODE, tools::HARDEN_PEERS])?;
    let transformer = transformer(workspace, wanted.debug)?;
    if wanted.test262 {
        test262(workspace, &wanted, &transformer)?;
    }
    if wanted.packages {
        packages(workspace, &wanted, &transformer)?;
    }
    if wanted.programs {
        programs(workspace, &wanted, &transformer)?;
    }
    Ok(())
}

impl Wanted {
    fn read(arguments: &[String]) -> Result<Self> {
        let fail = |what: String| Failure::new(what).hint(USAGE);
        let mut wanted = Self {
            test262: false,
            packages: false,
            programs: false,
            profiles: Vec::new(),
            names: "both".to_owned(),
            bundle: false,
            peers: false,
            sample: None,
            seed: None,
            only: None,
            skip: None,
            trees: Vec::new(),
            debug: false,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().cloned().ok_or_else(|| fail(format!("`{argument}` needs a value")));
            match argument.as_str() {
                "test262" => wanted.test262 = true,
                "packages" => wanted.packages = true,
                "programs" => wanted.programs = true,
                "--profile" => wanted.profiles.push(one_of(value()?, &["light", "standard", "strong"])?),
                "--names" => wanted.names = one_of(value()?, &["keep", "shorten", "both"])?,
                "--bundle" => wanted.bundle = true,
                "--peers" => wanted.peers = true,
                "--sample" => wanted.sample = Some(number(&value()?)?),
                "--seed" => wanted.seed = Some(number(&value()?)?),
                "--only" => wanted.only = Some(value()?),
                "--skip" => wanted.skip = Some(value()?),
                "--tree" => wanted.trees.push(value()?),
                "--debug" => wanted.debug = true,
                _ => return Err(fail(format!("no option `{argument}`"))),
            }
        }
        if !wanted.test262 && !wanted.packages && !wanted.programs {
            (wanted.test262, wanted.packages, wanted.programs) = (true, true, true);
        }
        if wanted.trees.is_empty() {
            wanted.trees = vec!["language".to_owned(), "built-ins".to_owned()];
        }
        if wanted.profiles.is_empty() {
            wanted.profiles.push("light".to_owned());
        }
        Ok(wanted)
    }
}

fn number(text: &str) -> Result<u32> {
    text.parse().map_err(|_| Failure::new(format!("`{text}` is no number")).hint(USAGE))
}

fn one_of(value: String, allowed: &[&str]) -> Result<String> {
    if allowed.contains(&value.as_str()) {
        Ok(value)
    } else {
        Err(Failure::new(format!("`{value}` is none of {}", allowed.join(", "))).hint(USAGE))
    }
}

/// Builds the developer-only program that hardens many files in one process.
fn transformer(workspace: &Workspace, debug: bool) -> Result<PathBuf> {
    let mut build = workspace.cargo();
    build.args(["build", "--package", "protected-harden", "--example", "transform"]);
    if !debug {
        build.arg("--release");
    }
    run(&mut build)?;
    let kind = if debug { "debug" } else { "release" };
    Ok(workspace.target.join(kind).join("examples/transform"))
}

#[expect(clippy::disallowed_methods, reason = "a developer command lives in the developer's environment")]
fn test262(workspace: &Workspace, wanted: &Wanted, transformer: &Path) -> Result<()> {
    let folder = std::env::var_os("TEST262_DIR").filter(|folder| !folder.is_empty()).ok_or_else(|| {
        Failure::new("TEST262_DIR is not set")
            .hint("set it to a checkout of the repository tc39/test262, which no package registry carries")
    })?;
    let folder = PathBuf::from(folder);
    let trees = wanted.trees.iter().map(|tree| format!("test/{tree}"));
    for part in std::iter::once("harness/assert.js".to_owned()).chain(trees) {
        if !folder.join(&part).exists() {
            return Err(Failure::new(format!("TEST262_DIR: `{}` has no `{part}`", folder.display())));
        }
    }
    let revision =
        run_quietly(Command::new("git").arg("-C").arg(&folder).args(["rev-parse", "--short=12", "HEAD"]))?;
    let settings = json!({
        "test262": folder,
        "revision": revision.trim(),
        "trees": wanted.trees,
        "out": workspace.target.join("conformance"),
        "tools": workspace.tools(),
        "transformer": transformer,
        "profiles": wanted.profiles,
        "peers": wanted.peers,
        "names": wanted.names,
        "sample": wanted.sample,
        "only": wanted.only,
        "skip": wanted.skip,
    });
    script(workspace, "test262.mjs", &settings)
}

fn packages(workspace: &Workspace, wanted: &Wanted, transformer: &Path) -> Result<()> {
    let settings = json!({
        "out": workspace.target.join("conformance"),
        "tools": workspace.tools(),
        "transformer": transformer,
        "profiles": wanted.profiles,
        "bundle": wanted.bundle,
        "sample": wanted.sample,
        "only": wanted.only,
        "skip": wanted.skip,
    });
    script(workspace, "packages.mjs", &settings)
}

fn programs(workspace: &Workspace, wanted: &Wanted, transformer: &Path) -> Result<()> {
    let settings = json!({
        "out": workspace.target.join("conformance"),
        "transformer": transformer,
        "profiles": wanted.profiles,
        "sample": wanted.sample,
        "seed": wanted.seed,
    });
    script(workspace, "programs.mjs", &settings)
}

/// Runs one of the scripts beside this file under the pinned Node.js.
fn script(workspace: &Workspace, name: &str, settings: &serde_json::Value) -> Result<()> {
    let node = workspace.tools().join(tools::NODE).join("bin/node");
    let script = workspace.root.join("crates/xtask/src/conformance").join(name);
    let options = ["--no-warnings", "--experimental-vm-modules"];
    run(Command::new(node).args(options).arg(script).arg(settings.to_string()))
}

#[cfg(test)]
mod tests {
    use super::Wanted;

    fn read(arguments: &[&str]) -> Option<Wanted> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Wanted::read(&arguments).ok()
    }

    #[test]
    fn options_that_are_none_are_refused() {
        for bad in [
            &["--profile"][..],
            &["--profile", "heavy"],
            &["--sample", "few"],
            &["--names", "some"],
            &["test263"],
        ] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn says_what_runs() {
        let wanted = read(&["test262", "--profile", "standard", "--profile", "strong"]).expect("options");
        assert!(wanted.test262 && !wanted.packages);
        assert_eq!(wanted.profiles, ["standard", "strong"]);
        let wanted = read(&[]).expect("options");
        assert!(wanted.test262 && wanted.packages && wanted.programs);
        assert_eq!(wanted.profiles, ["light"]);
    }
}
