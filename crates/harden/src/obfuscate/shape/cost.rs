//! How often a function is likely to run, told from the program alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use swc_core::{
    common::BytePos,
    ecma::{
        ast::*,
        atoms::Atom,
        visit::{Visit, VisitWith},
    },
};

use crate::obfuscate::{Level, Work};

/// How much a function's form may cost when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// It runs seldom.
    Cold,
    /// It is small, and nothing is known.
    Warm,
    /// It holds a loop, and is not known to run in one.
    Loops,
    /// It runs in a loop.
    Hot,
}

/// Returns how each function of a program is treated, by the place where it starts.
pub(super) fn levels(program: &Program, work: &Work<'_>) -> HashMap<BytePos, Level> {
    struct Finder<'a, 'w> {
        work: &'a Work<'w>,
        around: Level,
        levels: HashMap<BytePos, Level>,
    }
    impl Finder<'_, '_> {
        fn function<T: VisitWith<Self>>(&mut self, at: BytePos, node: &T) {
            let around = self.around;
            self.around = self.work.enter(around, at);
            self.levels.insert(at, self.around);
            node.visit_children_with(self);
            self.around = around;
        }
    }
    impl Visit for Finder<'_, '_> {
        fn visit_function(&mut self, node: &Function) {
            self.function(node.span.lo, node);
        }

        fn visit_constructor(&mut self, node: &Constructor) {
            self.function(node.span.lo, node);
        }

        fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
            self.function(node.span.lo, node);
        }
    }
    let mut finder = Finder { work, around: work.level(), levels: HashMap::new() };
    program.visit_with(&mut finder);
    finder.levels
}

/// Which functions of a program are likely to run often, by the place where they start.
pub(super) struct Heat {
    hot: BTreeSet<BytePos>,
    loops: BTreeSet<BytePos>,
    small: BTreeSet<BytePos>,
}

impl Heat {
    pub(super) fn of(program: &Program) -> Self {
        let mut finder = Finder::default();
        program.visit_with(&mut finder);
        finder.heat()
    }

    /// Returns what the function that starts at `at` may cost.
    pub(super) fn cost_class(&self, at: BytePos) -> Cost {
        if self.hot.contains(&at) {
            Cost::Hot
        } else if self.loops.contains(&at) {
            Cost::Loops
        } else if at.is_dummy() || self.small.contains(&at) {
            Cost::Warm
        } else {
            Cost::Cold
        }
    }
}

/// What is called: a variable, or a method of any object.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Called {
    Variable(Id),
    Method(Atom),
}

#[derive(Default)]
struct Finder {
    /// The functions that the visitor is in, and the loops in the innermost one.
    inside: Vec<(BytePos, usize)>,
    functions: HashMap<Called, Vec<BytePos>>,
    calls: BTreeMap<BytePos, Vec<Called>>,
    looped: Vec<Called>,
    hot: BTreeSet<BytePos>,
    loops: BTreeSet<BytePos>,
    small: BTreeSet<BytePos>,
}

/// Methods that call a function once for each element.
const EACH: &[&str] = &[
    "map",
    "forEach",
    "filter",
    "reduce",
    "reduceRight",
    "some",
    "every",
    "find",
    "findIndex",
    "findLast",
    "sort",
    "flatMap",
    "replace",
    "replaceAll",
    "from",
];

impl Finder {
    fn heat(mut self) -> Heat {
        // A function that calls itself is a loop.
        for (at, calls) in &self.calls {
            if calls.iter().any(|call| self.functions.get(call).is_some_and(|all| all.contains(at))) {
                self.hot.insert(*at);
                self.looped.extend(calls.iter().cloned());
            }
        }
        let mut seen = BTreeSet::new();
        let mut waiting = std::mem::take(&mut self.looped);
        while let Some(call) = waiting.pop() {
            for at in self.functions.get(&call).into_iter().flatten() {
                if seen.insert(*at) {
                    self.hot.insert(*at);
                    waiting.extend(self.calls.get(at).into_iter().flatten().cloned());
                }
            }
        }
        Heat { hot: self.hot, loops: self.loops, small: self.small }
    }

    fn function<T: VisitWith<Self>>(&mut self, at: BytePos, statements: usize, node: &T) {
        if statements < 2 {
            self.small.insert(at);
        }
        if self.inside.last().is_some_and(|(_, loops)| *loops > 0) {
            self.hot.insert(at);
        }
        self.inside.push((at, 0));
        node.visit_children_with(self);
        self.inside.pop();
    }

    fn round<T: VisitWith<Self>>(&mut self, node: &T) {
        if let Some((at, loops)) = self.inside.last_mut() {
            *loops += 1;
            self.loops.insert(*at);
        }
        node.visit_children_with(self);
        if let Some((_, loops)) = self.inside.last_mut() {
            *loops -= 1;
        }
    }

    fn named(&mut self, name: Called, value: &Expr) {
        let at = match crate::js::hazards::unwrapped(value) {
            Expr::Fn(function) => function.function.span.lo,
            Expr::Arrow(function) => function.span.lo,
            _ => return,
        };
        self.functions.entry(name).or_default().push(at);
    }

    fn key(&mut self, key: &PropName, at: BytePos) {
        if let PropName::Ident(name) = key {
            self.functions.entry(Called::Method(name.sym.clone())).or_default().push(at);
        }
    }
}

fn statements(body: Option<&FunctionBody>) -> usize {
    body.map_or(0, |body| body.stmts.len())
}

impl Visit for Finder {
    fn visit_function(&mut self, node: &Function) {
        self.function(node.span.lo, statements(node.body.as_ref()), node);
    }

    fn visit_constructor(&mut self, node: &Constructor) {
        self.function(node.span.lo, statements(node.body.as_ref()), node);
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        let statements = match &*node.body {
            ArrowFunctionBody::FunctionBody(body) => body.stmts.len(),
            ArrowFunctionBody::Expr(_) => 1,
        };
        self.function(node.span.lo, statements, node);
    }

    fn visit_fn_decl(&mut self, node: &FnDecl) {
        let name = Called::Variable(node.ident.to_id());
        self.functions.entry(name).or_default().push(node.function.span.lo);
        node.visit_children_with(self);
    }

    fn visit_fn_expr(&mut self, node: &FnExpr) {
        if let Some(name) = &node.ident {
            let name = Called::Variable(name.to_id());
            self.functions.entry(name).or_default().push(node.function.span.lo);
        }
        node.visit_children_with(self);
    }

    fn visit_var_declarator(&mut self, node: &VarDeclarator) {
        if let (Pat::Ident(name), Some(value)) = (&node.name, &node.init) {
            self.named(Called::Variable(name.to_id()), value);
        }
        node.visit_children_with(self);
    }

    fn visit_assign_expr(&mut self, node: &AssignExpr) {
        match &node.left {
            AssignTarget::Simple(SimpleAssignTarget::Ident(name)) => {
                self.named(Called::Variable(name.to_id()), &node.right);
            }
            AssignTarget::Simple(SimpleAssignTarget::Member(MemberExpr {
                prop: MemberProp::Ident(name),
                ..
            })) => self.named(Called::Method(name.sym.clone()), &node.right),
            _ => {}
        }
        node.visit_children_with(self);
    }

    fn visit_key_value_prop(&mut self, node: &KeyValueProp) {
        if let PropName::Ident(name) = &node.key {
            self.named(Called::Method(name.sym.clone()), &node.value);
        }
        node.visit_children_with(self);
    }

    fn visit_method_prop(&mut self, node: &MethodProp) {
        self.key(&node.key, node.function.span.lo);
        node.visit_children_with(self);
    }

    fn visit_class_method(&mut self, node: &ClassMethod) {
        self.key(&node.key, node.function.span.lo);
        node.visit_children_with(self);
    }

    fn visit_call_expr(&mut self, node: &CallExpr) {
        let mut each = false;
        if let Callee::Expr(callee) = &node.callee {
            let call = match crate::js::hazards::unwrapped(callee) {
                Expr::Ident(name) => Some(Called::Variable(name.to_id())),
                Expr::Member(MemberExpr { prop: MemberProp::Ident(name), .. }) => {
                    each = EACH.contains(&name.sym.as_str());
                    Some(Called::Method(name.sym.clone()))
                }
                _ => None,
            };
            if let (Some(call), Some((at, loops))) = (call, self.inside.last()) {
                if *loops > 0 {
                    self.looped.push(call.clone());
                }
                self.calls.entry(*at).or_default().push(call);
            }
        }
        if !each {
            node.visit_children_with(self);
            return;
        }
        node.callee.visit_with(self);
        for argument in &node.args {
            match &*argument.expr {
                Expr::Ident(name) => self.looped.push(Called::Variable(name.to_id())),
                Expr::Fn(function) => drop(self.hot.insert(function.function.span.lo)),
                Expr::Arrow(function) => drop(self.hot.insert(function.span.lo)),
                _ => {}
            }
            // What such a function calls is called in a loop too.
            if let (Expr::Fn(_) | Expr::Arrow(_), Some((_, loops))) =
                (&*argument.expr, self.inside.last_mut())
            {
                *loops += 1;
                argument.visit_with(self);
                if let Some((_, loops)) = self.inside.last_mut() {
                    *loops -= 1;
                }
            } else {
                argument.visit_with(self);
            }
        }
    }

    fn visit_for_stmt(&mut self, node: &ForStmt) {
        self.round(node);
    }

    fn visit_for_in_stmt(&mut self, node: &ForInStmt) {
        self.round(node);
    }

    fn visit_for_of_stmt(&mut self, node: &ForOfStmt) {
        self.round(node);
    }

    fn visit_while_stmt(&mut self, node: &WhileStmt) {
        self.round(node);
    }

    fn visit_do_while_stmt(&mut self, node: &DoWhileStmt) {
        self.round(node);
    }
}
