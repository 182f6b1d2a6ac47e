//! Refusals: each names the rule, both sides, the nearest match and a correlation id.

use crate::harness::{CLI, Setup, World, github_run};

fn world(name: &str, changes: &[(&str, &str)]) -> World {
    World::with(Setup { more: github_run(name, changes), ..Setup::default() })
}

#[test]
fn a_refused_exchange_prints_every_rule_and_the_nearest_match() {
    let world = world(
        "renamed",
        &[
            ("workflow_ref", "acme/core/.github/workflows/release.yaml@refs/heads/main"),
            ("job_workflow_ref", "acme/core/.github/workflows/release.yaml@refs/heads/main"),
        ],
    );
    let folder = world.package("@acme/core", "1.0.0");
    let mut command = world.github("renamed", CLI, &["publish"]);
    command.current_dir(&folder);
    let screen = world.run(command);
    screen.failed(4, &["exchanging the ID token for a session", "release.yaml", "correlation id: "]);
    // As an annotation, with the log's group of rules beside it.
    assert!(screen.stderr.contains("::error title="), "{screen}");
    assert!(screen.stderr.contains("::group::Rules of release"), "{screen}");
    assert!(screen.stderr.contains("FAIL workflow_ref: expected "), "{screen}");
    assert!(screen.stderr.contains("ok   repository_id is `2002`"), "{screen}");
    assert!(screen.stderr.contains(".yml"), "the hint tells the two spellings apart\n{screen}");
    // And in the summary.
    let summary = world.summary();
    assert!(summary.contains("❌ | `workflow_ref`"), "{summary}");
    assert!(summary.contains("✅ | `repository_id`"), "{summary}");
    assert!(summary.contains("Correlation id: `"), "{summary}");
    assert_eq!(world.count("exchange", "deny", None), 1);
    assert_eq!(world.count("registry.publish", "allow", None), 0);
    // The correlation id on the screen is the one in the audit trail.
    let id = screen.stderr.rsplit("correlation id: ").next().expect("id").trim();
    assert!(world.audit().iter().any(|event| event["request_id"] == id), "{id}");
}

#[test]
fn another_repository_is_refused_even_under_the_same_name() {
    let world = world("resurrected", &[("repository_id", "9009")]);
    let folder = world.package("@acme/core", "1.0.0");
    let mut command = world.github("resurrected", CLI, &["publish"]);
    command.current_dir(&folder);
    world.run(command).failed(4, &["FAIL repository_id: expected `2002`, got `9009`"]);
}

#[test]
fn pull_requests_are_refused() {
    for event in ["pull_request", "pull_request_target", "workflow_run", "issue_comment"] {
        let world = world("event", &[("event_name", event)]);
        let folder = world.package("@acme/core", "1.0.0");
        let mut command = world.github("event", CLI, &["publish"]);
        command.current_dir(&folder);
        world.run(command).failed(4, &["event_name", event]);
    }
}

#[test]
fn a_job_without_the_permission_is_told_to_add_it() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let mut command = world.github("release", CLI, &["publish"]);
    command
        .env_remove("ACTIONS_ID_TOKEN_REQUEST_URL")
        .env_remove("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
        .current_dir(&folder);
    let screen = world.run(command);
    screen.failed(3, &["id-token: write"]);
    assert!(world.audit().is_empty(), "nothing was asked");
}

#[test]
fn a_run_outside_of_ci_points_to_the_login() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let mut command = world.bare(CLI, &["publish"]);
    command.current_dir(&folder);
    let screen = world.run(command);
    screen.failed(3, &["this is not a CI run", "protected-registry login"]);
}

#[test]
fn packages_that_are_not_in_the_project_are_refused() {
    let world = World::new();
    for (name, code, message) in [
        ("@acme/unknown", 4, "@acme/unknown"),
        ("@acme/corex", 4, "@acme/corex"),
        ("@other/core", 4, "@other/core"),
    ] {
        let folder = world.package(name, "1.0.0");
        world.cli_in(&folder, &["publish"]).failed(code, &[message, "correlation id"]);
    }
    let folder = world.package("@acme/core", "1.0.0");
    world.cli_in(&folder, &["publish", "--project", "elsewhere"]).failed(4, &["project"]);
    assert_eq!(world.count("registry.publish", "allow", None), 0);
}

#[test]
fn wrong_input_is_told_before_anything_is_asked() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0-beta.1");
    world.cli_in(&folder, &["publish"]).failed(2, &["prerelease", "--tag"]);
    let folder = world.package("@acme/core", "1.0.0");
    world
        .cli_in(&folder, &["publish", "@acme/other"])
        .failed(7, &["`@acme/other` was asked for", "`@acme/core`"]);
    world.cli_in(&folder, &["publish", "--with", "yarn"]).failed(2, &["yarn cannot publish"]);
    world.cli_in(&folder, &["publish", "--source", "nowhere"]).failed(2, &["nowhere"]);
    world.cli_in(&folder, &["publish", "--tarball", "nowhere.tgz"]).failed(7, &["nowhere.tgz"]);
    world
        .cli_in(&folder, &["publish", "--fractalops-url", "http://fractalops.example"])
        .failed(2, &["https"]);
    let empty = world.path("work/empty");
    std::fs::create_dir(&empty).expect("folder");
    world.cli_in(&empty, &["publish"]).failed(7, &["package.json"]);
    world.write("bad/package.json", "{\"name\": \"@acme/core\", \"version\": \"1.0.0\",\n  \"main\" \"x\"}");
    world.cli_in(&world.path("work/bad"), &["publish"]).failed(7, &["package.json", "2"]);
    world.write(
        "broken/package.json",
        "{\"name\": \"@acme/core\", \"version\": \"1.0.0\", \"main\": \"a.ts\"}",
    );
    world.write("broken/a.ts", "export const a: number = 1;\nexport const b = ;\n");
    world.cli_in(&world.path("work/broken"), &["publish"]).failed(7, &["a.ts:2", "export const b = ;"]);
    assert_eq!(world.count("registry.publish", "allow", None), 0);
}
