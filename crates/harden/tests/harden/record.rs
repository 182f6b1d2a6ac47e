//! What a build says of itself is enough to repeat it, and tells no secret.

use std::collections::BTreeSet;

use protected_harden::{Declarations, LegalComments, Mark, Obfuscation, Options, Profile, SourcePlace};
use protected_model::{
    digest::Sha256,
    integrity::canonical,
    secret::{BuildSecret, Secret as _},
};

use crate::support::{Built, Package, contents};

const SECRET: &str = "8c1f4be0d27a95f3c06b1e58a9d4f723";

fn package() -> Package {
    let hot =
        "exports.hot = (limit) => { let sum = 0; for (let n = 0; n < limit; n++) sum += n; return sum; };\n";
    Package::of(&[
        (
            "index.js",
            "const { hot } = require('./src/hot');\nexports.twice = (limit) => hot(limit) * 2 + 'text of it'.length;\n",
        ),
        ("src/hot.js", hot),
        ("index.d.ts", "export declare class Twice {\n    private value: number;\n}\n"),
        ("src/typed.ts", "export const shout = (text: string): string => text.toUpperCase() + '!!!';\n"),
    ])
}

fn build(options: &Options) -> Built {
    package().harden(options).unwrap_or_else(|error| panic!("{error}"))
}

fn obfuscation() -> Obfuscation {
    Obfuscation {
        profile: Profile::Standard,
        files: vec![("src/**".to_owned(), Profile::Strong), ("src/hot.js".to_owned(), Profile::Light)],
        reserved_names: BTreeSet::from(["twice".to_owned(), "shout".to_owned()]),
        hot: vec![SourcePlace { path: "src/hot.js".to_owned(), line: 1, column: 15 }],
        self_defence: false,
        secret: Some(BuildSecret::new(SECRET)),
        mark: Some(Mark::derive(SECRET.as_bytes(), "acme-1.0.0")),
    }
}

#[test]
fn options_are_read_back_from_the_record() {
    for options in [
        Options::default(),
        Options { keep_names: true, legal_comments: LegalComments::Keep, ..Options::default() },
        Options { declarations: Declarations::Public, ..Options::default() },
        Options { minify: false, escrow: false, legal_comments: LegalComments::Remove, ..Options::default() },
        Options { obfuscation: obfuscation(), ..Options::default() },
        Options { obfuscation: obfuscation(), keep_names: true, minify: false, ..Options::default() },
    ] {
        let built = build(&options);
        let mut read = Options::recorded(&built.hardened.pipeline).unwrap_or_else(|error| panic!("{error}"));
        // No record holds these.
        read.obfuscation.secret = options.obfuscation.secret.clone();
        read.obfuscation.mark = options.obfuscation.mark.clone();
        assert_eq!(read, options);
        assert_eq!(contents(&build(&read).artifact()), contents(&built.artifact()));
    }
}

#[test]
fn a_record_that_does_not_say_enough_is_refused() {
    let built = build(&Options {
        obfuscation: obfuscation(),
        declarations: Declarations::Public,
        ..Options::default()
    });
    let pipeline = &built.hardened.pipeline;
    let refused = |change: &dyn Fn(&mut Vec<protected_model::build::PipelineStep>)| {
        let mut pipeline = pipeline.clone();
        change(&mut pipeline);
        Options::recorded(&pipeline).expect_err("refused").to_string()
    };
    let at = |name: &str| pipeline.iter().position(|step| step.step == name).expect("a step");
    let (minify, obfuscate, strip) = (at("minify"), at("obfuscate"), at("strip-source-maps"));
    assert!(refused(&|steps| steps.clear()).contains("no step `strip-source-maps`"));
    for (step, parameter) in [
        (minify, "keep_names"),
        (at("declarations"), "declarations"),
        (strip, "legal_comments"),
        (obfuscate, "hot"),
        (obfuscate, "profile"),
        (obfuscate, "files"),
    ] {
        assert!(
            refused(&|steps| steps[step].parameters[parameter] = 7.into()).contains(parameter),
            "{parameter}"
        );
        let gone = refused(&|steps| {
            steps[step].parameters.as_object_mut().expect("parameters").remove(parameter);
        });
        assert!(gone.contains(parameter), "{gone}");
    }
    assert!(refused(&|steps| steps[obfuscate].parameters["profile"] = "hard".into()).contains("profile"));
}

#[test]
fn the_record_commits_to_the_seed_and_tells_no_secret() {
    let with = |secret: Option<&str>, mark: Option<&str>| {
        let mut obfuscation = obfuscation();
        obfuscation.secret = secret.map(BuildSecret::new);
        obfuscation.mark = mark.map(|mark| Mark::derive(SECRET.as_bytes(), mark));
        build(&Options { obfuscation, ..Options::default() }).hardened
    };
    let marked = with(Some(SECRET), Some("acme-1.0.0"));
    assert!(marked.hardening.secret && marked.hardening.marked);
    assert_eq!(marked.hardening.profile, "standard");
    let again = with(Some(SECRET), None);
    assert!(!again.hardening.marked);
    assert_eq!(marked.hardening.seed_commitment, again.hardening.seed_commitment);
    let other = with(Some("another secret of this test"), None);
    assert_ne!(other.hardening.seed_commitment, again.hardening.seed_commitment);
    let none = with(None, None);
    assert!(!none.hardening.secret);
    assert_ne!(none.hardening.seed_commitment, again.hardening.seed_commitment);

    for step in &marked.pipeline {
        assert!(!step.parameters.is_null() && step.has_its_parameters(), "{step:?}");
        assert_eq!(step.config_sha256, Sha256::of(canonical(&step.parameters)));
    }
    let mut changed = marked.pipeline[0].clone();
    changed.parameters["target"] = "Es5".into();
    assert!(!changed.has_its_parameters());
    let record = String::from_utf8(canonical(&(&marked.pipeline, &marked.hardening))).expect("UTF-8");
    let secret = BuildSecret::new(SECRET);
    for private in [secret.reveal(), &Sha256::of(secret.reveal()).to_string(), "acme"] {
        assert!(!record.contains(private), "{record}");
    }
}

#[test]
fn threads_change_nothing() {
    let with = |threads| {
        let options = Options { obfuscation: obfuscation(), threads: Some(threads), ..Options::default() };
        let built = build(&options);
        (contents(&built.artifact()), contents(&built.escrow()))
    };
    assert!(with(1) == with(2) && with(2) == with(7));
}
