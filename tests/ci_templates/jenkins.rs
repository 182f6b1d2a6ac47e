//! The Jenkins shared library, run by `Harness.groovy`.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    deliveries,
    harness::{CLI, Screen, World, files},
    is_there, key_service,
    openbao::Bao,
    suite::{blocks, path_with, root, settings, table, variable},
};

const README: &str = "ci-templates/jenkins/README.md";
const STEP: &str = "ci-templates/jenkins/vars/protectedPublish.groovy";

const RULES: &str = r#"
[trusted_publisher.jenkins]
job_url = "http://BASE/local-issuer/job/widget/"
"#;

const RUNS: &str = r#"
[[local_issuer.run]]
name = "jenkins"
platform = "jenkins"
claims = { sub = "http://BASE/local-issuer/job/widget/", build_number = 7 }

[[local_issuer.run]]
name = "stranger"
platform = "jenkins"
claims = { sub = "http://BASE/local-issuer/job/other/", build_number = 7 }
"#;

struct Controller {
    world: World,
    /// A key service, for which there is a second credential.
    bao: Option<Bao>,
}

impl Controller {
    fn new() -> Self {
        Self { world: crate::world("jenkins", RULES, RUNS), bao: None }
    }

    /// The README's Jenkinsfile, with its examples' addresses replaced by those of this world.
    fn jenkinsfile(&self) -> String {
        blocks(&root().join(README), "groovy")
            .remove(0)
            .replace("https://fractalops.example", &self.world.base())
            .replace("project: 'core'", &format!("project: 'example', cliPath: '{CLI}'"))
    }

    /// Runs a Jenkinsfile in a workspace with the package `@acme/widget`.
    fn run(&self, jenkinsfile: &str, version: &str, identity: &str, environment: &[(&str, &str)]) -> Screen {
        let workspace = self.world.package("@acme/widget", version);
        let file = self.world.path("Jenkinsfile");
        fs::write(&file, jenkinsfile).expect("write");
        let mut audiences = json!({ "fractalops-id-token": self.world.base() });
        if let Some(bao) = &self.bao {
            audiences["bao-id-token"] = format!("http://{}", bao.address).into();
        }
        let mut command = Command::new(groovy());
        command
            .arg(root().join("tests/ci_templates/Harness.groovy"))
            .arg(root().join("ci-templates/jenkins"))
            .arg(file)
            .arg(&workspace)
            .env_clear()
            .env("PATH", path_with(&[]))
            .env("HOME", self.world.path("home"))
            .env("JAVA_HOME", java_home())
            .env("TOKEN_URL", format!("{}/local-issuer/jenkins/token/{identity}", self.world.base()))
            .env(
                "TOKEN_BEARER_FILE",
                self.world.path(&format!("server/data/local-issuer/{identity}.request-token")),
            )
            .env("AUDIENCES", audiences.to_string())
            .env("JENKINS_PATH", path_with(&[]))
            .env("JENKINS_HOME", self.world.path("home"))
            .env("JENKINS_TMPDIR", self.world.path("tmp"))
            .env("JENKINS_JENKINS_URL", "https://jenkins.example/")
            .env("JENKINS_BUILD_ID", "7")
            .env("JENKINS_TAG_NAME", "v1.0.0")
            .stdin(Stdio::null());
        for (name, value) in environment {
            command.env(format!("JENKINS_{name}"), value);
        }
        let screen = self.world.run(command);
        let left: Vec<PathBuf> = files(
            &workspace
                .with_file_name(format!("{}@tmp", workspace.file_name().expect("name").to_string_lossy())),
        );
        assert!(left.is_empty(), "left behind: {left:?}\n{screen}");
        screen
    }
}

#[track_caller]
fn ends(screen: &Screen, how: &str) {
    assert!(screen.stdout.contains(&format!("Finished: {how}")), "{screen}");
    assert_eq!(screen.code == 0, how == "SUCCESS", "{screen}");
}

#[test]
fn the_step_publishes_and_returns_its_outputs() {
    let controller = Controller::new();
    let jenkinsfile = controller.jenkinsfile().replace("protectedPublish(", "def result = protectedPublish(").replace(
        "\n      }\n",
        "\n        echo(\"got ${result.integrity} of ${result.publishedPackages} under ${result.correlationId} until ${result.expiresAt}\")\n        echo(\"after: ${env.FRACTALOPS_ID_TOKEN_FILE}\")\n      }\n",
    );
    assert!(jenkinsfile.contains("def result") && jenkinsfile.contains("after: "), "{jenkinsfile}");
    let screen = controller.run(&jenkinsfile, "1.0.0", "jenkins", &[]);
    ends(&screen, "SUCCESS");
    for part in ["got sha512-", "\"name\":\"@acme/widget\"", "\"status\":\"published\"", "after: null"] {
        assert!(screen.stdout.contains(part), "{part}\n{screen}");
    }
    assert!(!screen.stdout.contains("null until") && !screen.stdout.contains("until null"), "{screen}");
    assert!(is_there(&controller.world, "1.0.0"));
}

/// `protectedVerify` as the README shows it, on what `protectedPublish` built and published.
#[test]
fn the_verify_step_verifies_and_fails_on_another_s() {
    let controller = Controller::new();
    let world = &controller.world;
    let screen = controller.run(&controller.jenkinsfile(), "1.0.0", "jenkins", &[]);
    ends(&screen, "SUCCESS");
    let folder = world.package("@acme/widget", "1.0.0");
    let blocks = blocks(&root().join(README), "groovy");
    let call = blocks.iter().find(|block| block.contains("protectedVerify(")).expect("an example");
    let step = |artifact: &str, more: &str| {
        let call = call
            .replace("'build/acme-core-1.2.3.tgz'", &format!("'{artifact}', cliPath: '{CLI}'{more}"))
            .replace("protectedVerify(", "def result = protectedVerify(");
        assert!(call.contains(artifact), "{call}");
        format!(
            "node {{\n{call}\necho(\"got ${{result.verified}} level ${{result.slsaBuildLevel}} of ${{result.integrity}}\")\n}}\n"
        )
    };
    crate::write_policy(world, &folder, "jenkins", "");
    let tarball = "protected-build/acme-widget-1.0.0/acme-widget-1.0.0.tgz";
    let online = format!(
        ", fractalopsUrl: '{}', project: 'example', credentialsId: 'fractalops-id-token'",
        world.base()
    );
    for (artifact, more) in [(tarball, ", offline: true"), ("@acme/widget@1.0.0", &*online)] {
        let screen = controller.run(&step(artifact, more), "1.0.0", "jenkins", &[]);
        ends(&screen, "SUCCESS");
        assert!(
            screen.stdout.contains("got true level ") && screen.stdout.contains(" of sha512-"),
            "{screen}"
        );
    }
    // A change request's build may verify what it has, and gets no ID token.
    let change = [("CHANGE_ID", "12")];
    ends(&controller.run(&step(tarball, ", offline: true"), "1.0.0", "jenkins", &change), "SUCCESS");
    let before = world.proxy.exchanges().len();
    let screen = controller.run(&step("@acme/widget@1.0.0", &online), "1.0.0", "jenkins", &change);
    ends(&screen, "FAILURE");
    assert!(screen.stdout.contains("protectedVerify does not run for a change request"), "{screen}");
    assert_eq!(world.proxy.exchanges().len(), before, "no ID token was asked for");
    // Somebody else's package, and a setting that there is not.
    fs::write(folder.join("verify-policy.toml"), "[identity]\nissuer = \"https://jenkins.example\"\n")
        .expect("write");
    let screen = controller.run(&step(tarball, ", offline: true"), "1.0.0", "jenkins", &[]);
    ends(&screen, "FAILURE");
    for part in ["is not verified: identity", "script returned exit code 8"] {
        assert!(screen.stdout.contains(part), "{part}\n{screen}");
    }
    let screen = controller.run(&step(tarball, ", polices: 'x'"), "1.0.0", "jenkins", &[]);
    ends(&screen, "FAILURE");
    assert!(screen.stdout.contains("protectedVerify has no setting 'polices'"), "{screen}");
}

/// `protectedDeliver` as the README shows it, on what `protectedPublish` built, with a second ID token for the key service.
#[test]
fn the_deliver_step_seals_what_was_published_and_its_customer_opens_it() {
    let mut controller = Controller::new();
    let claims = json!({"sub": format!("{}/local-issuer/job/widget/", controller.world.base())});
    controller.bao = Some(key_service::start(&controller.world, "jenkins", &claims));
    let (controller, world) = (&controller, &controller.world);
    let publish = controller.jenkinsfile().replace("project: 'example'", "project: 'example', out: 'build'");
    ends(&controller.run(&publish, "1.0.0", "jenkins", &[]), "SUCCESS");
    let blocks = blocks(&root().join(README), "groovy");
    let call = blocks.iter().find(|block| block.contains("protectedDeliver(")).expect("an example");
    // A setting that is given twice is what the second says.
    let call = call
        .replace("protectedDeliver(", "def result = protectedDeliver([")
        .replace("\n)", "] + [keyCredentialsId: 'bao-id-token', SETTINGS])");
    assert!(call.contains("SETTINGS"), "{call}");
    let step = |settings: &str| {
        let own =
            format!("fractalopsUrl: '{}', project: 'example', cliPath: '{CLI}'{settings}", world.base());
        format!(
            "node {{\n{}\necho(\"got ${{result.bundleId}} at ${{result.bundleManifest}} under ${{result.correlationId}}\")\necho(\"after: ${{env.KEY_SERVICE_ID_TOKEN_FILE}}\")\n}}\n",
            call.replace("SETTINGS", &own)
        )
    };
    let address = format!("http://{}", controller.bao.as_ref().expect("bao").address);
    let of_bao = [("BAO_ADDR", address.as_str()), ("PROTECTED_REGISTRY_OPENBAO_ROLE", "deliver")];
    let run = |script: &str, identity: &str, more: &[(&str, &str)]| {
        controller.run(script, "1.0.0", identity, &[&of_bao[..], more].concat())
    };
    let screen = run(&step(""), "jenkins", &[]);
    ends(&screen, "SUCCESS");
    assert!(screen.stdout.contains("/delivery/delivery-manifest.json under "), "{screen}");
    assert!(!screen.stdout.contains("null at") && !screen.stdout.contains("under null"), "{screen}");
    assert!(screen.stdout.contains("after: null"), "{screen}");
    assert_eq!(deliveries(world), 1);
    // Its customer has a job of their own at the same controller, with another role.
    let open = format!(
        "node {{\nwithCredentials([file(credentialsId: 'bao-id-token', variable: 'KEY_SERVICE_ID_TOKEN_FILE')]) {{ sh('{CLI} open-bundle delivery --out opened') }}\n}}\n"
    );
    let screen = run(&open, "jenkins", &[("PROTECTED_REGISTRY_OPENBAO_ROLE", "globex")]);
    ends(&screen, "SUCCESS");
    assert!(screen.stdout.contains("@acme/widget@1.0.0 for globex"), "{screen}");

    let raw = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
    let alone = ", noSubmit: true, tenant: 'acme', out: 'other'";
    for (identity, settings, more, why) in [
        ("stranger", "", &[][..], "job/other/"),
        ("stranger", alone, &[], "claim \"sub\" does not match"),
        ("jenkins", &*format!(", keyRef: '{raw}'"), &[], "the key of the delivery"),
        ("jenkins", ", keyRef: 'local-file://globex'", &[], "which is refused in CI"),
        ("jenkins", ", project: 'other', out: 'other'", &[], "no access to project `other`"),
        ("jenkins", ", customer: 'Globex Inc'", &[], "PROTECTED_REGISTRY_CUSTOMER"),
        ("jenkins", ", to: 'ftp://x/y'", &[], "the delivery area to store in"),
        ("jenkins", ", oneFile: 'perhaps'", &[], "expected `true` or `false`"),
        ("jenkins", ", oneFil: true", &[], "protectedDeliver has no setting 'oneFil'"),
        (
            "jenkins",
            ", keyCredentialsId: 'another'",
            &[],
            "Could not find credentials entry with ID 'another'",
        ),
        ("jenkins", "", &[("CHANGE_ID", "12")], "protectedDeliver does not run for a change request"),
        ("jenkins", alone, &[("CHANGE_ID", "12")], "protectedDeliver does not run for a change request"),
    ] {
        let screen = run(&step(settings), identity, more);
        ends(&screen, "FAILURE");
        assert!(screen.stdout.contains(why), "{settings}: {why}\n{screen}");
        assert!(!screen.stdout.contains(raw), "{settings}\n{screen}");
    }
    assert_eq!(deliveries(world), 1);
}

#[test]
fn a_refusal_shows_the_rules_and_fails_the_build() {
    let controller = Controller::new();
    let screen = controller.run(&controller.jenkinsfile(), "1.0.0", "stranger", &[]);
    ends(&screen, "FAILURE");
    for part in ["job/widget/", "job/other/", "correlation id: ", "script returned exit code 4"] {
        assert!(screen.stdout.contains(part), "{part}\n{screen}");
    }
    assert!(!is_there(&controller.world, "1.0.0"));
}

#[test]
fn a_dry_run_publishes_nothing() {
    let controller = Controller::new();
    let jenkinsfile =
        controller.jenkinsfile().replace("project: 'example'", "project: 'example', dryRun: true");
    let screen = controller.run(&jenkinsfile, "1.0.0", "jenkins", &[]);
    ends(&screen, "SUCCESS");
    assert!(screen.stdout.contains("this was a dry run"), "{screen}");
    assert!(!is_there(&controller.world, "1.0.0"));
}

/// Attack: whoever opens a change request chooses what its build runs, and would have the ID token of the job.
#[test]
fn a_change_request_s_build_never_gets_the_credential() {
    let controller = Controller::new();
    let before = controller.world.proxy.exchanges().len();
    let screen = controller.run(&controller.jenkinsfile(), "1.0.0", "jenkins", &[("CHANGE_ID", "12")]);
    ends(&screen, "FAILURE");
    assert!(screen.stdout.contains("does not run for a change request"), "{screen}");
    assert_eq!(controller.world.proxy.exchanges().len(), before, "no ID token was asked for");
}

#[test]
fn an_unknown_setting_is_refused() {
    let controller = Controller::new();
    let jenkinsfile = controller.jenkinsfile().replace("project: 'example'", "projekt: 'example'");
    let screen = controller.run(&jenkinsfile, "1.0.0", "jenkins", &[]);
    ends(&screen, "FAILURE");
    assert!(screen.stdout.contains("no setting 'projekt'"), "{screen}");
}

/// Attack: a setting with `$(...)` or a quote in it, put into a script, is run.
#[test]
fn a_setting_is_never_run() {
    let controller = Controller::new();
    let canary = controller.world.path("work/canary");
    let jenkinsfile = controller
        .jenkinsfile()
        .replace("project: 'example'", &format!("project: 'example', tag: '$(touch {})'", canary.display()));
    let screen = controller.run(&jenkinsfile, "1.0.0", "jenkins", &[]);
    ends(&screen, "FAILURE");
    assert!(!canary.exists(), "{screen}");
}

#[test]
fn every_setting_of_the_command_is_one_of_the_step_and_stands_in_the_readme() {
    let verify = "ci-templates/jenkins/vars/protectedVerify.groovy";
    let deliver = "ci-templates/jenkins/vars/protectedDeliver.groovy";
    for (step, command, heading, credentials) in [
        (STEP, "publish", "setting", &["credentialsId", "signingCredentialsId"][..]),
        (verify, "verify", "setting of `protectedVerify`", &["credentialsId", "signingCredentialsId"]),
        (
            deliver,
            "deliver",
            "setting of `protectedDeliver`",
            &["credentialsId", "signingCredentialsId", "keyCredentialsId"],
        ),
    ] {
        let text = fs::read_to_string(root().join(step)).expect("step");
        let (_, map) = text.split_once("Map variables = [").expect("map");
        let (map, _) = map.split_once(']').expect("map");
        let pairs: BTreeSet<(String, String)> = map
            .split(',')
            .filter_map(|pair| pair.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches('\'').to_owned()))
            .collect();
        // The audience is set where the credential is.
        let settings =
            settings(command).into_iter().filter(|name| name != "audience").chain(["cli-path".to_owned()]);
        let expected: BTreeSet<(String, String)> =
            settings.map(|name| (camel(&name), variable(&name))).collect();
        assert_eq!(pairs, expected, "{step}");

        let documented: BTreeSet<String> =
            table(&root().join(README), heading).into_iter().map(|row| row[0].clone()).collect();
        let named: BTreeSet<String> = pairs
            .into_iter()
            .map(|(name, _)| name)
            .chain(credentials.iter().map(|it| (*it).to_owned()))
            .collect();
        assert_eq!(documented, named, "{step}");
    }
}

fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        text.push_str(&word[..1].to_ascii_uppercase());
        text.push_str(&word[1..]);
    }
    text
}

#[track_caller]
fn groovy() -> PathBuf {
    on_path("groovy")
        .unwrap_or_else(|| panic!("groovy is not installed; this installs it: cargo xtask tools"))
}

/// Debian's groovy needs to be told where Java is.
fn java_home() -> PathBuf {
    let java = on_path("java").expect("java, which groovy brings").canonicalize().expect("java");
    java.ancestors().nth(2).expect("Java's home").to_owned()
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&path_with(&[])).map(|folder| folder.join(program)).find(|path| path.is_file())
}
