//! Licences as `package.json` states them, in the words of SPDX where they have any.

use serde_json::Value;

/// The longest statement that is repeated.
const MAX_CHARS: usize = 200;

/// Identifiers of SPDX's list 3.29 that the lists in the schemas of CycloneDX 1.6 and 1.7 do not have: they are written
/// as expressions, which those schemas do not look into.
const UNLISTED: &[&str] = &[
    "BSD-2-Clause-pos-unchanged",
    "BSD-3-Clause-OpenWebUI",
    "BSD-Source-Code-no-disclaimer",
    "BSD-Source-alt-GPL",
    "BSD-ask-to-endorse",
    "Brian-Gladman-3-Clause-no-conversion",
    "Bugroff",
    "CC-BY-NC-3.0-IGO",
    "FDK-MPEG-H",
    "GFDL-1.1-invariants",
    "GFDL-1.1-no-invariants",
    "GFDL-1.2-invariants",
    "GFDL-1.2-no-invariants",
    "GFDL-1.3-invariants",
    "GFDL-1.3-no-invariants",
    "Hippocratic-3.0-core",
    "Informatica",
    "MVT-1.1",
    "atc-game",
];

/// A licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Licence {
    /// An identifier of the SPDX licence list.
    Id(String),
    /// An SPDX licence expression.
    Expression(String),
    /// Any other words of the author's.
    Name(String),
}

impl Licence {
    /// Reads a statement.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || ["NONE", "NOASSERTION"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
            return None;
        }
        let short: String = text.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect();
        let own_words = || Some(Self::Name(short));
        // What npm prescribes for licences that have no identifier.
        let upper = text.to_ascii_uppercase();
        if upper == "UNLICENSED" || upper.starts_with("SEE LICENSE IN") || text.len() > MAX_CHARS {
            return own_words();
        }
        if let Some(id) = spdx::license_id(text) {
            return Some(Self::listed(id.name));
        }
        let strict = |text: &str| spdx::Expression::parse(text).is_ok().then(|| text.to_owned());
        let corrected = || spdx::Expression::canonicalize(text).ok().flatten().and_then(|text| strict(&text));
        match strict(text).or_else(corrected) {
            Some(text) => Some(match spdx::license_id(&text) {
                Some(id) => Self::listed(id.name),
                None => Self::Expression(text),
            }),
            None => own_words(),
        }
    }

    fn listed(id: &str) -> Self {
        if UNLISTED.contains(&id) { Self::Expression(id.to_owned()) } else { Self::Id(id.to_owned()) }
    }

    /// Reads `license`, or the `licenses` of old packages, from a `package.json`.
    pub(crate) fn stated(license: Option<&Value>, licenses: Option<&Value>) -> Option<Self> {
        text(license, licenses).and_then(|text| Self::of(&text))
    }
}

/// Returns what `license`, or the `licenses` of old packages, says in one line.
pub(crate) fn text(license: Option<&Value>, licenses: Option<&Value>) -> Option<String> {
    license.and_then(one).or_else(|| licenses.and_then(one))
}

fn one(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Object(object) => object.get("type").or_else(|| object.get("name")).and_then(one),
        // A choice, as npm's documentation had it.
        Value::Array(items) => {
            let all: Vec<String> = items.iter().filter_map(one).collect();
            match all.as_slice() {
                [] => None,
                [single] => Some(single.clone()),
                _ => Some(format!("({})", all.join(" OR "))),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn statements_of_all_sorts() {
        let id = |text: &str| Some(Licence::Id(text.to_owned()));
        let expression = |text: &str| Some(Licence::Expression(text.to_owned()));
        let name = |text: &str| Some(Licence::Name(text.to_owned()));
        for (text, expected) in [
            ("MIT", id("MIT")),
            (" Apache-2.0 ", id("Apache-2.0")),
            ("(MIT OR CC0-1.0)", expression("(MIT OR CC0-1.0)")),
            ("MIT/X11", expression("MIT OR X11")),
            ("MIT/Apache-2.0", expression("MIT OR Apache-2.0")),
            ("Apache 2.0", id("Apache-2.0")),
            ("GPL-2.0", id("GPL-2.0")),
            ("UNLICENSED", name("UNLICENSED")),
            ("SEE LICENSE IN EULA.md", name("SEE LICENSE IN EULA.md")),
            ("LicenseRef-Acme", expression("LicenseRef-Acme")),
            ("", None),
        ] {
            assert_eq!(Licence::of(text), expected, "{text}");
        }
        let old = json!([{"type": "MIT", "url": "http://x"}, {"type": "BSD-2-Clause"}]);
        assert_eq!(Licence::stated(None, Some(&old)), expression("(MIT OR BSD-2-Clause)"));
        assert_eq!(Licence::stated(Some(&json!({"type": "ISC"})), None), id("ISC"));
        assert_eq!(Licence::stated(Some(&json!(7)), None), None);
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "\\PC{0,60}|[()A-Z0-9 +./-]{0,40}") {
            let _ = Licence::of(&text);
        }
    }
}
