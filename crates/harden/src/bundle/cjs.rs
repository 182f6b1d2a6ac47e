//! Writes CommonJS modules as one file: each runs in a function of its own when it is first required.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use swc_core::{
    common::{BytePos, DUMMY_SP, SyntaxContext},
    ecma::{
        ast::*,
        atoms::Atom,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use super::{
    Head, Merge,
    graph::{Graph, Lead},
    plan::Chunk,
    record::Kind,
    resolve::{folder, is_relative, specifier},
};
use crate::{
    HardenError,
    entry_points::resolve,
    js::{Session, exports::Exports, hazards::unwrapped, session},
    tree::Rewritten,
};

/// Writes a chunk.
pub(crate) fn write(merge: &Merge<'_>, chunk: &Chunk) -> Result<Rewritten, HardenError> {
    session(super::STEP, &chunk.path, "", |session| {
        let mut head = Head::default();
        let mut taken: HashSet<Atom> = HashSet::new();
        let mut parts: Vec<(usize, BytePos, Script)> = Vec::new();
        for &member in &chunk.members {
            let module = &merge.graph.modules[member];
            if module.record.kind == Kind::Json {
                continue;
            }
            let (part, program) = head.open(merge, session, &module.path, &merge.text(&module.path)?)?;
            program.visit_with(&mut Seen(&mut taken));
            let Program::Script(script) = program else {
                return Err(HardenError::Compiler {
                    step: super::STEP,
                    path: module.path.clone(),
                    reason: "it was a CommonJS module and is none".to_owned(),
                });
            };
            parts.push((member, part.file.start_pos, script));
        }
        let mut fresh = Fresh { taken, given: BTreeMap::new() };
        let load = fresh.name("load");
        let loaders: BTreeMap<usize, Atom> = chunk
            .members
            .iter()
            .filter(|&&member| chunk.host != Some(member))
            .map(|&member| (member, fresh.name("from")))
            .collect();
        let mut body = Vec::new();
        let mut shebang = None;
        let mut host = None;
        let mut wrapped: BTreeMap<usize, Vec<Stmt>> = BTreeMap::new();
        let (module_name, exports_name) = (fresh.name("_module"), fresh.name("_exports"));
        for (member, start, mut script) in parts {
            let is_host = chunk.host == Some(member);
            let mut rewrite = Rewrite {
                merge,
                chunk,
                member,
                start,
                unresolved: merge.unresolved(session),
                loaders: &loaders,
                given: (!is_host).then_some((&module_name, &exports_name)),
            };
            script.body.visit_mut_with(&mut rewrite);
            if is_host {
                shebang = script.shebang;
                host = Some(script.body);
            } else {
                wrapped.insert(member, script.body);
            }
        }
        if !loaders.is_empty() {
            body.extend(loader(session, &load, &mut fresh)?);
        }
        for (&member, name) in &loaders {
            let statements = match wrapped.remove(&member) {
                Some(statements) => statements,
                None => json(merge, session, member, &module_name)?,
            };
            body.push(wrap(&load, name, &module_name, &exports_name, statements));
        }
        let index = chunk.members.first().map(|&member| merge.plan.chunk_of[member]);
        let handed = index.and_then(|index| merge.plan.handed.get(index)).filter(|_| chunk.host.is_none());
        let handed: Vec<&str> = handed
            .into_iter()
            .flatten()
            .filter_map(|((member, _), _)| loaders.get(member).map(|loader| loader.as_str()))
            .collect();
        if !handed.is_empty() {
            // Node's lexer sees no names in a list, so none of them is handed on.
            body.extend(session.snippet(&format!("module.exports = [{}];", handed.join(", ")))?);
        }
        if let Some(statements) = host {
            // Directives stay first.
            let is_directive = |statement: &Stmt| matches!(statement, Stmt::Expr(ExprStmt { expr, .. }) if matches!(&**expr, Expr::Lit(Lit::Str(_))));
            let directives = statements.iter().take_while(|statement| is_directive(statement)).count();
            let mut statements = statements;
            let rest = statements.split_off(directives);
            statements.extend(body);
            statements.extend(rest);
            body = statements;
        }
        let program = Program::Script(Script { span: DUMMY_SP, body, shebang });
        let footer = match chunk.host {
            Some(host) => expected(merge.graph, host).annotation(&Exports::certain(&program)),
            None => String::new(),
        };
        head.print(session, program, &chunk.path, footer)
    })
}

/// What Node's lexer saw in the module of a file, with the names of modules that it hands on and that became a
/// part of the file.
fn expected(graph: &Graph, host: usize) -> Exports {
    let mut found = Exports::default();
    let mut seen = BTreeSet::new();
    let mut stack = vec![host];
    while let Some(module) = stack.pop() {
        if !seen.insert(module) {
            continue;
        }
        let at = &graph.modules[module];
        found.names.extend(at.record.names.names.iter().cloned());
        for again in &at.record.names.again {
            let load = at.record.loads.iter().position(|load| load.specifier == *again);
            match load.map(|load| &at.leads[load]) {
                Some(Lead::Module(target)) if !graph.is_file(*target) => stack.push(*target),
                Some(Lead::Module(target)) => {
                    let path = &graph.modules[*target].path;
                    let same = module == host;
                    let again = if same { again.clone() } else { specifier(&graph.modules[host].path, path) };
                    found.again.insert(again);
                }
                Some(Lead::Asset(path)) if module != host => {
                    found.again.insert(specifier(&graph.modules[host].path, path));
                }
                _ => drop(found.again.insert(again.clone())),
            }
        }
    }
    found
}

/// Names that nothing in the file has.
struct Fresh {
    taken: HashSet<Atom>,
    given: BTreeMap<String, usize>,
}

impl Fresh {
    fn name(&mut self, wanted: &str) -> Atom {
        let count = self.given.entry(wanted.to_owned()).or_default();
        loop {
            let name: Atom = if *count == 0 { wanted.into() } else { format!("{wanted}${count}").into() };
            *count += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// The function that runs modules once: what one throws, the next `require` throws anew, as Node has it.
fn loader(session: &Session, load: &str, fresh: &mut Fresh) -> Result<Vec<Stmt>, HardenError> {
    let [run, module, done] = ["run", "module$", "done"].map(|name| fresh.name(name));
    session.snippet(&format!(
        "var {load} = function ({run}) {{
  var {module};
  return function () {{
    if (!{module}) {{
      var {done} = false;
      {module} = {{ exports: {{}} }};
      try {{
        {run}.call({module}.exports, {module}, {module}.exports);
        {done} = true;
      }} finally {{
        if (!{done}) {module} = undefined;
      }}
    }}
    return {module}.exports;
  }};
}};"
    ))
}

fn ident(name: &Atom) -> Ident {
    Ident::new_no_ctxt(name.clone(), DUMMY_SP)
}

/// `var name = load(function (module, exports) { … });`
fn wrap(load: &Atom, name: &Atom, module: &Atom, exports: &Atom, stmts: Vec<Stmt>) -> Stmt {
    let parameter = |name: &Atom| Param { span: DUMMY_SP, decorators: Vec::new(), pat: ident(name).into() };
    let function = Function {
        params: vec![parameter(module), parameter(exports)],
        body: Some(FunctionBody { span: DUMMY_SP, stmts }),
        ..Default::default()
    };
    let call = CallExpr {
        callee: Callee::Expr(Box::new(ident(load).into())),
        args: vec![Expr::Fn(FnExpr { ident: None, function: Box::new(function) }).into()],
        ..Default::default()
    };
    let declarator = VarDeclarator {
        span: DUMMY_SP,
        name: ident(name).into(),
        init: Some(Box::new(call.into())),
        definite: false,
    };
    let declaration = VarDecl { kind: VarDeclKind::Var, decls: vec![declarator], ..Default::default() };
    Stmt::Decl(Decl::Var(Box::new(declaration)))
}

fn json(merge: &Merge<'_>, session: &Session, member: usize, module: &str) -> Result<Vec<Stmt>, HardenError> {
    let text = merge.text(&merge.graph.modules[member].path)?;
    let text = serde_json::Value::from(text).to_string();
    session.snippet(&format!("{module}.exports = JSON.parse({text});"))
}

struct Seen<'a>(&'a mut HashSet<Atom>);

impl Visit for Seen<'_> {
    fn visit_ident(&mut self, node: &Ident) {
        self.0.insert(node.sym.clone());
    }
}

/// Rewrites what a module requires, and the names that Node gives it.
struct Rewrite<'a> {
    merge: &'a Merge<'a>,
    chunk: &'a Chunk,
    member: usize,
    /// Where the module's text starts in this session.
    start: BytePos,
    unresolved: SyntaxContext,
    loaders: &'a BTreeMap<usize, Atom>,
    /// The parameters of the module's function, where it is in one.
    given: Option<(&'a Atom, &'a Atom)>,
}

/// What becomes of a load.
enum Becomes {
    /// A call of a function here.
    Call(Atom),
    /// An item of another chunk's exports, called.
    From(String, usize),
    Specifier(String),
}

impl Rewrite<'_> {
    fn becomes(&self, text: &Str) -> Option<Becomes> {
        let Merge { graph, plan, .. } = self.merge;
        let module = &graph.modules[self.member];
        let load = module.record.load_at(text.span.lo, self.start)?;
        let moved = self.given.is_some();
        match &module.leads[load] {
            Lead::Module(target) => {
                if let Some(loader) = self.loaders.get(target) {
                    return Some(Becomes::Call(loader.clone()));
                }
                if graph.is_file(*target) {
                    let path = &graph.modules[*target].path;
                    return moved.then(|| Becomes::Specifier(specifier(&self.chunk.path, path)));
                }
                let chunk = plan.chunk_of[*target];
                let index = plan.handed[chunk].keys().position(|(member, _)| member == target)?;
                Some(Becomes::From(specifier(&self.chunk.path, &plan.chunks[chunk].path), index))
            }
            Lead::Asset(path) => moved.then(|| Becomes::Specifier(specifier(&self.chunk.path, path))),
            Lead::Nothing | Lead::Outside if moved && is_relative(&module.record.loads[load].specifier) => {
                let place = resolve(folder(&module.path), &module.record.loads[load].specifier)?;
                Some(Becomes::Specifier(specifier(&self.chunk.path, &place)))
            }
            _ => None,
        }
    }
}

impl VisitMut for Rewrite<'_> {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        node.visit_mut_children_with(self);
        let Expr::Call(call) = node else { return };
        let is_import = call.callee.is_import();
        let is_require = call.callee.as_expr().is_some_and(|callee| {
            matches!(&**callee, Expr::Ident(name) if name.sym == "require" && name.ctxt == self.unresolved)
        });
        if !is_import && !is_require {
            return;
        }
        let Some(Expr::Lit(Lit::Str(text))) = call.args.first().map(|argument| unwrapped(&argument.expr))
        else {
            return;
        };
        let item = |object: Expr, index: usize| MemberExpr {
            span: DUMMY_SP,
            obj: Box::new(object),
            prop: MemberProp::Computed(ComputedPropName {
                span: DUMMY_SP,
                expr: Box::new((index as f64).into()),
            }),
        };
        match self.becomes(text) {
            None => {}
            Some(Becomes::Specifier(specifier)) => {
                let text = Str { span: text.span, value: specifier.into(), raw: None };
                *call.args[0].expr = Expr::Lit(Lit::Str(text));
            }
            Some(Becomes::Call(loader)) => {
                call.callee = Callee::Expr(Box::new(ident(&loader).into()));
                call.args.clear();
            }
            Some(Becomes::From(specifier, index)) => {
                *call.args[0].expr = Expr::Lit(Lit::Str(specifier.as_str().into()));
                let chunk = std::mem::take(call);
                let callee = Callee::Expr(Box::new(item(chunk.into(), index).into()));
                *node = Expr::Call(CallExpr { callee, ..Default::default() });
            }
        }
    }

    fn visit_mut_prop(&mut self, node: &mut Prop) {
        if let Prop::Shorthand(name) = node {
            let old = name.clone();
            let mut new = name.clone();
            self.visit_mut_ident(&mut new);
            if new.sym != old.sym {
                let key = PropName::Ident(IdentName { span: old.span, sym: old.sym });
                *node = Prop::KeyValue(KeyValueProp { key, value: Box::new(Expr::Ident(new)) });
            }
            return;
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_ident(&mut self, node: &mut Ident) {
        let Some((module, exports)) = self.given.filter(|_| node.ctxt == self.unresolved) else { return };
        match node.sym.as_str() {
            "module" => node.sym = module.clone(),
            "exports" => node.sym = exports.clone(),
            _ => {}
        }
    }
}
