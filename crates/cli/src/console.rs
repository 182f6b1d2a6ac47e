//! The screen: results on standard output, talk on standard error, the CI platform's own forms where there is one.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use protected_ci::{Level, Platform};
use protected_model::{api::problem::Problem, secret::Secret};
use serde::Serialize;

use crate::{args::Format, error::CommandError};

/// Where a command says what it does.
pub(crate) struct Console {
    format: Format,
    colour: bool,
    platform: Option<Box<dyn Platform>>,
}

impl Console {
    pub(crate) fn new(format: Format, no_colour: bool, platform: Option<Box<dyn Platform>>) -> Self {
        let colour = !no_colour && platform.is_none() && io::stderr().is_terminal();
        Self { format, colour, platform }
    }

    pub(crate) fn platform(&self) -> Option<&dyn Platform> {
        self.platform.as_deref()
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Says something to the person who watches.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        write(&mut io::stderr().lock(), &harmless(text.as_ref()));
    }

    /// Says that one step is done: what, how it went, and how long it took.
    pub(crate) fn step(&self, what: &str, how: impl AsRef<str>, since: Instant) {
        let (bold, dim, reset) = if self.colour { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let how = one_line(how.as_ref());
        self.say(format!("  {bold}{what:<9}{reset} {how} {dim}({}){reset}", human(since.elapsed())));
    }

    /// Says something that deserves attention, as an annotation where the platform has them.
    pub(crate) fn warn(&self, title: &str, message: &str) {
        self.say(format!("warning: {message}"));
        self.annotate(Level::Warning, title, message);
    }

    /// Tells the platform never to show `secret`.
    pub(crate) fn mask(&self, secret: &impl Secret) {
        if let Some(lines) = self.platform().and_then(|platform| platform.masks(secret.reveal())) {
            self.command(&lines);
        }
    }

    /// Writes a result: `text` for people, `document` for programs.
    pub(crate) fn result(&self, text: &str, document: &impl Serialize) {
        match self.format {
            Format::Text if text.is_empty() => {}
            Format::Text => write(&mut io::stdout().lock(), text),
            Format::Json => match serde_json::to_string_pretty(document) {
                Ok(json) => write(&mut io::stdout().lock(), &json),
                Err(error) => self.say(format!("error: the result cannot be written as JSON: {error}")),
            },
        }
    }

    /// Sets an output of the platform's step.
    pub(crate) fn output(&self, name: &str, value: &str) {
        if let Some(platform) = self.platform()
            && let Err(error) = platform.write_output(name, value)
        {
            self.warn("Output not written", &format!("the output `{name}` could not be written: {error}"));
        }
    }

    /// Adds to the platform's job summary.
    pub(crate) fn summary(&self, markdown: &str) {
        if let Some(platform) = self.platform()
            && let Err(error) = platform.write_summary(markdown)
        {
            self.warn("Summary not written", &format!("the job summary could not be written: {error}"));
        }
    }

    /// Says why a command failed: to people, as an annotation, and to programs.
    pub(crate) fn failure(&self, doing: &str, error: &CommandError, correlation_id: Option<&str>) {
        let (red, reset) = if self.colour { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        self.say(format!("{red}error{reset}: {}", without_escapes(&error.message)));
        if let Some(problem) = &error.problem {
            self.rules(problem);
        }
        for hint in &error.hints {
            self.say(without_escapes(&format!("  hint: {hint}")));
        }
        let correlation = error.correlation_id(correlation_id);
        if let Some(id) = correlation {
            self.say(format!("  correlation id: {id}"));
        }
        let mut annotation = error.message.clone();
        for hint in &error.hints {
            annotation.push_str(&format!("\nhint: {hint}"));
        }
        if let Some(id) = correlation {
            annotation.push_str(&format!("\ncorrelation id: {id}"));
        }
        self.annotate(Level::Error, &format!("protected-registry {doing}"), &annotation);
        if self.is_json() {
            let mut document = serde_json::json!({
                "error": {
                    "kind": error.kind.word(),
                    "message": error.message,
                    "hints": error.hints.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "problem": error.problem,
                    "correlation_id": correlation,
                }
            });
            if let (Some(members), Some(details)) = (document.as_object_mut(), error.details.as_object()) {
                members.extend(details.clone());
            }
            self.result("", &document);
        }
    }

    fn rules(&self, problem: &Problem) {
        if problem.rules.is_empty() {
            return;
        }
        let nearest = problem.nearest_policy.as_deref().unwrap_or("the policy");
        let title = format!("Rules of {nearest}, the nearest match");
        let group = self.platform().and_then(|platform| platform.group(&title));
        match &group {
            // On the same stream as the rules, so that they stay in it.
            Some((open, _)) => self.command(open),
            None => self.say(format!("  {}:", one_line(&title))),
        }
        for rule in &problem.rules {
            let mark = if rule.ok { "ok  " } else { "FAIL" };
            let actual =
                rule.actual.as_deref().map_or_else(|| "absent".to_owned(), |text| format!("`{text}`"));
            self.say(one_line(&if rule.ok {
                format!("    {mark} {} is {actual}", rule.claim)
            } else {
                format!(
                    "    {mark} {}: expected `{}`, got {actual} ({})",
                    rule.claim, rule.expected, rule.rule
                )
            }));
        }
        if let Some((_, close)) = &group {
            self.command(close);
        }
    }

    fn annotate(&self, level: Level, title: &str, message: &str) {
        if let Some(lines) = self.platform().and_then(|platform| platform.annotation(level, title, message)) {
            self.command(&lines);
        }
    }

    /// Writes lines for the platform. To standard error, which runners read as well: standard output may be
    /// captured by a script or go into a file, where a mask's line would be the secret itself.
    fn command(&self, lines: &str) {
        write(&mut io::stderr().lock(), lines);
    }
}

/// Returns `text` without what moves a terminal's cursor.
fn without_escapes(text: &str) -> String {
    text.replace('\x1b', " ")
}

/// Returns `text` so that no line of it is a command to a CI runner.
///
/// A package's name, a tag or a server's answer may hold a line end and then `::error::`, or GitHub's older
/// `##[error]`, which runners look for in both streams, after leading blanks and for the latter anywhere.
fn harmless(text: &str) -> String {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line: String =
            line.chars().map(|c| if c.is_control() && c != '\x1b' { ' ' } else { c }).collect();
        let line = line.replace("##[", "## [");
        let quoted = index > 0 || line.trim_start().starts_with("::");
        lines.push(if quoted { format!("  | {line}") } else { line });
    }
    lines.join("\n")
}

/// Returns `text` on one line and without control characters, which could start a workflow command or move a
/// terminal's cursor.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns a duration as people say it.
pub(crate) fn human(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1000 { format!("{ms} ms") } else { format!("{:.1} s", duration.as_secs_f64()) }
}

/// Returns a size as people say it, in decimal units.
pub(crate) fn human_size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{}.{} kB", bytes / 1000, bytes % 1000 / 100),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// Returns a size before and after.
pub(crate) fn sizes(before_bytes: u64, after_bytes: u64) -> String {
    format!("{} → {}", human_size(before_bytes), human_size(after_bytes))
}

/// Writes `text` and a line end. A closed pipe is no reason to fail: the work counts, not the talk.
fn write(stream: &mut impl Write, text: &str) {
    let _ = writeln!(stream, "{}", text.trim_end_matches('\n'));
    let _ = stream.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        assert_eq!(human(Duration::from_millis(999)), "999 ms");
        assert_eq!(human(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(human_size(999), "999 B");
        assert_eq!(human_size(1_999), "1.9 kB");
        assert_eq!(human_size(2_345_678), "2.3 MB");
    }

    #[test]
    fn no_line_is_a_command_to_a_runner() {
        assert_eq!(harmless("a\n::error::b\r\n  ##[error]c"), "a\n  | ::error::b\n  |   ## [error]c");
        assert_eq!(harmless(" ::add-mask::x"), "  |  ::add-mask::x");
        assert_eq!(harmless("error: a\u{7}b"), "error: a b");
    }

    #[test]
    fn text_from_outside_stays_on_its_line() {
        assert_eq!(one_line("a\n::error::b\r\x1b[2J"), "a ::error::b  [2J");
    }
}
