//! `cargo xtask bench sbom`: our SBOMs beside those of other generators, on one project as npm, pnpm and yarn lock it.
//!
//! The project is installed for real. Components are counted once by name and version, edges once by both ends, so
//! that documents with an entry for each place compare with those with one for each package. What another finds and
//! ours does not is printed; so is each goal that is missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::machine;
use crate::{
    failure::{Failure, Result},
    local,
    process::{find, run, run_quietly},
    tools::{self, NODE, SBOM, SBOM_PEERS, SYFT},
    workspace::Workspace,
};

/// What the project asks for. Ranges, because a mirror need not carry every version: the lock files say what came.
const PROJECT: &str = r#"{
  "name": "@acme/shop", "version": "1.2.3", "description": "A project of about 800 components", "license": "MIT",
  "author": "Acme Ltd <security@acme.example> (https://acme.example)", "repository": "github:acme/shop",
  "dependencies": {
    "@aws-sdk/client-s3": "^3", "axios": "^1", "commander": "^12", "date-fns": "^3", "express": "^4",
    "lodash": "^4", "react": "^18", "react-dom": "^18", "redux": "^5", "rxjs": "^7", "zod": "^3"
  },
  "devDependencies": {
    "@babel/core": "^7", "@babel/preset-env": "^7", "@testing-library/react": "^16", "eslint": "^9", "jest": "^29",
    "prettier": "^3", "typescript": "^5", "vite": "^5", "webpack": "^5", "webpack-cli": "^5", "webpack-dev-server": "^5"
  }
}"#;

const LICENCE: &str = "MIT License\n\nCopyright (c) 2026 Acme Ltd\n";

/// How often ours is measured; the fastest counts, as the others' first run warmed the disk for both.
const RUNS: usize = 5;

const MOST_SECONDS: f64 = 0.5;
const MOST_MIB: f64 = 100.0;
const LEAST_LICENSED: f64 = 0.998;
const LEAST_TIMES_AS_FAST: f64 = 20.0;
const LEAST_SCVS: u64 = 95;
const CRA: u64 = 100;

/// A project as one package manager locks it.
struct Project {
    name: &'static str,
    install: &'static [&'static str],
}

const PROJECTS: &[Project] = &[
    Project {
        name: "npm",
        install: &["npm-11/bin/npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"],
    },
    Project { name: "pnpm", install: &["pnpm-10/bin/pnpm", "install", "--ignore-scripts"] },
    Project {
        name: "yarn",
        install: &["yarn-1/bin/yarn", "install", "--ignore-scripts", "--non-interactive"],
    },
];

pub(super) fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        return Err(Failure::new(format!(
            "cargo xtask bench sbom takes nothing, not `{}`",
            arguments.join(" ")
        )));
    }
    tools::install_folders(
        workspace,
        &[NODE, "npm-11", "pnpm-10", "yarn-1", SBOM, SBOM_PEERS, SYFT, "time"],
    )?;
    run(workspace.cargo().args([
        "build",
        "--release",
        "--package",
        "protected-evidence",
        "--example",
        "sbom",
    ]))?;
    let bench = Bench {
        ours: workspace.target.join("release/examples/sbom"),
        tools: workspace.tools(),
        folder: workspace.target.join("bench/sbom"),
    };
    println!("\nOn {}", machine());
    let mut missed = Vec::new();
    for project in PROJECTS {
        bench.install(project)?;
        bench.measure(project, &mut missed)?;
    }
    println!("\n{}", if missed.is_empty() { "Every goal is met" } else { "Goals that are missed" });
    missed.iter().for_each(|goal| println!("  {goal}"));
    Ok(())
}

struct Bench {
    ours: PathBuf,
    tools: PathBuf,
    folder: PathBuf,
}

/// What a document holds.
#[derive(Default)]
struct Found {
    /// By name and version: whether it has a digest, and a licence.
    components: BTreeMap<String, (bool, bool)>,
    edges: BTreeSet<(String, String)>,
}

struct Run {
    seconds: f64,
    peak_mib: f64,
}

impl Bench {
    fn project(&self, project: &Project) -> PathBuf {
        self.folder.join(project.name)
    }

    /// Installs the project, where it is not.
    fn install(&self, project: &Project) -> Result<()> {
        let folder = self.project(project);
        let installed = folder.join("node_modules");
        local::make(&folder)?;
        let manifest = folder.join("package.json");
        if installed.is_dir() && local::read(&manifest).is_ok_and(|text| text == PROJECT) {
            return Ok(());
        }
        println!("installing the project with {}", project.name);
        local::write(&manifest, PROJECT)?;
        local::write(&folder.join("LICENSE"), LICENCE)?;
        // Else pnpm looks for a workspace in the folders above.
        local::write(&folder.join("pnpm-workspace.yaml"), "")?;
        let mut install = self.with_node(Command::new(self.tools.join(project.install[0])));
        run_quietly(install.args(&project.install[1..]).current_dir(&folder)).map(drop)
    }

    #[expect(clippy::disallowed_methods, reason = "a developer command lives in the developer's environment")]
    fn with_node(&self, mut command: Command) -> Command {
        let mut folders = vec![self.tools.join(NODE).join("bin"), self.tools.join("npm-11/bin")];
        if let Some(path) = std::env::var_os("PATH") {
            folders.extend(std::env::split_paths(&path));
        }
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
        command
    }

    fn measure(&self, project: &Project, missed: &mut Vec<String>) -> Result<()> {
        let name = project.name;
        let place = |tool: &str| self.folder.join(format!("{name}.{tool}.json"));
        let (cyclonedx, spdx) = (place("ours"), place("ours.spdx"));
        let mut best: Option<Run> = None;
        println!(
            "\n{name}: {:<16} {:>8} {:>6} {:>6} {:>6} {:>6} {:>6}",
            "", "seconds", "MiB", "comps", "edges", "hashes", "licences"
        );
        let mut others = Vec::new();
        for (tool, command) in self.peers(project, &place) {
            match self.timed(&command, (tool == "npm sbom").then(|| place(tool))) {
                Ok(run) => others.push((tool, run, Found::read(&place(tool))?)),
                Err(failure) => println!("{name}: {tool:<16} failed: {failure}"),
            }
        }
        for _ in 0..RUNS {
            let mut command = Command::new(&self.ours);
            command.arg(self.project(project)).arg(&cyclonedx).arg(&spdx);
            let run = self.timed(&command, None)?;
            if best.as_ref().is_none_or(|best| run.seconds < best.seconds) {
                best = Some(run);
            }
        }
        let best = best.ok_or_else(|| Failure::new("nothing was measured"))?;
        let ours = Found::read(&cyclonedx)?;
        ours.print(name, "ours", &best);
        others.iter().for_each(|(tool, run, found)| found.print(name, tool, run));
        let mut goal = |met: bool, text: String| {
            if !met {
                missed.push(format!("{name}: {text}"));
            }
        };
        for (tool, run, found) in &others {
            let components: Vec<&String> = found
                .components
                .keys()
                .filter(|key| !ours.components.contains_key(*key) && !key.starts_with("@acme/shop@"))
                .collect();
            let all: Vec<_> = found.edges.difference(&ours.edges).collect();
            // What is hung onto the project itself without standing in its package.json is no edge.
            let (invented, edges): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|(from, to)| from == ROOT && !is_direct(to));
            println!(
                "  {tool} finds {} components and {} edges that ours lacks",
                components.len(),
                edges.len()
            );
            components.iter().take(10).for_each(|key| println!("    {key}"));
            edges.iter().take(10).for_each(|(from, to)| println!("    {from} -> {to}"));
            if !invented.is_empty() {
                println!(
                    "    and says of {} others that the project asks for them itself, which its package.json does not",
                    invented.len()
                );
            }
            goal(components.is_empty(), format!("{} components of {tool} are missing", components.len()));
            goal(edges.is_empty(), format!("{} edges of {tool} are missing", edges.len()));
            if *tool == "cyclonedx-npm" {
                let times = run.seconds / best.seconds.max(0.001);
                println!("  ours is {times:.0} times as fast as {tool}");
                goal(
                    times >= LEAST_TIMES_AS_FAST,
                    format!("{times:.0} times as fast as {tool}, and not {LEAST_TIMES_AS_FAST}"),
                );
            }
        }
        let total = ours.components.len();
        let hashed = ours.components.values().filter(|(hashed, _)| *hashed).count();
        let licensed = ours.components.values().filter(|(_, licensed)| *licensed).count();
        goal(hashed == total, format!("{hashed} of {total} components have a digest"));
        let share = licensed as f64 / total.max(1) as f64;
        goal(share >= LEAST_LICENSED, format!("{:.2} % of components have a licence", share * 100.0));
        goal(best.seconds < MOST_SECONDS, format!("{:.2} s", best.seconds));
        goal(best.peak_mib < MOST_MIB, format!("{:.0} MiB", best.peak_mib));
        let scores = self.scores(&cyclonedx)?;
        let score = |id: &str| scores.get(id).copied().unwrap_or(0);
        println!("  cdx-validate: SCVS {} %, CRA {} %", score("scvs"), score("cra"));
        goal(score("scvs") >= LEAST_SCVS, format!("SCVS {} %", score("scvs")));
        goal(score("cra") >= CRA, format!("CRA {} %", score("cra")));
        let ntia = Command::new(self.tools.join(SBOM).join("bin/sbomcheck"))
            .args(["--quiet", "--comply", "ntia"])
            .arg(&spdx)
            .output();
        let conformant =
            ntia.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("Conformant: True"));
        println!("  sbomcheck: {}", if conformant { "NTIA conformant" } else { "not NTIA conformant" });
        goal(conformant, "not NTIA conformant".to_owned());
        Ok(())
    }

    fn peers(&self, project: &Project, place: &dyn Fn(&str) -> PathBuf) -> Vec<(&'static str, Command)> {
        let folder = self.project(project);
        let script = |package: &str| {
            let mut command = self.with_node(Command::new(self.tools.join(NODE).join("bin/node")));
            command.arg(self.tools.join(SBOM_PEERS).join("node_modules").join(package)).current_dir(&folder);
            command
        };
        let mut peers = Vec::new();
        if project.name == "npm" {
            let mut command = script("@cyclonedx/cyclonedx-npm/bin/cyclonedx-npm-cli.js");
            command.arg("--output-file").arg(place("cyclonedx-npm"));
            peers.push(("cyclonedx-npm", command));
            let mut command = self.with_node(Command::new(self.tools.join("npm-11/bin/npm")));
            command.args(["sbom", "--sbom-format", "cyclonedx"]).current_dir(&folder);
            peers.push(("npm sbom", command));
        }
        let mut command = Command::new(self.tools.join(SYFT).join("bin/syft"));
        command
            .args(["scan", "dir:.", "-q", "-o"])
            .arg(format!("cyclonedx-json={}", place("syft").display()));
        command.current_dir(&folder);
        peers.push(("syft", command));
        let mut command = script("@cyclonedx/cdxgen/bin/cdxgen.js");
        command.args(["-t", project.name, "--no-install-deps", "-o"]).arg(place("cdxgen")).arg(".");
        peers.push(("cdxgen", command));
        peers
    }

    /// Runs a command with its cost. `stdout`: the file for what it writes there.
    fn timed(&self, command: &Command, stdout: Option<PathBuf>) -> Result<Run> {
        let time = find("time")
            .ok_or_else(|| Failure::new("no `time` on PATH").hint("run `cargo xtask tools --bench`"))?;
        let figures = self.folder.join("figures");
        let mut outer = Command::new(time);
        outer.args(["--quiet", "--format=%e %M", "--output"]).arg(&figures);
        outer.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        command.get_envs().for_each(|(name, value)| {
            if let Some(value) = value {
                outer.env(name, value);
            }
        });
        if let Some(folder) = command.get_current_dir() {
            outer.current_dir(folder);
        }
        let output = outer.output().map_err(|error| Failure::new(format!("cannot start `time`: {error}")))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Failure::new(stderr.lines().last().unwrap_or("it says nothing").to_owned()));
        }
        if let Some(file) = stdout {
            local::write(&file, &String::from_utf8_lossy(&output.stdout))?;
        }
        let text = local::read(&figures)?;
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|each| each.parse().ok()).collect();
        let [seconds, peak] = numbers[..] else {
            return Err(Failure::new(format!("`time` gave no figures: {text}")));
        };
        Ok(Run { seconds, peak_mib: peak / 1024.0 })
    }

    /// What `cdx-validate` makes of a document, in percent by the benchmark's name.
    fn scores(&self, document: &Path) -> Result<BTreeMap<String, u64>> {
        let mut command = self.with_node(Command::new(self.tools.join(NODE).join("bin/node")));
        command.arg(self.tools.join(SBOM_PEERS).join("node_modules/@cyclonedx/cdxgen/bin/validate.js"));
        // Into a file: what it writes to a pipe ends after 64 KiB.
        let file = self.folder.join("scores.json");
        command.args(["--report", "json", "--report-file"]).arg(&file).arg("-i").arg(document);
        let output = command.output();
        output.map_err(|error| Failure::new(format!("cannot start cdx-validate: {error}")))?;
        let report: Value = serde_json::from_str(&local::read(&file)?)
            .map_err(|error| Failure::new(format!("cdx-validate wrote no report: {error}")))?;
        let all = report["benchmarks"].as_array().into_iter().flatten();
        Ok(all.filter_map(|one| Some((one["id"].as_str()?.to_owned(), one["scorePct"].as_u64()?))).collect())
    }
}

/// The project itself among the ends of edges.
const ROOT: &str = "the project";

/// Whether the project asks for `name@version` itself.
fn is_direct(key: &str) -> bool {
    let name = key.rsplit_once('@').map_or(key, |(name, _)| name);
    PROJECT.contains(&format!("\"{name}\": \"^"))
}

impl Found {
    fn read(document: &Path) -> Result<Self> {
        let bom: Value = serde_json::from_str(&local::read(document)?)
            .map_err(|error| Failure::new(format!("`{}` is not JSON: {error}", document.display())))?;
        let mut found = Self::default();
        let mut keys: BTreeMap<String, String> = BTreeMap::new();
        let mut open: Vec<&Value> = bom["components"].as_array().into_iter().flatten().collect();
        while let Some(component) = open.pop() {
            open.extend(component["components"].as_array().into_iter().flatten());
            let Some(key) = component["purl"].as_str().and_then(key) else { continue };
            if let Some(reference) = component["bom-ref"].as_str() {
                keys.insert(reference.to_owned(), key.clone());
            }
            let filled = |value: &Value| value.as_array().is_some_and(|items| !items.is_empty());
            let references = component["externalReferences"].as_array().into_iter().flatten();
            let hashed = filled(&component["hashes"])
                || references.into_iter().any(|reference| filled(&reference["hashes"]));
            let known = found.components.entry(key).or_default();
            *known = (known.0 || hashed, known.1 || filled(&component["licenses"]));
        }
        if let Some(root) = bom["metadata"]["component"]["bom-ref"].as_str() {
            keys.insert(root.to_owned(), ROOT.to_owned());
        }
        for node in bom["dependencies"].as_array().into_iter().flatten() {
            let Some(from) = node["ref"].as_str().and_then(|reference| keys.get(reference)) else { continue };
            for to in node["dependsOn"].as_array().into_iter().flatten() {
                let to = to.as_str().and_then(|reference| keys.get(reference));
                found.edges.extend(to.filter(|to| *to != from).map(|to| (from.clone(), to.clone())));
            }
        }
        Ok(found)
    }

    fn print(&self, project: &str, tool: &str, run: &Run) {
        let count =
            |test: fn(&(bool, bool)) -> bool| self.components.values().filter(|found| test(found)).count();
        println!(
            "{project}: {tool:<16} {:>8.2} {:>6.0} {:>6} {:>6} {:>6} {:>6}",
            run.seconds,
            run.peak_mib,
            self.components.len(),
            self.edges.len(),
            count(|found| found.0),
            count(|found| found.1),
        );
    }
}

/// Returns `name@version` of a package URL of npm.
fn key(purl: &str) -> Option<String> {
    let rest = purl.strip_prefix("pkg:npm/")?;
    let rest = rest.split(['?', '#']).next()?;
    Some(rest.replace("%40", "@").replace("%2F", "/").replace("%2B", "+"))
}
