//! `cargo xtask bench deliver`: sealing and opening a file beside age, gpg and openssl, in one run.
//!
//! Ours seals, and takes the SHA-256 of what it seals, which the others do not. The file does not compress and is in
//! memory. Processor time is that of the process, on one core; what two cores gain is wall time to `/dev/null`, so
//! that the disk is no wall. A goal that is missed is printed as such and ends nothing.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{machine, median};
use crate::{
    failure::{Failure, Result},
    local,
    process::{find, run, run_quietly},
    tools::{self, HARDEN_INPUTS, NODE},
    workspace::Workspace,
};

const FILE_BYTES: u64 = 1 << 30;
/// What memory is measured with: no more of it is on disk than its name.
const LARGE_BYTES: u64 = 10 << 30;
/// Runs of each, in turn, of which the median counts.
const RUNS: usize = 3;

const MOST_USER_SECONDS: f64 = 1.5;
const LEAST_GAIN: f64 = 1.8;
const MOST_MIB: f64 = 16.0;
const MOST_MIB_PER_CORE: f64 = 1.2;

pub(super) fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        let found = arguments.join(" ");
        return Err(Failure::new(format!("cargo xtask bench deliver takes nothing, not `{found}`")));
    }
    tools::install_folders(workspace, &[NODE, HARDEN_INPUTS, "age", "gpg", "openssl", "taskset", "time"])?;
    let folder = workspace.target.join("bench/deliver");
    // What a killed run left.
    let _ = fs::remove_dir_all(&folder);
    local::make(&folder)?;
    // With the other cipher first, so that what stays in the target folder is what is usual.
    let other = build(workspace, &folder, "aws-lc", &["--features", "aws-lc"])?;
    let ours = build(workspace, &folder, "ours", &[])?;
    let bench = Bench { ours, other, folder, goals: Vec::new() };
    let files = workspace.tools().join(HARDEN_INPUTS).join("node_modules");
    let result = bench.measure(&files);
    // Gibibytes, which the next run makes anew.
    let cleared = fs::remove_dir_all(workspace.target.join("bench/deliver"));
    result?;
    cleared.map_err(|error| Failure::new(format!("cannot remove what was measured: {error}")))
}

/// Builds the program that is measured, and returns the copy of it.
fn build(workspace: &Workspace, folder: &Path, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let target = ["build", "--release", "--package", "protected-bundle", "--example", "seal"];
    run(workspace.cargo().args(target).args(flags))?;
    let copy = folder.join(name);
    fs::copy(workspace.target.join("release/examples/seal"), &copy)
        .map_err(|error| Failure::new(format!("cannot copy to `{}`: {error}", copy.display())))?;
    Ok(copy)
}

struct Bench {
    ours: PathBuf,
    /// Ours with the cipher of AWS-LC.
    other: PathBuf,
    folder: PathBuf,
    goals: Vec<String>,
}

/// What one run cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    user: Duration,
    system: Duration,
    peak_mib: f64,
}

impl Bench {
    fn measure(mut self, files: &Path) -> Result<()> {
        let (plain, large) = (self.folder.join("plain"), self.folder.join("large"));
        let written = |path: &Path, error: io::Error| Failure::new(format!("`{}`: {error}", path.display()));
        fs::File::open("/dev/urandom")
            .and_then(|random| io::copy(&mut random.take(FILE_BYTES), &mut fs::File::create(&plain)?))
            .map_err(|error| written(&plain, error))?;
        fs::File::create(&large)
            .and_then(|file| file.set_len(LARGE_BYTES))
            .map_err(|error| written(&large, error))?;
        println!("\nOn {}", machine());
        println!("\nA file of 1 GiB that does not compress, on one core; medians of {RUNS} runs in turn");
        self.beside_peers(&plain)?;
        println!("\nTwo cores, to /dev/null; medians of {RUNS} pairs of runs");
        self.two_cores(&plain)?;
        println!("\nMemory at 10 GiB");
        self.memory(&large)?;
        println!(
            "\nWhat is delivered, with either cipher: packed, compressed, sealed, digested; medians of {RUNS} pairs"
        );
        let only = self.only(&plain)?;
        for (name, folder) in [("packages", files), ("1 GiB that does not compress", only.as_path())] {
            self.delivered(name, folder)?;
        }
        println!("\nGoals");
        self.goals.iter().for_each(|goal| println!("  {goal}"));
        Ok(())
    }

    fn delivered(&self, name: &str, folder: &Path) -> Result<()> {
        let null = Path::new("/dev/null");
        for (cores, pinned) in [("one core", true), ("two cores", false)] {
            let threads = if pinned { 1 } else { 2 };
            let pack = |program| command(program, "pack", threads, folder, null, pinned);
            let costs = self.median(&[pack(&self.ours), pack(&self.other)])?;
            self.print(&format!("{name}, {cores}, aes-gcm"), &costs[0]);
            self.print(&format!("{name}, {cores}, AWS-LC"), &costs[1]);
            let shorter = 1.0 - costs[1].wall.as_secs_f64() / costs[0].wall.as_secs_f64().max(0.001);
            println!("    {:.0} % shorter with AWS-LC", shorter * 100.0);
        }
        Ok(())
    }

    /// A folder with nothing but this file, under another name of it.
    fn only(&self, file: &Path) -> Result<PathBuf> {
        let folder = self.folder.join("only");
        local::make(&folder)?;
        fs::hard_link(file, folder.join("file"))
            .map_err(|error| Failure::new(format!("cannot link `{}`: {error}", file.display())))?;
        Ok(folder)
    }

    fn seal(&self, what: &str, threads: usize, from: &Path, to: &Path, pinned: bool) -> Command {
        command(&self.ours, what, threads, from, to, pinned)
    }

    fn beside_peers(&mut self, plain: &Path) -> Result<()> {
        let place = |name: &str| self.folder.join(name);
        local::write_private(&place("password"), "a password of the benchmark\n")?;
        run_quietly(Command::new("age-keygen").arg("-o").arg(place("age.key")))?;
        let recipient = run_quietly(Command::new("age-keygen").arg("-y").arg(place("age.key")))?;
        let home = place("gnupg");
        local::make(&home)?;
        let mut rows = vec![
            ("ours, seal and SHA-256", self.seal("seal", 1, plain, &place("ours.sealed"), true)),
            ("ours, open and SHA-256", self.seal("open", 1, &place("ours.sealed"), &place("opened"), true)),
        ];
        let mut peer =
            |name: &'static str, program: &str, arguments: &[&str], files: [&Path; 2], flags: [&str; 2]| {
                let mut command = on_one_core(Path::new(program));
                command
                    .args(arguments)
                    .arg(flags[0])
                    .arg(files[0])
                    .args([flags[1]].iter().filter(|flag| !flag.is_empty()))
                    .arg(files[1]);
                rows.push((name, command));
            };
        let sealed = |name: &str| place(&format!("{name}.sealed"));
        let opened = place("opened");
        peer("age, encrypt", "age", &["-r", recipient.trim()], [&sealed("age"), plain], ["-o", ""]);
        let key = place("age.key").display().to_string();
        peer("age, decrypt", "age", &["-d", "-i", &key], [&opened, &sealed("age")], ["-o", ""]);
        let home = home.display().to_string();
        let password = place("password").display().to_string();
        let gpg = [
            "--homedir",
            &home,
            "--batch",
            "--yes",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase-file",
            &password,
        ];
        let encrypt =
            [&gpg[..], &["--symmetric", "--cipher-algo", "AES256", "--compress-algo", "none"]].concat();
        peer("gpg AES256, encrypt", "gpg", &encrypt, [&sealed("gpg"), plain], ["-o", ""]);
        let decrypt = [&gpg[..], &["--decrypt"]].concat();
        peer("gpg AES256, decrypt", "gpg", &decrypt, [&opened, &sealed("gpg")], ["-o", ""]);
        let password = format!("file:{password}");
        let openssl = ["enc", "-aes-256-ctr", "-pbkdf2", "-pass", &password];
        peer(
            "openssl aes-256-ctr, encrypt, no tag",
            "openssl",
            &openssl,
            [plain, &sealed("openssl")],
            ["-in", "-out"],
        );
        let openssl = [&openssl[..], &["-d"]].concat();
        peer(
            "openssl aes-256-ctr, decrypt, no tag",
            "openssl",
            &openssl,
            [&sealed("openssl"), &opened],
            ["-in", "-out"],
        );
        let (names, commands): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let costs = self.median(&commands)?;
        names.iter().zip(&costs).for_each(|(name, cost)| self.print(name, cost));
        for (what, cost) in ["seal", "open"].iter().zip(&costs) {
            let seconds = cost.user.as_secs_f64();
            self.goal(
                &format!("{what} and SHA-256 of 1 GiB, seconds of user time"),
                seconds,
                seconds <= MOST_USER_SECONDS,
                &format!("at most {MOST_USER_SECONDS}"),
            );
        }
        Ok(())
    }

    fn two_cores(&mut self, plain: &Path) -> Result<()> {
        let sealed = self.folder.join("ours.sealed");
        let null = Path::new("/dev/null");
        for (what, from) in [("seal", plain), ("open", sealed.as_path())] {
            let costs =
                self.median(&[self.seal(what, 1, from, null, true), self.seal(what, 2, from, null, false)])?;
            self.print(&format!("{what}, one core"), &costs[0]);
            self.print(&format!("{what}, two cores"), &costs[1]);
            let gain = costs[0].wall.as_secs_f64() / costs[1].wall.as_secs_f64().max(0.001);
            self.goal(
                &format!("{what} on two cores, times the rate of one"),
                gain,
                gain >= LEAST_GAIN,
                &format!("at least {LEAST_GAIN}"),
            );
        }
        Ok(())
    }

    fn memory(&mut self, large: &Path) -> Result<()> {
        for threads in [1, 2] {
            let command = self.seal("seal", threads, large, Path::new("/dev/null"), threads == 1);
            let cost = self.timed(&command)?;
            self.print(&format!("seal, {threads} threads"), &cost);
            let most = MOST_MIB + MOST_MIB_PER_CORE * threads as f64;
            self.goal(
                &format!("MiB at 10 GiB with {threads} threads"),
                cost.peak_mib,
                cost.peak_mib <= most,
                &format!("at most {most}"),
            );
        }
        Ok(())
    }

    /// Runs the commands in turn, so that what else the machine does meets all of them.
    fn median(&self, commands: &[Command]) -> Result<Vec<Cost>> {
        let mut all = vec![Vec::new(); commands.len()];
        for _ in 0..RUNS {
            for (command, costs) in commands.iter().zip(&mut all) {
                costs.push(self.timed(command)?);
            }
        }
        let middle = |costs: &[Cost], part: fn(&Cost) -> Duration| {
            median(&mut costs.iter().map(part).collect::<Vec<_>>())
        };
        Ok(all
            .iter()
            .map(|costs| Cost {
                wall: middle(costs, |cost| cost.wall),
                user: middle(costs, |cost| cost.user),
                system: middle(costs, |cost| cost.system),
                peak_mib: costs.iter().map(|cost| cost.peak_mib).fold(0.0, f64::max),
            })
            .collect())
    }

    fn timed(&self, command: &Command) -> Result<Cost> {
        let time = find("time")
            .ok_or_else(|| Failure::new("no `time` on PATH").hint("run `cargo xtask tools --bench`"))?;
        let figures = self.folder.join("figures");
        let mut outer = Command::new(time);
        outer.args(["--quiet", "--format=%U %S %M", "--output"]).arg(&figures);
        outer.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        // What age and gpg would not write over.
        if command.get_program() == "taskset" {
            let _ = fs::remove_file(self.folder.join("opened"));
        }
        let start = Instant::now();
        run_quietly(&mut outer)?;
        let wall = start.elapsed();
        let text = local::read(&figures)?;
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|each| each.parse().ok()).collect();
        let [user, system, peak] = numbers[..] else {
            return Err(Failure::new(format!("`time` gave no figures: {text}")));
        };
        let seconds = Duration::from_secs_f64;
        Ok(Cost { wall, user: seconds(user), system: seconds(system), peak_mib: peak / 1024.0 })
    }

    fn print(&self, name: &str, cost: &Cost) {
        println!(
            "  {name:<40} {:>6.2} s user {:>6.2} s system {:>6.2} s wall {:>6.1} MiB",
            cost.user.as_secs_f64(),
            cost.system.as_secs_f64(),
            cost.wall.as_secs_f64(),
            cost.peak_mib
        );
    }

    fn goal(&mut self, what: &str, figure: f64, met: bool, bound: &str) {
        let verdict = if met { "met" } else { "MISSED" };
        self.goals.push(format!("{what:<48} {figure:>7.2}  {bound}: {verdict}"));
    }
}

/// A command that runs on the first core alone.
fn on_one_core(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(program);
    command
}

fn command(program: &Path, what: &str, threads: usize, from: &Path, to: &Path, pinned: bool) -> Command {
    let mut command = if pinned { on_one_core(program) } else { Command::new(program) };
    command.args([what, &threads.to_string()]).arg(from).arg(to);
    command
}
