//! Gives short names to what only the file itself can see.

use std::collections::{BTreeSet, HashMap, HashSet};

use swc_core::{
    common::SyntaxContext,
    ecma::{
        ast::*,
        atoms::Atom,
        transforms::base::{
            hygiene::Config,
            rename::{Renamer, renamer},
        },
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use super::Session;

/// What keeps its name.
pub(crate) struct Kept {
    /// Whether the names that the top level declares are seen by others.
    pub(crate) top_level: bool,
    /// Whether `#names` stay, which a private method has as its `name`.
    pub(crate) private_names: bool,
    /// Names that are kept wherever they stand.
    pub(crate) names: BTreeSet<String>,
}

/// Shortens the names of a program whose names are resolved.
pub(crate) fn shorten(session: &Session, program: &mut Program, kept: &Kept) {
    super::passes::split_exported_patterns(program);
    let top_level = SyntaxContext::empty().apply_mark(session.top_level);
    let mut keeper = Keeper { kept, top_level, ids: HashSet::new() };
    program.visit_with(&mut keeper);
    let short = Short { taken: keeper.ids.iter().map(|(name, _)| name.clone()).collect(), kept: keeper.ids };
    let config = Config { keep_class_names: false, top_level_mark: session.top_level, ignore_eval: false };
    program.mutate(renamer(config, short));
    program.visit_mut_with(&mut Inner { keep_private: kept.private_names, ..Inner::default() });
}

/// Finds the names that stay.
struct Keeper<'a> {
    kept: &'a Kept,
    top_level: SyntaxContext,
    ids: HashSet<Id>,
}

impl Visit for Keeper<'_> {
    fn visit_ident(&mut self, node: &Ident) {
        if self.kept.top_level && node.ctxt == self.top_level || self.kept.names.contains(node.sym.as_str()) {
            self.ids.insert(node.to_id());
        }
    }

    fn visit_export_decl(&mut self, node: &ExportDecl) {
        match &node.decl {
            Decl::Class(class) => drop(self.ids.insert(class.ident.to_id())),
            Decl::Fn(function) => drop(self.ids.insert(function.ident.to_id())),
            Decl::Var(variables) => {
                let mut bound = Bound { ids: &mut self.ids };
                variables.decls.iter().for_each(|declarator| declarator.name.visit_with(&mut bound));
            }
            _ => {}
        }
        node.visit_children_with(self);
    }
}

/// Collects the names that a pattern declares.
struct Bound<'a> {
    ids: &'a mut HashSet<Id>,
}

impl Visit for Bound<'_> {
    fn visit_binding_ident(&mut self, node: &BindingIdent) {
        self.ids.insert(node.to_id());
    }

    // What a computed key or a default value names is not declared there.
    fn visit_expr(&mut self, _: &Expr) {}
}

struct Short {
    kept: HashSet<Id>,
    taken: Vec<Atom>,
}

impl Renamer for Short {
    type Target = Atom;

    const MANGLE: bool = true;
    const RESET_N: bool = false;

    fn new_name_for(&self, _: &Id, n: &mut usize) -> Atom {
        short_name(n)
    }

    fn unresolved_symbols(&self) -> Vec<Atom> {
        self.taken.clone()
    }

    fn preserve_name(&self, id: &Id) -> bool {
        self.kept.contains(id)
    }
}

/// First characters of a name, those first that JavaScript's words and common names make frequent anyway.
const FIRST: &[u8; 54] = b"etnriaoscludfpmhg_vybxSCwTEDOkAjMNPFILRzBVHUWGKqJYXZQ$";
/// Further characters.
const REST: &[u8; 64] = b"etnriaoscludfpmhg_vybxSCwTEDOkAjMNPFILRzBVHUWGKqJYXZQ$0123456789";

/// Words that are no names in some place.
const WORDS: &[&str] = &[
    "arguments",
    "as",
    "async",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "eval",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "from",
    "function",
    "get",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "let",
    "new",
    "null",
    "of",
    "package",
    "private",
    "protected",
    "public",
    "return",
    "set",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "undefined",
    "using",
    "var",
    "void",
    "while",
    "with",
    "yield",
];

/// Returns the `n`th short name and counts on.
fn short_name(n: &mut usize) -> Atom {
    loop {
        let mut rest = *n;
        *n += 1;
        let mut name = String::from(FIRST[rest % FIRST.len()] as char);
        rest /= FIRST.len();
        while rest > 0 {
            rest -= 1;
            name.push(REST[rest % REST.len()] as char);
            rest /= REST.len();
        }
        if !WORDS.contains(&name.as_str()) {
            return name.into();
        }
    }
}

/// Renames labels and private names. Neither is seen outside the file; equal names stay equal and different
/// ones different, which is all that they mean.
#[derive(Default)]
struct Inner {
    keep_private: bool,
    labels: HashMap<Atom, Atom>,
    next_label: usize,
    private: HashMap<Atom, Atom>,
    next_private: usize,
}

impl Inner {
    fn label(&mut self, label: &mut Ident) {
        let next = &mut self.next_label;
        label.sym = self.labels.entry(label.sym.clone()).or_insert_with(|| short_name(next)).clone();
    }
}

impl VisitMut for Inner {
    fn visit_mut_private_name(&mut self, node: &mut PrivateName) {
        if self.keep_private {
            return;
        }
        let next = &mut self.next_private;
        node.name = self.private.entry(node.name.clone()).or_insert_with(|| short_name(next)).clone();
    }

    fn visit_mut_labeled_stmt(&mut self, node: &mut LabeledStmt) {
        self.label(&mut node.label);
        node.body.visit_mut_with(self);
    }

    fn visit_mut_break_stmt(&mut self, node: &mut BreakStmt) {
        node.label.iter_mut().for_each(|label| self.label(label));
    }

    fn visit_mut_continue_stmt(&mut self, node: &mut ContinueStmt) {
        node.label.iter_mut().for_each(|label| self.label(label));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{WORDS, short_name};

    #[test]
    fn names_are_different_and_valid() {
        let mut n = 0;
        let mut seen = HashSet::new();
        for _ in 0..20_000 {
            let name = short_name(&mut n);
            assert!(!name.starts_with(|first: char| first.is_ascii_digit()), "{name}");
            assert!(!WORDS.contains(&name.as_str()), "{name}");
            assert!(seen.insert(name));
        }
        assert_eq!(seen.iter().filter(|name| name.len() == 1).count(), 54);
    }
}
