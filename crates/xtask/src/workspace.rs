//! Where the workspace and its target folder are.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::failure::{Failure, Result};

/// The folders that the developer commands work in.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Takes the root from where this program was built and the target folder from `CARGO_TARGET_DIR`.
    #[expect(clippy::disallowed_methods, reason = "a developer command lives in the developer's environment")]
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .ok_or_else(|| Failure::new("the workspace root is not above crates/xtask"))?
            .to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty()) {
            Some(folder) => root.join(folder),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The folder that holds the pinned tools, one folder a tool.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// A cargo command in the workspace root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(&self.root);
        command
    }
}
