//! CycloneDX JSON, 1.6 and 1.7 (ECMA-424): <https://cyclonedx.org/docs/1.6/json/>.
//!
//! The package stands in `metadata.component` with the files that are shipped as its parts, and within each of them
//! the source files that it was made of; what the package needs stands in `components`; how it was built stands in
//! `formulation`.

use std::collections::{BTreeMap, BTreeSet};

use protected_model::{
    build::{PipelineStep, StepStatus},
    digest::Sha256,
    integrity::canonical,
};
use serde::Serialize;

use super::{
    About,
    graph::{self, Algorithm, Graph, Scope},
    licence::Licence,
    lock::Origin,
    manifest::Party,
};

/// The version of the specification that a document follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecVersion {
    /// 1.6, which tools of today read.
    #[default]
    V1_6,
    /// 1.7.
    V1_7,
}

impl SpecVersion {
    /// Every version.
    pub const ALL: [Self; 2] = [Self::V1_6, Self::V1_7];

    /// Returns the version as the specification writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    #[serde(rename = "$schema")]
    schema: String,
    bom_format: &'static str,
    spec_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
    compositions: Vec<Composition>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    formulation: Vec<Formula>,
}

#[derive(Serialize)]
struct Metadata {
    timestamp: String,
    lifecycles: Vec<BTreeMap<&'static str, &'static str>>,
    tools: Tools,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authors: Vec<Contact>,
    component: Component,
    #[serde(skip_serializing_if = "Option::is_none")]
    manufacturer: Option<Organisation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Organisation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Serialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Serialize)]
struct Contact {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

#[derive(Serialize)]
struct Organisation {
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    url: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contact: Vec<Contact>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Organisation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authors: Vec<Contact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<LicenceChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copyright: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<Reference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Clone, Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum LicenceChoice {
    One { license: OneLicence },
    Expression { expression: String, acknowledgement: &'static str },
}

#[derive(Serialize)]
struct OneLicence {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    acknowledgement: &'static str,
}

#[derive(Serialize)]
struct Reference {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
}

#[derive(Serialize)]
struct Evidence {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    identity: Vec<Identity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    occurrences: Vec<BTreeMap<&'static str, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    field: &'static str,
    confidence: u32,
    concluded_value: String,
    methods: Vec<Method>,
}

#[derive(Serialize)]
struct Method {
    technique: &'static str,
    confidence: u32,
    value: String,
}

#[derive(Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    reference: String,
    depends_on: Vec<String>,
}

#[derive(Serialize)]
struct Composition {
    aggregate: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    assemblies: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<String>,
}

#[derive(Serialize)]
struct Formula {
    #[serde(rename = "bom-ref")]
    reference: &'static str,
    workflows: Vec<Workflow>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Workflow {
    #[serde(rename = "bom-ref")]
    reference: &'static str,
    uid: &'static str,
    name: &'static str,
    task_types: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<Task>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    #[serde(rename = "bom-ref")]
    reference: String,
    uid: String,
    name: String,
    task_types: Vec<&'static str>,
    properties: Vec<Property>,
}

/// What stands for a copyright of which neither licence nor readme says anything, in the word of SPDX.
pub(super) const UNKNOWN: &str = "NOASSERTION";
/// The reference of the formula and its only workflow.
const FORMULA: &str = "formulation";
const WORKFLOW: &str = "formulation/protected-build";

impl Graph {
    /// Writes a CycloneDX document as canonical JSON (RFC 8785).
    pub fn cyclonedx(&self, about: &About<'_>, version: SpecVersion) -> Vec<u8> {
        let version_text = version.as_str();
        let mut bom = Bom {
            schema: format!("http://cyclonedx.org/schema/bom-{version_text}.schema.json"),
            bom_format: "CycloneDX",
            spec_version: version_text,
            serial_number: None,
            version: 1,
            metadata: self.metadata(about),
            components: self.components[1..].iter().map(|component| self.component(component)).collect(),
            dependencies: self.dependencies(),
            compositions: self.compositions(about),
            formulation: formulation(about.pipeline),
        };
        // The number of a document that is made of its content stays when the content does.
        bom.serial_number = Some(format!("urn:uuid:{}", uuid_of(&bom)));
        canonical(&bom)
    }

    fn metadata(&self, about: &About<'_>) -> Metadata {
        let root = self.root();
        let mut own = self.component(root);
        own.scope = None;
        own.evidence = None;
        if let Some(artifact) = about.artifact {
            own.hashes = vec![
                Hash { alg: "SHA-256", content: artifact.sha256.to_string() },
                Hash { alg: "SHA-512", content: artifact.integrity.hex() },
            ];
        }
        own.components = shipped(about);
        let mut properties = vec![];
        if let Some(lock) = &self.lock {
            properties.push(Property { name: "protected-registry:lock:file", value: lock.name.clone() });
            properties.push(Property { name: "protected-registry:lock:format", value: lock.format.clone() });
            properties
                .push(Property { name: "protected-registry:lock:sha256", value: lock.sha256.to_string() });
        }
        let gaps = self
            .gaps
            .iter()
            .map(|gap| Property { name: "protected-registry:incomplete", value: gap.clone() });
        properties.extend(gaps);
        let source = about.source;
        let known = [
            ("protected-registry:source:repository", source.repository.clone()),
            ("protected-registry:source:commit", source.commit.clone()),
            ("protected-registry:source:tree-sha256", source.tree_sha256.map(|digest| digest.to_string())),
        ];
        properties
            .extend(known.into_iter().filter_map(|(name, value)| Some(Property { name, value: value? })));
        let steps = about.pipeline.iter().map(|step| (step.tool.as_str(), step.tool_version.as_str()));
        let tools: BTreeSet<(&str, &str)> =
            steps.chain([("protected-registry", about.tool_version)]).collect();
        let tools = tools.into_iter().map(|(name, version)| Component {
            kind: "application",
            name: name.to_owned(),
            version: Some(version.to_owned()),
            ..Component::default()
        });
        Metadata {
            timestamp: about.created.to_string(),
            lifecycles: vec![BTreeMap::from([("phase", "build")])],
            tools: Tools { components: tools.collect() },
            authors: root.author.iter().map(contact).collect(),
            component: own,
            manufacturer: root.supplier.as_ref().map(organisation),
            supplier: root.supplier.as_ref().map(organisation),
            properties,
        }
    }

    fn component(&self, component: &graph::Component) -> Component {
        let (group, name) = match component.name.split_once('/') {
            Some((group, name)) if group.starts_with('@') => (Some(group.to_owned()), name.to_owned()),
            _ => (None, component.name.clone()),
        };
        let hashes: Vec<Hash> = component.hashes.iter().map(hash).collect();
        let mut references = Vec::new();
        let mut refer = |kind, url: Option<&String>, hashes| {
            references.extend(url.map(|url| Reference { kind, url: url.clone(), hashes }));
        };
        match &component.origin {
            Origin::Registry(url) => refer("distribution", url.as_ref(), hashes.clone()),
            Origin::Tarball(url) => refer("distribution", Some(url), hashes.clone()),
            Origin::Git(_) | Origin::Local => {}
        }
        refer("vcs", component.repository.as_ref(), Vec::new());
        refer("website", component.homepage.as_ref(), Vec::new());
        refer("issue-tracker", component.issues.as_ref(), Vec::new());
        let mut properties: Vec<Property> = Vec::new();
        let mut tell = |name, value: String| properties.push(Property { name, value });
        component.paths.iter().for_each(|path| tell("cdx:npm:package:path", path.clone()));
        if component.scope == Scope::Development && component.reference != self.root().reference {
            tell("cdx:npm:package:development", "true".to_owned());
        }
        if component.bundled {
            tell("cdx:npm:package:bundled", "true".to_owned());
        }
        if component.deprecated {
            tell("protected-registry:deprecated", "true".to_owned());
        }
        if let Some(checksum) = &component.yarn_checksum {
            tell("protected-registry:yarn:checksum", checksum.clone());
        }
        if let Some(range) = &component.range {
            tell("protected-registry:range", range.clone());
        }
        let from = self.lock.as_ref().map_or("package.json", |lock| lock.name.as_str());
        let confidence = u32::from(!component.version.is_empty());
        let method = Method { technique: "manifest-analysis", confidence, value: from.to_owned() };
        let identity = Identity {
            field: "purl",
            confidence,
            concluded_value: component.purl.clone(),
            methods: vec![method],
        };
        Component {
            kind: "library",
            reference: Some(component.reference.clone()),
            supplier: component.supplier.as_ref().map(organisation),
            authors: component.author.iter().map(contact).collect(),
            group,
            name,
            version: Some(component.version.clone()).filter(|version| !version.is_empty()),
            description: component.description.clone(),
            scope: Some(match component.scope {
                Scope::Required => "required",
                Scope::Optional => "optional",
                Scope::Development => "excluded",
            }),
            hashes,
            licenses: licences(component),
            copyright: component.copyright.clone().or_else(|| Some(UNKNOWN.to_owned())),
            purl: Some(component.purl.clone()),
            external_references: references,
            components: Vec::new(),
            evidence: Some(Evidence { identity: vec![identity], occurrences: Vec::new() }),
            properties,
        }
    }

    fn dependencies(&self) -> Vec<Dependency> {
        let reference = |at: usize| self.components[at].reference.clone();
        let of = |(from, needs): (usize, &BTreeMap<usize, Scope>)| {
            let mut depends_on: Vec<String> = needs.keys().map(|to| reference(*to)).collect();
            depends_on.sort();
            Dependency { reference: reference(from), depends_on }
        };
        self.edges.iter().enumerate().map(of).collect()
    }

    fn compositions(&self, about: &About<'_>) -> Vec<Composition> {
        let aggregate = if self.gaps.is_empty() { "complete" } else { "incomplete" };
        let root = self.root().reference.clone();
        let mut compositions =
            vec![Composition { aggregate, assemblies: Vec::new(), dependencies: vec![root.clone()] }];
        if !about.files.is_empty() {
            // Every file in the tarball is listed.
            compositions.push(Composition {
                aggregate: "complete",
                assemblies: vec![root],
                dependencies: Vec::new(),
            });
        }
        compositions
    }
}

/// The files that are shipped, with the source files within them, and those that were left out.
fn shipped(about: &About<'_>) -> Vec<Component> {
    let source = |path: &String, scope, properties| Component {
        kind: "file",
        reference: Some(format!("source/{path}")),
        name: path.clone(),
        scope,
        properties,
        ..Component::default()
    };
    let mut files: Vec<Component> = about
        .files
        .iter()
        .map(|file| {
            let place = |path: &String| Evidence {
                identity: Vec::new(),
                occurrences: vec![BTreeMap::from([("location", path.clone())])],
            };
            let modules = about.modules.get(&file.path).into_iter().flatten();
            let modules = modules.map(|path| {
                let mut module = source(path, None, Vec::new());
                module.evidence = Some(place(&file.path));
                module
            });
            Component {
                kind: "file",
                reference: Some(format!("file/{}", file.path)),
                name: file.path.clone(),
                hashes: vec![Hash { alg: "SHA-256", content: file.sha256.to_string() }],
                components: modules.collect(),
                ..Component::default()
            }
        })
        .collect();
    files.extend(about.shaken.iter().map(|path| {
        let why = Property { name: "protected-registry:tree-shaken", value: "true".to_owned() };
        source(path, Some("excluded"), vec![why])
    }));
    files
}

fn formulation(pipeline: &[PipelineStep]) -> Vec<Formula> {
    if pipeline.is_empty() {
        return Vec::new();
    }
    let tasks = pipeline.iter().enumerate().map(|(index, step)| {
        let status = match step.status {
            StepStatus::Completed => "completed",
            StepStatus::NothingToDo => "nothing-to-do",
        };
        let facts = [
            ("protected-registry:step:tool", step.tool.clone()),
            ("protected-registry:step:tool-version", step.tool_version.clone()),
            ("protected-registry:step:config-sha256", step.config_sha256.to_string()),
            ("protected-registry:step:status", status.to_owned()),
            ("protected-registry:step:input-tree-sha256", step.input_tree_sha256.to_string()),
            ("protected-registry:step:output-tree-sha256", step.output_tree_sha256.to_string()),
        ];
        Task {
            reference: format!("{WORKFLOW}/{}", step.step),
            uid: format!("{:02}-{}", index + 1, step.step),
            name: step.step.clone(),
            task_types: vec!["build"],
            properties: facts.into_iter().map(|(name, value)| Property { name, value }).collect(),
        }
    });
    let workflow = Workflow {
        reference: WORKFLOW,
        uid: "protected-build",
        name: "protected-build",
        task_types: vec!["build"],
        tasks: tasks.collect(),
    };
    vec![Formula { reference: FORMULA, workflows: vec![workflow] }]
}

fn hash((algorithm, content): (&Algorithm, &String)) -> Hash {
    let alg = match algorithm {
        Algorithm::Sha512 => "SHA-512",
        Algorithm::Sha384 => "SHA-384",
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Sha1 => "SHA-1",
    };
    Hash { alg, content: content.clone() }
}

fn licences(component: &graph::Component) -> Vec<LicenceChoice> {
    let acknowledgement = if component.licence_is_concluded { "concluded" } else { "declared" };
    let one = |id: Option<&String>, name: Option<&String>| LicenceChoice::One {
        license: OneLicence { id: id.cloned(), name: name.cloned(), acknowledgement },
    };
    let choice = component.licence.as_ref().map(|licence| match licence {
        Licence::Id(id) => one(Some(id), None),
        Licence::Name(name) => one(None, Some(name)),
        Licence::Expression(expression) => {
            LicenceChoice::Expression { expression: expression.clone(), acknowledgement }
        }
    });
    choice.into_iter().collect()
}

fn contact(party: &Party) -> Contact {
    Contact { name: party.name.clone(), email: party.email.clone() }
}

fn organisation(party: &Party) -> Organisation {
    let contact = party.email.as_ref().map(|_| contact(party));
    Organisation {
        name: party.name.clone(),
        url: party.url.iter().cloned().collect(),
        contact: contact.into_iter().collect(),
    }
}

/// Returns a UUID that follows from a document's content (RFC 9562 section 5.8, version 8).
///
/// The content is taken in the order of the members' declaration: to sort them a second time would cost as much as
/// writing the document.
pub(super) fn uuid_of(document: &impl Serialize) -> String {
    let content = serde_json::to_vec(document).expect("documents have text keys");
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::of(content).as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
