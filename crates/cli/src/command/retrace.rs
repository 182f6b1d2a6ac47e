//! `retrace`: stack traces of a hardened package into source files, lines and names.

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use protected_harden::retrace::{self, Delivered, Function, Line, Retracer, TracedFrame};
use protected_model::{digest::Sha256, name::PackageName};
use serde_json::json;

use crate::{
    args,
    build::{DEFAULT_FOLDER, MANIFEST},
    context::Context,
    error::{CommandError, Kind},
    escrow::{self, Found},
};

/// The largest text that is read.
const MAX_BYTES: u64 = 64 << 20;

/// The longest source line that is shown.
const MAX_SHOWN: usize = 240;

/// Reads traces, and writes them as the original would have had them.
///
/// # Errors
/// When there is nothing to read or to read with, when an escrow cannot be opened or was changed, and when no frame
/// at all belongs to it.
pub(crate) async fn run(context: &Context, arguments: args::Retrace) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("retrace")?;
    let wanted = match settings.value(arguments.package.clone(), "PACKAGE", None)? {
        Some(text) => Some(Wanted::parse(&text)?),
        None => None,
    };
    let text = trace(arguments.trace.map(|path| settings.working_directory.join(path)))?;
    let escrows = escrows(context, &arguments.escrow, wanted.as_ref()).await?;
    let known: Vec<String> =
        escrows.iter().map(|escrow| format!("{}@{}", escrow.package_name(), escrow.version())).collect();
    let delivered = delivered(&settings.working_directory, &arguments.delivered)?;
    let mut retracer = Retracer::new(escrows, delivered);
    let lines = crate::context::compute(move || {
        retracer.read(&text).map_err(|error| escrow::broken("of the build", &error))
    })
    .await?;
    context.cancel.check()?;

    let frames: Vec<&TracedFrame> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Frame(frame) => Some(frame.as_ref()),
            Line::Text(_) => None,
        })
        .collect();
    let mut packages: Vec<&str> =
        frames.iter().filter_map(|frame| Some(frame.outcome.as_ref().ok()?.package.as_str())).collect();
    let mapped = packages.len();
    packages.sort_unstable();
    packages.dedup();
    let text = written(&lines, packages.len() > 1);
    let text = if context.console.platform().is_some() { quoted(&text) } else { text };
    let text = if io::stdout().is_terminal() { without_controls(&text) } else { text };
    let document = json!({
        "mapped": mapped,
        "packages": packages,
        "frames": frames.iter().map(|frame| frame_document(frame)).collect::<Vec<_>>(),
        "text": text,
    });
    if mapped > 0 {
        let count = frames.len();
        context.console.say(format!("{mapped} of {count} frames mapped with {}", packages.join(", ")));
        context.console.result(&text, &document);
        return Ok(());
    }
    if !context.console.is_json() {
        context.console.result(&text, &document);
    }
    let known = known.join(", ");
    let error = match frames.len() {
        0 => CommandError::new(Kind::BadInput, "the input holds no frame of a JavaScript stack trace"),
        1 => CommandError::new(
            Kind::BadInput,
            format!("the only frame is of nothing in the escrow of {known}"),
        ),
        count => CommandError::new(
            Kind::BadInput,
            format!("none of the {count} frames is of anything in the escrow of {known}"),
        )
        .advise("name the build that was delivered with --escrow"),
    };
    Err(error.with_details(document))
}

/// Reads the text with the traces.
fn trace(path: Option<PathBuf>) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let (name, read) = match &path {
        Some(path) => {
            let file = fs::File::open(path);
            (
                format!("`{}`", path.display()),
                file.and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)),
            )
        }
        None => ("standard input".to_owned(), io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| CommandError::usage(format!("cannot read the stack trace from {name}: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        let limit = crate::console::human_size(MAX_BYTES);
        return Err(CommandError::usage(format!(
            "{name} holds more than {limit}: cut the stack trace out of it"
        )));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(CommandError::usage(format!("{name} is empty"))
            .advise("give the stack trace: protected-registry retrace < stack.txt"));
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// A package, of one version or of any.
struct Wanted {
    name: PackageName,
    version: Option<String>,
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, CommandError> {
        let at = text.get(1..).and_then(|rest| rest.find('@')).map(|at| at + 1);
        let (name, version) = at.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
        let name = name.parse().map_err(|error| CommandError::usage(format!("the package: {error}")))?;
        Ok(Self { name, version: version.map(str::to_owned) })
    }

    fn is(&self, name: &str, version: &str) -> bool {
        self.name.as_str() == name && self.version.as_ref().is_none_or(|wanted| wanted == version)
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// Opens the escrows that are named, or those of the builds below the working directory.
async fn escrows(
    context: &Context,
    named: &[PathBuf],
    wanted: Option<&Wanted>,
) -> Result<Vec<retrace::Escrow>, CommandError> {
    let directory = &context.settings.working_directory;
    let (keys, http) = (context.keys()?, context.http()?);
    let mut found = Vec::new();
    if named.is_empty() {
        let builds = directory.join(DEFAULT_FOLDER);
        let mut folders: Vec<PathBuf> = fs::read_dir(&builds)
            .map(|entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
            .unwrap_or_default();
        folders.sort();
        for folder in &folders {
            match escrow::find(folder) {
                Ok(escrow) => found.push(escrow),
                // Another build of the same version could be taken for it.
                Err(error) if folder.join(MANIFEST).is_file() => {
                    context.console.say(format!("note: `{}` is passed over: {error}", folder.display()));
                }
                // No build at all.
                Err(_) => {}
            }
        }
        if found.is_empty() {
            let message = format!("there is no build with an escrow in `{}`", builds.display());
            return Err(CommandError::usage(message).advise("name one with --escrow"));
        }
    } else {
        for path in named {
            found.push(escrow::find(&directory.join(path))?);
        }
    }
    let mut opened = Vec::new();
    let mut others = Vec::new();
    for found in found {
        // Before a key is asked for: the manifest says in clear what the escrow is of.
        if let (Found::Sealed(path), Some(wanted)) = (&found, wanted) {
            let descriptor = escrow::manifest(path)?.descriptor;
            let version = descriptor.version.to_string();
            if !wanted.is(descriptor.package_name.as_str(), &version) {
                others.push(format!("{}@{version}", descriptor.package_name));
                continue;
            }
        }
        let escrow = escrow::open(found, &keys, &http).await?;
        context.cancel.check()?;
        if wanted.is_some_and(|wanted| !wanted.is(escrow.package_name(), escrow.version())) {
            others.push(format!("{}@{}", escrow.package_name(), escrow.version()));
        } else {
            opened.push(escrow);
        }
    }
    match wanted {
        Some(wanted) if opened.is_empty() => {
            let others = others.join(", ");
            Err(CommandError::usage(format!("there is no escrow of {wanted} here, only of {others}")))
        }
        _ => Ok(opened),
    }
}

fn delivered(directory: &Path, paths: &[PathBuf]) -> Result<Vec<Delivered>, CommandError> {
    let read = |path: &PathBuf| {
        let content = fs::read(directory.join(path)).map_err(|error| {
            CommandError::usage(format!("cannot read the delivered file `{}`: {error}", path.display()))
        })?;
        Ok(Delivered { path: path.to_string_lossy().into_owned(), sha256: Sha256::of(content) })
    };
    paths.iter().map(read).collect()
}

/// Writes the lines, with the source line below the first frame of each trace that is mapped.
fn written(lines: &[Line], with_package: bool) -> String {
    let mut text = String::new();
    let mut shown = false;
    for line in lines {
        match line {
            Line::Text(line) => {
                shown = false;
                text.push_str(line);
                text.push('\n');
            }
            Line::Frame(frame) => {
                text.push_str(&frame.to_text(with_package));
                text.push('\n');
                if !shown && let Some(excerpt) = excerpt(frame) {
                    text.push_str(&excerpt);
                    shown = true;
                }
            }
        }
    }
    text
}

fn excerpt(frame: &TracedFrame) -> Option<String> {
    let source = frame.outcome.as_ref().ok()?;
    let line = source.text.as_ref().filter(|line| line.len() <= MAX_SHOWN)?;
    // Tabs stay, so that the mark stands below its place however wide they are shown.
    let mut units = 0;
    let before = line.chars().take_while(|c| {
        let is_before = units + 1 < source.column as usize;
        units += c.len_utf16();
        is_before
    });
    let blank: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    Some(format!("{:>10} | {line}\n{:>10} | {blank}^\n", source.line, ""))
}

fn frame_document(frame: &TracedFrame) -> serde_json::Value {
    let place = frame.place.as_ref();
    let (original, note) = match &frame.outcome {
        Err(reason) => (None, Some(reason)),
        Ok(source) => {
            let (kind, name) = match &source.function {
                Function::Named { name, is_constructor: true } => ("constructor", Some(name)),
                Function::Named { name, .. } => ("function", Some(name)),
                Function::Anonymous => ("function", None),
                Function::Module => ("module", None),
                Function::Unknown => ("unknown", None),
            };
            let original = json!({
                "package": source.package,
                "file": source.path,
                "line": source.line,
                "column": source.column,
                "function": name,
                "kind": kind,
                "source_line": source.text,
                "matched_by": source.certainty.name(),
            });
            (Some(original), None)
        }
    };
    json!({
        "text": frame.text,
        "engine": frame.engine.name(),
        "generated": {
            "file": place.map(|place| &place.file),
            "line": place.map(|place| place.line),
            "column": place.and_then(|place| place.column),
            "function": frame.function,
        },
        "original": original,
        "note": note,
    })
}

/// Returns the text so that no line of it is a command to a CI runner: it was written by somebody's customer.
fn quoted(text: &str) -> String {
    let quote = |line: &str| {
        let line = line.replace("##[", "## [");
        if line.trim_start().starts_with("::") { format!("  | {line}\n") } else { format!("{line}\n") }
    };
    without_controls(text).lines().map(quote).collect()
}

/// Returns the text without what moves a terminal's cursor.
fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_may_have_a_version() {
        for (text, name, version) in [
            ("@acme/core", "@acme/core", None),
            ("@acme/core@1.0.0", "@acme/core", Some("1.0.0")),
            ("core@2", "core", Some("2")),
        ] {
            let wanted = Wanted::parse(text).expect(text);
            assert_eq!((wanted.name.as_str(), wanted.version.as_deref()), (name, version));
            assert_eq!(wanted.to_string(), text);
        }
        assert!(Wanted::parse("").is_err());
        assert!(Wanted::parse("@acme").is_err());
    }

    #[test]
    fn a_customers_text_commands_no_runner_and_no_terminal() {
        assert_eq!(quoted("a\n ::error::b\n##[c\x1b[2J\r"), "a\n  |  ::error::b\n## [c [2J \n");
        assert_eq!(without_controls("a\tb\x1b]0;x\x07\n"), "a\tb ]0;x \n");
    }
}
