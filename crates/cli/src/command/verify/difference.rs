//! How two packages differ, file by file.

use std::collections::{BTreeMap, BTreeSet};

use protected_npm::pack::Packed;
use serde::Serialize;

/// A file that is not the one that the source gives.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    path: String,
    #[serde(flatten)]
    kind: DifferenceKind,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "difference", rename_all = "lowercase")]
pub(super) enum DifferenceKind {
    /// It is in the package alone.
    Added,
    /// It is not in the package.
    Missing,
    /// Its permission bits.
    Mode { expected: String, found: String },
    /// Its bytes, from this one on, counted from 0.
    Content {
        first_byte: usize,
        line: usize,
        expected: String,
        found: String,
        expected_bytes: usize,
        found_bytes: usize,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = &self.path;
        match &self.kind {
            DifferenceKind::Added => write!(f, "`{path}` is in the package, and the source does not give it"),
            DifferenceKind::Missing => write!(f, "`{path}` is not in the package, and the source gives it"),
            DifferenceKind::Mode { expected, found } => {
                write!(f, "`{path}` has the permissions {found}, expected {expected}")
            }
            DifferenceKind::Content { first_byte, line, expected, found, expected_bytes, found_bytes } => {
                write!(
                    f,
                    "`{path}` differs from byte {first_byte} on (line {line}): expected `{expected}`, found `{found}`; {expected_bytes} and {found_bytes} bytes"
                )
            }
        }
    }
}

pub(super) type Unpacked<'a> = (&'a Packed, &'a BTreeMap<String, Vec<u8>>);

pub(super) fn differences(expected: Unpacked<'_>, found: Unpacked<'_>) -> Vec<Difference> {
    let paths: BTreeSet<&String> = expected.1.keys().chain(found.1.keys()).collect();
    let mut differences = Vec::new();
    for path in paths {
        let mut add = |kind| differences.push(Difference { path: path.clone(), kind });
        match (expected.1.get(path), found.1.get(path)) {
            (None, _) => add(DifferenceKind::Added),
            (_, None) => add(DifferenceKind::Missing),
            (Some(a), Some(b)) if a != b => add(content(a, b)),
            (Some(_), Some(_)) => {
                let mode = |packed: &Packed| {
                    packed.files.iter().find(|file| file.path == *path).map(|file| file.mode.clone())
                };
                if let (Some(expected), Some(found)) = (mode(expected.0), mode(found.0))
                    && expected != found
                {
                    add(DifferenceKind::Mode { expected, found });
                }
            }
        }
    }
    differences
}

/// Describes two contents that differ.
fn content(expected: &[u8], found: &[u8]) -> DifferenceKind {
    let first_byte = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let shown = |bytes: &[u8]| {
        let rest = bytes.get(first_byte..).unwrap_or_default();
        String::from_utf8_lossy(&rest[..rest.len().min(24)]).replace('`', "'")
    };
    DifferenceKind::Content {
        first_byte,
        line: 1 + expected[..first_byte].iter().filter(|byte| **byte == b'\n').count(),
        expected: shown(expected),
        found: shown(found),
        expected_bytes: expected.len(),
        found_bytes: found.len(),
    }
}
