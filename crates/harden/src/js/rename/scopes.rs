//! Which names are seen where, and which short name each gets.
//!
//! A name is seen in the scopes from its declaration down to each use. Two names may be the same where no scope
//! sees both, and those that stand most often choose first: swc's renamer, which goes by the order of declaration,
//! leaves files of thousands of functions a twentieth larger.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
    mem,
};

use swc_core::{
    common::SyntaxContext,
    ecma::{
        ast::*,
        atoms::Atom,
        transforms::base::rename::RenameMap,
        utils::find_pat_ids,
        visit::{Visit, VisitWith},
    },
};

use super::Generator;

/// Decides the new name of everything that `program` declares, but for `kept`.
pub(super) fn assign(program: &Program, kept: &HashSet<Id>, generator: &Generator) -> RenameMap {
    let mut scopes = Scopes::default();
    scopes.nested(true, |scopes| program.visit_children_with(scopes));
    scopes.assign(kept, generator)
}

#[derive(Clone, Copy)]
struct Scope {
    parent: u32,
    depth: u32,
    /// The scope that a `var` in this one belongs to.
    function: u32,
}

/// One name: where it stands and how often.
#[derive(Default)]
struct Name {
    declared: bool,
    uses: u32,
    scopes: Vec<u32>,
}

#[derive(Default)]
struct Scopes {
    scopes: Vec<Scope>,
    now: u32,
    ids: HashMap<Id, u32>,
    names: Vec<Name>,
}

impl Scopes {
    fn nested(&mut self, function: bool, work: impl FnOnce(&mut Self)) {
        let outer = self.now;
        let own = self.scopes.len() as u32;
        let parent = self.scopes.get(outer as usize).copied();
        self.scopes.push(Scope {
            parent: outer,
            depth: parent.map_or(0, |parent| parent.depth + 1),
            function: parent.filter(|_| !function).map_or(own, |parent| parent.function),
        });
        self.now = own;
        work(self);
        self.now = outer;
    }

    fn name(&mut self, id: Id) -> &mut Name {
        let next = self.names.len() as u32;
        let index = *self.ids.entry(id).or_insert(next);
        if index == next {
            self.names.push(Name::default());
        }
        &mut self.names[index as usize]
    }

    fn see(&mut self, id: Id, scope: u32) {
        let name = self.name(id);
        if name.scopes.last() != Some(&scope) {
            name.scopes.push(scope);
        }
    }

    fn declare(&mut self, id: Id, scope: u32) {
        self.see(id.clone(), scope);
        self.name(id).declared = true;
    }

    fn declare_all(&mut self, pattern: &Pat, scope: u32) {
        let ids: Vec<Id> = find_pat_ids(pattern);
        ids.into_iter().for_each(|id| self.declare(id, scope));
    }

    fn function_scope(&self) -> u32 {
        self.scopes[self.now as usize].function
    }

    /// A function's parameters and body. `name`: what it is called.
    fn function(&mut self, function: &Function, name: Option<&Ident>) {
        self.nested(true, |scopes| {
            // Safari takes a parameter for the function where both have one name and the list is not simple.
            if let Some(name) = name
                && !function.params.iter().all(|parameter| parameter.pat.is_ident())
            {
                scopes.see(name.to_id(), scopes.now);
            }
            function.visit_children_with(scopes);
        });
    }

    fn parent(&self, scope: u32) -> u32 {
        self.scopes[scope as usize].parent
    }

    fn depth(&self, scope: u32) -> u32 {
        self.scopes[scope as usize].depth
    }

    fn common(&self, mut one: u32, mut other: u32) -> u32 {
        while one != other {
            if self.depth(one) < self.depth(other) {
                mem::swap(&mut one, &mut other);
            }
            one = self.parent(one);
        }
        one
    }

    /// Returns the scopes that see a name: those it stands in, and those between.
    fn seen_in(&self, name: &Name, seen: &mut Marks) -> Vec<u32> {
        let Some(&first) = name.scopes.first() else { return Vec::new() };
        let top = name.scopes.iter().fold(first, |top, &scope| self.common(top, scope));
        seen.clear();
        seen.insert(top);
        let mut found = vec![top];
        for &scope in &name.scopes {
            let mut at = scope;
            while seen.insert(at) {
                found.push(at);
                at = self.parent(at);
            }
        }
        found
    }

    fn assign(self, kept: &HashSet<Id>, generator: &Generator) -> RenameMap {
        let mut ids: Vec<(Id, u32)> = self.ids.iter().map(|(id, &index)| (id.clone(), index)).collect();
        let stays = |(id, index): &(Id, u32)| {
            let declared = self.names[*index as usize].declared;
            !declared || kept.contains(id) || matches!(id.0.as_str(), "arguments" | "eval")
        };
        let mut short = ShortNames {
            generator,
            taken: ids.iter().filter(|id| stays(id)).map(|(id, _)| id.0.clone()).collect(),
            made: Vec::new(),
            next: 0,
        };
        ids.retain(|id| !stays(id));
        // The index is the order in which they first stand in the text, which makes the order certain.
        ids.sort_unstable_by_key(|(_, index)| (Reverse(self.names[*index as usize].uses), *index));
        let mut used: Vec<Used> = (0..self.scopes.len()).map(|_| Used::default()).collect();
        let mut seen = Marks::of(self.scopes.len());
        let mut taken = Marks::default();
        let mut renamed = RenameMap::default();
        for (id, index) in ids {
            let scopes = self.seen_in(&self.names[index as usize], &mut seen);
            taken.clear();
            let many: Vec<&Vec<u64>> = scopes
                .iter()
                .filter_map(|&scope| match &used[scope as usize] {
                    Used::Few(names) => {
                        for &name in names {
                            taken.insert(name);
                        }
                        None
                    }
                    Used::Many(bits) => Some(bits),
                })
                .collect();
            let full =
                |bits: &&Vec<u64>| bits.iter().take_while(|word| **word == u64::MAX).count() as u32 * 64;
            let mut choice = many.iter().map(full).max().unwrap_or(0);
            let has = |bits: &Vec<u64>, name: u32| {
                bits.get(name as usize / 64).is_some_and(|word| word >> (name % 64) & 1 == 1)
            };
            while taken.contains(choice) || many.iter().any(|bits| has(bits, choice)) {
                choice += 1;
            }
            scopes.iter().for_each(|&scope| used[scope as usize].insert(choice));
            let name = short.nth(choice as usize);
            if name != id.0 {
                renamed.insert(id, name);
            }
        }
        renamed
    }
}

impl Visit for Scopes {
    fn visit_ident(&mut self, node: &Ident) {
        if node.ctxt == SyntaxContext::empty() {
            // What swc itself makes up, and what is no variable.
            return;
        }
        self.see(node.to_id(), self.now);
        self.name(node.to_id()).uses += 1;
    }

    fn visit_var_decl(&mut self, node: &VarDecl) {
        let scope = if node.kind == VarDeclKind::Var { self.function_scope() } else { self.now };
        node.decls.iter().for_each(|declarator| self.declare_all(&declarator.name, scope));
        node.visit_children_with(self);
    }

    fn visit_using_decl(&mut self, node: &UsingDecl) {
        node.decls.iter().for_each(|declarator| self.declare_all(&declarator.name, self.now));
        node.visit_children_with(self);
    }

    fn visit_param(&mut self, node: &Param) {
        self.declare_all(&node.pat, self.now);
        node.visit_children_with(self);
    }

    fn visit_fn_decl(&mut self, node: &FnDecl) {
        // In a block of sloppy code it is a `var` too.
        self.declare(node.ident.to_id(), self.function_scope());
        node.ident.visit_with(self);
        self.function(&node.function, Some(&node.ident));
    }

    fn visit_fn_expr(&mut self, node: &FnExpr) {
        self.nested(false, |scopes| {
            if let Some(name) = &node.ident {
                scopes.declare(name.to_id(), scopes.now);
                name.visit_with(scopes);
            }
            scopes.function(&node.function, node.ident.as_ref());
        });
    }

    fn visit_class_decl(&mut self, node: &ClassDecl) {
        self.declare(node.ident.to_id(), self.now);
        node.visit_children_with(self);
    }

    fn visit_class_expr(&mut self, node: &ClassExpr) {
        self.nested(false, |scopes| {
            if let Some(name) = &node.ident {
                scopes.declare(name.to_id(), scopes.now);
            }
            node.visit_children_with(scopes);
        });
    }

    fn visit_export_default_decl(&mut self, node: &ExportDefaultDecl) {
        let name = match &node.decl {
            DefaultDecl::Class(class) => class.ident.as_ref(),
            DefaultDecl::Fn(function) => function.ident.as_ref(),
            DefaultDecl::TsInterfaceDecl(_) => None,
        };
        if let Some(name) = name {
            self.declare(name.to_id(), self.now);
        }
        node.visit_children_with(self);
    }

    fn visit_function(&mut self, node: &Function) {
        self.function(node, None);
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        self.nested(true, |scopes| {
            node.params.iter().for_each(|parameter| scopes.declare_all(parameter, scopes.now));
            node.visit_children_with(scopes);
        });
    }

    fn visit_constructor(&mut self, node: &Constructor) {
        self.nested(true, |scopes| node.visit_children_with(scopes));
    }

    fn visit_static_block(&mut self, node: &StaticBlock) {
        self.nested(true, |scopes| node.visit_children_with(scopes));
    }

    fn visit_block_stmt(&mut self, node: &BlockStmt) {
        self.nested(false, |scopes| node.visit_children_with(scopes));
    }

    fn visit_catch_clause(&mut self, node: &CatchClause) {
        self.nested(false, |scopes| {
            if let Some(parameter) = &node.param {
                scopes.declare_all(parameter, scopes.now);
            }
            node.param.visit_with(scopes);
            // What the block declares must not be called as the parameter is.
            node.body.visit_children_with(scopes);
        });
    }

    fn visit_switch_stmt(&mut self, node: &SwitchStmt) {
        node.discriminant.visit_with(self);
        self.nested(false, |scopes| node.cases.visit_with(scopes));
    }

    fn visit_for_stmt(&mut self, node: &ForStmt) {
        self.nested(false, |scopes| node.visit_children_with(scopes));
    }

    fn visit_for_in_stmt(&mut self, node: &ForInStmt) {
        self.nested(false, |scopes| node.visit_children_with(scopes));
    }

    fn visit_for_of_stmt(&mut self, node: &ForOfStmt) {
        self.nested(false, |scopes| node.visit_children_with(scopes));
    }

    fn visit_import_decl(&mut self, node: &ImportDecl) {
        for specifier in &node.specifiers {
            let (ImportSpecifier::Named(ImportNamedSpecifier { local, .. })
            | ImportSpecifier::Default(ImportDefaultSpecifier { local, .. })
            | ImportSpecifier::Namespace(ImportStarAsSpecifier { local, .. })) = specifier;
            self.declare(local.to_id(), self.now);
            local.visit_with(self);
        }
    }

    fn visit_named_export(&mut self, node: &NamedExport) {
        if node.src.is_some() {
            return;
        }
        for specifier in &node.specifiers {
            if let ExportSpecifier::Named(ExportNamedSpecifier {
                orig: ModuleExportName::Ident(name), ..
            }) = specifier
            {
                name.visit_with(self);
            }
        }
    }

    fn visit_labeled_stmt(&mut self, node: &LabeledStmt) {
        node.body.visit_with(self);
    }

    fn visit_break_stmt(&mut self, _: &BreakStmt) {}

    fn visit_continue_stmt(&mut self, _: &ContinueStmt) {}
}

/// The short names of one scope, by their number.
enum Used {
    Few(Vec<u32>),
    Many(Vec<u64>),
}

/// More names than this are kept as bits.
const FEW: usize = 128;

impl Default for Used {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Used {
    fn insert(&mut self, name: u32) {
        match self {
            Self::Few(names) if names.len() < FEW => names.push(name),
            Self::Few(names) => {
                let names = mem::take(names);
                *self = Self::Many(Vec::new());
                names.into_iter().chain([name]).for_each(|name| self.insert(name));
            }
            Self::Many(bits) => {
                let word = name as usize / 64;
                if bits.len() <= word {
                    bits.resize(word + 1, 0);
                }
                bits[word] |= 1 << (name % 64);
            }
        }
    }
}

/// A set of numbers that is emptied at no cost.
#[derive(Default)]
struct Marks {
    marked: Vec<u32>,
    round: u32,
}

impl Marks {
    fn of(most: usize) -> Self {
        Self { marked: vec![0; most], round: 0 }
    }

    fn clear(&mut self) {
        self.round += 1;
    }

    /// Returns whether the number is new.
    fn insert(&mut self, number: u32) -> bool {
        let index = number as usize;
        if self.marked.len() <= index {
            self.marked.resize(index + 1, 0);
        }
        mem::replace(&mut self.marked[index], self.round) != self.round
    }

    fn contains(&self, number: u32) -> bool {
        self.marked.get(number as usize) == Some(&self.round)
    }
}

/// The short names in their order, but for those that stand for something else.
struct ShortNames<'a> {
    generator: &'a Generator,
    taken: BTreeSet<Atom>,
    made: Vec<Atom>,
    next: usize,
}

impl ShortNames<'_> {
    fn nth(&mut self, index: usize) -> Atom {
        while self.made.len() <= index {
            let name = self.generator.next(&mut self.next);
            if !self.taken.contains(&name) {
                self.made.push(name);
            }
        }
        self.made[index].clone()
    }
}
