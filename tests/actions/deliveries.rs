//! Real runs of actions/deliver: a build is sealed under a key of a real OpenBao, and what may not be sealed is not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    act::{Job, Run},
    harness::{Setup, World, files, github_run},
    key_service,
    openbao::Bao,
    runs::published,
};

const README: &str = "actions/deliver/README.md";

/// The README's workflow, with `to` added, and a last step that has the outputs and opens the delivery `named`.
fn workflow(job: &Job, bao: &Bao, named: &str) -> String {
    let last = format!(
        r#"      - name: Open
        env:
          CLI: ${{{{ steps.setup.outputs.cli-path }}}}
          ID: ${{{{ steps.deliver.outputs.bundle-id }}}}
          MANIFEST: ${{{{ steps.deliver.outputs.bundle-manifest }}}}
          CORRELATION_ID: ${{{{ steps.deliver.outputs.correlation-id }}}}
          PROTECTED_REGISTRY_OPENBAO_ROLE: globex
        run: |
          echo "read $ID at $MANIFEST under $CORRELATION_ID"
          grep --quiet "\"bundle_id\":\"$ID\"" "$MANIFEST"
          "$CLI" open-bundle "{named}" --out opened
          "$CLI" verify delivery
"#
    );
    job.workflow(README)
        .replace("PROTECTED_REGISTRY_PROJECT: core", "PROTECTED_REGISTRY_PROJECT: example")
        .replace("https://bao.example:8200", &format!("http://{}", bao.address))
        + &last
}

/// The workflow with other inputs of the step that delivers.
fn with(workflow: &str, input: &str, value: &str) -> String {
    let name = format!("          {input}: ");
    let (before, step) = workflow.split_once("      - name: Deliver\n").expect("the step");
    let (step, after) = step.split_once("      - name: ").expect("a step after it");
    let mut step: String =
        step.lines().filter(|line| !line.starts_with(&name)).map(|line| format!("{line}\n")).collect();
    step = step.replace("        with:\n", &format!("        with:\n{name}{value}\n"));
    format!("{before}      - name: Deliver\n{step}      - name: {after}")
}

/// The workflow with a build that FractalOps is not asked about, so that the step that delivers is the first one that
/// can be refused.
fn unrecorded(workflow: &str) -> String {
    let changed =
        workflow.replace("          out: build\n", "          out: build\n          no-record: true\n");
    assert!(changed.contains("no-record: true"), "{changed}");
    changed
}

/// A package whose build is the same whatever the workflow says.
fn package(job: &Job) -> PathBuf {
    let source = job.world.package("@acme/core", "1.2.3");
    let manifest = source.join("package.json");
    let text = fs::read_to_string(&manifest).expect("read");
    fs::write(manifest, text.replacen('{', "{\"files\": [\"src\"], ", 1)).expect("write");
    source
}

/// A world with a run of another repository, a job in it that keeps its artifacts, and a key service.
fn start() -> (Job, Bao) {
    let stranger = [("repository_id", "2003"), ("repository", "acme/other")];
    let world = World::with(Setup { more: github_run("stranger", &stranger), ..Setup::default() });
    let bao = key_service::start(&world, "github-actions", &json!({"repository_id": "2002"}));
    let mut job = Job::new(world);
    let artifacts = job.world.path("artifacts");
    job.variables.push(("ARTIFACTS", artifacts.display().to_string()));
    (job, bao)
}

fn recorded(world: &World) -> usize {
    world.count("bundle.create", "allow", None)
}

/// Nothing was sealed, and nothing was put on record.
#[track_caller]
fn nothing_sealed(job: &Job, run: &Run) {
    run.failed();
    assert_eq!(recorded(&job.world), 0, "{}", run.story());
    assert!(run.output("deliver", "bundle-id").unwrap_or_default().is_empty(), "{}", run.story());
    assert!(!run.story().contains("  seal  "), "{}", run.story());
}

#[test]
fn a_build_is_sealed_kept_and_opened() {
    let (job, bao) = start();
    let source = package(&job);
    let run = job.run(&workflow(&job, &bao, "delivery"), &source);
    run.succeeded();
    let id = run.output("deliver", "bundle-id").expect("output");
    let manifest = run.output("deliver", "bundle-manifest").expect("output");
    let correlation_id = run.output("deliver", "correlation-id").expect("output");
    assert!(manifest.ends_with("/delivery/delivery-manifest.json"), "{manifest}");
    assert!(
        run.printed().contains(&format!("read {id} at {manifest} under {correlation_id}")),
        "{}",
        run.story()
    );
    let summary = run.summary();
    for part in [
        "### @acme/core@1.2.3 for globex",
        &format!("| delivery | `{id}` |"),
        "| under the key | `openbao://transit/globex` |",
        "| on record | audit event `",
        &format!("| correlation id | `{correlation_id}` |"),
        "| provenance | `",
    ] {
        assert!(summary.contains(part), "the summary should say `{part}`:\n{summary}");
    }
    assert!(run.errors().is_empty(), "{}", run.story());
    // FractalOps has this very manifest, and the next step kept the delivery with it.
    let kept = job.world.path("artifacts/delivery-globex/delivery");
    let manifest: Value =
        serde_json::from_slice(&fs::read(kept.join("delivery-manifest.json")).expect("read")).expect("JSON");
    let on_record = job.world.operator_get(&format!("/v1/packages/delivery/bundles/{id}"));
    assert_eq!(on_record["manifest"], manifest);
    assert!(kept.join("bundle/oci-layout").is_file());
    no_plain_code(&kept);
}

/// No file of a delivery shows what is sealed in it.
fn no_plain_code(folder: &Path) {
    for file in files(folder) {
        let bytes = fs::read(&file).expect("read");
        assert!(!bytes.starts_with(&[0x1f, 0x8b]), "{}: a tarball", file.display());
        assert!(!String::from_utf8_lossy(&bytes).contains("buildType"), "{}", file.display());
    }
}

#[test]
fn what_was_published_is_stored_in_an_area_as_one_file_too() {
    let (job, bao) = start();
    let source = package(&job);
    fs::create_dir_all(source.join("area")).expect("folder");
    fs::write(source.join("area/.keep"), "").expect("write");
    let publishing = workflow(&job, &bao, "area/$ID").replace("actions/protect-build@", "actions/publish@");
    let publishing = with(&with(&publishing, "to", "area"), "one-file", "true");
    let run = job.run(&publishing, &source);
    run.succeeded();
    let id = run.output("deliver", "bundle-id").expect("output");
    assert!(run.printed().contains(&format!("{id} since ")), "{}", run.story());
    assert!(job.world.path("artifacts/delivery-globex/delivery/bundle.tar").is_file(), "{}", run.story());
    assert_eq!(published(&job.world), 1);
    assert_eq!(recorded(&job.world), 1);

    // An area that is not there: it is sealed, and nothing of it is on record.
    let run = job.run(&with(&publishing, "to", "elsewhere"), &source);
    run.failed();
    let errors = run.errors().join("\n");
    assert!(errors.contains("elsewhere") && errors.contains("create the folder"), "{}", run.story());
    assert_eq!(recorded(&job.world), 1);
}

#[test]
fn a_job_without_the_permission_is_told_the_permission() {
    let (mut job, bao) = start();
    job.identity = None;
    let source = package(&job);
    let run = job.run(&unrecorded(&workflow(&job, &bao, "delivery")), &source);
    nothing_sealed(&job, &run);
    assert!(run.errors().join("\n").contains("id-token: write"), "{}", run.story());
    assert!(run.summary().contains("deliver failed"), "{}", run.summary());
    assert!(run.story().contains("exit status 3"), "{}", run.story());
}

/// Another repository has an identity, and neither FractalOps nor the key service takes it.
#[test]
fn another_repository_s_job_is_refused() {
    let (mut job, bao) = start();
    job.identity = Some("stranger");
    let source = package(&job);
    let workflow = unrecorded(&workflow(&job, &bao, "delivery"));
    let run = job.run(&workflow, &source);
    nothing_sealed(&job, &run);
    let summary = run.summary();
    for part in ["deliver failed", "repository_id", "`2002`", "`2003`", "Correlation id"] {
        assert!(summary.contains(part), "the summary should say `{part}`:\n{summary}");
    }
    assert!(run.story().contains("exit status 4"), "{}", run.story());
    // The key service by itself, where FractalOps is not asked.
    let alone = with(&with(&workflow, "no-submit", "true"), "tenant", "acme");
    let run = job.run(&alone, &source);
    nothing_sealed(&job, &run);
    assert!(run.errors().join("\n").contains("claim \"repository_id\" does not match"), "{}", run.story());
    assert!(run.story().contains("exit status 4"), "{}", run.story());
}

#[test]
fn a_project_that_the_job_may_not_deliver_for_is_refused() {
    let (job, bao) = start();
    let source = package(&job);
    let run = job.run(&with(&workflow(&job, &bao, "delivery"), "project", "other"), &source);
    run.failed();
    assert_eq!(recorded(&job.world), 0, "{}", run.story());
    let errors = run.errors().join("\n");
    assert!(errors.contains("other") && errors.contains("correlation id: "), "{}", run.story());
    assert!(run.story().contains("exit status 4"), "{}", run.story());
}

/// Attack: a key pasted where its name is expected. It stands in no line that anybody reads.
#[test]
fn a_raw_key_is_refused_and_not_repeated() {
    let (job, bao) = start();
    let source = package(&job);
    for raw in [
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=",
        "hvs.CAESIJlU02LQZqABCDEFGHIJKLMNOP",
    ] {
        let run = job.run(&with(&workflow(&job, &bao, "delivery"), "key-ref", raw), &source);
        nothing_sealed(&job, &run);
        assert!(run.errors().join("\n").contains("the key of the delivery"), "{}", run.story());
        assert!(run.story().contains("exit status 2"), "{}", run.story());
        let shown = format!("{}{}{}", run.story(), run.summary(), run.errors().join("\n"));
        assert!(!shown.contains(&raw[..12]), "{shown}");
        assert!(run.masks(raw), "{shown}");
    }
}

#[test]
fn a_key_in_a_file_is_refused_unless_it_is_asked_for() {
    let (mut job, bao) = start();
    let source = package(&job);
    let keys = job.world.path("keys");
    fs::create_dir(&keys).expect("folder");
    fs::write(keys.join("globex.key"), "ab".repeat(32)).expect("write");
    fs::set_permissions(keys.join("globex.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("mode");
    job.variables.push(("PROTECTED_REGISTRY_KEY_FOLDER", keys.display().to_string()));
    let local = with(&workflow(&job, &bao, "delivery"), "key-ref", "local-file://globex");
    let run = job.run(&local, &source);
    nothing_sealed(&job, &run);
    assert!(run.errors().join("\n").contains("which is refused in CI"), "{}", run.story());
    assert!(run.story().contains("exit status 2"), "{}", run.story());
    job.variables.push(("PROTECTED_REGISTRY_ALLOW_LOCAL_KEY", "true".to_owned()));
    job.run(&local, &source).succeeded();
}

#[test]
fn odd_values_of_inputs_are_refused_before_anything_is_sealed() {
    let (job, bao) = start();
    let source = package(&job);
    let workflow = unrecorded(&workflow(&job, &bao, "delivery"));
    for (input, value, why) in [
        ("one-file", "perhaps", "expected `true` or `false`"),
        ("no-submit", "\"yes\"", "expected `true` or `false`"),
        ("customer", "Globex Inc", "PROTECTED_REGISTRY_CUSTOMER"),
        ("version", "latest", "PROTECTED_REGISTRY_VERSION"),
        ("version", "1.2.4", "@acme/core@1.2.4 was to be delivered"),
        ("package", "not a name", "PROTECTED_REGISTRY_PACKAGE"),
        ("package", "\"@acme/other\"", "@acme/other@1.2.3 was to be delivered"),
        ("bundle-id", "../x", "PROTECTED_REGISTRY_BUNDLE_ID"),
        ("artifact", "nowhere", "nowhere"),
        ("evidence", "nowhere.json", "nowhere.json"),
        ("to", "ftp://x/y", "the delivery area to store in"),
        ("key-ref", "openbao://transit", "the key of the delivery"),
        ("ca-file", "nowhere.pem", "nowhere.pem"),
        ("config", "nowhere.toml", "nowhere.toml"),
        ("fractalops-url", "http://fractalops.example", "FRACTALOPS_BASE_URL"),
    ] {
        let run = job.run(&with(&workflow, input, value), &source);
        nothing_sealed(&job, &run);
        let errors = run.errors();
        assert_eq!(errors.len(), 1, "{input}: {value}\n{}", run.story());
        assert!(errors[0].contains(why), "{input}: {value}\n{}", run.story());
    }
}
