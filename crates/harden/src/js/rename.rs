//! Gives short names to what only the file itself can see.

mod classes;
mod scopes;

use std::collections::{BTreeSet, HashMap, HashSet};

use swc_core::{
    common::SyntaxContext,
    ecma::{
        ast::*,
        atoms::Atom,
        transforms::base::rename::rename,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use super::Session;
use crate::obfuscate::Random;

/// What keeps its name, and what the others get.
#[derive(Default)]
pub(crate) struct Kept {
    /// Whether the names that the top level declares are seen by others.
    pub(crate) top_level: bool,
    /// Whether `#names` stay, which a private method has as its `name`.
    pub(crate) private_names: bool,
    /// Names that are kept wherever they stand.
    pub(crate) names: BTreeSet<String>,
    pub(crate) generator: Generator,
}

/// Shortens the names of a program whose names are resolved.
pub(crate) fn shorten(session: &Session, program: &mut Program, kept: &Kept) {
    super::passes::split_exported_patterns(program);
    let top_level = SyntaxContext::empty().apply_mark(session.top_level);
    let shared = kept.top_level.then_some(top_level);
    let freed = classes::free(program, &kept.names, shared);
    let mut keeper = Keeper { kept, top_level, freed, ids: HashSet::new() };
    program.visit_with(&mut keeper);
    let names = scopes::assign(program, &keeper.ids, &kept.generator);
    program.mutate(rename(&names));
    let generator = kept.generator.clone();
    program.visit_mut_with(&mut Inner { keep_private: kept.private_names, generator, ..Inner::default() });
}

/// Finds the names that stay.
struct Keeper<'a> {
    kept: &'a Kept,
    top_level: SyntaxContext,
    /// Names that only stand for what has a name of its own.
    freed: HashSet<Id>,
    ids: HashSet<Id>,
}

impl Visit for Keeper<'_> {
    fn visit_ident(&mut self, node: &Ident) {
        let shared = self.kept.top_level && node.ctxt == self.top_level;
        if shared || self.kept.names.contains(node.sym.as_str()) && !self.freed.contains(&node.to_id()) {
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

/// First characters of a name, those first that JavaScript's words and common names make frequent anyway.
const FIRST: &[u8; 54] = b"etnriaoscludfpmhg_vybxSCwTEDOkAjMNPFILRzBVHUWGKqJYXZQ$";
/// Further characters.
const REST: &[u8; 64] = b"etnriaoscludfpmhg_vybxSCwTEDOkAjMNPFILRzBVHUWGKqJYXZQ$0123456789";
/// Characters that a reader takes for one another.
const ALIKE: &[u8; 28] = b"lIOoSsZzUuVvCcXxWwKkPp_$0125";
/// How many of them no number begins with.
const ALIKE_LETTERS: usize = 24;

/// Which names there are and in which order they are given, short ones first.
#[derive(Clone)]
pub(crate) struct Generator {
    /// The names of one character.
    single: Vec<u8>,
    /// How longer names begin, and how they go on.
    first: Vec<u8>,
    rest: Vec<u8>,
}

impl Default for Generator {
    /// The one whose names take fewest bytes once they are compressed.
    fn default() -> Self {
        Self { single: FIRST.to_vec(), first: FIRST.to_vec(), rest: REST.to_vec() }
    }
}

impl Generator {
    /// Returns one of several: any letters, letters that look alike, or marks and capitals first.
    pub(crate) fn any(random: &mut Random) -> Self {
        let (first, rest) = match random.below(3) {
            0 => (FIRST.to_vec(), REST.to_vec()),
            1 => (ALIKE[..ALIKE_LETTERS].to_vec(), ALIKE.to_vec()),
            _ => {
                let marks = FIRST.iter().filter(|letter| !letter.is_ascii_lowercase());
                (marks.copied().collect(), REST.to_vec())
            }
        };
        let mut generator = Self { single: FIRST.to_vec(), first, rest };
        for letters in [&mut generator.single, &mut generator.first, &mut generator.rest] {
            random.shuffle(letters);
        }
        generator
    }

    /// Returns the `n`th name and counts on.
    fn next(&self, n: &mut usize) -> Atom {
        loop {
            let at = *n;
            *n += 1;
            let name = match self.single.get(at) {
                Some(&letter) => String::from(letter as char),
                None => self.longer(at - self.single.len()),
            };
            if !WORDS.contains(&name.as_str()) {
                return name.into();
            }
        }
    }

    /// Returns the `n`th name of two characters or more.
    fn longer(&self, n: usize) -> String {
        let mut name = String::from(self.first[n % self.first.len()] as char);
        let mut more = n / self.first.len() + 1;
        while more > 0 {
            more -= 1;
            name.push(self.rest[more % self.rest.len()] as char);
            more /= self.rest.len();
        }
        name
    }
}

/// Words that are no names in some place.
pub(super) const WORDS: &[&str] = &[
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

/// Renames labels and private names. Neither is seen outside the file; equal names stay equal and different
/// ones different, which is all that they mean.
#[derive(Default)]
struct Inner {
    keep_private: bool,
    generator: Generator,
    labels: HashMap<Atom, Atom>,
    next_label: usize,
    private: HashMap<Atom, Atom>,
    next_private: usize,
}

impl Inner {
    fn label(&mut self, label: &mut Ident) {
        let (next, generator) = (&mut self.next_label, &self.generator);
        label.sym = self.labels.entry(label.sym.clone()).or_insert_with(|| generator.next(next)).clone();
    }
}

impl VisitMut for Inner {
    fn visit_mut_private_name(&mut self, node: &mut PrivateName) {
        if self.keep_private {
            return;
        }
        let (next, generator) = (&mut self.next_private, &self.generator);
        node.name = self.private.entry(node.name.clone()).or_insert_with(|| generator.next(next)).clone();
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
    use std::collections::{BTreeSet, HashSet};

    use protected_model::digest::Sha256;

    use super::{Generator, WORDS};
    use crate::obfuscate::Seed;

    #[test]
    fn names_are_different_and_valid() {
        let seed = Seed::derive(None, &Sha256::of("names"));
        let mut all = vec![Generator::default()];
        all.extend((0..20).map(|at| Generator::any(&mut seed.random(&at.to_string()))));
        for generator in &all {
            let mut n = 0;
            let mut seen = HashSet::new();
            for _ in 0..20_000 {
                let name = generator.next(&mut n);
                assert!(!name.starts_with(|first: char| first.is_ascii_digit()), "{name}");
                assert!(!WORDS.contains(&name.as_str()), "{name}");
                assert!(name.len() <= 4, "{name}");
                assert!(seen.insert(name));
            }
            assert_eq!(seen.iter().filter(|name| name.len() == 1).count(), 54);
        }
    }

    #[test]
    fn several_generators_are_chosen_and_each_again() {
        let any = |seed: u32| {
            let seed = Seed::derive(None, &Sha256::of(seed.to_string()));
            let generator = Generator::any(&mut seed.random("names"));
            (0..3).map(|n| generator.next(&mut (200 + n)).to_string()).collect::<Vec<_>>()
        };
        let all: BTreeSet<_> = (0..20).map(any).collect();
        assert_eq!(all.len(), 20);
        assert_eq!(any(3), any(3));
    }
}
