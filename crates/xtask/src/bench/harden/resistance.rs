//! Resistance: how much of real modules comes back after public deobfuscators.
//!
//! `score.mjs` looks for binding names, property names, strings and the shapes of functions in what the deobfuscators
//! make of a file. The peers' figures show that the measure tells a minifier from an obfuscator, and an obfuscator that
//! is undone from one that is not.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use serde_json::Value;

use super::{
    Bench, Goal, mean,
    tool::{Input, Outcome, PROFILES, Tool, reason, size},
};
use crate::{
    failure::{Failure, Result},
    local,
};

/// Modules as their packages publish them: path, and whether it is an ECMAScript module.
const MODULES: &[(&str, bool)] = &[
    ("deepmerge/dist/cjs.js", false),
    ("eventemitter3/index.js", false),
    ("ini/lib/ini.js", false),
    ("js-yaml/lib/dumper.js", false),
    ("micromatch/index.js", false),
    ("minimist/index.js", false),
    ("ms/index.js", false),
    ("nanoid/index.js", true),
    ("path-to-regexp/dist/index.js", false),
    ("picomatch/lib/scan.js", false),
    ("qs/lib/parse.js", false),
    ("semver/classes/range.js", false),
    ("uuid/dist/v1.js", true),
    ("validator/lib/isURL.js", false),
];

const PEERS: &[Tool] = &[
    Tool::Peer("terser"),
    Tool::Peer("swc"),
    Tool::Peer("swc-top-level"),
    Tool::Peer("jso low"),
    Tool::Peer("jso default"),
    Tool::Peer("jso medium"),
    Tool::Peer("jso high"),
    Tool::Peer("js-confuser low"),
    Tool::Peer("js-confuser medium"),
];

const KINDS: [&str; 4] = ["bindings", "properties", "strings", "shapes"];
/// How long each deobfuscator may take for one file.
const DEOBFUSCATOR_LIMIT_S: u64 = 30;

/// What one tool's output of one module gave away.
struct Score {
    score: f64,
    /// The share of each kind, `None` where the module has none.
    shares: [Option<f64>; 4],
    growth: f64,
    /// Why the output does not load, or exports something else.
    broken: Option<String>,
    /// The deobfuscators that gave nothing.
    failed: Vec<String>,
    recovered: Vec<String>,
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    println!(
        "\nResistance: share of {} modules that comes back after the deobfuscators, each within {DEOBFUSCATOR_LIMIT_S} s",
        MODULES.len()
    );
    println!(
        "  {:<20} {:>7} {:>9} {:>10} {:>8} {:>7} {:>7} {:>7} {:>6}",
        "", "size x", "bindings", "properties", "strings", "shapes", "score", "lowest", "loads"
    );
    let mut scores = Vec::new();
    for tool in PEERS.iter().chain(PROFILES) {
        let found = modules(bench, *tool)?;
        print(*tool, &found);
        scores.push((*tool, mean(&found.iter().map(|(_, score)| score.score).collect::<Vec<_>>())));
    }
    let of =
        |tool: Tool| scores.iter().find(|(other, _)| *other == tool).map_or(f64::NAN, |(_, score)| *score);
    Ok(vec![
        Goal::at_least(
            "resistance of ours light, against swc with top level",
            of(PROFILES[0]),
            of(Tool::Peer("swc-top-level")),
        ),
        Goal::at_least("resistance of ours standard", of(PROFILES[1]), 95.0),
        Goal::at_least("resistance of ours strong", of(PROFILES[2]), 100.0),
    ])
}

/// Scores a tool on every module, two at a time.
fn modules(bench: &Bench, tool: Tool) -> Result<Vec<(&'static str, Score)>> {
    let mut outputs = Vec::new();
    for (path, module) in MODULES.iter().filter(|(path, _)| bench.wants(path)) {
        let file = bench.inputs.join(path);
        let output = bench.folder.join("resistance").join(format!("{tool}")).join(path);
        local::make(output.parent().unwrap_or(&output))?;
        match bench.transform(tool, &Input { file: &file, module: *module }, &output)? {
            Outcome::Done(_) => outputs.push((*path, file, output)),
            Outcome::Late => println!("  {tool:<20} {path}: not done in {} s", bench.limit.as_secs()),
            Outcome::Failed(why) => println!("  {tool:<20} {path}: {why}"),
        }
    }
    let queue = Mutex::new(outputs.into_iter());
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let work = || {
        let mut found = Vec::new();
        while let Some((path, file, output)) = next() {
            found.push((path, score(bench, &file, &output)?));
        }
        Ok(found)
    };
    let both: [Result<Vec<_>>; 2] = std::thread::scope(|scope| {
        [scope.spawn(work), scope.spawn(work)]
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Failure::new("a worker panicked"))))
    });
    let [one, two] = both;
    let mut found = one?;
    found.extend(two?);
    found.sort_by_key(|(path, _)| *path);
    Ok(found)
}

fn score(bench: &Bench, original: &Path, output: &PathBuf) -> Result<Score> {
    let mut command = bench.script("score.mjs");
    command.args(["--json", "--limit", &DEOBFUSCATOR_LIMIT_S.to_string()]).arg(original).arg(output);
    let said = command.output().map_err(|error| Failure::new(format!("cannot start Node.js: {error}")))?;
    if !said.status.success() {
        let why = reason(&String::from_utf8_lossy(&said.stderr));
        return Err(Failure::new(format!("scoring `{}`: {why}", output.display())));
    }
    let value: Value = serde_json::from_slice(&said.stdout)
        .map_err(|error| Failure::new(format!("scoring `{}`: {error}", output.display())))?;
    let texts = |value: &Value| {
        value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    let recovered = KINDS.iter().flat_map(|kind| {
        texts(&value["recovered"][kind]).into_iter().map(move |what| format!("{kind} {what}"))
    });
    Ok(Score {
        score: value["score"].as_f64().ok_or_else(|| Failure::new("no score was given"))?,
        shares: KINDS.map(|kind| value["shares"][kind].as_f64()),
        growth: size(output) / size(original),
        broken: value["broken"].as_str().map(str::to_owned),
        failed: texts(&value["failed"]),
        recovered: recovered.collect(),
    })
}

fn print(tool: Tool, found: &[(&str, Score)]) {
    let share = |at: usize| mean(&found.iter().filter_map(|(_, score)| score.shares[at]).collect::<Vec<_>>());
    let average =
        |figure: fn(&Score) -> f64| mean(&found.iter().map(|(_, score)| figure(score)).collect::<Vec<_>>());
    let lowest = found.iter().map(|(_, score)| score.score).fold(f64::NAN, f64::min);
    println!(
        "  {tool:<20} {:>7.2} {:>9.2} {:>10.2} {:>8.2} {:>7.2} {:>7.1} {lowest:>7.1} {:>6}",
        average(|score| score.growth),
        share(0),
        share(1),
        share(2),
        share(3),
        average(|score| score.score),
        format!("{}/{}", found.iter().filter(|(_, score)| score.broken.is_none()).count(), MODULES.len())
    );
    for (path, score) in found {
        if let Some(why) = &score.broken {
            println!("    {path}: broken: {why}");
        }
        if !score.failed.is_empty() {
            println!("    {path}: nothing from {}", score.failed.join(", "));
        }
        if matches!(tool, Tool::Ours("standard" | "strong")) && !score.recovered.is_empty() {
            println!("    {path}: {:.1}; came back: {}", score.score, score.recovered.join("; "));
        }
    }
}
