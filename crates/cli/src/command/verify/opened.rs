//! What was sealed, once it is open and before anybody has it: its packages against what a policy demands of a package.

use std::path::{Path, PathBuf};

use protected_model::delivery::Descriptor;
use protected_npm::pack::Packed;

use super::{
    CHECKS, Finding, Outcome, Policy, Signed, Subject,
    evidence::Documents,
    place::{EVIDENCE, Place, read_manifest},
    policy::Believed,
    reading,
};
use crate::error::CommandError;

/// Holds the packages of a delivery, which lie in `folder`, against what is `demanded` of them. Other files have no documents of
/// their own: they are counted.
///
/// Attack: a policy that demands a build, and a delivery that its vendor signed and that nobody built so. What cannot be seen
/// in a sealed delivery was to be looked at afterwards, and was not.
///
/// # Errors
/// When a package or a document of it cannot be read.
pub(in crate::command) fn opened(
    folder: &Path,
    descriptor: &Descriptor,
    (policy, believed, demanded): (&Policy, &Believed, &str),
) -> Result<Signed, CommandError> {
    let is_evidence = |path: &str| path.starts_with(EVIDENCE) && path[EVIDENCE.len()..].starts_with('/');
    let files = descriptor.contents.iter().map(|file| file.path.as_str());
    let (tarballs, others): (Vec<&str>, Vec<&str>) = files
        .filter(|path| !is_evidence(path))
        .partition(|path| !path.contains('/') && Path::new(path).extension().is_some_and(|it| it == "tgz"));
    let expected = format!("{}@{}", descriptor.package_name, descriptor.version);
    let mut rows: Vec<(&'static str, Finding)> = Vec::new();
    let mut found = Vec::new();
    for tarball in tarballs {
        let place = Place { evidence: documents(folder, tarball), ..Place::of(folder.join(tarball), folder) };
        let manifest = read_manifest(&place, None)?;
        let packed = Packed::from_tarball(&place.tarball).map_err(|error| reading(&place.tarball, &error))?;
        let contents = packed.contents().map_err(|error| reading(&place.tarball, &error))?;
        let judged = Documents::read(&place, &[])?.judge(&packed, policy, Some(believed), None)?;
        found.push(format!("{}@{}", packed.name, packed.version));
        let subject = Subject { packed, contents, manifest, rebuilt: None, served: None };
        rows.extend(CHECKS.iter().filter_map(|check| Some((check.name, (check.run)(&subject)?))));
        rows.extend(judged.rows);
    }
    let outcome = if found.contains(&expected) { Outcome::Ok } else { Outcome::Failed };
    let named = if found.is_empty() { "no package".to_owned() } else { found.join(", ") };
    let expected = format!("{expected}, of which the policy demands {demanded}");
    rows.insert(0, ("package", Finding { outcome, expected, found: named, differences: Vec::new() }));
    if !others.is_empty() {
        let found =
            format!("{} other files, for which the signature over the bundle alone speaks", others.len());
        let expected = "packages and their documents alone".to_owned();
        rows.push(("files", Finding { outcome: Outcome::Note, expected, found, differences: Vec::new() }));
    }
    Ok(Signed { rows, build_id: None })
}

/// Returns where the documents of a tarball are: those of several builds stand apart.
fn documents(folder: &Path, tarball: &str) -> PathBuf {
    let all = folder.join(EVIDENCE);
    let own = all.join(tarball.trim_end_matches(".tgz"));
    if own.is_dir() { own } else { all }
}
