//! Merging: which modules become one file, and that file's text.
//!
//! A merge that could change what runs when, which object is which, or what can be seen from outside is not made.
//! What is not merged is told with its reason.

pub(crate) mod cjs;
pub(crate) mod entries;
pub(crate) mod es;
pub(crate) mod graph;
pub(crate) mod plan;
mod purity;
pub(crate) mod record;
pub(crate) mod resolve;

use std::collections::BTreeMap;

use swc_core::{
    common::{BytePos, SyntaxContext},
    ecma::{ast::Program, transforms::base::resolver},
};

use self::{
    graph::{Found, Graph, Lead, Module},
    plan::Plan,
    record::{Export, How, Kind, Name, Record},
};
use crate::{
    HardenError,
    format::PackageTypes,
    js::{
        Language, Session, comments, diagnose,
        print::{Around, OriginalNames, print},
        session,
    },
    tree::{Rewritten, Tree},
};

/// The step's name.
pub(crate) const STEP: &str = "bundle";

/// What the files are written from.
pub(crate) struct Merge<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) types: &'a PackageTypes,
    pub(crate) graph: &'a Graph,
    pub(crate) plan: &'a Plan,
    /// Whether functions and classes keep their `name`.
    pub(crate) keep_names: bool,
}

impl Merge<'_> {
    fn text(&self, path: &str) -> Result<String, HardenError> {
        self.tree.read_text(path)
    }

    fn unresolved(&self, session: &Session) -> SyntaxContext {
        SyntaxContext::empty().apply_mark(session.unresolved)
    }
}

/// What a file has of all its modules: their names as they were, for its map, and their licence comments.
#[derive(Default)]
struct Head {
    names: OriginalNames,
    legal: Vec<String>,
}

impl Head {
    /// Parses one of the modules in the file's session and resolves its names.
    fn open(
        &mut self,
        merge: &Merge<'_>,
        session: &Session,
        path: &str,
        text: &str,
    ) -> Result<(Session, Program), HardenError> {
        let part = session.part(path, text)?;
        let mut program = part.parse(Language::JavaScript, merge.types.goal(path))?;
        self.names.add(&program);
        for comment in comments::legal(&part.comments) {
            if !self.legal.contains(&comment) {
                self.legal.push(comment);
            }
        }
        comments::keep_magic(&part.comments);
        session.take_comments(&part);
        program.mutate(resolver(session.unresolved, part.top_level, false));
        Ok((part, program))
    }

    fn print(
        self,
        session: &Session,
        program: Program,
        path: &str,
        footer: String,
    ) -> Result<Rewritten, HardenError> {
        let header = self.legal.into_iter().map(|comment| comment + "\n").collect();
        let printed = print(session, program, &self.names, false, &Around { header, footer })?;
        Ok(Rewritten { path: path.to_owned(), code: printed.code, map: Some(printed.map) })
    }
}

/// Reads the module at `path`.
pub(crate) fn read(tree: &Tree, types: &PackageTypes, path: &str) -> Result<Record, HardenError> {
    let text = tree.read_text(path)?;
    if path.ends_with(".json") {
        return Ok(Record::json(&text));
    }
    session(STEP, path, &text, |session| {
        let mut program = session.parse(Language::JavaScript, types.goal(path))?;
        program.mutate(resolver(session.unresolved, session.top_level, false));
        Ok(Record::of(session, &program))
    })
}

/// Refuses what Node would refuse when it links the modules.
pub(crate) fn check(tree: &Tree, graph: &Graph) -> Result<(), HardenError> {
    for module in &graph.modules {
        let frame = |at: BytePos, message: String| -> Result<(), HardenError> {
            let offset = at.0.saturating_sub(module.record.start.0) as usize;
            let text = tree.read_text(&module.path)?;
            Err(HardenError::Unresolved(diagnose::frame(&module.path, &text, offset, message)))
        };
        for (load, lead) in module.record.loads.iter().zip(&module.leads) {
            let is_needed = matches!(load.how, How::Static | How::Require { optional: false });
            if *lead == Lead::Nothing && is_needed {
                frame(load.at, format!("`{}` leads to no file of the package", load.specifier))?;
            }
        }
    }
    for (index, module) in graph.modules.iter().enumerate() {
        let frame = |at: BytePos, load: usize, name: &str, found: &Found| -> Result<(), HardenError> {
            let offset = at.0.saturating_sub(module.record.start.0) as usize;
            let text = tree.read_text(&module.path)?;
            let specifier = &module.record.loads[load].specifier;
            let message = match found {
                Found::Ambiguous => format!("`{specifier}` exports `{name}` more than once"),
                _ => format!("`{specifier}` does not export `{name}`"),
            };
            Err(HardenError::Unresolved(diagnose::frame(&module.path, &text, offset, message)))
        };
        for (local, import) in &module.record.imports {
            let found = graph.imported_name(index, local, None);
            if let (Some(found @ (Found::Missing | Found::Ambiguous)), Name::One(name)) =
                (found, &import.name)
            {
                frame(import.at, import.load, name, &found)?;
            }
        }
        for (exported, export) in &module.record.exports {
            if let Export::From { load, name: Name::One(name), at } = export {
                let found = graph.own_export(index, exported, None, &mut Default::default());
                if matches!(found, Found::Missing | Found::Ambiguous) {
                    frame(*at, *load, name, &found)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether a file is as good as it is: nothing is merged with it, left out of it, or moved away from it.
pub(crate) fn stays(graph: &Graph, plan: &Plan, chunk: usize) -> bool {
    let plan_chunk = &plan.chunks[chunk];
    let ([member], true) = (plan_chunk.members.as_slice(), plan_chunk.host.is_some()) else { return false };
    let Module { record, leads, .. } = &graph.modules[*member];
    let is_file = |target: usize| graph.is_file(target);
    leads.iter().all(|lead| match lead {
        Lead::Module(target) => is_file(*target),
        _ => true,
    }) && plan.live[*member]
        .iter()
        .zip(&record.statements)
        .all(|(live, statement)| *live || statement.declares.is_empty())
}

/// The members of each file that is made of several, for messages.
pub(crate) fn kept_apart(graph: &Graph) -> BTreeMap<String, String> {
    graph
        .files
        .iter()
        .filter(|(module, _)| graph.modules[**module].record.kind != Kind::Json)
        .filter_map(|(module, why)| Some((graph.modules[*module].path.clone(), why.clone()?)))
        .collect()
}
