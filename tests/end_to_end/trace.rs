//! Leaks: what others make of a marked copy still names the delivery, and nothing else names one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    clients::{path_with, tool},
    harness::{CLI, Screen, World},
    verify,
};

const DELIVERIES: &[&str] = &["acme-1.2.0", "globex-1.2.0", "initech-1.2.0"];
const LEAK: &str = "artifact/src/index.js";

/// Builds a copy for each delivery and returns the package's folder.
fn copies(world: &World) -> PathBuf {
    let folder = verify::package(world, "ledger");
    for delivery in DELIVERIES {
        let screen = mark(world, &folder, delivery);
        assert!(screen.succeeded().stderr.contains(&format!("mark      {delivery}: ")), "{screen}");
    }
    folder
}

fn mark(world: &World, folder: &Path, delivery: &str) -> Screen {
    let build = ["protect-build", "--profile", "standard", "--mark", delivery];
    world.run(verify::command(world, folder, &build))
}

fn copy(folder: &Path, delivery: &str) -> PathBuf {
    folder.join(format!("protected-build/acme-ledger-1.2.0~{delivery}"))
}

fn trace(world: &World, folder: &Path, args: &[&str]) -> Screen {
    let args: Vec<&str> = ["trace"].into_iter().chain(args.iter().copied()).collect();
    world.run(verify::command(world, folder, &args))
}

/// Returns the deliveries that a leak is traced to.
#[track_caller]
fn named(world: &World, folder: &Path, leak: &Path) -> Vec<String> {
    let screen = trace(world, folder, &["--format", "json", leak.to_str().expect("UTF-8")]);
    let document: Value = serde_json::from_str(&screen.stdout).unwrap_or_else(|_| panic!("{screen}"));
    let found: Vec<String> = document["deliveries"]
        .as_array()
        .expect("deliveries")
        .iter()
        .filter(|delivery| delivery["named"] == true)
        .map(|delivery| {
            assert!(delivery["chance_log10"].as_f64().is_some_and(|chance| chance < -9.0), "{delivery}");
            delivery["delivery"].as_str().expect("label").to_owned()
        })
        .collect();
    assert_eq!(screen.code, if found.is_empty() { 8 } else { 0 }, "{screen}");
    found
}

/// Runs a tool that rewrites JavaScript.
fn rewritten(world: &World, program: &str, args: &[&str], name: &str) -> PathBuf {
    let mut command = world.bare(program, args);
    command.env("PATH", path_with(&[tool("terser"), tool("esbuild"), tool("prettier")]));
    let screen = world.run(command);
    let text = &screen.succeeded().stdout;
    assert!(text.len() > 500, "{screen}");
    world.write(name, text)
}

#[test]
fn what_others_make_of_a_copy_still_names_its_delivery() {
    let world = World::new();
    let folder = copies(&world);
    let texts: Vec<String> = DELIVERIES
        .iter()
        .map(|one| fs::read_to_string(copy(&folder, one).join(LEAK)).expect("text"))
        .collect();
    assert!(texts[0] != texts[1] && texts[1] != texts[2], "copies differ");
    for delivery in DELIVERIES {
        let mut node =
            world.bare("node", &["-p", "require('./src/index.js').run('acme', 'first=1200; second=7')"]);
        node.current_dir(copy(&folder, delivery).join("artifact"));
        assert!(world.run(node).succeeded().stdout.contains("alpha one: 1200"), "{delivery} still works");
    }

    let leak = copy(&folder, "globex-1.2.0").join(LEAK);
    let leak = leak.to_str().expect("UTF-8");
    let text = &texts[1];
    // A program that does not parse: the middle of one, from one statement to within another.
    let half = &text[text.len() / 4..text.len() * 3 / 4];
    let hexadecimal: String = in_hexadecimal(text);
    for leak in [
        PathBuf::from(leak),
        copy(&folder, "globex-1.2.0").join("artifact"),
        copy(&folder, "globex-1.2.0").join("acme-ledger-1.2.0.tgz"),
        rewritten(&world, "prettier", &["--parser", "babel", leak], "pretty.js"),
        rewritten(&world, "terser", &[leak, "--compress", "passes=3", "--mangle", "--toplevel"], "terser.js"),
        rewritten(&world, "terser", &[leak, "--beautify", "--mangle", "reserved=[]"], "renamed.js"),
        rewritten(&world, "esbuild", &["--minify", leak], "esbuild.js"),
        rewritten(&world, "esbuild", &["--bundle", "--platform=node", "--target=es2015", leak], "lowered.js"),
        world.write("half.js", half),
        world.write("hexadecimal.js", &hexadecimal),
        world.write("page.html", &format!("<script>{text}</script>")),
        world.write("string.json", &serde_json::json!({ "source": text }).to_string()),
    ] {
        assert_eq!(named(&world, &folder, &leak), ["globex-1.2.0"], "{}", leak.display());
    }

    // Two copies in one file are both named, and so is one among much else.
    let both = world.write("both.js", &format!("(() => {{{text}}})();\n(() => {{{}}})();", texts[2]));
    let mut found = named(&world, &folder, &both);
    found.sort();
    assert_eq!(found, ["globex-1.2.0", "initech-1.2.0"]);
    let noise: String =
        (0..4000_u32).map(|n| format!("f({});", (n.wrapping_mul(2_654_435_761) >> 3) | 1 << 29)).collect();
    let among = world.write("among.js", &format!("{noise}{text}"));
    assert_eq!(named(&world, &folder, &among), ["globex-1.2.0"]);
}

/// Writes every long number in another notation.
fn in_hexadecimal(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        let inside = !digits.is_empty() || !out.ends_with(|c: char| c.is_alphanumeric() || "_$.".contains(c));
        if c.is_ascii_digit() && inside {
            digits.push(c);
            continue;
        }
        match digits.parse::<u32>() {
            Ok(number) if digits.len() > 8 => out.push_str(&format!("0x{number:x}")),
            _ => out.push_str(&digits),
        }
        digits.clear();
        out.push(c);
    }
    out.trim_end_matches('\0').to_owned()
}

#[test]
fn nothing_else_names_a_delivery() {
    let world = World::new();
    let folder = copies(&world);
    // The package without a mark, its source, another secret's copy, and no code at all.
    let unmarked = ["protect-build", "--no-record", "--profile", "standard", "--out", "../unmarked"];
    world.run(verify::command(&world, &folder, &unmarked)).succeeded();
    let mut other = verify::command(
        &world,
        &folder,
        &["protect-build", "--profile", "standard", "--mark", "acme-1.2.0", "--out", "../other"],
    );
    other.env("PROTECTED_REGISTRY_BUILD_SECRET", "0f9d3a7c51e2b84660fae7d1c93b5528");
    world.run(other).succeeded();
    for leak in ["../unmarked/artifact", "src", "package.json", "../other/artifact"] {
        assert_eq!(named(&world, &folder, Path::new(leak)), [""; 0], "{leak}");
    }
    // A copy of a delivery that is not on the list.
    let leak = copy(&folder, "acme-1.2.0").join(LEAK);
    let leak = leak.to_str().expect("UTF-8");
    trace(&world, &folder, &[leak, "--delivery", "acme-1.1.0", "--delivery", "globex-1.2.0"])
        .failed(8, &["no delivery can be named", "hint: the copy may be of another delivery"]);
    let list = world.write("list", "# all of them\nglobex-1.2.0\n\n acme-1.2.0\n");
    let list = list.to_str().expect("UTF-8");
    let screen = trace(&world, &folder, &[leak, "--deliveries", list]);
    assert!(screen.succeeded().stdout.starts_with("acme-1.2.0: "), "{screen}");
    assert!(screen.stdout.contains("by chance with a probability below 1e-"), "{screen}");
}

#[test]
fn a_trace_without_what_it_needs_is_refused() {
    let world = World::new();
    let folder = verify::package(&world, "ledger");
    trace(&world, &folder, &["src/index.js"]).failed(2, &["no marked build stands below", "--delivery"]);
    trace(&world, &folder, &["src/index.js", "--delivery", "a b"]).failed(2, &["delivery label"]);
    trace(&world, &folder, &["nowhere.js", "--delivery", "acme"]).failed(7, &["cannot read", "nowhere.js"]);
    trace(&world, &folder, &["src", "--deliveries", "nowhere"])
        .failed(2, &["cannot read the list of deliveries"]);
    let list = world.write("list", "acme-1.2.0\nnot a label\n");
    trace(&world, &folder, &["src", "--deliveries", list.to_str().expect("UTF-8")]).failed(2, &["line 2 of"]);
    trace(&world, &folder, &[]).failed(2, &["FILES"]);
    let mut bare = world.bare(CLI, &["trace", "src", "--delivery", "acme-1.2.0"]);
    bare.current_dir(&folder);
    world.run(bare).failed(2, &["follows from the build secret, and none is set"]);
}

/// Each marked copy is repeated like any other build, for its own delivery and for no other.
#[test]
fn a_marked_copy_is_repeated_from_its_source() {
    let world = World::new();
    let folder = copies(&world);
    let built = copy(&folder, "acme-1.2.0");
    let built = built.to_str().expect("UTF-8");
    world.run(verify::command(&world, &folder, &["verify", built, "--rebuild", "."])).succeeded();
    let other = ["verify", built, "--rebuild", ".", "--mark", "globex-1.2.0"];
    world.run(verify::command(&world, &folder, &other)).failed(8, &["`src/index.js` differs"]);
    // The label stands beside the tarball and nowhere in what is delivered or recorded.
    for path in crate::harness::files(&copy(&folder, "acme-1.2.0")) {
        let named = path.file_name().is_some_and(|name| name == "delivery.json");
        let text = fs::read(&path).expect("file");
        let text = String::from_utf8_lossy(&text);
        assert_eq!(text.contains("acme-1.2.0\""), named, "{}", path.display());
    }
    fs::remove_file(Path::new(built).join("delivery.json")).expect("remove");
    world
        .run(verify::command(&world, &folder, &["verify", built, "--rebuild", "."]))
        .failed(2, &["is marked, and nothing says for which delivery", "--mark"]);
}
