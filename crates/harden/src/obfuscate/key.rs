//! Parts of the key that the program's own functions hold.
//!
//! The statements that decode strings would be a decoder, if they could be run by themselves. So they ask functions of
//! the program: each of a few answers a call with one private object by a number that it computes from it, and does
//! what its author wrote otherwise.

use std::collections::{HashMap, HashSet};

use swc_core::{
    common::BytePos,
    ecma::{ast::*, utils::find_pat_ids},
};

use super::{
    Cost, Work, is_directive,
    snippet::{Fill, snippet},
};
use crate::{HardenError, Profile};

/// Most functions that hold a part of the key.
pub(crate) const MOST: usize = 4;

/// A function that holds a part of the key.
pub(crate) struct Holder {
    pub(crate) function: Ident,
    /// How many arguments keep it from evaluating a default, which may read the state too early.
    pub(crate) arguments: usize,
    multiplier: i32,
    /// Also what the function is known by in the printed program.
    pub(crate) mask: i32,
}

impl Holder {
    /// What it answers where the private object's first element is `given`.
    pub(crate) fn answer(&self, given: i32) -> i32 {
        (i64::from(given) * i64::from(self.multiplier)) as i32 ^ self.mask
    }
}

/// Returns where the functions start whose parameters are names and nothing else, before passes add to them.
pub(crate) fn plain(program: &Program) -> HashSet<BytePos> {
    let plain = |function: &Function| function.params.iter().all(|parameter| parameter.pat.is_ident());
    let starts = declared(program).filter(|it| plain(&it.function)).map(|it| it.function.span.lo);
    starts.filter(|start| !start.is_dummy()).collect()
}

/// Lets some functions of the top level answer `token`, which nobody else has.
///
/// # Errors
/// Never in practice: the statement that is inserted is a program.
pub(crate) fn weave(
    program: &mut Program,
    work: &mut Work<'_>,
    plain: &HashSet<BytePos>,
    token: &Ident,
) -> Result<Vec<Holder>, HardenError> {
    let most = if work.profile == Profile::Strong || work.defends { MOST } else { 2 };
    let mut times: HashMap<Id, usize> = HashMap::new();
    declared(program).for_each(|it| *times.entry(it.ident.to_id()).or_default() += 1);
    let is_only = |id: &Id| times.get(id) == Some(&1);
    let fits = |it: &FnDecl| {
        let function = &it.function;
        let all_names = function.params.iter().all(|parameter| parameter.pat.is_ident());
        !function.is_async
            && !function.is_generator
            && (all_names || plain.contains(&function.span.lo))
            && !work.functions.is_hot(function.span.lo)
            && is_only(&it.ident.to_id())
            && first_parameter(function).is_some()
    };
    let mut chosen: Vec<(Cost, Id)> = declared(program)
        .filter(|it| fits(it))
        .map(|it| (work.heat.cost(it.function.span.lo).max(Cost::Loops), it.ident.to_id()))
        .collect();
    work.random.shuffle(&mut chosen);
    // One that runs often compares in each round: it holds a part only where nothing else does.
    chosen.sort_by_key(|(cost, _)| *cost);
    let seldom = chosen.iter().filter(|(cost, _)| *cost < Cost::Hot).count();
    chosen.truncate(if work.defends { most } else { most.min(seldom.max(1)) });
    let chosen: HashSet<Id> = chosen.into_iter().map(|(_, id)| id).collect();
    let mut holders = Vec::new();
    for item in declared_mut(program) {
        if !chosen.contains(&item.ident.to_id()) {
            continue;
        }
        let Some(parameter) = first_parameter(&item.function) else { continue };
        let holder = Holder {
            function: item.ident.clone(),
            arguments: item.function.params.len(),
            multiplier: (work.random.word() & 0xf_ffff | 1) as i32,
            mask: work.constants.next(),
        };
        let text = format!("if(P===O)return P[0]*{}^{}", holder.multiplier, holder.mask);
        let answer = snippet(work.session, &text, Fill::default().name("P", &parameter).name("O", token))?;
        if let Some(body) = &mut item.function.body {
            let at = body.stmts.iter().take_while(|statement| is_directive(statement)).count();
            body.stmts.splice(at..at, answer);
            holders.push(holder);
        }
    }
    Ok(holders)
}

/// The first parameter, if that name still means it when the body starts.
fn first_parameter(function: &Function) -> Option<Ident> {
    let Pat::Ident(first) = &function.params.first()?.pat else { return None };
    let id = first.to_id();
    let names: Vec<Id> = find_pat_ids(&function.params);
    let is_hidden =
        |statement: &Stmt| matches!(statement, Stmt::Decl(Decl::Fn(it)) if it.ident.to_id() == id);
    let is_clear = names.iter().filter(|name| **name == id).count() == 1
        && !function.body.as_ref()?.stmts.iter().any(is_hidden);
    is_clear.then(|| first.id.clone())
}

/// The functions that the top level declares.
fn declared(program: &Program) -> Box<dyn Iterator<Item = &FnDecl> + '_> {
    match program {
        Program::Script(script) => Box::new(script.body.iter().filter_map(|statement| match statement {
            Stmt::Decl(Decl::Fn(it)) => Some(it),
            _ => None,
        })),
        Program::Module(module) => Box::new(module.body.iter().filter_map(|item| match item {
            ModuleItem::Stmt(Stmt::Decl(Decl::Fn(it)))
            | ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(ExportDecl { decl: Decl::Fn(it), .. })) => {
                Some(it)
            }
            _ => None,
        })),
    }
}

fn declared_mut(program: &mut Program) -> Box<dyn Iterator<Item = &mut FnDecl> + '_> {
    match program {
        Program::Script(script) => Box::new(script.body.iter_mut().filter_map(|statement| match statement {
            Stmt::Decl(Decl::Fn(it)) => Some(it),
            _ => None,
        })),
        Program::Module(module) => Box::new(module.body.iter_mut().filter_map(|item| match item {
            ModuleItem::Stmt(Stmt::Decl(Decl::Fn(it)))
            | ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(ExportDecl { decl: Decl::Fn(it), .. })) => {
                Some(it)
            }
            _ => None,
        })),
    }
}
