//! Looks the dependencies up in the RustSec advisories: the live ones, or a snapshot for a machine without them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    failure::{Failure, Result},
    process::{run, run_quietly},
    tools::{self, Purpose},
    workspace::Workspace,
};

/// `cargo xtask audit`: asks the live database.
pub(crate) fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        return Err(Failure::new("cargo xtask audit takes no argument"));
    }
    tools::install(workspace, Purpose::Tests)?;
    run(&mut cargo_audit(workspace))
}

/// Where a snapshot of the advisories may lie: beside the project.
pub(crate) fn snapshot(workspace: &Workspace) -> Option<PathBuf> {
    let path = workspace.root.parent()?.join("shared/data/rustsec-advisory-db.tar.gz");
    path.is_file().then_some(path)
}

/// Checks `Cargo.lock` against a snapshot, offline.
pub(crate) fn run_offline(workspace: &Workspace, snapshot: &Path) -> Result<()> {
    let folder = workspace.tools().join("advisories");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .map_err(|error| Failure::new(format!("cannot remove {}: {error}", folder.display())))?;
    }
    fs::create_dir_all(&folder)
        .map_err(|error| Failure::new(format!("cannot create {}: {error}", folder.display())))?;
    run_quietly(Command::new("tar").arg("-xzf").arg(snapshot).arg("-C").arg(&folder))?;
    run(cargo_audit(workspace).args(["--no-fetch", "--stale", "--db"]).arg(folder.join("advisory-db")))
}

fn cargo_audit(workspace: &Workspace) -> Command {
    let mut command = Command::new(workspace.tools().join("python/bin/cargo-audit"));
    command.arg("audit").current_dir(&workspace.root);
    command
}
