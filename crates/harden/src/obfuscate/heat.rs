//! How often a function is likely to run, told from the program alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use swc_core::{
    common::BytePos,
    ecma::{
        ast::*,
        atoms::Atom,
        visit::{Visit, VisitWith},
    },
};

use super::{Level, Work};

/// How much a function's form may cost when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cost {
    /// It runs seldom.
    Cold,
    /// It is small, and nothing is known.
    Warm,
    /// It holds a loop, and is not known to run in one.
    Loops,
    /// It runs in a loop.
    Hot,
    /// It is one expression, and runs in a loop that a loop runs.
    Hottest,
}

/// Returns how each function of a program, and each static block, is treated, by the place where it starts.
pub(crate) fn levels(program: &Program, work: &Work<'_>) -> HashMap<BytePos, Level> {
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

        fn visit_static_block(&mut self, node: &StaticBlock) {
            self.levels.insert(node.span.lo, Level { cost: Cost::Cold, ..self.around });
            node.visit_children_with(self);
        }
    }
    let mut finder = Finder { work, around: work.level(), levels: HashMap::new() };
    program.visit_with(&mut finder);
    finder.levels
}

/// Which functions of a program are likely to run often, by the place where they start.
#[derive(Default)]
pub(crate) struct Heat {
    /// In how many loops each runs, up to [`MOST_LOOPS`].
    rounds: BTreeMap<BytePos, usize>,
    loops: BTreeSet<BytePos>,
    small: BTreeSet<BytePos>,
    tiny: BTreeSet<BytePos>,
}

/// More loops than these round a function make no difference.
const MOST_LOOPS: usize = 2;

impl Heat {
    pub(crate) fn of(program: &Program) -> Self {
        let mut getters = Getters::default();
        program.visit_with(&mut getters);
        let mut finder =
            Finder { inside: vec![(BytePos::DUMMY, 0)], getters: getters.0, ..Finder::default() };
        program.visit_with(&mut finder);
        finder.heat()
    }

    /// Returns what the function that starts at `at` may cost.
    pub(crate) fn cost(&self, at: BytePos) -> Cost {
        let rounds = self.rounds.get(&at).copied().unwrap_or_default();
        if rounds == MOST_LOOPS && self.tiny.contains(&at) {
            Cost::Hottest
        } else if rounds > 0 {
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

/// The names of properties that are read by calling a function.
#[derive(Default)]
struct Getters(HashSet<Atom>);

impl Visit for Getters {
    fn visit_getter_prop(&mut self, node: &GetterProp) {
        if let PropName::Ident(name) = &node.key {
            self.0.insert(name.sym.clone());
        }
        node.visit_children_with(self);
    }

    fn visit_class_method(&mut self, node: &ClassMethod) {
        if let (MethodKind::Getter, PropName::Ident(name)) = (node.kind, &node.key) {
            self.0.insert(name.sym.clone());
        }
        node.visit_children_with(self);
    }
}

/// What is called: a variable, a method of any object, or a getter.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Called {
    Variable(Id),
    Method(Atom),
    Getter(Atom),
}

#[derive(Default)]
struct Finder {
    /// The functions that the visitor is in, the top level among them, and the loops in the innermost one.
    inside: Vec<(BytePos, usize)>,
    getters: HashSet<Atom>,
    functions: HashMap<Called, Vec<BytePos>>,
    /// What each function calls, and in how many of its loops.
    calls: BTreeMap<BytePos, Vec<(Called, usize)>>,
    parameters: HashMap<BytePos, Vec<Option<Id>>>,
    /// Functions that a call of a variable is given: which argument they are, and where they start.
    given: Vec<(Id, usize, BytePos)>,
    rounds: BTreeMap<BytePos, usize>,
    loops: BTreeSet<BytePos>,
    small: BTreeSet<BytePos>,
    tiny: BTreeSet<BytePos>,
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
        // A parameter stands for the functions that are given in its place.
        for (called, index, start) in std::mem::take(&mut self.given) {
            let places = self.functions.get(&Called::Variable(called)).into_iter().flatten();
            let parameters: Vec<Id> =
                places.filter_map(|at| self.parameters.get(at)?.get(index)?.clone()).collect();
            for parameter in parameters {
                self.functions.entry(Called::Variable(parameter)).or_default().push(start);
            }
        }
        // A function that calls itself is a loop.
        for (at, calls) in &self.calls {
            if calls.iter().any(|(call, _)| self.functions.get(call).is_some_and(|all| all.contains(at))) {
                let rounds = self.rounds.entry(*at).or_default();
                *rounds = (*rounds).max(1);
            }
        }
        // What a function calls runs as often as the function, and as the loops in it.
        let mut waiting: Vec<BytePos> = self.calls.keys().copied().collect();
        let mut reached: HashMap<&Called, usize> = HashMap::new();
        while let Some(at) = waiting.pop() {
            let around = self.rounds.get(&at).copied().unwrap_or_default();
            for (call, loops) in self.calls.get(&at).into_iter().flatten() {
                let rounds = (around + loops).min(MOST_LOOPS);
                let known = reached.entry(call).or_default();
                if rounds <= *known {
                    continue;
                }
                *known = rounds;
                for called in self.functions.get(call).into_iter().flatten() {
                    let known = self.rounds.entry(*called).or_default();
                    if rounds > *known {
                        *known = rounds;
                        waiting.push(*called);
                    }
                }
            }
        }
        Heat { rounds: self.rounds, loops: self.loops, small: self.small, tiny: self.tiny }
    }

    fn function<'p, T: VisitWith<Self>>(
        &mut self,
        at: BytePos,
        parameters: impl Iterator<Item = &'p Pat>,
        body: Body<'_>,
        node: &T,
    ) {
        let names = parameters.map(|parameter| Some(parameter.as_ident()?.to_id()));
        self.parameters.insert(at, names.collect());
        if body.is_small() {
            self.small.insert(at);
        }
        if body.is_tiny() {
            self.tiny.insert(at);
        }
        let around = self.inside.last().map_or(0, |(_, loops)| *loops);
        let rounds = self.rounds.entry(at).or_default();
        *rounds = (*rounds).max(around.min(MOST_LOOPS));
        self.inside.push((at, 0));
        node.visit_children_with(self);
        self.inside.pop();
    }

    fn call(&mut self, called: Called) {
        if let Some((at, loops)) = self.inside.last() {
            self.calls.entry(*at).or_default().push((called, *loops));
        }
    }

    fn round<T: VisitWith<Self>>(&mut self, node: &T) {
        self.loops.extend(self.inside.last().map(|(at, _)| *at).filter(|at| !at.is_dummy()));
        self.loops_here(1);
        node.visit_children_with(self);
        self.loops_here(-1);
    }

    fn loops_here(&mut self, more: isize) {
        if let Some((_, loops)) = self.inside.last_mut() {
            *loops = loops.saturating_add_signed(more);
        }
    }

    fn named(&mut self, name: Called, value: &Expr) {
        if let Some(at) = function(value) {
            self.functions.entry(name).or_default().push(at);
        }
    }

    fn key(&mut self, key: &PropName, at: BytePos) {
        if let PropName::Ident(name) = key {
            self.functions.entry(Called::Method(name.sym.clone())).or_default().push(at);
        }
    }
}

/// Returns where a function starts that an expression is.
fn function(value: &Expr) -> Option<BytePos> {
    match crate::js::hazards::unwrapped(value) {
        Expr::Fn(function) => Some(function.function.span.lo),
        Expr::Arrow(function) => Some(function.span.lo),
        _ => None,
    }
}

/// What a function does.
#[derive(Clone, Copy)]
enum Body<'a> {
    Statements(&'a [Stmt]),
    Value(&'a Expr),
}

impl<'a> Body<'a> {
    fn of(body: Option<&'a FunctionBody>) -> Self {
        Self::Statements(body.map_or(&[], |body| &body.stmts))
    }

    fn is_small(self) -> bool {
        !matches!(self, Self::Statements(stmts) if stmts.len() > 1)
    }

    /// Whether it is one expression that decides nothing.
    fn is_tiny(self) -> bool {
        #[derive(Default)]
        struct Decides(bool);
        impl Visit for Decides {
            fn visit_cond_expr(&mut self, _: &CondExpr) {
                self.0 = true;
            }
            fn visit_seq_expr(&mut self, _: &SeqExpr) {
                self.0 = true;
            }
            fn visit_function_body(&mut self, _: &FunctionBody) {
                self.0 = true;
            }
        }
        let value = match self {
            Self::Value(value) => value,
            Self::Statements([Stmt::Return(ReturnStmt { arg: Some(value), .. })]) => value,
            Self::Statements([Stmt::Expr(ExprStmt { expr, .. })]) => expr,
            Self::Statements(_) => return false,
        };
        let mut decides = Decides::default();
        value.visit_with(&mut decides);
        !decides.0
    }
}

impl Visit for Finder {
    fn visit_function(&mut self, node: &Function) {
        let parameters = node.params.iter().map(|parameter| &parameter.pat);
        self.function(node.span.lo, parameters, Body::of(node.body.as_ref()), node);
    }

    fn visit_constructor(&mut self, node: &Constructor) {
        self.function(node.span.lo, std::iter::empty(), Body::of(node.body.as_ref()), node);
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        let body = match &*node.body {
            ArrowFunctionBody::FunctionBody(body) => Body::of(Some(body)),
            ArrowFunctionBody::Expr(value) => Body::Value(value),
        };
        self.function(node.span.lo, node.params.iter(), body, node);
    }

    fn visit_member_expr(&mut self, node: &MemberExpr) {
        if let MemberProp::Ident(name) = &node.prop
            && self.getters.contains(&name.sym)
        {
            self.call(Called::Getter(name.sym.clone()));
        }
        node.visit_children_with(self);
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

    fn visit_getter_prop(&mut self, node: &GetterProp) {
        if let PropName::Ident(name) = &node.key {
            let called = Called::Getter(name.sym.clone());
            self.functions.entry(called).or_default().push(node.function.span.lo);
        }
        node.visit_children_with(self);
    }

    fn visit_class_method(&mut self, node: &ClassMethod) {
        if let PropName::Ident(name) = &node.key {
            let called = match node.kind {
                MethodKind::Getter => Called::Getter(name.sym.clone()),
                _ => Called::Method(name.sym.clone()),
            };
            self.functions.entry(called).or_default().push(node.function.span.lo);
        }
        node.visit_children_with(self);
    }

    fn visit_call_expr(&mut self, node: &CallExpr) {
        let mut each = false;
        if let Callee::Expr(callee) = &node.callee {
            match crate::js::hazards::unwrapped(callee) {
                Expr::Ident(name) => {
                    self.call(Called::Variable(name.to_id()));
                    let given = node.args.iter().enumerate().filter_map(|(index, argument)| {
                        Some((name.to_id(), index, function(&argument.expr)?))
                    });
                    self.given.extend(given);
                }
                Expr::Member(MemberExpr { prop: MemberProp::Ident(name), .. }) => {
                    each = EACH.contains(&name.sym.as_str());
                    self.call(Called::Method(name.sym.clone()));
                }
                _ => {}
            }
        }
        if !each {
            node.visit_children_with(self);
            return;
        }
        node.callee.visit_with(self);
        // Such a function runs in a loop.
        self.loops_here(1);
        for argument in &node.args {
            match &*argument.expr {
                Expr::Ident(name) => self.call(Called::Variable(name.to_id())),
                Expr::Fn(_) | Expr::Arrow(_) => argument.visit_with(self),
                _ => {}
            }
        }
        self.loops_here(-1);
        for argument in &node.args {
            if !matches!(&*argument.expr, Expr::Fn(_) | Expr::Arrow(_)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::js::{Goal, Language, passes, session};

    /// What the functions of `text` may cost, in the order in which they start.
    fn costs(text: &str) -> Vec<Cost> {
        session("test", "test.js", text, |session| {
            let mut program = session.parse(Language::JavaScript, Goal::CommonJs)?;
            passes::resolve(session, &mut program, false);
            let heat = Heat::of(&program);
            Ok(heat.rounds.keys().filter(|at| !at.is_dummy()).map(|at| heat.cost(*at)).collect())
        })
        .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn loops_count_through_calls() {
        use Cost::{Cold, Hot, Hottest, Loops, Warm};
        for (text, expected) in [
            ("function f(a) { return a }", vec![Warm]),
            ("function f(a) { a(); return a }", vec![Cold]),
            ("function f(a) { for (;;) a() }", vec![Loops]),
            ("function f(a) { return a } for (;;) f()", vec![Hot]),
            ("function f(a) { return a } for (;;) for (;;) f()", vec![Hottest]),
            ("function f(a) { return a ? 1 : 2 } for (;;) for (;;) f()", vec![Hot]),
            ("function f(a) { return a } function g() { for (;;) f() } for (;;) g()", vec![Hottest, Hot]),
            ("function f(a) { return a && f(a) } f()", vec![Hot]),
            (
                "function f(a) { return a } [].map((a) => f(a)); function g() { return 1 }",
                vec![Hot, Hot, Warm],
            ),
            ("var o = { get a() { return 1 }, b() { return 2 } }; for (;;) o.a", vec![Hot, Warm]),
            ("class A { get a() { return 1 } a() { return 2 } } while (new A().a);", vec![Hot, Warm]),
            ("function f(g) { for (;;) g() } f(() => 1); f(() => { h(); return 2 })", vec![Loops, Hot, Hot]),
            (
                "function f(a, g) { a.sort(g) } f([], (a, b) => h(a)); function h(a) { return a }",
                vec![Warm, Hot, Hot],
            ),
            ("function f() { return () => 1 } for (;;) g(() => 2)", vec![Warm, Warm, Hot]),
        ] {
            assert_eq!(costs(text), expected, "{text}");
        }
    }
}
