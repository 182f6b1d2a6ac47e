//! The job summary, in Markdown.

use std::fmt::Write;

use protected_model::delivery::DeliveryManifest;

use crate::{
    build::Built,
    console::{human_size, one_line, sizes},
    error::CommandError,
    signing::Signatures,
};

/// What a publish or a build has to show.
pub(crate) struct Published<'a> {
    pub(crate) heading: &'a str,
    pub(crate) rows: Vec<(&'a str, String)>,
    /// What was built, where anything was.
    pub(crate) built: Option<&'a Built>,
    pub(crate) signatures: &'a Signatures,
    pub(crate) correlation_id: &'a str,
}

/// Tells how a publish or a build went: one table for the package, one for the steps, one for the evidence.
pub(crate) fn published(published: &Published<'_>) -> String {
    let mut text = format!("### {}\n\n| | |\n|---|---|\n", cell(published.heading));
    for (name, value) in &published.rows {
        line(&mut text, &[name, value]);
    }
    if let Some(built) = published.built {
        line(&mut text, &["files", &sizes(built.source_bytes, built.packed.unpacked_size)]);
    }
    if let Some(reason) = published.signatures.reason() {
        line(&mut text, &["signed", &format!("no: {reason}")]);
    }
    line(&mut text, &["correlation id", &code(published.correlation_id)]);
    let pipeline = published.built.map_or(&[][..], |built| &built.manifest.pipeline);
    if !pipeline.is_empty() {
        text.push_str("\n| step | tool | files | result | time |\n|---|---|---|---|---|\n");
        for step in pipeline {
            let tool = format!("{} {}", step.tool, step.tool_version);
            let time = step.duration_ms.map_or_else(String::new, |ms| format!("{ms} ms"));
            let status = match step.status {
                protected_model::build::StepStatus::Completed => "completed",
                protected_model::build::StepStatus::NothingToDo => "nothing to do",
            };
            line(&mut text, &[&step.step, &tool, &step.files.to_string(), status, &time]);
        }
    }
    let documents = published.built.map_or(&[][..], |built| &built.documents);
    if !documents.is_empty() {
        text.push_str("\n| evidence | SHA-256 |\n|---|---|\n");
        for document in documents {
            line(&mut text, &[&document.kind, &code(&document.sha256.to_string())]);
        }
    }
    let signed = &published.signatures.signed;
    if !signed.is_empty() {
        text.push_str("\n| signed | SHA-256 of the bundle | log entry | time |\n|---|---|---|---|\n");
        for signed in signed {
            let log = signed.log.as_ref().map(|log| format!("{} of {}", log.index, code(&log.url)));
            let time = signed.times.first().map(ToString::to_string);
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
            line(
                &mut text,
                &[&signed.name, &code(&signed.sha256.to_string()), &or_none(log), &or_none(time)],
            );
        }
    }
    text.push('\n');
    text
}

/// Tells which parts of a delivery are signed: those whose signatures were checked, or else those that have one.
pub(crate) fn signatures(checked: &[&str], unchecked: &[&str]) -> String {
    match (checked, unchecked) {
        ([], []) => "no".to_owned(),
        ([], unchecked) => format!("{}: by whom was not looked at", unchecked.join(", ")),
        (checked, _) => checked.join(", "),
    }
}

/// Tells what was delivered, and to whom.
pub(crate) fn delivered(
    manifest: &DeliveryManifest,
    signed: &str,
    audit_event_id: Option<&str>,
    correlation_id: &str,
) -> String {
    let heading = format!("{}@{} for {}", manifest.package_name, manifest.version, manifest.customer_slug);
    let mut text = format!("### {}\n\n| | |\n|---|---|\n", cell(&heading));
    let sealed = format!("{} in {} files", human_size(manifest.bundle.size), manifest.contents.len());
    let recorded = audit_event_id.map_or_else(|| "no".to_owned(), |id| format!("audit event {}", code(id)));
    for (name, value) in [
        ("delivery", code(manifest.bundle_id.as_str())),
        ("project", code(&format!("{}/{}", manifest.tenant_id, manifest.project_slug))),
        ("sealed", sealed),
        ("under the key", code(&manifest.key_ref.to_string())),
        ("bundle", code(&format!("sha256:{}", manifest.bundle.sha256))),
        ("signed", signed.to_owned()),
        ("on record", recorded),
        ("correlation id", code(correlation_id)),
    ] {
        line(&mut text, &[name, &value]);
    }
    if !manifest.evidence.is_empty() {
        text.push_str("\n| evidence | SHA-256 |\n|---|---|\n");
        for document in &manifest.evidence {
            line(&mut text, &[&cell(&document.kind), &code(&document.sha256.to_string())]);
        }
    }
    text.push('\n');
    text
}

/// Tells how a verification went: one line a check.
pub(crate) fn verified<'a>(
    about: &str,
    passed: bool,
    rows: impl Iterator<Item = (&'a str, &'a str, String)>,
) -> String {
    let (mark, word) = if passed { ("✅", "verified") } else { ("❌", "not verified") };
    let mut text = format!("### {mark} {} {word}\n\n| | check | |\n|---|---|---|\n", cell(about));
    for (name, outcome, found) in rows {
        line(&mut text, &[outcome, name, &cell(&found)]);
    }
    text.push('\n');
    text
}

/// Tells why a command failed: the message, the rules of the nearest policy, what to do.
pub(crate) fn failure(doing: &str, error: &CommandError, correlation_id: Option<&str>) -> String {
    let mut text = format!("### ❌ protected-registry {} failed\n\n{}\n", cell(doing), cell(&error.message));
    if let Some(problem) = &error.problem
        && !problem.rules.is_empty()
    {
        let nearest = problem.nearest_policy.as_deref().unwrap_or("the policy");
        let _ = write!(text, "\nNearest match: {}\n", code(nearest));
        text.push_str("\n| | claim | expected | actual | rule |\n|---|---|---|---|---|\n");
        for rule in &problem.rules {
            let mark = if rule.ok { "✅" } else { "❌" };
            let actual = rule.actual.as_deref().map_or_else(|| "*absent*".to_owned(), code);
            line(&mut text, &[mark, &code(&rule.claim), &code(&rule.expected), &actual, &cell(&rule.rule)]);
        }
    }
    for hint in &error.hints {
        let hint = hint.to_string();
        // Lines to paste stay lines.
        let (first, rest) = hint.split_once('\n').unwrap_or((&hint, ""));
        let _ = write!(text, "\n**Hint:** {}\n", cell(first));
        if !rest.is_empty() {
            let _ = write!(text, "\n```\n{}\n```\n", rest.replace("```", "~~~"));
        }
    }
    if let Some(id) = error.correlation_id(correlation_id) {
        let _ = write!(text, "\nCorrelation id: {}\n", code(id));
    }
    text.push('\n');
    text
}

fn line(text: &mut String, cells: &[&str]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

/// Returns text from outside as inline code that cannot end its cell.
pub(crate) fn code(text: &str) -> String {
    let text = one_line(text).replace('`', "'").replace('|', "\\|");
    if text.is_empty() { "*empty*".to_owned() } else { format!("`{text}`") }
}

/// Returns text from outside so that it stays text: no cell ends, no tag starts.
fn cell(text: &str) -> String {
    one_line(text).replace('|', "\\|").replace('<', "&lt;").replace('[', "\\[")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CommandError, Kind};

    #[test]
    fn nothing_from_outside_leaves_its_cell() {
        assert_eq!(code("a|b`\n| c"), "`a\\|b' \\| c`");
        let error = CommandError::new(Kind::Refused, "<img src=x>\n# heading [a](b)");
        let text = failure("publish", &error, None);
        assert!(text.contains("&lt;img src=x> # heading \\[a](b)"), "{text}");
    }
}
