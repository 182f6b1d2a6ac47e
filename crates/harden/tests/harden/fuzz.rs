//! Whatever a file holds, the build ends with an artifact or an error about that file.

use proptest::prelude::*;
use protected_harden::{HardenError, Options};

use crate::support::Package;

/// Pieces of JavaScript and TypeScript, so that some of their sequences are programs.
const PIECES: &[&str] = &[
    "a",
    "b",
    "1",
    "'s'",
    "`t${a}u`",
    "/r/g",
    "#p",
    "=>",
    "=",
    "==",
    "+",
    "++",
    "!",
    "?",
    ":",
    ".",
    "?.",
    "...",
    ",",
    ";",
    "\n",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "if",
    "else",
    "for",
    "of",
    "in",
    "while",
    "do",
    "function",
    "function*",
    "async",
    "await",
    "yield",
    "class",
    "extends",
    "super",
    "static",
    "get",
    "set",
    "new",
    "return",
    "let",
    "const",
    "var",
    "import",
    "export",
    "default",
    "from",
    "with",
    "eval",
    "arguments",
    "this",
    "delete",
    "typeof",
    "void",
    "try",
    "catch",
    "finally",
    "throw",
    "switch",
    "case",
    "break",
    "continue",
    "enum",
    "namespace",
    "interface",
    "type",
    "as",
    "declare",
    "abstract",
    "<T>",
    "@a",
    "<p/>",
    "exports.x=",
    "require('./b')",
    "import.meta",
    "'use strict'",
    "/*! c */",
    "// c\n",
    "<!--",
    "\u{2028}",
    "\\u0061",
    "é",
    "0n",
    "-0",
    "({}).x",
    "{a,...b}",
    "[a,,b]",
];

fn attempt(path: &str, text: &str) -> Result<(), HardenError> {
    let package = Package::of(&[(path, text), ("style.css", text), ("b.cjs", "exports.b = 1;")]);
    package.harden(&Options { threads: Some(1), ..Options::default() }).map(|_| ())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sequences_of_pieces(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..30),
        path in proptest::sample::select(vec!["a.js", "a.mjs", "a.cjs", "a.ts", "a.tsx", "a.mts"])) {
        let text = pieces.join(" ");
        if let Err(error) = attempt(path, &text) {
            // A debug build of the parser checks itself, and fails for some texts that are no programs.
            let own_check = "assertion ";
            let expected = match &error {
                HardenError::Syntax(_) | HardenError::Unsupported(..) => true,
                HardenError::Compiler { reason, .. } => reason.starts_with(own_check),
                _ => false,
            };
            prop_assert!(expected, "{text}: {error}");
        }
    }

    #[test]
    fn any_text(text in "\\PC{0,60}", path in proptest::sample::select(vec!["a.js", "a.ts", "package.json", "bin/a"])) {
        let text = if path == "bin/a" { format!("#!/usr/bin/env node\n{text}") } else { text };
        if let Err(error) = attempt(path, &text) {
            prop_assert!(matches!(error, HardenError::Syntax(_) | HardenError::Manifest(_)), "{text}: {error}");
        }
    }
}

#[test]
fn what_is_nested_too_deep_is_an_error() {
    let many = |piece: &str| piece.repeat(20_000);
    for text in [
        format!("x = {}1", many("(")),
        format!("x = {}1{}", many("["), many("]")),
        format!("x = 1{}", many("+1")),
        format!("x = {}1", many("!")),
        format!("x = {}1", many("a => ")),
        format!("x = {}1", many("a ? b : ")),
        format!("{};", many("if (a) b; else ")),
        format!("x = a{}", many(".b()")),
        format!("x = {}a{}", "class extends ".repeat(100), "{}".repeat(100)),
    ] {
        let start: String = text.chars().take(30).collect();
        let result = attempt("a.cjs", &text);
        assert!(matches!(result, Err(HardenError::TooDeep { .. })), "{start} {result:?}");
    }
    for text in [
        format!("x = '';{}", "x += 'a' + 'b';\n".repeat(20_000)),
        format!("x = 1{}", "+1".repeat(2_500)),
        format!("x = [{}]", "1,".repeat(100_000)),
    ] {
        attempt("a.cjs", &text).unwrap_or_else(|error| panic!("{error}"));
    }
}
