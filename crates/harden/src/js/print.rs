//! Prints a program, and the map from its source to the print.

use rustc_hash::FxHashMap;
use swc_core::{
    common::{BytePos, LineCol, SourceFile},
    ecma::{
        ast::{EsVersion, Ident, Program},
        atoms::Atom,
        codegen::{
            Config, Emitter,
            text_writer::{JsWriter, WriteJs, omit_trailing_semi},
        },
        visit::{Visit, VisitWith},
    },
};

use super::Session;
use crate::{
    HardenError,
    source_map::{Lines, Names, Place, Segment, Source, SourceMap},
};

/// A printed program.
pub(crate) struct Printed {
    pub(crate) code: String,
    /// From the text that was parsed to `code`.
    pub(crate) map: SourceMap,
}

/// The names that stand in a source, by their place. Taken before they are shortened.
///
/// Millions of places name thousands of things, so a place holds the number of its name.
#[derive(Default)]
pub(crate) struct OriginalNames {
    /// In the order of the places.
    places: Vec<(BytePos, u32)>,
    names: Vec<Atom>,
    numbers: FxHashMap<Atom, u32>,
}

impl OriginalNames {
    pub(crate) fn of(program: &Program) -> Self {
        let mut names = Self::default();
        names.add(program);
        names
    }

    /// Takes in the names of another program of the same session.
    pub(crate) fn add(&mut self, program: &Program) {
        program.visit_with(self);
        self.places.sort_unstable();
        self.places.dedup_by_key(|(place, _)| *place);
    }

    fn at(&self, place: BytePos) -> Option<&str> {
        let index = self.places.binary_search_by_key(&place, |(known, _)| *known).ok()?;
        self.names.get(self.places[index].1 as usize).map(Atom::as_str)
    }
}

impl Visit for OriginalNames {
    fn visit_ident(&mut self, ident: &Ident) {
        if ident.span.is_dummy() {
            return;
        }
        let number = *self.numbers.entry(ident.sym.clone()).or_insert_with(|| {
            self.names.push(ident.sym.clone());
            self.names.len() as u32 - 1
        });
        self.places.push((ident.span.lo, number));
    }
}

/// What is printed round a program.
#[derive(Default)]
pub(crate) struct Around {
    /// Whole lines that stand first, but for a hashbang.
    pub(crate) header: String,
    /// A statement that stands last.
    pub(crate) footer: String,
}

/// Prints `program`; `compact` without what only people read.
pub(crate) fn print(
    session: &Session,
    program: Program,
    names: &OriginalNames,
    compact: bool,
    around: &Around,
) -> Result<Printed, HardenError> {
    let fail = |reason: String| HardenError::Compiler { step: "print", path: session.path.clone(), reason };
    let mut bytes = Vec::new();
    let mut positions: Vec<(BytePos, LineCol)> = Vec::new();
    {
        let writer = JsWriter::new(session.map.clone(), "\n", &mut bytes, Some(&mut positions));
        let writer: Box<dyn WriteJs> =
            if compact { Box::new(omit_trailing_semi(writer)) } else { Box::new(writer) };
        // The text of a template stays as it is: `String.raw` sees how a line break was written.
        let config = Config::default()
            .with_minify(compact)
            .with_omit_last_semi(compact)
            .with_target(EsVersion::latest())
            .with_reduce_escaped_newline(false);
        let mut emitter =
            Emitter { cfg: config, cm: session.map.clone(), comments: Some(&session.comments), wr: writer };
        emitter.emit_program(&program).map_err(|error| fail(error.to_string()))?;
    }
    // The syntax takes more memory than anything else here, and the map needs some of its own.
    drop(program);
    let mut code = String::from_utf8(bytes).map_err(|error| fail(error.to_string()))?;
    let mut shift = 0;
    let hashbang = if code.starts_with("#!") { code.find('\n').map_or(code.len(), |end| end + 1) } else { 0 };
    if !around.header.is_empty() {
        code.insert_str(hashbang, &around.header);
        shift = around.header.matches('\n').count() as u32;
    }
    if !around.footer.is_empty() {
        code.push('\n');
        code.push_str(&around.footer);
    }
    let first = u32::from(hashbang > 0);
    let map = build(session, names, &positions, |line| if line >= first { line + shift } else { line });
    Ok(Printed { code, map })
}

fn build(
    session: &Session,
    original_names: &OriginalNames,
    positions: &[(BytePos, LineCol)],
    moved: impl Fn(u32) -> u32,
) -> SourceMap {
    let files = session.files();
    let mut lines: Vec<Option<Lines>> = files.iter().map(|_| None).collect();
    let mut names = Names::default();
    let mut segments: Vec<Segment> = Vec::with_capacity(positions.len());
    for &(position, at) in positions {
        // A position outside the files belongs to what the compiler made up.
        let within = |file: &SourceFile| file.start_pos <= position && position <= file.end_pos;
        let Some(source) = files.iter().position(|(_, file)| within(file)) else { continue };
        let file = &files[source].1;
        let lines = lines[source].get_or_insert_with(|| Lines::of(&file.src));
        let original = lines.place((position.0 - file.start_pos.0) as usize);
        let generated = Place { line: moved(at.line), column: at.col };
        let name = original_names.at(position).map(|name| names.index(name));
        let segment = Segment { generated, source: source as u32, original, name };
        match segments.last_mut() {
            // What starts here and holds the rest may come from elsewhere: the innermost is what runs.
            Some(last) if last.generated == generated => *last = segment,
            _ => segments.push(segment),
        }
    }
    let sources =
        files.iter().map(|(path, file)| Source { path: path.clone(), content: file.src.to_string() });
    SourceMap { sources: sources.collect(), segments, names: names.list }
}
