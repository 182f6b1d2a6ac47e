//! Measures the product beside its peers on this machine, in one run: `cargo xtask bench [publish|harden|sbom|deliver]`.
//!
//! Figures are ratios of medians over paired runs: absolute times say more about the machine.

mod deliver;
mod harden;
mod publish;
mod sbom;

use std::{fs, thread, time::Duration};

use crate::{
    failure::{Failure, Result},
    workspace::Workspace,
};

pub(crate) fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        None => publish::run_command(workspace, &[]),
        Some((what, rest)) if what == "publish" => publish::run_command(workspace, rest),
        Some((what, rest)) if what == "harden" => harden::run_command(workspace, rest),
        Some((what, rest)) if what == "deliver" => deliver::run_command(workspace, rest),
        Some((what, rest)) if what == "sbom" => sbom::run_command(workspace, rest),
        Some((what, _)) => Err(Failure::new(format!("cargo xtask bench measures no `{what}`"))
            .hint("cargo xtask bench publish [startup|packages|registry], cargo xtask bench harden [speed|resistance|run-time], cargo xtask bench sbom, or cargo xtask bench deliver")),
    }
}

/// Sorts and takes the one in the middle.
fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// Says what machine the figures are of.
fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let load =
        fs::read_to_string("/proc/loadavg").ok().and_then(|text| Some(text.split(' ').next()?.to_owned()));
    format!(
        "{} cores, {}, load {} at the start",
        cores,
        model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        load.unwrap_or_else(|| "unknown".to_owned())
    )
}
