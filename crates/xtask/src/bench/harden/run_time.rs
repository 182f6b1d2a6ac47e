//! Run time: programs and packages that do real work, as they were written and hardened.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    Bench, Goal, median,
    tool::{self, Cores, Ended, Input, Outcome, PROFILES, Tool},
};
use crate::{
    failure::{Failure, Result},
    local,
};

/// Programs of our own, each in one file.
const PROGRAMS: &[(&str, &str)] = &[
    ("bodies", include_str!("programs/bodies.cjs")),
    ("compress", include_str!("programs/compress.cjs")),
    ("document", include_str!("programs/document.cjs")),
    ("scheduler", include_str!("programs/scheduler.cjs")),
    ("search", include_str!("programs/search.cjs")),
    ("sha256", include_str!("programs/sha256.cjs")),
];

/// Packages, and what of each is loaded; `run_time.mjs` has the work.
const PACKAGES: &[(&str, &str)] = &[
    ("acorn", "dist/acorn.js"),
    ("dayjs", "dayjs.min.js"),
    ("js-yaml", "index.js"),
    ("lodash", "lodash.js"),
    ("marked", "lib/marked.cjs"),
    ("semver", "index.js"),
];

/// Pairs of runs, source and hardened in turns, each in a process of its own.
const PAIRS: usize = 5;

/// A program, as it is and as each profile makes it.
struct Subject {
    name: &'static str,
    source: PathBuf,
    hardened: Vec<(Tool, PathBuf)>,
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let subjects = subjects(bench)?;
    let input = bench.inputs.join("jquery/dist/jquery.js");
    println!("\nRun time: CPU time of a round of work, hardened / source, medians of {PAIRS} pairs");
    print!("  {:<12} {:>12}", "", "source ms");
    for profile in PROFILES {
        print!(" {profile:>14}");
    }
    println!();
    let mut ratios = vec![Vec::new(); PROFILES.len()];
    for subject in &subjects {
        let mut source = Vec::new();
        let mut pairs = vec![Vec::new(); PROFILES.len()];
        for _ in 0..PAIRS {
            for ((_, hardened), pairs) in subject.hardened.iter().zip(&mut pairs) {
                let before = round(bench, subject.name, &subject.source, &input)?;
                let after = round(bench, subject.name, hardened, &input)?;
                if before.1 != after.1 {
                    return Err(Failure::new(format!(
                        "{} answers `{}`, and `{}` when hardened as {}",
                        subject.name,
                        before.1,
                        after.1,
                        hardened.display()
                    )));
                }
                source.push(before.0);
                pairs.push(after.0 / before.0);
            }
        }
        print!("  {:<12} {:>12.2}", subject.name, median(source));
        for (pairs, ratios) in pairs.into_iter().zip(&mut ratios) {
            let ratio = median(pairs);
            print!(" {ratio:>14.2}");
            ratios.push(ratio);
        }
        println!();
    }
    print!("  {:<12} {:>12}", "median", "");
    let mut goals = Vec::new();
    for ((profile, ratios), bound) in PROFILES.iter().zip(ratios).zip([1.0, 1.3, 2.0]) {
        let middle = median(ratios);
        print!(" {middle:>14.2}");
        goals.push(Goal::at_most(format!("run time of {profile} / source, median"), middle, bound));
    }
    println!();
    Ok(goals)
}

/// Lays every program out as a package, and hardens it.
fn subjects(bench: &Bench) -> Result<Vec<Subject>> {
    let folder = bench.folder.join("run-time");
    tool::clear(&folder)?;
    let mut subjects = Vec::new();
    for (name, text) in PROGRAMS.iter().filter(|(name, _)| bench.wants(name)) {
        let source = folder.join(format!("{name}.cjs"));
        local::write(&source, text)?;
        let mut hardened = Vec::new();
        for profile in PROFILES {
            let output = folder.join(format!("{name}-{profile}.cjs"));
            let outcome = bench.transform(*profile, &Input { file: &source, module: false }, &output)?;
            done(*profile, name, &outcome)?;
            hardened.push((*profile, output));
        }
        subjects.push(Subject { name, source, hardened });
    }
    for (name, main) in PACKAGES.iter().filter(|(name, _)| bench.wants(name)) {
        let source = bench.inputs.join(name);
        let mut hardened = Vec::new();
        for profile in PROFILES {
            let Tool::Ours(word) = profile else { continue };
            let package = folder.join("package");
            tool::clear(&package)?;
            tool::copy_folder(&source, &package)?;
            let (outcome, build) = bench.build(word, &package, Cores::Two)?;
            done(*profile, name, &outcome)?;
            let kept = folder.join(format!("{name}-{profile}"));
            tool::copy_folder(&build.join("artifact"), &kept)?;
            hardened.push((*profile, kept.join(main)));
        }
        subjects.push(Subject { name, source: source.join(main), hardened });
    }
    Ok(subjects)
}

fn done(profile: Tool, name: &str, outcome: &Outcome) -> Result<()> {
    match outcome {
        Outcome::Done(_) => Ok(()),
        Outcome::Late => Err(Failure::new(format!("{profile} on {name} was not done in time"))),
        Outcome::Failed(why) => Err(Failure::new(format!("{profile} on {name}: {why}"))),
    }
}

/// Runs a program's work, and returns the time of a round in milliseconds and what came out.
fn round(bench: &Bench, name: &str, file: &Path, input: &Path) -> Result<(f64, String)> {
    let mut command = bench.script("run_time.mjs");
    command.arg(name).arg(file).arg(input);
    let run = bench.measured(&command, Cores::Two)?;
    if !matches!(run.ended, Ended::Well) {
        return Err(Failure::new(format!("`{}`: {}", file.display(), tool::reason(&run.stderr))));
    }
    let said: Value = serde_json::from_str(run.stdout.trim())
        .map_err(|error| Failure::new(format!("`{}`: {error}", file.display())))?;
    let ms = said["ms"].as_f64().ok_or_else(|| Failure::new("no time was given"))?;
    Ok((ms, said["result"].to_string()))
}
