//! The embedded default on this machine, started for a demo or a benchmark, and jobs that publish to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    failure::{Failure, Result},
    http,
    process::run_quietly,
};

/// The CI variables of this process that would make a job of ours look like another one.
const AMBIENT: &[&str] = &["GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "CI"];

/// A server with its data, running until this is dropped.
pub(crate) struct Local {
    pub(crate) folder: PathBuf,
    pub(crate) server_path: PathBuf,
    pub(crate) base: String,
    cli: PathBuf,
    server: Child,
}

impl Local {
    /// Empties `folder`, writes `config` into it and starts the server of `binaries` there.
    pub(crate) fn start(folder: PathBuf, binaries: &Path, config: &str) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .map_err(|error| Failure::new(format!("cannot remove `{}`: {error}", folder.display())))?;
        }
        make(&folder)?;
        let server_path = binaries.join("fractalops-local");
        let file = folder.join("fractalops.toml");
        write(&file, config)?;
        let ready = folder.join("ready");
        let server = Command::new(&server_path)
            .args(["serve", "--config"])
            .arg(&file)
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| Failure::new(format!("cannot start the server: {error}")))?;
        let cli = binaries.join("protected-registry");
        let mut local = Self { folder, server_path, base: String::new(), cli, server };
        let since = Instant::now();
        while !ready.exists() {
            let ended = local.server.try_wait().is_ok_and(|status| status.is_some());
            if ended || since.elapsed() > Duration::from_secs(30) {
                return Err(Failure::new("the server did not get ready; what it said stands above"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        local.base = read(&ready)?.trim().trim_end_matches('/').to_owned();
        Ok(local)
    }

    /// Returns the CLI in a job that got an ID token in a private file.
    pub(crate) fn job(&self, run: &str, folder: &Path, arguments: &[&str]) -> Result<Command> {
        let file = self.folder.join("id-token");
        self.id_token(run, &file)?;
        let mut command = self.command(folder, arguments);
        command.env("FRACTALOPS_ID_TOKEN_FILE", &file);
        Ok(command)
    }

    /// Returns the CLI in a job that asks its platform for an ID token, as on GitHub Actions.
    pub(crate) fn github_job(&self, run: &str, folder: &Path, arguments: &[&str]) -> Result<Command> {
        let url = format!("{}/local-issuer/github-actions/token/{run}?api-version=2.0", self.base);
        let mut command = self.command(folder, arguments);
        command
            .env("GITHUB_ACTIONS", "true")
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", url)
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", self.request_token(run)?);
        Ok(command)
    }

    /// Returns the CLI at a customer's, who knows neither FractalOps nor the project.
    pub(crate) fn customer(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = self.command(folder, arguments);
        command.env_remove("FRACTALOPS_BASE_URL").env_remove("PROTECTED_REGISTRY_PROJECT");
        command
    }

    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.cli);
        command
            .args(arguments)
            .current_dir(folder)
            .env("FRACTALOPS_BASE_URL", &self.base)
            .env("PROTECTED_REGISTRY_PROJECT", "example");
        for name in AMBIENT {
            command.env_remove(name);
        }
        command
    }

    fn request_token(&self, run: &str) -> Result<String> {
        let token = read(&self.folder.join(format!("data/local-issuer/{run}.request-token")))?;
        Ok(token.trim().to_owned())
    }

    /// Asks the local issuer for an ID token, as a job asks its CI platform.
    fn id_token(&self, run: &str, file: &Path) -> Result<()> {
        let audience = self.base.replace(':', "%3A").replace('/', "%2F");
        let path = format!("/local-issuer/github-actions/token/{run}?api-version=2.0&audience={audience}");
        let answer = http::get(&self.base, &path, &self.request_token(run)?)?;
        let token = answer["value"].as_str().ok_or_else(|| Failure::new("the local issuer gave no token"))?;
        write_private(file, token)
    }

    /// Asks for the first page of a list with the operator's token.
    pub(crate) fn operator(&self, path: &str) -> Result<Vec<Value>> {
        let bearer = read(&self.folder.join("data/admin-token"))?;
        let mut answer = http::get(&self.base, path, bearer.trim())?;
        Ok(answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Returns the server's resident memory in bytes, where the platform tells.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        resident_bytes(self.server.id())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Returns a process' resident memory in bytes, from `/proc`.
pub(crate) fn resident_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Takes a package from the npm registry as it is published there, and unpacks it into `folder/<name>`.
pub(crate) fn fetch(folder: &Path, name: &str, version: &str) -> Result<PathBuf> {
    let package = format!("{name}@{version}");
    run_quietly(Command::new("npm").args(["pack", "--silent", &package]).current_dir(folder))?;
    let unpacked = folder.join(name);
    make(&unpacked)?;
    let tarball = format!("{name}-{version}.tgz");
    let arguments = ["xzf", &tarball, "--strip-components=1", "-C", name];
    run_quietly(Command::new("tar").args(arguments).current_dir(folder))?;
    Ok(unpacked)
}

pub(crate) fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("cannot make `{}`: {error}", folder.display())))
}

pub(crate) fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", file.display())))
}

pub(crate) fn write(file: &Path, content: &str) -> Result<()> {
    fs::write(file, content)
        .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", file.display())))
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(file: &Path, content: &str) -> Result<()> {
    use std::io::Write as _;
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
        .open(file)
        .and_then(|mut opened| opened.write_all(content.as_bytes()))
        .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", file.display())))
}
