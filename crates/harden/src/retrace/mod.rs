//! Reads stack traces of hardened packages with their escrow: original files, lines, columns and names.
//!
//! It reads source maps as anybody's would be read, with as many sources each as there are, and depends on nothing of
//! how this build makes them.

mod escrow;
mod function;
mod path;
mod stack;

use std::collections::HashMap;

use protected_model::digest::Sha256;

pub use escrow::{Escrow, EscrowError};
pub use stack::Engine;

use self::{
    escrow::{Map, Original},
    function::Functions,
    path::FramePath,
    stack::{Frame, frame},
};

/// A delivered file at hand: the map is chosen by its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its path, whose end is that of a trace's path.
    pub path: String,
    /// Its digest.
    pub sha256: Sha256,
}

/// A line of a trace, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// No frame: as it was.
    Text(String),
    /// A frame.
    Frame(Box<TracedFrame>),
}

/// A frame of a trace, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedFrame {
    /// The line as it was.
    pub text: String,
    /// Who wrote it.
    pub engine: Engine,
    /// The function as the trace has it.
    pub function: Option<String>,
    /// The place as the trace has it.
    pub place: Option<WrittenPlace>,
    /// Where it comes from, or why that is not known.
    pub outcome: Result<Source, String>,
    frame: Frame,
}

/// A place as a trace has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenPlace {
    /// Path or URL.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: Option<u32>,
}

/// Where a frame comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Package and version, such as `@acme/core@1.0.0`.
    pub package: String,
    /// The original file, in the package.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// From 1, in UTF-16 units.
    pub column: u32,
    /// What is known of the function around.
    pub function: Function,
    /// That line of the original.
    pub text: Option<String>,
    /// How sure it is that the frame belongs to the file.
    pub certainty: Certainty,
}

/// The function that a frame is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Function {
    /// It has this name.
    Named {
        /// The original name, a method's after its class.
        name: String,
        /// Whether it is a constructor.
        is_constructor: bool,
    },
    /// It has no name.
    Anonymous,
    /// It is the module itself.
    Module,
    /// The original could not be read.
    Unknown,
}

/// How a frame's file was found among the escrow's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// By the digest of the delivered file.
    Digest,
    /// By package and path.
    Path,
    /// By the whole of its path in the package, without a package's name before it.
    PathEnd,
    /// By the end of that path alone.
    PartOfPath,
}

impl Certainty {
    /// Returns the word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Path => "path",
            Self::PathEnd => "path-end",
            Self::PartOfPath => "part-of-path",
        }
    }
}

/// A file of an escrow, by escrow and map.
type Place = (usize, usize);

/// Reads traces with what the escrow knows.
pub struct Retracer {
    escrows: Vec<Escrow>,
    delivered: Vec<Delivered>,
    maps: HashMap<Place, Map>,
    functions: HashMap<(usize, usize, u32), Option<Functions>>,
}

impl Retracer {
    /// Takes the escrows to look into, and delivered files if there are any.
    pub fn new(escrows: Vec<Escrow>, delivered: Vec<Delivered>) -> Self {
        Self { escrows, delivered, maps: HashMap::new(), functions: HashMap::new() }
    }

    /// Reads a text that holds traces.
    ///
    /// # Errors
    /// When an escrow is broken: a place read from it could be wrong.
    pub fn read(&mut self, text: &str) -> Result<Vec<Line>, EscrowError> {
        let lines: Vec<(&str, Option<Frame>)> = text.lines().map(|line| (line, frame(line))).collect();
        // Where one frame says which package it is of, a file at the customer's that happens to be called like one
        // of ours is not taken for it.
        let named = lines.iter().any(|(line, frame)| {
            let place = frame.as_ref().and_then(|frame| frame.place.as_ref());
            let path = place.map(|place| FramePath::of(&line[place.file.clone()]));
            path.and_then(|path| path.package).is_some_and(|package| self.knows(&package.name))
        });
        let traced = lines.into_iter().map(|(line, frame)| match frame {
            None => Ok(Line::Text(line.to_owned())),
            Some(frame) => self.trace(line, frame, named).map(|frame| Line::Frame(Box::new(frame))),
        });
        traced.collect()
    }

    fn knows(&self, package: &str) -> bool {
        self.escrows.iter().any(|escrow| escrow.package_name() == package)
    }

    fn trace(&mut self, line: &str, frame: Frame, named: bool) -> Result<TracedFrame, EscrowError> {
        let place = frame.place.as_ref().map(|place| WrittenPlace {
            file: line[place.file.clone()].to_owned(),
            line: place.line,
            column: place.column,
        });
        let function = Some(line[frame.function.clone()].to_owned()).filter(|name| !name.is_empty());
        let outcome = match &place {
            None => Err("part of the engine".to_owned()),
            Some(place) if is_engine(&place.file) => Err("part of the engine".to_owned()),
            Some(place) => match self.file(&FramePath::of(&place.file), named) {
                Ok((file, certainty)) => self.source(file, certainty, place)?,
                Err(reason) => Err(reason),
            },
        };
        Ok(TracedFrame { text: line.to_owned(), engine: frame.engine, function, place, outcome, frame })
    }

    /// Chooses the file that a trace's path means.
    fn file(&self, path: &FramePath, named: bool) -> Result<(Place, Certainty), String> {
        if let Some(found) = self.by_digest(path) {
            return found.map(|file| (file, Certainty::Digest));
        }
        if let (Some(package), Some(inside)) = (&path.package, path.inside()) {
            if !self.knows(&package.name) {
                return Err(format!("no escrow of {}", package.name));
            }
            let of_version: Vec<usize> = (0..self.escrows.len())
                .filter(|&at| self.escrows[at].package_name() == package.name)
                .filter(|&at| {
                    package.version.as_ref().is_none_or(|version| *version == self.escrows[at].version())
                })
                .collect();
            if of_version.is_empty() {
                let version = package.version.as_deref().unwrap_or_default();
                return Err(format!("no escrow of {}@{version}", package.name));
            }
            let files = of_version
                .into_iter()
                .filter_map(|escrow| Some((escrow, self.escrows[escrow].find(&inside)?)));
            let missing = || format!("`{inside}` is no hardened file of {}", package.name);
            return self.only(files.collect(), missing).map(|file| (file, Certainty::Path));
        }
        let scored: Vec<((usize, usize), Place)> = self
            .outputs()
            .filter_map(|(escrow, map, output)| {
                let common = path.common_end(output);
                let whole = common == output.split('/').count();
                let enough = common > 0 && (!named || whole && common > 1);
                // A whole path counts more than the longer end of another.
                enough.then_some(((if whole { common } else { 0 }, common), (escrow, map)))
            })
            .collect();
        let best = scored.iter().map(|(score, _)| *score).max().unwrap_or_default();
        let files = scored.into_iter().filter(|(score, _)| *score == best).map(|(_, file)| file).collect();
        let file = self.only(files, || "no file of that name in the escrow".to_owned())?;
        Ok((file, if best.0 > 0 { Certainty::PathEnd } else { Certainty::PartOfPath }))
    }

    fn by_digest(&self, path: &FramePath) -> Option<Result<Place, String>> {
        let common = |delivered: &Delivered| path.common_end(&FramePath::of(&delivered.path).parts.join("/"));
        let longest = self.delivered.iter().map(common).max().filter(|&common| common > 0)?;
        let meant: Vec<&Delivered> =
            self.delivered.iter().filter(|delivered| common(delivered) == longest).collect();
        let files: Vec<Place> = self
            .escrows
            .iter()
            .enumerate()
            .flat_map(|(at, escrow)| {
                let of = |delivered: &&Delivered| escrow.with_digest(&delivered.sha256);
                meant.iter().filter_map(of).map(move |map| (at, map)).collect::<Vec<_>>()
            })
            .collect();
        let missing = || format!("the escrow knows no file with the content of `{}`", meant[0].path);
        Some(self.only(files, missing))
    }

    fn outputs(&self) -> impl Iterator<Item = (usize, usize, &str)> {
        self.escrows
            .iter()
            .enumerate()
            .flat_map(|(at, escrow)| escrow.outputs().enumerate().map(move |(map, output)| (at, map, output)))
    }

    /// Takes the only file, or one of several that are the same.
    fn only(&self, mut files: Vec<Place>, missing: impl FnOnce() -> String) -> Result<Place, String> {
        files.sort_unstable();
        files.dedup();
        let Some(&first) = files.first() else { return Err(missing()) };
        let identity = |&(escrow, map): &Place| self.escrows[escrow].identity(map);
        if files.iter().all(|file| identity(file) == identity(&first)) {
            return Ok(first);
        }
        let mut names: Vec<String> = files
            .iter()
            .map(|&(escrow, map)| {
                let escrow = &self.escrows[escrow];
                format!("{}@{}/{}", escrow.package_name(), escrow.version(), escrow.output(map))
            })
            .collect();
        names.sort();
        names.dedup();
        Err(format!("ambiguous: {}", names.join(" or ")))
    }

    fn source(
        &mut self,
        file: Place,
        certainty: Certainty,
        place: &WrittenPlace,
    ) -> Result<Result<Source, String>, EscrowError> {
        let escrow = &self.escrows[file.0];
        let map = match self.maps.entry(file) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(escrow.map(file.1)?),
        };
        let original = match place.column {
            Some(column) => map.original(place.line, column),
            None => map.original_of_line(place.line),
        };
        let Some(Original { source, path, line, column }) = original else {
            let column = place.column.map_or_else(String::new, |column| format!(":{column}"));
            return Ok(Err(format!(
                "nothing of the source of {}@{} is at {}{column}",
                escrow.package_name(),
                escrow.version(),
                place.line,
            )));
        };
        let content = map.content(source);
        let functions =
            self.functions.entry((file.0, file.1, source)).or_insert_with(|| Functions::of(&path, content?));
        let at = crate::source_map::Place { line, column };
        let function = match functions.as_ref().map(|functions| functions.around(at)) {
            None => Function::Unknown,
            Some(None) => Function::Module,
            Some(Some(named)) => match &named.name {
                Some(name) => Function::Named { name: name.clone(), is_constructor: named.is_constructor },
                None => Function::Anonymous,
            },
        };
        let text = content.and_then(|content| content.lines().nth(line as usize)).map(str::to_owned);
        Ok(Ok(Source {
            package: format!("{}@{}", escrow.package_name(), escrow.version()),
            path,
            line: line + 1,
            column: column + 1,
            function,
            text,
            certainty,
        }))
    }
}

fn is_engine(file: &str) -> bool {
    ["node:", "internal/", "ext:", "chrome-extension:", "bun:"].iter().any(|start| file.starts_with(start))
}

impl TracedFrame {
    /// Writes the frame as its engine would have written it for the original, or as it was with a note why not.
    ///
    /// `with_package` puts package and version before the file.
    pub fn to_text(&self, with_package: bool) -> String {
        let source = match &self.outcome {
            Ok(source) => source,
            Err(reason) => return format!("{}  [not mapped: {reason}]", self.text.trim_end()),
        };
        let Some(place) = &self.frame.place else { return self.text.clone() };
        let package = if with_package { format!("{}/", source.package) } else { String::new() };
        let at = format!("{package}{}:{}:{}", source.path, source.line, source.column);
        let name = self.name(source);
        let written = &self.text[self.frame.function.clone()];
        let mut text = self.text[..self.frame.function.start].to_owned();
        if self.frame.engine == Engine::V8 && !self.frame.in_eval {
            match &name {
                // `at file:line:column`, for a place in no function and in one without a name.
                None => {
                    if self.frame.is_new {
                        text.truncate(text.len() - "new ".len());
                    }
                    text.push_str(&at);
                }
                Some(name) => text.push_str(&format!("{name} ({at})")),
            }
            let after = if written.is_empty() { place.whole.end } else { place.whole.end + 1 };
            text.push_str(self.text.get(after..).unwrap_or_default());
        } else {
            let anonymous = if self.frame.engine == Engine::V8 { "<anonymous>" } else { "" };
            text.push_str(name.as_deref().unwrap_or(anonymous));
            text.push_str(&self.text[self.frame.function.end..place.whole.start]);
            text.push_str(&at);
            text.push_str(&self.text[place.whole.end..]);
        }
        if source.certainty == Certainty::PartOfPath {
            text.push_str("  [taken for it by the end of its path alone]");
        }
        text
    }

    /// Returns the name to write for the function.
    fn name(&self, source: &Source) -> Option<String> {
        let written = &self.text[self.frame.function.clone()];
        match &source.function {
            Function::Named { name, is_constructor } => {
                let new = *is_constructor && self.frame.engine == Engine::V8 && !self.frame.is_new;
                Some(if new { format!("new {name}") } else { name.clone() })
            }
            // What engines write for a module's own code is no name of ours.
            Function::Module | Function::Anonymous
                if ["Object.<anonymous>", "global code", "module code"].contains(&written) =>
            {
                Some(written.to_owned())
            }
            Function::Module | Function::Anonymous => None,
            Function::Unknown => Some(written.to_owned()).filter(|name| !name.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests;
