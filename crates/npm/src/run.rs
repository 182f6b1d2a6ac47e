//! Running a package manager: a clean environment, its own process group, its words without the token.

use std::{
    ffi::OsString,
    future::Future,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use protected_model::{
    environment::Environment,
    hint::Hint,
    secret::{RegistryToken, Secret as _},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

use crate::redact;

/// How long a cancelled command may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How long the output of processes that outlive the command is waited for.
const DRAIN: Duration = Duration::from_secs(2);

/// The longest line that is passed on; the rest of it is dropped.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The variables that a package manager gets: what it takes to run programs, reach the network and write in the
/// right language, and nothing that a CI platform or a vault put there.
///
/// The attack: npm 11.5 and later mint an ID token of their own when `ACTIONS_ID_TOKEN_REQUEST_TOKEN` or
/// `NPM_ID_TOKEN` is there and put the answer in the place of our token; a lifecycle script can read the rest.
const PASSED: &[&str] = &[
    "ALL_PROXY",
    "APPDATA",
    "CC",
    "CFLAGS",
    "CI",
    "COMSPEC",
    "CXX",
    "CXXFLAGS",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LANGUAGE",
    "LDFLAGS",
    "LOCALAPPDATA",
    "LOGNAME",
    "NODE_EXTRA_CA_CERTS",
    "NO_COLOR",
    "NO_PROXY",
    "PATH",
    "PATHEXT",
    "PROGRAMDATA",
    "PROGRAMFILES",
    "PYTHON",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TERM",
    "TMP",
    "TMPDIR",
    "TZ",
    "USER",
    "USERNAME",
    "USERPROFILE",
    "WINDIR",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
];

/// A command that is ready to run.
#[derive(Clone)]
pub struct ChildCommand {
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// Its arguments; never a secret, every user of the machine can read them.
    pub args: Vec<OsString>,
    /// Its whole environment; never a secret either.
    pub environment: Environment,
    /// Where it runs.
    pub folder: PathBuf,
}

/// A line that a command wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// To its standard output.
    Out(String),
    /// To its standard error.
    Err(String),
}

/// Why a command did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No folder of `PATH` has it.
    #[error("`{program}` is not in any folder of PATH")]
    NotFound {
        /// The program.
        program: String,
    },
    /// It cannot be started.
    #[error("starting `{}`", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Waiting for it failed.
    #[error("waiting for `{}`", program.display())]
    Wait {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{program}` failed ({status}){}", said(.words.as_ref(), .notice.as_ref()))]
    Failed {
        /// The program's name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// Its first error line that says something, else its last line.
        words: Option<String>,
        /// What the registry had to say through it (npm's `notice`).
        notice: Option<String>,
    },
    /// It was cancelled, and everything that it started was ended.
    #[error("`{program}` was cancelled")]
    Cancelled {
        /// The program's name.
        program: String,
    },
}

impl RunError {
    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::NotFound { program } => Some(Hint::new(format!(
                "install `{program}` in an earlier step, or choose another package manager"
            ))),
            _ => None,
        }
    }
}

fn said(words: Option<&String>, notice: Option<&String>) -> String {
    let words = words.map(|words| format!(": {words}")).unwrap_or_default();
    let notice = notice.map(|notice| format!(" (notice: {notice})")).unwrap_or_default();
    words + &notice
}

/// Returns the part of `environment` that a package manager gets.
pub fn scrub(environment: &Environment) -> Environment {
    let passed = |name: &str| {
        let upper = name.to_ascii_uppercase();
        PASSED.contains(&upper.as_str()) || upper.starts_with("LC_")
    };
    environment
        .iter()
        .filter(|(name, _)| passed(name))
        .map(|(name, value)| match name {
            "PATH" | "Path" => (name.to_owned(), absolute_folders(value)),
            _ => (name.to_owned(), value.to_owned()),
        })
        .collect()
}

/// Leaves relative folders out of a `PATH`: in a hostile project, `node_modules/.bin/npm` would be run.
fn absolute_folders(path: &str) -> String {
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    std::env::join_paths(folders).ok().and_then(|path| path.into_string().ok()).unwrap_or_default()
}

/// Finds `program` in the absolute folders of `PATH`.
///
/// # Errors
/// When none has it.
pub fn find(program: &str, environment: &Environment) -> Result<PathBuf, RunError> {
    let path = environment.get("PATH").or(environment.get("Path")).unwrap_or_default();
    let suffixes: &[&str] = if cfg!(windows) { &[".exe", ".cmd", ".bat"] } else { &[""] };
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .flat_map(|folder| suffixes.iter().map(move |suffix| folder.join(format!("{program}{suffix}"))))
        .find(|file| is_program(file))
        .ok_or_else(|| RunError::NotFound { program: program.to_owned() })
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

/// Runs a command to its end, or until `cancel` is ready, and shows `each` line that it writes without the token.
///
/// The command and everything that it starts are one process group: when it is cancelled or this future is dropped,
/// nothing of it goes on.
///
/// # Errors
/// When it cannot be started, ends with an error, or is cancelled.
pub async fn run(
    command: &ChildCommand,
    token: &RegistryToken,
    mut each: impl FnMut(&Line),
    cancel: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let program =
        command.program.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut group = Group::start(command)?;
    let (sender, mut lines) = mpsc::channel(64);
    if let Some(out) = group.child.stdout.take() {
        tokio::spawn(read(out, sender.clone(), Line::Out));
    }
    if let Some(err) = group.child.stderr.take() {
        tokio::spawn(read(err, sender.clone(), Line::Err));
    }
    drop(sender);

    let mut heard = Heard::default();
    let mut hear = |line: Line, heard: &mut Heard| {
        let line = match line {
            Line::Out(text) => Line::Out(redact::without(&text, token.reveal())),
            Line::Err(text) => Line::Err(redact::without(&text, token.reveal())),
        };
        heard.add(&line);
        each(&line);
    };
    tokio::pin!(cancel);
    let ended = loop {
        tokio::select! {
            biased;
            () = &mut cancel => {
                group.end().await;
                return Err(RunError::Cancelled { program });
            }
            Some(line) = lines.recv() => hear(line, &mut heard),
            ended = group.child.wait() => break ended,
        }
    };
    let status = ended.map_err(|source| RunError::Wait { program: command.program.clone(), source })?;
    // What the command left running may hold its output open: it is not waited for, and ends here.
    let drain = async {
        while let Some(line) = lines.recv().await {
            hear(line, &mut heard);
        }
    };
    let _ = tokio::time::timeout(DRAIN, drain).await;
    drop(group);
    if status.success() {
        return Ok(());
    }
    let words = heard.words.map(|words| redact::line(&words, token.reveal()));
    Err(RunError::Failed { program, status, words, notice: heard.notice })
}

/// Runs a command that is given no secret, and returns its first line of output.
///
/// # Errors
/// When it cannot be started, takes longer than `limit`, or ends with an error.
pub async fn first_line(command: &ChildCommand, limit: Duration) -> Result<String, RunError> {
    let mut first = None;
    let none = RegistryToken::new("");
    let take = |line: &Line| {
        if let (Line::Out(text), None) = (line, &first) {
            first = Some(text.trim().to_owned());
        }
    };
    run(command, &none, take, tokio::time::sleep(limit)).await?;
    Ok(first.unwrap_or_default())
}

/// A child and everything that it starts, ended when this value is dropped.
struct Group {
    child: Child,
    id: Option<u32>,
}

impl Group {
    fn start(command: &ChildCommand) -> Result<Self, RunError> {
        let mut child = Command::new(&command.program);
        child
            .args(&command.args)
            .env_clear()
            .envs(command.environment.iter())
            .current_dir(&command.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        #[cfg(unix)]
        child.process_group(0);
        let child =
            child.spawn().map_err(|source| RunError::Start { program: command.program.clone(), source })?;
        let id = child.id();
        Ok(Self { child, id })
    }

    /// Asks the group to end, and kills what has not after [`GRACE`].
    async fn end(&mut self) {
        self.signal(false);
        let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        self.signal(true);
        let _ = self.child.wait().await;
    }

    #[cfg(unix)]
    fn signal(&self, kill: bool) {
        use rustix::process::{Pid, Signal, kill_process_group};

        let group = self.id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // It fails when nobody of the group is left.
            let _ = kill_process_group(group, if kill { Signal::KILL } else { Signal::TERM });
        }
    }

    #[cfg(not(unix))]
    fn signal(&mut self, _: bool) {
        let _ = self.child.start_kill();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(true);
    }
}

async fn read(output: impl AsyncRead + Unpin, lines: mpsc::Sender<Line>, kind: fn(String) -> Line) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        let chunk = match output.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(chunk) => chunk,
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&taken[..taken.len().min(MAX_LINE_BYTES.saturating_sub(line.len()))]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        output.consume(used);
        if end.is_some() && lines.send(kind(text(&std::mem::take(&mut line)))).await.is_err() {
            return;
        }
    }
    if !line.is_empty() {
        let _ = lines.send(kind(text(&line))).await;
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches('\r').to_owned()
}

/// What matters of a command's words when it fails.
#[derive(Default)]
struct Heard {
    words: Option<String>,
    notice: Option<String>,
    is_error: bool,
}

impl Heard {
    fn add(&mut self, line: &Line) {
        let (Line::Out(text) | Line::Err(text)) = line;
        let plain = without_colour(text);
        let plain = plain.trim();
        if let Some(notice) = plain.strip_prefix("npm notice").map(str::trim) {
            if !is_about_tarball(notice) {
                self.notice = Some(redact::line(notice, ""));
            }
            return;
        }
        // The first error is the cause, what follows is advice; without one, the last line is as good as any.
        let (is_error, words) = error_words(plain);
        if !words.is_empty() && !self.is_error {
            self.words = Some(words.to_owned());
            self.is_error = is_error;
        }
    }
}

/// Returns whether a notice is npm's own, about what it packs and where it sends it.
fn is_about_tarball(notice: &str) -> bool {
    const OWN: &[&str] = &[
        "📦",
        "package:",
        "Tarball ",
        "Bundled ",
        "name:",
        "version:",
        "filename:",
        "package size:",
        "unpacked size:",
        "shasum:",
        "integrity:",
        "bundled ",
        "own files:",
        "total files:",
        "Publishing to ",
    ];
    let (size, rest) = notice.split_once(' ').unwrap_or((notice, ""));
    let is_file =
        size.ends_with('B') && size.starts_with(|first: char| first.is_ascii_digit()) && !rest.is_empty();
    notice.is_empty() || is_file || OWN.iter().any(|own| notice.starts_with(own))
}

/// Takes the package manager's own marks off a line, and tells whether it is an error.
fn error_words(line: &str) -> (bool, &str) {
    // npm's code line, its pointer to a log that we do not keep, and pnpm's and yarn's furniture say nothing.
    for (mark, is_error) in
        [("npm error", true), ("npm ERR!", true), ("error ", true), ("ERR_PNPM_", true), ("[ERR_PNPM_", true)]
    {
        if let Some(rest) = line.strip_prefix(mark) {
            let rest = rest.trim();
            let furniture = rest.starts_with("code ")
                || rest.starts_with("A complete log of this run")
                || rest.starts_with("Log files were not written")
                || rest.starts_with("An unexpected error occurred") && rest.len() < 40;
            let kept = if mark.contains("PNPM") { line } else { rest };
            return (is_error, if furniture { "" } else { kept });
        }
    }
    if line.contains("YN0") && line.contains('➤') {
        let is_error = ["YN0041", "YN0035", "YN0001", "YN0016", "YN0027", "YN0082", "YN0081"]
            .iter()
            .any(|code| line.contains(code));
        return (is_error, if line.contains("Failed with errors") { "" } else { line });
    }
    if line.starts_with("info ") || line.starts_with("Done in") || line.starts_with("at ") {
        return (false, "");
    }
    (false, line)
}

fn without_colour(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            // CSI: up to its final byte (ECMA-48 section 5.4).
            if chars.next() == Some('[') {
                for char in chars.by_ref() {
                    if ('\u{40}'..='\u{7e}').contains(&char) {
                        break;
                    }
                }
            }
        } else {
            plain.push(char);
        }
    }
    plain
}
