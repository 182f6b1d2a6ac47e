//! SLSA provenance v1 of a hardened build: what went in, what was done, and where.
//!
//! The build type is ours and has a page of its own, `docs/build-types/hardened-npm-v1.md`. What a CI platform signed
//! and FractalOps verified stands where SLSA puts it; what the environment merely says stands under `unverified` and
//! nowhere else.

use std::collections::BTreeMap;

use jiff::{Timestamp, Unit};
use protected_model::{
    build::{BuildManifest, Protection, StepStatus},
    digest::Sha256,
    identity::{PlatformKind, RunIdentity},
    integrity::canonical,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::statement::{DigestSet, PROVENANCE, ResourceDescriptor, Statement, Subject};

/// The build type: a name, which `docs/build-types/hardened-npm-v1.md` explains.
pub const BUILD_TYPE: &str = "https://protected-registry.dev/build-types/hardened-npm/v1";

/// The builder of a build on somebody's own machine.
pub const LOCAL_BUILDER: &str = "https://protected-registry.dev/builders/local";

/// The builder of a build on a CI platform whose word nobody verified.
pub const UNVERIFIED_BUILDER: &str = "https://protected-registry.dev/builders/unverified";

/// The runners that a platform provides and nobody else can enter, by what it calls them in its ID tokens.
const HOSTED: &[&str] = &["github-hosted", "gitlab-hosted"];

/// The predicate of SLSA provenance v1 (slsa.dev/spec/v1.1/provenance). Members that are unknown are let pass when it
/// is read, as that specification demands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// What was to be done.
    pub build_definition: BuildDefinition,
    /// How it went.
    pub run_details: RunDetails,
}

/// What was to be done, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// [`BUILD_TYPE`], or another tool's.
    pub build_type: String,
    /// What whoever started the build decided.
    pub external_parameters: Value,
    /// What the builder decided.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub internal_parameters: Value,
    /// What went in: the source first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved_dependencies: Vec<ResourceDescriptor>,
}

/// Where and when it ran, and what else came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDetails {
    /// Who has to be trusted for this to be true.
    pub builder: Builder,
    /// The run.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// What came out beside the subject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<ResourceDescriptor>,
}

/// Who built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    /// A URI for each platform and mode.
    pub id: String,
    /// The versions of what built.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub version: BTreeMap<String, String>,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Where the run can be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<String>,
    /// When it began, to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_on: Option<Timestamp>,
    /// When it ended, to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_on: Option<Timestamp>,
}

impl Metadata {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is known of where the build ran.
#[derive(Clone, Copy, Debug)]
pub enum Run<'a> {
    /// A CI job, as its ID token says: FractalOps verified it.
    Verified(&'a RunIdentity),
    /// A CI job, as its environment says.
    Unverified(&'a RunIdentity),
    /// No CI job.
    Local,
}

/// A build, for [`provenance`].
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    /// What was done.
    pub manifest: &'a BuildManifest,
    /// Where.
    pub run: Run<'a>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// The lock file that the dependencies were installed by: its path within the source, and its digest.
    pub lock: Option<(&'a str, Sha256)>,
    /// The other documents of the build.
    pub byproducts: &'a [Byproduct],
}

/// A document that came out of a build, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Byproduct {
    /// Its file name in the evidence.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// SHA-256 of its bytes.
    pub sha256: Sha256,
}

/// How far a build can be trusted (slsa.dev/spec/v1.1/levels), and why not further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The level of the Build track, once the provenance is signed by the run's identity.
    pub build: u8,
    /// Why it is not one more.
    pub because: &'static str,
}

impl Run<'_> {
    /// Returns the most that may be claimed for a build here. Level 3 is never: the job that builds can ask for the
    /// identity that signs, so what runs in it could sign something else.
    pub fn level(self) -> Level {
        match self {
            Self::Verified(run)
                if run.runner_environment.as_deref().is_some_and(|it| HOSTED.contains(&it)) =>
            {
                Level { build: 2, because: "the job that builds can use the identity that signs" }
            }
            Self::Verified(_) => {
                Level { build: 1, because: "the platform does not say that it runs the machine itself" }
            }
            Self::Unverified(_) => Level { build: 1, because: "nobody verified which run this was" },
            Self::Local => Level { build: 1, because: "it was built on somebody's own machine" },
        }
    }

    fn verified(self) -> Option<&'static str> {
        match self {
            Self::Verified(_) => Some("id-token"),
            Self::Unverified(_) | Self::Local => None,
        }
    }

    /// Returns who built: the platform's runner, or the reusable workflow that ran there.
    pub fn builder(self) -> String {
        let run = match self {
            Self::Local => return LOCAL_BUILDER.to_owned(),
            Self::Unverified(_) => return UNVERIFIED_BUILDER.to_owned(),
            Self::Verified(run) => run,
        };
        let environment = run.runner_environment.as_deref().unwrap_or("unknown");
        let issuer = run.issuer.trim_end_matches('/');
        match run.platform {
            PlatformKind::GithubActions => match (server(run), &run.job_workflow_ref) {
                (Some(server), Some(called)) if run.workflow_ref.as_ref() != Some(called) => {
                    format!("{server}/{called}")
                }
                (Some("https://github.com"), _) => {
                    format!("https://github.com/actions/runner/{environment}")
                }
                (server, _) => format!("{}/actions/runner/{environment}", server.unwrap_or(issuer)),
            },
            PlatformKind::GitlabCi => format!("{issuer}/-/runners/{environment}"),
            PlatformKind::Jenkins | PlatformKind::Generic => run.issuer.clone(),
        }
    }
}

/// Returns the server of a GitHub run: what stands before the repository in the run's address.
fn server(run: &RunIdentity) -> Option<&str> {
    let end = run.run_url.as_deref()?.split_once("/actions/runs/")?.0;
    end.strip_suffix(run.repository.as_deref()?)?.strip_suffix('/')
}

/// Returns the address of the source repository, where the platform says which it is.
fn repository(run: &RunIdentity) -> Option<String> {
    let path = run.repository.as_deref()?;
    match run.platform {
        PlatformKind::GithubActions => Some(format!("{}/{path}", server(run)?)),
        PlatformKind::GitlabCi => Some(format!("{}/{path}", run.issuer.trim_end_matches('/'))),
        PlatformKind::Jenkins | PlatformKind::Generic => None,
    }
}

/// Says how a package was built: a statement that is ready to be signed.
pub fn provenance(subject: Subject, build: &Build<'_>) -> Statement<Provenance> {
    let Build { manifest, run, .. } = build;
    let invocation_id = match run {
        Run::Verified(run) => run.run_url.clone(),
        Run::Unverified(_) | Run::Local => None,
    };
    let predicate = Provenance {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: external(manifest),
            internal_parameters: internal(manifest, *run),
            resolved_dependencies: dependencies(build),
        },
        run_details: RunDetails {
            builder: Builder {
                id: run.builder(),
                version: [("protected-registry".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
            },
            metadata: Metadata {
                invocation_id,
                started_on: Some(second(build.started)),
                finished_on: Some(second(build.finished)),
            },
            byproducts: byproducts(build),
        },
    };
    Statement::new(subject, PROVENANCE, predicate)
}

/// Whole seconds: readers of these documents refuse fractions.
fn second(time: Timestamp) -> Timestamp {
    time.round(Unit::Second).unwrap_or(time)
}

fn external(manifest: &BuildManifest) -> Value {
    let stages: Vec<&str> = manifest.pipeline.iter().map(|step| step.step.as_str()).collect();
    let configuration: Vec<_> = manifest
        .pipeline
        .iter()
        .map(|step| json!({"step": step.step, "sha256": step.config_sha256}))
        .collect();
    json!({
        "package": manifest.package_name,
        "version": manifest.version,
        "profile": manifest.hardening.as_ref().map(|hardening| &hardening.profile),
        "stages": stages,
        "configuration": {"sha256": Sha256::of(canonical(&configuration))},
    })
}

fn internal(manifest: &BuildManifest, run: Run<'_>) -> Value {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Internal<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        hardening: Option<Hardened<'a>>,
        protection: Protection,
        steps: Vec<Step<'a>>,
        slsa_build_level: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        verified_by: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        platform: Option<&'a RunIdentity>,
        #[serde(skip_serializing_if = "Option::is_none")]
        unverified: Option<&'a RunIdentity>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Hardened<'a> {
        seed_commitment: &'a Sha256,
        secret: bool,
        marked: bool,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Step<'a> {
        name: &'a str,
        tool: &'a str,
        tool_version: &'a str,
        config_sha256: &'a Sha256,
        status: StepStatus,
    }
    let level = run.level();
    let (platform, unverified) = match run {
        Run::Verified(run) => (Some(run), None),
        Run::Unverified(run) => (None, Some(run)),
        Run::Local => (None, None),
    };
    let value = Internal {
        hardening: manifest.hardening.as_ref().map(|it| Hardened {
            seed_commitment: &it.seed_commitment,
            secret: it.secret,
            marked: it.marked,
        }),
        protection: manifest.protection,
        steps: manifest
            .pipeline
            .iter()
            .map(|step| Step {
                name: &step.step,
                tool: &step.tool,
                tool_version: &step.tool_version,
                config_sha256: &step.config_sha256,
                status: step.status,
            })
            .collect(),
        slsa_build_level: json!({"atMost": level.build, "because": level.because}),
        verified_by: run.verified(),
        platform,
        unverified,
    };
    json!(value)
}

/// What went in: the commit where it is known, the files as they were, the lock file, and the tools.
fn dependencies(build: &Build<'_>) -> Vec<ResourceDescriptor> {
    let manifest = build.manifest;
    let mut all = Vec::new();
    if let Run::Verified(run) = build.run
        && let Some(repository) = repository(run)
    {
        let at = run.git_ref.as_ref().map_or_else(String::new, |git_ref| format!("@{git_ref}"));
        all.push(ResourceDescriptor {
            uri: Some(format!("git+{repository}{at}")),
            digest: run.sha.iter().map(|commit| ("gitCommit".to_owned(), commit.clone())).collect(),
            ..ResourceDescriptor::default()
        });
    }
    if let Some(tree) = manifest.source.tree_sha256 {
        all.push(ResourceDescriptor {
            name: Some("source-tree".to_owned()),
            digest: DigestSet::from([("protectedRegistryTreeSha256".to_owned(), tree.to_string())]),
            ..ResourceDescriptor::default()
        });
    }
    if let Some((path, sha256)) = build.lock {
        all.push(ResourceDescriptor {
            name: Some(path.to_owned()),
            digest: DigestSet::from([("sha256".to_owned(), sha256.to_string())]),
            ..ResourceDescriptor::default()
        });
    }
    let tools: BTreeMap<(&str, &str), ()> =
        manifest.pipeline.iter().map(|step| ((step.tool.as_str(), step.tool_version.as_str()), ())).collect();
    all.extend(tools.into_keys().map(|(tool, version)| ResourceDescriptor {
        name: Some(tool.to_owned()),
        uri: Some(format!("pkg:generic/{tool}@{version}")),
        ..ResourceDescriptor::default()
    }));
    all
}

fn byproducts(build: &Build<'_>) -> Vec<ResourceDescriptor> {
    let sha256 = |digest: &Sha256| DigestSet::from([("sha256".to_owned(), digest.to_string())]);
    let mut all: Vec<ResourceDescriptor> = build
        .byproducts
        .iter()
        .map(|document| ResourceDescriptor {
            name: Some(document.name.clone()),
            digest: sha256(&document.sha256),
            media_type: Some(document.media_type.clone()),
            ..ResourceDescriptor::default()
        })
        .collect();
    if let Some(escrow) = &build.manifest.source_map_escrow {
        all.push(ResourceDescriptor {
            name: Some("source-map-escrow".to_owned()),
            digest: sha256(&escrow.sha256),
            annotations: [("files".to_owned(), json!(escrow.files))].into(),
            ..ResourceDescriptor::default()
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use protected_model::{
        build::{Escrow, Hardening, PipelineStep, Source, SourceMaps, StepStatus},
        digest::Integrity,
        integrity::ArtifactDigest,
    };

    use super::*;

    fn manifest() -> BuildManifest {
        let step = |step: &str, tool: &str, version: &str| PipelineStep {
            step: step.to_owned(),
            tool: tool.to_owned(),
            tool_version: version.to_owned(),
            config_sha256: Sha256::of("{}"),
            parameters: json!({}),
            status: StepStatus::Completed,
            files: 1,
            input_tree_sha256: Sha256::of("in"),
            output_tree_sha256: Sha256::of("out"),
            duration_ms: None,
        };
        BuildManifest {
            schema: protected_model::build::MEDIA_TYPE.to_owned(),
            package_name: "@acme/core".parse().expect("name"),
            version: "1.2.3".parse().expect("version"),
            source: Source { tree_sha256: Some(Sha256::of("in")), ..Source::default() },
            pipeline: vec![step("compile", "swc", "83.0.0"), step("obfuscate", "protected-harden", "0.1.0")],
            protection: Protection { obfuscated: true, encrypted: false, source_maps: SourceMaps::Withheld },
            hardening: Some(Hardening {
                profile: "standard".to_owned(),
                seed_commitment: Sha256::of("seed"),
                secret: true,
                marked: false,
            }),
            unprotected: BTreeMap::new(),
            kept_apart: BTreeMap::new(),
            shaken: std::collections::BTreeSet::new(),
            source_map_escrow: Some(Escrow { sha256: Sha256::of("maps"), files: 2, key_ref: None }),
            artifact: ArtifactDigest {
                filename: "core-1.2.3.tgz".to_owned(),
                size: 1,
                sha256: Sha256::of("a"),
                integrity: Integrity::of("a"),
            },
        }
    }

    fn github() -> RunIdentity {
        let text = |text: &str| Some(text.to_owned());
        RunIdentity {
            repository: text("acme/core"),
            repository_id: text("7"),
            workflow_ref: text("acme/core/.github/workflows/release.yml@refs/tags/v1.2.3"),
            job_workflow_ref: text("acme/core/.github/workflows/release.yml@refs/tags/v1.2.3"),
            git_ref: text("refs/tags/v1.2.3"),
            sha: text(&"0".repeat(40)),
            run_url: text("https://github.com/acme/core/actions/runs/9/attempts/1"),
            runner_environment: text("github-hosted"),
            ..RunIdentity::new(
                PlatformKind::GithubActions,
                "https://token.actions.githubusercontent.com",
                "repo:acme/core:ref:refs/tags/v1.2.3",
            )
        }
    }

    fn said(run: Run<'_>) -> Value {
        let manifest = manifest();
        let subject =
            Subject::npm(&manifest.package_name, &manifest.version, &Sha256::of("a"), &Integrity::of("a"));
        let time = |text: &str| text.parse().expect("time");
        let build = Build {
            manifest: &manifest,
            run,
            started: time("2026-01-02T03:04:05.6Z"),
            finished: time("2026-01-02T03:04:07.2Z"),
            lock: Some(("package-lock.json", Sha256::of("lock"))),
            byproducts: &[Byproduct {
                name: "sbom.cdx.json".to_owned(),
                media_type: "application/vnd.cyclonedx+json".to_owned(),
                sha256: Sha256::of("bom"),
            }],
        };
        serde_json::to_value(provenance(subject, &build)).expect("json")
    }

    #[test]
    fn what_was_verified_stands_where_slsa_puts_it() {
        let said = said(Run::Verified(&github()));
        let predicate = &said["predicate"];
        assert_eq!(said["predicateType"], "https://slsa.dev/provenance/v1");
        assert_eq!(predicate["buildDefinition"]["buildType"], BUILD_TYPE);
        let configuration = Sha256::of(canonical(&json!([
            {"step": "compile", "sha256": Sha256::of("{}")}, {"step": "obfuscate", "sha256": Sha256::of("{}")}
        ])));
        assert_eq!(
            predicate["buildDefinition"]["externalParameters"],
            json!({
                "package": "@acme/core", "version": "1.2.3", "profile": "standard",
                "stages": ["compile", "obfuscate"], "configuration": {"sha256": configuration},
            })
        );
        let internal = &predicate["buildDefinition"]["internalParameters"];
        assert_eq!(internal["verifiedBy"], "id-token");
        assert_eq!(internal["platform"]["issuer"], "https://token.actions.githubusercontent.com");
        assert_eq!(internal["platform"]["repository_id"], "7");
        assert_eq!(internal.get("unverified"), None);
        assert_eq!(internal["slsaBuildLevel"]["atMost"], 2);
        assert_eq!(
            internal["hardening"],
            json!({"seedCommitment": Sha256::of("seed"), "secret": true, "marked": false})
        );
        assert_eq!(
            predicate["buildDefinition"]["resolvedDependencies"],
            json!([
                {"uri": "git+https://github.com/acme/core@refs/tags/v1.2.3", "digest": {"gitCommit": "0".repeat(40)}},
                {"name": "source-tree", "digest": {"protectedRegistryTreeSha256": Sha256::of("in")}},
                {"name": "package-lock.json", "digest": {"sha256": Sha256::of("lock")}},
                {"name": "protected-harden", "uri": "pkg:generic/protected-harden@0.1.0"},
                {"name": "swc", "uri": "pkg:generic/swc@83.0.0"},
            ])
        );
        assert_eq!(
            predicate["runDetails"],
            json!({
                "builder": {
                    "id": "https://github.com/actions/runner/github-hosted",
                    "version": {"protected-registry": env!("CARGO_PKG_VERSION")},
                },
                "metadata": {
                    "invocationId": "https://github.com/acme/core/actions/runs/9/attempts/1",
                    "startedOn": "2026-01-02T03:04:06Z", "finishedOn": "2026-01-02T03:04:07Z",
                },
                "byproducts": [
                    {"name": "sbom.cdx.json", "digest": {"sha256": Sha256::of("bom")}, "mediaType": "application/vnd.cyclonedx+json"},
                    {"name": "source-map-escrow", "digest": {"sha256": Sha256::of("maps")}, "annotations": {"files": 2}},
                ],
            })
        );
    }

    /// Attack: a step before the build sets `GITHUB_SHA` and `GITHUB_REPOSITORY` as it likes.
    #[test]
    fn what_nobody_verified_stands_nowhere_else() {
        let said = said(Run::Unverified(&github()));
        let internal = &said["predicate"]["buildDefinition"]["internalParameters"];
        assert_eq!(internal["unverified"]["repository"], "acme/core");
        let mut rest = said.clone();
        rest["predicate"]["buildDefinition"]["internalParameters"]
            .as_object_mut()
            .expect("object")
            .remove("unverified");
        let rest = rest.to_string();
        for claim in ["acme/core/", "refs/", "github", &"0".repeat(40)] {
            assert!(!rest.contains(claim), "{claim} in {rest}");
        }
        assert_eq!(said["predicate"]["runDetails"]["builder"]["id"], UNVERIFIED_BUILDER);
        assert_eq!(internal["slsaBuildLevel"]["atMost"], 1);
    }

    #[test]
    fn builders_and_levels() {
        let text = |text: &str| Some(text.to_owned());
        let of = |run: &RunIdentity| (Run::Verified(run).builder(), Run::Verified(run).level().build);
        let own = RunIdentity { runner_environment: text("self-hosted"), ..github() };
        assert_eq!(of(&own), ("https://github.com/actions/runner/self-hosted".to_owned(), 1));
        let called = "acme/workflows/.github/workflows/harden.yml@refs/tags/v1";
        let reusable = RunIdentity { job_workflow_ref: text(called), ..github() };
        assert_eq!(of(&reusable), (format!("https://github.com/{called}"), 2));
        let gitlab = RunIdentity {
            repository: text("acme/core"),
            runner_environment: text("gitlab-hosted"),
            sha: text("1"),
            git_ref: text("refs/heads/main"),
            run_url: text("https://gitlab.com/acme/core/-/jobs/5"),
            ..RunIdentity::new(PlatformKind::GitlabCi, "https://gitlab.com", "x")
        };
        assert_eq!(of(&gitlab), ("https://gitlab.com/-/runners/gitlab-hosted".to_owned(), 2));
        let document = said(Run::Verified(&gitlab));
        let source = &document["predicate"]["buildDefinition"]["resolvedDependencies"][0];
        assert_eq!(
            *source,
            json!({"uri": "git+https://gitlab.com/acme/core@refs/heads/main", "digest": {"gitCommit": "1"}})
        );
        let jenkins =
            RunIdentity::new(PlatformKind::Jenkins, "https://ci.example/oidc", "https://ci.example/job/a/");
        assert_eq!(of(&jenkins), ("https://ci.example/oidc".to_owned(), 1));
        let document = said(Run::Verified(&jenkins));
        let first = &document["predicate"]["buildDefinition"]["resolvedDependencies"][0]["name"];
        assert_eq!(*first, json!("source-tree"), "Jenkins' token names no repository");
        assert_eq!((Run::Local.builder().as_str(), Run::Local.level().build), (LOCAL_BUILDER, 1));
    }
}
