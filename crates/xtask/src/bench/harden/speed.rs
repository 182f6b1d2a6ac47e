//! Time, memory and size: development builds of well-known packages through every tool, each on one core.

use std::{fs, path::Path};

use super::{
    Bench, Goal, median,
    tool::{self, Cores, Cost, Input, Outcome, PROFILES, Tool},
};
use crate::{
    failure::{Failure, Result},
    local,
};

struct Source {
    name: &'static str,
    file: &'static str,
    module: bool,
}

const SOURCES: &[Source] = &[
    Source { name: "react", file: "react/cjs/react.development.js", module: false },
    Source { name: "jquery", file: "jquery/dist/jquery.js", module: false },
    Source { name: "lodash", file: "lodash/lodash.js", module: false },
    Source { name: "react-dom", file: "react-dom/cjs/react-dom-client.development.js", module: false },
    Source { name: "three", file: "three/build/three.core.js", module: true },
    Source { name: "echarts", file: "echarts/dist/echarts.js", module: false },
    Source { name: "antd", file: "antd/dist/antd.js", module: false },
    Source { name: "typescript", file: "typescript/lib/typescript.js", module: false },
];

/// The other tools, and the largest file that each is given: beyond that, hours would go by.
const PEERS: &[(Tool, f64)] = &[
    (Tool::Peer("swc"), f64::INFINITY),
    (Tool::Peer("oxc"), f64::INFINITY),
    (Tool::Peer("esbuild"), f64::INFINITY),
    (Tool::Peer("terser"), f64::INFINITY),
    (Tool::Peer("uglify-js"), f64::INFINITY),
    (Tool::Peer("jso low"), 2e6),
    (Tool::Peer("jso default"), 2e6),
    (Tool::Peer("jso medium"), 2e6),
    (Tool::Peer("jso high"), 2e6),
    (Tool::Peer("js-confuser low"), 1e5),
    (Tool::Peer("js-confuser medium"), 1e5),
];

/// Runs of each, of which the median counts; what takes longer than this is run once.
const RUNS: usize = 5;
const LONG_MS: f64 = 3000.0;
/// Pairs of runs on one core and on two.
const PAIRS: usize = 3;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    println!(
        "\nSpeed and size, on one core. Ours: the whole program, source map and digests included; the others: the"
    );
    println!(
        "call alone. Medians of {RUNS} runs, or one where it takes longer than {LONG_MS} ms. Memory is the process's."
    );
    let mut goals = Vec::new();
    let (mut sizes, mut measured) = (vec![Vec::new(); PROFILES.len()], Vec::new());
    for source in SOURCES.iter().filter(|source| bench.wants(source.name)) {
        let file = bench.inputs.join(source.file);
        let bytes = tool::size(&file);
        println!("\n{} ({}, {:.0} kB)", source.name, source.file, bytes / 1e3);
        println!(
            "  {:<20} {:>11} {:>11} {:>10} {:>12} {:>8}",
            "", "CPU ms", "wall ms", "peak MB", "bytes", "of input"
        );
        let input = Input { file: &file, module: source.module };
        let mut costs = Vec::new();
        let peers = PEERS.iter().filter(|(_, most)| bytes <= *most).map(|(peer, _)| *peer);
        for tool in PROFILES.iter().copied().chain(peers) {
            costs.push((tool, row(bench, tool, &input, bytes)?));
        }
        let cost = |tool: Tool| costs.iter().find(|(other, _)| *other == tool).and_then(|(_, cost)| *cost);
        if let Some(swc) = cost(Tool::Peer("swc")) {
            for (profile, ratios) in PROFILES.iter().zip(&mut sizes) {
                ratios.extend(cost(*profile).map(|ours| ours.output_bytes / swc.output_bytes));
            }
        }
        match source.name {
            "react-dom" => {
                let pairs = [("terser", 0.1), ("jso medium", 0.01), ("jso high", 0.02)];
                for (profile, (peer, bound)) in PROFILES.iter().zip(pairs) {
                    // A peer that was stopped took longer than the limit, so the true ratio is lower still.
                    let theirs =
                        cost(Tool::Peer(peer)).map_or(bench.limit.as_secs_f64() * 1000.0, |cost| cost.cpu_ms);
                    let ours = cost(*profile).map_or(f64::NAN, |ours| ours.cpu_ms);
                    measured.push(Goal::at_most(
                        format!("react-dom: time of {profile} / {peer}"),
                        ours / theirs,
                        bound,
                    ));
                }
            }
            "typescript" => {
                for (profile, bound) in PROFILES.iter().zip([20.0, 30.0, 40.0]) {
                    let ours = cost(*profile).map_or(f64::NAN, |ours| ours.peak_bytes);
                    measured.push(Goal::at_most(
                        format!("typescript: memory of {profile} / input"),
                        ours / bytes,
                        bound,
                    ));
                }
            }
            _ => {}
        }
    }
    for ((profile, ratios), bound) in PROFILES.iter().zip(sizes).zip([1.02, 3.0, 6.0]) {
        let worst = ratios.into_iter().fold(f64::NAN, f64::max);
        goals.push(Goal::at_most(format!("size of {profile} / swc's, worst input"), worst, bound));
    }
    goals.extend(measured);
    if bench.wants("two cores") {
        goals.extend(two_cores(bench)?);
    }
    Ok(goals)
}

/// Measures one tool on one file, and prints its row.
fn row(bench: &Bench, tool: Tool, input: &Input<'_>, bytes: f64) -> Result<Option<Cost>> {
    let output = bench.folder.join("output.js");
    let mut runs: Vec<Cost> = Vec::new();
    while runs.len() < RUNS && runs.first().is_none_or(|first| first.wall_ms < LONG_MS) {
        match bench.transform(tool, input, &output)? {
            Outcome::Done(cost) => runs.push(cost),
            Outcome::Late => {
                println!("  {tool:<20} not done in {} s", bench.limit.as_secs());
                return Ok(None);
            }
            Outcome::Failed(why) => {
                println!("  {tool:<20} failed: {why}");
                return Ok(None);
            }
        }
    }
    let middle = |figure: fn(&Cost) -> f64| median(runs.iter().map(figure).collect());
    let cost = Cost {
        wall_ms: middle(|cost| cost.wall_ms),
        cpu_ms: middle(|cost| cost.cpu_ms),
        peak_bytes: middle(|cost| cost.peak_bytes),
        output_bytes: middle(|cost| cost.output_bytes),
    };
    println!(
        "  {tool:<20} {:>11.0} {:>11.0} {:>10.0} {:>12.0} {:>8.2}",
        cost.cpu_ms,
        cost.wall_ms,
        cost.peak_bytes / 1e6,
        cost.output_bytes,
        cost.output_bytes / bytes
    );
    Ok(Some(cost))
}

/// The files of a package on one core and on two, in turns.
fn two_cores(bench: &Bench) -> Result<Vec<Goal>> {
    let package = bench.folder.join("many");
    tool::clear(&package)?;
    tool::copy_folder(&bench.inputs.join("echarts/lib"), &package.join("lib"))?;
    let manifest =
        r#"{"name": "@bench/many", "version": "1.0.0", "main": "lib/echarts.js", "type": "module"}"#;
    local::write(&package.join("package.json"), manifest)?;
    println!(
        "\nTwo cores: echarts/lib, {} files, {:.1} MB, wall ms, medians of {PAIRS} pairs",
        files(&package),
        tool::size(&package) / 1e6
    );
    println!("  {:<20} {:>11} {:>11} {:>8}", "", "one core", "two cores", "faster");
    let mut goals = Vec::new();
    for profile in PROFILES {
        let Tool::Ours(name) = profile else { continue };
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            for (cores, times) in [(Cores::One, &mut one), (Cores::Two, &mut two)] {
                match bench.build(name, &package, cores)?.0 {
                    Outcome::Done(cost) => times.push(cost.wall_ms),
                    Outcome::Late => return Err(Failure::new(format!("{profile} was not done in time"))),
                    Outcome::Failed(why) => {
                        return Err(Failure::new(format!("{profile} on echarts/lib: {why}")));
                    }
                }
            }
        }
        let (one, two) = (median(one), median(two));
        println!("  {profile:<20} {one:>11.0} {two:>11.0} {:>8.2}", one / two);
        goals.push(Goal::at_least(format!("two cores: {profile} is so many times faster"), one / two, 1.7));
    }
    Ok(goals)
}

fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}
