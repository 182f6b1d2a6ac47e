//! One source, every copy checked: the commands' settings, the actions' inputs, and what their READMEs say.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use crate::suite::{blocks, root, settings, table, variable, yaml};

/// Each action's file, its README and the command that it runs.
const ACTIONS: &[(&str, &str, &str)] = &[
    ("action.yml", "actions/README.md", "publish"),
    ("actions/publish/action.yml", "actions/publish/README.md", "publish"),
    ("actions/protect-build/action.yml", "actions/protect-build/README.md", "protect-build"),
    ("actions/deliver/action.yml", "actions/deliver/README.md", "deliver"),
    ("actions/install/action.yml", "actions/install/README.md", "install"),
    ("actions/verify/action.yml", "actions/verify/README.md", "verify"),
];

/// Inputs that are about the binary, and so no setting of its own.
const ABOUT_THE_BINARY: &[&str] = &["cli-path", "cli-url", "cli-sha256"];

fn action(path: &str) -> Value {
    yaml(&root().join(path)).remove(0)
}

/// The names below a member, in the order of the file.
fn names(action: &Value, member: &str) -> Vec<String> {
    action[member].as_object().map(|entries| entries.keys().cloned().collect()).unwrap_or_default()
}

fn steps(action: &Value) -> &Vec<Value> {
    action["runs"]["steps"].as_array().expect("steps")
}

#[test]
fn every_setting_of_the_command_is_an_input_and_every_input_is_a_setting() {
    for (file, _, command) in ACTIONS {
        let inputs: BTreeSet<String> = names(&action(file), "inputs")
            .into_iter()
            .filter(|name| !ABOUT_THE_BINARY.contains(&&**name))
            .collect();
        let settings: BTreeSet<String> = settings(command).into_iter().collect();
        assert_eq!(inputs, settings, "{file} and `{command} --help`");
    }
}

#[test]
fn every_input_reaches_the_command_as_its_variable_and_leaves_the_workflow_s_own_alone() {
    for (file, _, command) in ACTIONS {
        let action = action(file);
        let step = steps(&action).last().expect("a step");
        let environment = step["env"].as_object().expect("env");
        let inputs: Vec<String> = names(&action, "inputs")
            .into_iter()
            .filter(|name| !["cli-url", "cli-sha256"].contains(&&**name))
            .collect();
        assert_eq!(environment.len(), inputs.len(), "{file}: one variable for each input");
        for input in inputs {
            let name = variable(&input);
            let value =
                environment.get(&name).and_then(Value::as_str).unwrap_or_else(|| panic!("{file}: no {name}"));
            let end = format!("inputs.{input} || env.{name} }}}}");
            assert!(value.starts_with("${{ ") && value.ends_with(&end), "{file}: {name} is {value}");
        }
        let script = step["run"].as_str().expect("run");
        assert!(script.ends_with(&format!("/lib/run.sh\" {command}")), "{file}: {script}");
    }
}

#[test]
fn inputs_and_outputs_stand_in_the_readme_as_they_are() {
    for (file, readme, _) in ACTIONS {
        let action = action(file);
        let readme = root().join(readme);
        let described = |member: &str| -> Vec<(String, String)> {
            let entries = action[member].as_object().expect("a mapping");
            entries
                .iter()
                .map(|(name, entry)| (name.clone(), entry["description"].as_str().expect("text").to_owned()))
                .collect()
        };
        let documented = |heading: &str| -> Vec<(String, String)> {
            let mut rows: Vec<_> =
                table(&readme, heading).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
            rows.sort();
            rows
        };
        let mut inputs = described("inputs");
        inputs.sort();
        let mut outputs = described("outputs");
        outputs.sort();
        assert_eq!(documented("input"), inputs, "{}", readme.display());
        assert_eq!(documented("output"), outputs, "{}", readme.display());
        for row in table(&readme, "input") {
            let expected =
                if ["cli-url", "cli-sha256"].contains(&&*row[0]) { String::new() } else { variable(&row[0]) };
            assert_eq!(row[2], expected, "{}: the variable of {}", readme.display(), row[0]);
        }
    }
    let setup = action("actions/setup/action.yml");
    let readme = root().join("actions/setup/README.md");
    for (member, heading) in [("inputs", "input"), ("outputs", "output")] {
        for row in table(&readme, heading) {
            assert_eq!(setup[member][&row[0]]["description"], row[1], "{heading} {}", row[0]);
        }
        assert_eq!(table(&readme, heading).len(), names(&setup, member).len(), "{heading}s of setup");
    }
}

/// Attack: an input with `$(...)`, a quote or a line end in it, put into a script by an expression, is run.
#[test]
fn no_expression_stands_in_a_script_and_no_action_calls_another() {
    for (file, ..) in ACTIONS.iter().chain([&("actions/setup/action.yml", "", "")]) {
        let action = action(file);
        assert_eq!(action["runs"]["using"], "composite", "{file}");
        for step in steps(&action) {
            assert!(
                step.get("uses").is_none(),
                "{file}: no nested action, which a runner may not be allowed"
            );
            let script = step["run"].as_str().expect("run");
            assert!(!script.contains("${{"), "{file}: {script}");
            // The shell is replaced, so the runner's signal reaches the program that has to clean up.
            assert!(script.starts_with("exec bash \"$GITHUB_ACTION_PATH/"), "{file}: {script}");
            let name = script.split('"').nth(1).expect("a path").replace("$GITHUB_ACTION_PATH", "");
            let folder = root().join(file).parent().expect("folder").to_owned();
            assert!(folder.join(name.trim_start_matches('/')).is_file(), "{file}: {script}");
        }
    }
}

/// Attack: whatever a step writes there changes every later step of the job.
#[test]
fn nothing_writes_to_the_job_s_environment_or_path() {
    for file in files() {
        let text = fs::read_to_string(&file).expect("text");
        for name in ["GITHUB_ENV", "GITHUB_PATH", "set-env", "add-path"] {
            assert!(!text.contains(name), "{} writes to {name}", file.display());
        }
    }
}

#[test]
fn no_output_is_a_token() {
    for (file, ..) in ACTIONS {
        let action = action(file);
        for (name, output) in action["outputs"].as_object().expect("outputs") {
            assert_eq!(output["value"], format!("${{{{ steps.run.outputs.{name} }}}}"), "{file}");
            assert!(!name.contains("token") && !name.contains("npmrc"), "{file}: {name}");
        }
    }
}

#[test]
fn workflows_in_the_readmes_grant_nothing_by_default_and_pin_by_commit() {
    for readme in ["actions/README.md"].into_iter().chain(ACTIONS.iter().map(|(_, readme, _)| *readme)) {
        for text in blocks(&root().join(readme), "yaml") {
            assert!(text.contains("\npermissions: {}\n"), "{readme}");
            let mut granted = 0;
            for line in text.lines() {
                if let Some((_, reference)) = line.split_once("uses: ") {
                    let (_, pin) = reference.split_once('@').expect("a pin");
                    let commit = pin.split(' ').next().expect("a commit");
                    assert!(
                        commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()),
                        "{readme}: {line}"
                    );
                }
                if line.trim_start().starts_with("contents:") || line.trim_start().starts_with("id-token:") {
                    assert!(line.contains(" # "), "{readme}: a grant says why: {line}");
                    granted += 1;
                }
            }
            assert_eq!(granted, 2, "{readme}");
        }
    }
}

/// The actions' own files: definitions and scripts.
fn files() -> Vec<PathBuf> {
    let mut found = vec![root().join("action.yml")];
    for file in crate::harness::files(&root().join("actions")) {
        if file.extension().is_some_and(|extension| extension == "yml" || extension == "sh") {
            found.push(file);
        }
    }
    assert!(found.len() >= 7, "{found:?}");
    found
}
