//! Source maps, revision 3 (ECMA-426).

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use serde::{Deserialize, Serialize};

/// The map of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceMap {
    /// What the file was made from.
    pub(crate) sources: Vec<Source>,
    /// In the order of the generated places.
    pub(crate) segments: Vec<Segment>,
    pub(crate) names: Vec<String>,
}

/// An original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its path in the package.
    pub(crate) path: String,
    /// Its text.
    pub(crate) content: String,
}

/// A place in the generated text and where it came from. Lines and columns count from 0, columns in UTF-16 units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) generated: Place,
    /// Index into the map's sources.
    pub(crate) source: u32,
    pub(crate) original: Place,
    /// Index into the map's names.
    pub(crate) name: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    version: u8,
    sources: Vec<&'a str>,
    sources_content: Vec<&'a str>,
    names: &'a [String],
    mappings: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read<'a> {
    sources: Vec<String>,
    sources_content: Vec<String>,
    names: Vec<String>,
    #[serde(borrow)]
    mappings: Cow<'a, str>,
}

impl SourceMap {
    /// Writes the map as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Written {
            version: 3,
            sources: self.sources.iter().map(|source| source.path.as_str()).collect(),
            sources_content: self.sources.iter().map(|source| source.content.as_str()).collect(),
            names: &self.names,
            mappings: encode(&self.segments),
        })
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    pub(crate) fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        let Read { sources, sources_content, names, mappings } = serde_json::from_slice(json)?;
        let sources = sources.into_iter().zip(sources_content);
        let sources = sources.map(|(path, content)| Source { path, content }).collect();
        Ok(Self { sources, names, segments: decode(&mappings) })
    }

    /// Returns the source file and the place there that `generated` came from.
    pub(crate) fn original(&self, generated: Place) -> Option<(&str, Place)> {
        let covering = self.segments.partition_point(|known| known.generated <= generated);
        let segment = self.segments[covering.checked_sub(1)?];
        let source = self.sources.get(segment.source as usize)?;
        (segment.generated.line == generated.line).then_some((source.path.as_str(), segment.original))
    }

    /// Returns the path and the text of every source file.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sources.iter().map(|source| (source.path.as_str(), source.content.as_str()))
    }

    /// Returns the map from the originals of `earlier` to this map's generated text.
    ///
    /// `earlier` holds, by path, the maps of those files that this map calls sources and that were generated
    /// themselves; the others are originals.
    pub(crate) fn after(self, earlier: &BTreeMap<String, Self>) -> Self {
        let mut sources: Vec<Source> = Vec::new();
        let mut index = |source: &Source| {
            let known = sources.iter().position(|known| known.path == source.path);
            known.unwrap_or_else(|| {
                sources.push(source.clone());
                sources.len() - 1
            }) as u32
        };
        // For each source: its map, and the indexes that its own sources get.
        let followed: Vec<(Option<&Self>, Vec<u32>)> = self
            .sources
            .iter()
            .map(|source| match earlier.get(&source.path) {
                Some(map) => (Some(map), map.sources.iter().map(&mut index).collect()),
                None => (None, vec![index(source)]),
            })
            .collect();
        let mut names = Names::default();
        let own_names = self.names;
        // In place: a large file has millions of them.
        let mut segments = self.segments;
        segments.retain_mut(|segment| {
            let Some((map, indexes)) = followed.get(segment.source as usize) else { return false };
            let own_name = segment.name.and_then(|name| own_names.get(name as usize));
            let Some(map) = map else {
                segment.name = own_name.map(|name| names.index(name));
                segment.source = indexes[0];
                return true;
            };
            let covering = map.segments.partition_point(|known| known.generated <= segment.original);
            let Some(known) = covering.checked_sub(1).map(|index| map.segments[index]) else { return false };
            if known.generated.line != segment.original.line {
                return false;
            }
            let Some(&source) = indexes.get(known.source as usize) else { return false };
            let name = known.name.and_then(|name| map.names.get(name as usize)).or(own_name);
            let name = name.map(|name| names.index(name));
            *segment = Segment { generated: segment.generated, source, original: known.original, name };
            true
        });
        Self { sources, segments, names: names.list }
    }
}

/// Names in the order of their first use.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) list: Vec<String>,
    index: HashMap<String, u32>,
}

impl Names {
    pub(crate) fn index(&mut self, name: &str) -> u32 {
        if let Some(&index) = self.index.get(name) {
            return index;
        }
        let index = self.list.len() as u32;
        self.list.push(name.to_owned());
        self.index.insert(name.to_owned(), index);
        index
    }
}

/// Finds the line and column of bytes of a text.
pub(crate) struct Lines {
    starts: Vec<usize>,
    /// After each character longer than a byte: its end, and the UTF-8 bytes so far that are no UTF-16 unit.
    surplus: Vec<(usize, usize)>,
}

impl Lines {
    pub(crate) fn of(text: &str) -> Self {
        let mut starts = vec![0];
        let mut surplus = Vec::new();
        let mut total = 0;
        for (at, character) in text.char_indices() {
            if character == '\n' {
                starts.push(at + 1);
            } else if character.len_utf8() > 1 {
                total += character.len_utf8() - character.len_utf16();
                surplus.push((at + character.len_utf8(), total));
            }
        }
        Self { starts, surplus }
    }

    pub(crate) fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|&start| start <= offset) - 1;
        let start = self.starts[line];
        let column = offset - start - (self.surplus_before(offset) - self.surplus_before(start));
        Place { line: line as u32, column: column as u32 }
    }

    fn surplus_before(&self, offset: usize) -> usize {
        match self.surplus.partition_point(|&(end, _)| end <= offset) {
            0 => 0,
            count => self.surplus[count - 1].1,
        }
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(segments: &[Segment]) -> String {
    let mut text = String::with_capacity(segments.len() * 6);
    let (mut line, mut column, mut first) = (0, 0, true);
    let (mut source, mut original, mut name) = (0, Place { line: 0, column: 0 }, 0);
    for segment in segments {
        while line < segment.generated.line {
            text.push(';');
            line += 1;
            (column, first) = (0, true);
        }
        if !first {
            text.push(',');
        }
        first = false;
        vlq(&mut text, segment.generated.column, column);
        vlq(&mut text, segment.source, source);
        vlq(&mut text, segment.original.line, original.line);
        vlq(&mut text, segment.original.column, original.column);
        if let Some(index) = segment.name {
            vlq(&mut text, index, name);
            name = index;
        }
        column = segment.generated.column;
        (source, original) = (segment.source, segment.original);
    }
    text
}

fn vlq(text: &mut String, value: u32, previous: u32) {
    let difference = i64::from(value) - i64::from(previous);
    let mut rest = (difference.unsigned_abs() << 1) | u64::from(difference < 0);
    loop {
        let digit = (rest & 31) as usize;
        rest >>= 5;
        text.push(DIGITS[if rest > 0 { digit | 32 } else { digit }] as char);
        if rest == 0 {
            return;
        }
    }
}

fn decode(mappings: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    let (mut source, mut source_line, mut source_column, mut name) = (0_i64, 0_i64, 0_i64, 0_i64);
    for (line, content) in mappings.split(';').enumerate() {
        let mut column = 0_i64;
        for segment in content.split(',').filter(|segment| !segment.is_empty()) {
            let fields = fields(segment);
            let [generated, source_index, original_line, original_column, rest @ ..] = fields.as_slice()
            else {
                continue;
            };
            column += generated;
            source += source_index;
            source_line += original_line;
            source_column += original_column;
            let named = rest.first().map(|index| {
                name += index;
                name as u32
            });
            segments.push(Segment {
                generated: Place { line: line as u32, column: column as u32 },
                source: source as u32,
                original: Place { line: source_line as u32, column: source_column as u32 },
                name: named,
            });
        }
    }
    segments
}

fn fields(segment: &str) -> Vec<i64> {
    let mut fields = Vec::with_capacity(5);
    let (mut value, mut shift) = (0_i64, 0);
    for byte in segment.bytes() {
        let Some(digit) = DIGITS.iter().position(|&known| known == byte) else { continue };
        value |= (digit as i64 & 31) << shift;
        if digit & 32 != 0 {
            shift = (shift + 5).min(55);
        } else {
            fields.push(if value & 1 == 1 { -(value >> 1) } else { value >> 1 });
            (value, shift) = (0, 0);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(generated: (u32, u32), original: (u32, u32), name: Option<u32>) -> Segment {
        let place = |(line, column)| Place { line, column };
        Segment { generated: place(generated), source: 0, original: place(original), name }
    }

    fn source(path: &str) -> Source {
        Source { path: path.into(), content: format!("text of {path}") }
    }

    #[test]
    fn writes_the_mappings_of_the_standard() {
        let segments =
            [segment((0, 0), (0, 0), None), segment((0, 4), (0, 9), Some(0)), segment((2, 16), (1, 0), None)];
        assert_eq!(encode(&segments), "AAAA,IAASA;;gBACT");
    }

    #[test]
    fn counts_utf_16_units() {
        let lines = Lines::of("aé\n𝒳b");
        assert_eq!(lines.place(3), Place { line: 0, column: 2 });
        assert_eq!(lines.place(4), Place { line: 1, column: 0 });
        assert_eq!(lines.place(8), Place { line: 1, column: 2 });
    }

    #[test]
    fn follows_a_place_through_two_maps() {
        let first = SourceMap {
            sources: vec![source("a.ts")],
            segments: vec![segment((0, 0), (0, 0), None), segment((3, 4), (7, 8), Some(0))],
            names: vec!["value".into()],
        };
        let second = SourceMap {
            sources: vec![source("a.js")],
            segments: vec![segment((0, 1), (3, 6), None), segment((0, 9), (2, 0), None)],
            names: Vec::new(),
        };
        let both = second.after(&[("a.js".to_owned(), first)].into());
        assert_eq!(both.segments, [segment((0, 1), (7, 8), Some(0))]);
        assert_eq!((both.sources, both.names), (vec![source("a.ts")], vec!["value".to_owned()]));
    }

    #[test]
    fn follows_places_in_several_sources() {
        let compiled = SourceMap {
            sources: vec![source("b.ts")],
            segments: vec![segment((0, 0), (9, 9), None)],
            names: Vec::new(),
        };
        let from = |source, segment| Segment { source, ..segment };
        let merged = SourceMap {
            sources: vec![source("a.js"), source("b.js")],
            segments: vec![
                segment((0, 0), (1, 2), Some(0)),
                from(1, segment((0, 5), (0, 3), None)),
                segment((1, 0), (4, 4), None),
            ],
            names: vec!["here".into()],
        };
        let once = merged.after(&[("b.js".to_owned(), compiled)].into());
        assert_eq!(once.sources, [source("a.js"), source("b.ts")]);
        let expected = [
            segment((0, 0), (1, 2), Some(0)),
            from(1, segment((0, 5), (9, 9), None)),
            segment((1, 0), (4, 4), None),
        ];
        assert_eq!(once.segments, expected);
        let json = once.to_json().expect("json");
        assert_eq!(SourceMap::from_json(&json).expect("map"), once);
        let minified = SourceMap {
            sources: vec![source("a.js")],
            segments: vec![segment((0, 0), (0, 6), None), segment((0, 1), (1, 0), None)],
            names: Vec::new(),
        };
        let twice = minified.after(&[("a.js".to_owned(), once)].into());
        let expected = [from(1, segment((0, 0), (9, 9), None)), segment((0, 1), (4, 4), None)];
        assert_eq!((twice.segments.as_slice(), twice.sources.len()), (expected.as_slice(), 2));
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(mut places in proptest::collection::vec(
            ((0_u32..40, 0_u32..100_000), (0_u32..100_000, 0_u32..100_000), proptest::option::of(0_u32..500), 0_u32..9), 0..60))
        {
            places.sort();
            let segments: Vec<_> = places
                .into_iter()
                .map(|(at, from, name, source)| Segment { source, ..segment(at, from, name) })
                .collect();
            prop_assert_eq!(decode(&encode(&segments)), segments);
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            decode(&text);
        }
    }
}
