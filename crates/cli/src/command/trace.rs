//! `trace`: names the delivery that a leaked file came from.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use protected_harden::{MAX_FALSE_MATCH_LOG10, Match, Numbers};
use protected_model::{hint::Hint, name::DeliveryLabel};
use serde_json::json;

use super::verify;
use crate::{
    args::Trace,
    build::DEFAULT_FOLDER,
    console::one_line,
    context::{self, Context},
    error::{CommandError, Kind},
    hardening,
};

/// The largest file that is read.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// A leaked file and the numbers in it.
struct Leak {
    path: PathBuf,
    numbers: Numbers,
}

/// A delivery and how it compares with what leaked.
struct Suspect {
    delivery: DeliveryLabel,
    found: Match,
}

/// Names every delivery that the files certainly hold something of.
///
/// # Errors
/// When a file or the list of deliveries cannot be read, when no build secret is set, and [`Kind::NotProven`] when no
/// delivery can be named.
pub(crate) async fn run(context: &Context, arguments: Trace) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("trace")?;
    let deliveries = deliveries(context, &arguments)?;
    let secret = hardening::secret(context)?;
    let marks: Vec<_> = deliveries
        .into_iter()
        .map(|delivery| Ok((hardening::mark(&delivery, secret.as_ref())?, delivery)))
        .collect::<Result<_, CommandError>>()?;
    let files: Vec<PathBuf> =
        arguments.files.iter().map(|file| settings.working_directory.join(file)).collect();
    let (leaks, all, suspects) = context::compute(move || {
        let leaks = read(&files)?;
        let mut all = Numbers::default();
        leaks.iter().for_each(|leak| all.extend(&leak.numbers));
        let count = marks.len();
        let mut suspects: Vec<Suspect> = marks
            .into_iter()
            .map(|(mark, delivery)| Suspect { delivery, found: all.compare(&mark, count) })
            .collect();
        suspects.sort_by(|a, b| {
            a.found.chance_log10.total_cmp(&b.found.chance_log10).then_with(|| a.delivery.cmp(&b.delivery))
        });
        Ok((leaks, all, suspects))
    })
    .await?;
    context.cancel.check()?;
    tell(context, &leaks, &all, &suspects)
}

fn tell(context: &Context, leaks: &[Leak], all: &Numbers, suspects: &[Suspect]) -> Result<(), CommandError> {
    let files = if leaks.len() == 1 { "1 file".to_owned() } else { format!("{} files", leaks.len()) };
    context.console.say(format!(
        "  {files}, {} numbers that a mark could have; {} deliveries",
        all.len(),
        suspects.len()
    ));
    let named: Vec<&Suspect> = suspects.iter().filter(|suspect| suspect.found.is_certain()).collect();
    let mut lines = Vec::new();
    for Suspect { delivery, found } in &named {
        let chance = chance(found);
        let hits = found.hits();
        lines.push(format!("{delivery}: {hits} of its numbers; by chance with a probability below {chance}"));
        for leak in leaks {
            let hits = found.shared_with(&leak.numbers);
            if hits > 0 {
                let path = leak.path.display().to_string();
                context.console.say(format!("  {delivery}  {hits} in {}", one_line(&path)));
            }
        }
    }
    let document = json!({
        "files": leaks.iter().map(|leak| json!({
            "path": leak.path,
            "numbers": leak.numbers.len(),
        })).collect::<Vec<_>>(),
        "numbers": all.len(),
        "max_false_match_log10": MAX_FALSE_MATCH_LOG10,
        "deliveries": suspects.iter().map(|suspect| json!({
            "delivery": suspect.delivery,
            "named": suspect.found.is_certain(),
            "hits": suspect.found.hits(),
            "chance_log10": suspect.found.chance_log10,
            "files": leaks.iter().map(|leak| suspect.found.shared_with(&leak.numbers)).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    if !named.is_empty() {
        context.console.result(&lines.join("\n"), &document);
        return Ok(());
    }
    let nearest = suspects.first().filter(|suspect| suspect.found.hits() > 0);
    let mut message = format!("no delivery can be named: {files} and {} deliveries", suspects.len());
    if let Some(Suspect { delivery, found }) = nearest {
        message.push_str(&format!(
            "; `{delivery}` shares {} numbers, which may be chance (up to {})",
            found.hits(),
            chance(found)
        ));
    }
    let why = if all.is_empty() {
        "there is no number in the files that a mark could have: they are not marked, or their code was replaced"
    } else {
        "the copy may be of another delivery, of another build secret, or not marked at all"
    };
    Err(CommandError::new(Kind::NotProven, message).hint(Hint::new(why)).with_details(document))
}

/// Returns a chance as people write one: `1e-42`, never less than what it stands for.
fn chance(found: &Match) -> String {
    match found.chance_log10.ceil() as i64 {
        0.. => "1".to_owned(),
        exponent => format!("1e{exponent}"),
    }
}

/// Settles which deliveries may have leaked.
fn deliveries(context: &Context, arguments: &Trace) -> Result<BTreeSet<DeliveryLabel>, CommandError> {
    let settings = &context.settings;
    let mut found: BTreeSet<DeliveryLabel> = arguments.delivery.iter().cloned().collect();
    let list = settings.value(arguments.deliveries.clone(), "DELIVERIES", None)?;
    if let Some(path) = &list {
        found.extend(listed(&settings.working_directory.join(path))?);
    }
    let builds = settings.value(arguments.builds.clone(), "BUILDS", None)?;
    let folder = match builds {
        Some(folder) => Some(settings.working_directory.join(folder)),
        None if found.is_empty() && list.is_none() => Some(settings.working_directory.join(DEFAULT_FOLDER)),
        None => None,
    };
    if let Some(folder) = &folder {
        found.extend(built(folder)?);
    }
    if found.is_empty() {
        let message = match &folder {
            Some(folder) => format!("no marked build stands below `{}`", folder.display()),
            None => "the list of deliveries is empty".to_owned(),
        };
        return Err(CommandError::usage(message)
            .advise("name the deliveries that may have leaked: --delivery <label>, or --deliveries <file> with one a line"));
    }
    Ok(found)
}

fn listed(path: &Path) -> Result<Vec<DeliveryLabel>, CommandError> {
    let text = fs::read_to_string(path).map_err(|error| {
        CommandError::usage(format!("cannot read the list of deliveries `{}`: {error}", path.display()))
    })?;
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            line.parse().map_err(|error| {
                CommandError::usage(format!("line {number} of `{}`: {error}", path.display()))
            })
        })
        .collect()
}

/// Reads for which deliveries the builds below `folder` are marked.
fn built(folder: &Path) -> Result<Vec<DeliveryLabel>, CommandError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).map_err(|error| cannot_read(folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| cannot_read(folder, &error))?.path();
        found.extend(verify::marked_for(&path)?);
    }
    Ok(found)
}

/// Reads every file, and the files below every folder.
fn read(files: &[PathBuf]) -> Result<Vec<Leak>, CommandError> {
    let mut waiting: Vec<PathBuf> = files.iter().rev().cloned().collect();
    let mut leaks = Vec::new();
    while let Some(path) = waiting.pop() {
        let kind = fs::symlink_metadata(&path).map_err(|error| cannot_read(&path, &error))?;
        if kind.is_dir() {
            let entries = fs::read_dir(&path).map_err(|error| cannot_read(&path, &error))?;
            let mut below: Vec<PathBuf> = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()
                .map_err(|error| cannot_read(&path, &error))?;
            below.sort_unstable_by(|a, b| b.cmp(a));
            waiting.extend(below);
            continue;
        }
        // A link in a folder may lead anywhere; one that is named is meant.
        if kind.is_symlink() && !files.contains(&path) {
            continue;
        }
        let size = fs::metadata(&path).map_err(|error| cannot_read(&path, &error))?.len();
        if size > MAX_BYTES {
            let message = format!("`{}` has {size} bytes, and at most {MAX_BYTES} are read", path.display());
            return Err(CommandError::new(Kind::BadInput, message));
        }
        let bytes = fs::read(&path).map_err(|error| cannot_read(&path, &error))?;
        // A tarball holds files of its own.
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let packed = protected_npm::pack::Packed::from_bytes(bytes.into(), &path);
            let contents = packed.and_then(|packed| packed.contents()).map_err(|error| {
                CommandError::from_error(Kind::BadInput, &format!("reading `{}`", path.display()), &error)
            })?;
            leaks.extend(contents.into_iter().map(|(inside, content)| Leak {
                path: path.join(inside),
                numbers: Numbers::of(&String::from_utf8_lossy(&content)),
            }));
            continue;
        }
        leaks.push(Leak { numbers: Numbers::of(&String::from_utf8_lossy(&bytes)), path });
    }
    Ok(leaks)
}

fn cannot_read(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::new(Kind::BadInput, format!("cannot read `{}`: {error}", path.display()))
}
