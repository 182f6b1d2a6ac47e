//! Whether provenance agrees with who signed it, and with the source and builder that are expected.
//!
//! A signed provenance is only as good as its signer: whoever may sign may write any source into it. So what it says
//! of the source, the run and the builder has to be what the authority certified of the run that signed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Certificate, Check, Pattern, Refused, Signer, Verified};
use crate::{
    provenance::{BUILD_TYPE, Provenance},
    statement::{PROVENANCE, ResourceDescriptor},
};

/// What a build has to be: what stands here has to be so, and what does not is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExpectedBuild {
    /// The address of the source repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Pattern>,
    /// The full ref.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<Pattern>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Pattern>,
    /// The builder's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<Pattern>,
    /// The build type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_type: Option<Pattern>,
}

/// What a provenance says, after it was held against its signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The address of the source repository, where it names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The full ref.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The builder's id.
    pub builder: String,
    /// The build type.
    pub build_type: String,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The level of SLSA's Build track that is shown: what the provenance claims at most, and never more than 2.
    pub build_level: u8,
    /// What came out of the build beside the package.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<ResourceDescriptor>,
}

/// Holds a verified bundle's provenance against its signer and against what is expected.
///
/// # Errors
/// The first member that is not as it has to be.
pub fn provenance(verified: &Verified, expected: &ExpectedBuild) -> Result<Told, Refused> {
    let refuse = |expected: &str, found: String| Refused::new(Check::Predicate, expected, found);
    let statement = verified
        .statement
        .as_ref()
        .ok_or_else(|| refuse(PROVENANCE, "a signature without a statement".to_owned()))?;
    if statement.predicate_type != PROVENANCE {
        return Err(refuse(PROVENANCE, statement.predicate_type.clone()));
    }
    let read: Provenance = serde_json::from_value(statement.predicate.clone())
        .map_err(|error| refuse("SLSA provenance v1", error.to_string()))?;
    let told = told(&read, &verified.signer);
    if read.build_definition.build_type == BUILD_TYPE {
        own_parameters(&read, statement.subject.first().map_or("", |subject| &subject.name))?;
    }
    if let Signer::Certificate(certificate) = &verified.signer {
        certified(&told, &read, certificate)?;
    }
    demanded(&told, expected)?;
    Ok(told)
}

fn told(read: &Provenance, signer: &Signer) -> Told {
    let git = read.build_definition.resolved_dependencies.iter().find_map(|dependency| {
        let (scheme, rest) = dependency.uri.as_deref()?.split_once('+')?;
        (scheme == "git").then_some((rest, dependency.digest.get("gitCommit")))
    });
    // `https://host/path@refs/...`: a login before the host has an `@` too, a ref begins with `refs/`.
    let (source, git_ref) = match git.map(|(uri, _)| uri.split_once("@refs/").ok_or(uri)) {
        Some(Ok((source, name))) => (Some(source.to_owned()), Some(format!("refs/{name}"))),
        Some(Err(source)) => (Some(source.to_owned()), None),
        None => (None, None),
    };
    let internal = &read.build_definition.internal_parameters;
    let claimed = match internal.pointer("/slsaBuildLevel/atMost").and_then(Value::as_u64) {
        Some(claimed) => u8::try_from(claimed).unwrap_or(0),
        // What another tool signed in a hosted run is what Build L2 asks for.
        None => 2,
    };
    let hosted = match signer {
        Signer::Certificate(certificate) => certificate
            .runner
            .as_deref()
            .is_some_and(|runner| runner.ends_with("-hosted") && runner != "self-hosted"),
        Signer::Key { .. } => false,
    };
    Told {
        source,
        git_ref,
        commit: git.and_then(|(_, commit)| commit.cloned()),
        builder: read.run_details.builder.id.clone(),
        build_type: read.build_definition.build_type.clone(),
        run: read.run_details.metadata.invocation_id.clone(),
        build_level: claimed.min(if hosted { 2 } else { 1 }),
        byproducts: read.run_details.byproducts.clone(),
    }
}

/// Our own build type names the package in its parameters too.
fn own_parameters(read: &Provenance, subject: &str) -> Result<(), Refused> {
    let external = &read.build_definition.external_parameters;
    let text = |name: &str| external.get(name).and_then(Value::as_str).unwrap_or_default();
    let purl = format!("pkg:npm/{}@{}", text("package").replace('@', "%40"), text("version"));
    if purl == subject {
        return Ok(());
    }
    Err(Refused::new(Check::Provenance, format!("parameters of {subject}"), format!("those of {purl}")))
}

/// Holds what the provenance says of the run against what was certified of it.
fn certified(told: &Told, read: &Provenance, certificate: &Certificate) -> Result<(), Refused> {
    let pairs = [
        ("source", &told.source, &certificate.repository),
        ("ref", &told.git_ref, &certificate.git_ref),
        ("commit", &told.commit, &certificate.commit),
        ("run", &told.run, &certificate.run),
    ];
    for (what, said, certified) in pairs {
        if let (Some(said), Some(certified)) = (said, certified)
            && said != certified
        {
            return Err(mismatch(what, certified, said));
        }
        if let (Some(said), None) = (said, certified) {
            return Err(Refused::new(
                Check::Provenance,
                format!("no {what}: the certificate names none"),
                format!("{what} {said}"),
            ));
        }
    }
    // `https://github.com/actions/runner/github-hosted` says on which machines.
    if let (Some((_, said)), Some(runner)) =
        (told.builder.rsplit_once("/actions/runner/"), &certificate.runner)
        && said != runner
    {
        return Err(mismatch("runner", runner, said));
    }
    // A workflow as the builder is the one that the certificate is made out to.
    if told.builder.contains("/.github/workflows/") && told.builder != certificate.subject {
        return Err(mismatch("builder", &certificate.subject, &told.builder));
    }
    let workflow = read.build_definition.external_parameters.get("workflow");
    let text = |name: &str| workflow.and_then(|it| it.get(name)).and_then(Value::as_str);
    let repository = text("repository").zip(certificate.repository.as_deref());
    let git_ref = text("ref").zip(certificate.git_ref.as_deref());
    for (what, pair) in [("workflow's repository", repository), ("workflow's ref", git_ref)] {
        if let Some((said, certified)) = pair.filter(|(said, certified)| said != certified) {
            return Err(mismatch(what, certified, said));
        }
    }
    if let (Some(path), Some(certified)) = (text("path"), &certificate.workflow)
        && !certified.contains(&format!("/{path}@"))
    {
        return Err(mismatch("workflow", certified, path));
    }
    Ok(())
}

fn mismatch(what: &str, certified: &str, said: &str) -> Refused {
    Refused::new(Check::Provenance, format!("{what} {certified}, as certified"), format!("{what} {said}"))
}

fn demanded(told: &Told, expected: &ExpectedBuild) -> Result<(), Refused> {
    let pairs = [
        ("source", &expected.source, told.source.as_deref()),
        ("ref", &expected.git_ref, told.git_ref.as_deref()),
        ("commit", &expected.commit, told.commit.as_deref()),
        ("builder", &expected.builder, Some(told.builder.as_str())),
        ("build type", &expected.build_type, Some(told.build_type.as_str())),
    ];
    for (what, pattern, found) in pairs {
        let Some(pattern) = pattern else { continue };
        if !found.is_some_and(|found| pattern.matches(found)) {
            let found = found.map_or_else(|| "none".to_owned(), |found| format!("{what} `{found}`"));
            return Err(Refused::new(Check::Provenance, format!("{what} `{pattern}`"), found));
        }
    }
    Ok(())
}
