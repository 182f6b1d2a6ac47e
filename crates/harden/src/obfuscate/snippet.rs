//! Pieces of JavaScript that are put into a program: written as text, so that they can be read here.

use std::collections::BTreeMap;

use swc_core::{
    common::{DUMMY_SP, FileName, Mark, Span, SyntaxContext},
    ecma::{
        ast::{EsVersion, Expr, Ident, Stmt},
        parser::{Syntax, parse_file_as_commonjs},
        visit::{VisitMut, VisitMutWith},
    },
};

use crate::{HardenError, js::Session};

/// What the names of a snippet stand for.
#[derive(Default)]
pub(crate) struct Fill {
    names: BTreeMap<&'static str, Ident>,
    values: BTreeMap<&'static str, Box<Expr>>,
}

impl Fill {
    /// `name` is this variable of the program.
    pub(crate) fn name(mut self, name: &'static str, ident: &Ident) -> Self {
        self.names.insert(name, ident.clone());
        self
    }

    /// `name` stands where this value goes.
    pub(crate) fn value(mut self, name: &'static str, value: impl Into<Box<Expr>>) -> Self {
        self.values.insert(name, value.into());
        self
    }
}

/// Parses `text`. Names that `fill` does not know are the snippet's own: none is seen outside it, and it sees none.
pub(crate) fn snippet(session: &Session, text: &str, fill: Fill) -> Result<Vec<Stmt>, HardenError> {
    let file = session.map.new_source_file(FileName::Internal("snippet".into()).into(), text.to_owned());
    let failed =
        |reason: String| HardenError::Compiler { step: "obfuscate", path: session.path.clone(), reason };
    let mut errors = Vec::new();
    let parsed =
        parse_file_as_commonjs(&file, Syntax::Es(Default::default()), EsVersion::latest(), None, &mut errors);
    let mut script = parsed.map_err(|error| failed(format!("{error:?} in {text}")))?;
    if let Some(error) = errors.first() {
        return Err(failed(format!("{error:?} in {text}")));
    }
    let own = SyntaxContext::empty().apply_mark(Mark::new());
    script.visit_mut_with(&mut Filler { fill, own });
    Ok(script.body)
}

struct Filler {
    fill: Fill,
    own: SyntaxContext,
}

impl VisitMut for Filler {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        if let Expr::Ident(name) = node
            && let Some(value) = self.fill.values.get(name.sym.as_str())
        {
            *node = (**value).clone();
            return;
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_ident(&mut self, node: &mut Ident) {
        match self.fill.names.get(node.sym.as_str()) {
            Some(name) => *node = name.clone(),
            None => {
                node.ctxt = self.own;
                // No name that an author could ask to keep.
                node.sym = format!("\u{1}{}", node.sym).into();
            }
        }
        node.span = DUMMY_SP;
    }

    /// Nothing of a snippet has a place in the source.
    fn visit_mut_span(&mut self, node: &mut Span) {
        *node = DUMMY_SP;
    }
}
