//! Obfuscation: passes over one program's syntax, each in its own file.
//!
//! What tools that undo obfuscation look for is in none of them: there is no decoder that can be run by itself, no
//! table in a fixed form, no order of blocks written down. Decoding reads state that the program computes as it
//! starts, and which of several forms a piece takes follows from the seed.

mod defence;
mod functions;
mod heat;
mod hoisted;
mod host;
mod key;
mod level;
mod literals;
mod mangle;
mod mark;
mod numbers;
mod pool;
mod prototype;
mod random;
mod shape;
mod snippet;
mod state;

pub use mark::Mark;
pub use random::Seed;

use std::collections::BTreeSet;

use swc_core::{
    common::SyntaxContext,
    ecma::{
        ast::{Expr, Ident, Lit, ModuleItem, Program, Stmt},
        atoms::Atom,
        utils::private_ident,
    },
};

pub(crate) use self::{
    defence::Defence,
    functions::{Functions, Patterns, has_directives},
    heat::{Cost, Heat},
    level::Level,
    mark::{Constants, MARK_NUMBERS},
    pool::{Key, Top},
    random::Random,
    state::{Often, State},
};
use crate::{HardenError, Profile, js::Session};

/// What the passes over one file work with.
pub(crate) struct Work<'a> {
    pub(crate) session: &'a Session,
    /// The package's name.
    pub(crate) package: &'a str,
    pub(crate) profile: Profile,
    /// This file's choices.
    pub(crate) random: Random,
    /// Numbers for places where any number will do.
    pub(crate) constants: Constants,
    /// Whether the program reads its own text.
    pub(crate) defends: bool,
    /// What its self-defence needs once it is printed.
    pub(crate) defence: Option<Defence>,
    /// What is said of single functions.
    pub(crate) functions: Functions,
    /// How often each function is likely to run.
    pub(crate) heat: Heat,
    /// The names that passes add at the program's top level.
    pub(crate) names: Names,
}

/// Variables that are added at a program's top level.
#[derive(Default)]
pub(crate) struct Names {
    /// Where others see the top level: what no other script uses as a name.
    prefix: Option<String>,
    /// The names that must stay, because others could have them otherwise.
    pub(crate) kept: BTreeSet<String>,
}

/// Returns a variable of the program's own. Its name is none that an author could ask to keep.
pub(crate) fn fresh() -> Ident {
    private_ident!("\u{1}")
}

impl Names {
    pub(crate) fn variable(&mut self) -> Ident {
        match &self.prefix {
            None => fresh(),
            Some(prefix) => {
                let name = format!("{prefix}{}", self.kept.len());
                self.kept.insert(name.clone());
                private_ident!(Atom::from(name))
            }
        }
    }
}

/// Obfuscates a program whose names are resolved. `private`: whether nobody else sees what its top level declares.
pub(crate) fn obfuscate(
    program: &mut Program,
    work: &mut Work<'_>,
    private: bool,
    reserved: &BTreeSet<String>,
) -> Result<(), HardenError> {
    host::with_host(program, private, |program, private| {
        if !private {
            let letters: String = (0..10).map(|_| char::from(b'a' + work.random.below(26) as u8)).collect();
            work.names.prefix = Some(format!("${letters}"));
        }
        let seen = (!private).then(|| SyntaxContext::empty().apply_mark(work.session.top_level));
        mangle::replace(program, seen);
        work.heat = Heat::of(program);
        let early = hoisted::find(program, work.package);
        work.functions.set_early(early.clone());
        let state = State::new((0..2).map(|_| (work.names.variable(), work.constants.next())).collect());
        let top = if !private {
            Top::Seen
        } else if early.is_empty() {
            Top::Own
        } else {
            Top::Deferred
        };
        let token = fresh();
        numbers::encode(program, work, &state, (top == Top::Own).then_some(&token));
        let plain = key::plain(program);
        shape::reshape(program, work, &state);
        if top == Top::Own {
            prototype::replace(program, work);
        }
        let literals = literals::extract(program, work, reserved);
        if !literals.entries.is_empty() || state.is_used() {
            // Elsewhere a function could be another script's, or run before there is a token.
            let holders =
                if top == Top::Own { key::weave(program, work, &plain, &token)? } else { Vec::new() };
            let key = Key { token, holders };
            let prelude = pool::prelude(work, literals, state.variables(), &key, top)?;
            hoisted::decode_early(program, &early, &prelude.early);
            insert(program, prelude.statements);
        }
        Ok(())
    })
}

fn is_directive(statement: &Stmt) -> bool {
    matches!(statement, Stmt::Expr(it) if matches!(*it.expr, Expr::Lit(Lit::Str(_))))
}

/// Puts statements before everything that runs.
fn insert(program: &mut Program, statements: Vec<Stmt>) {
    match program {
        Program::Script(script) => {
            let at = script.body.iter().take_while(|statement| is_directive(statement)).count();
            script.body.splice(at..at, statements);
        }
        Program::Module(module) => {
            let is_head =
                |item: &ModuleItem| matches!(item, ModuleItem::Stmt(statement) if is_directive(statement));
            let at = module.body.iter().take_while(|item| is_head(item)).count();
            module.body.splice(at..at, statements.into_iter().map(ModuleItem::Stmt));
        }
    }
}

/// Returns `text` as it stands between the backticks of a template.
fn template_text(text: &swc_core::ecma::atoms::Wtf8Atom) -> Atom {
    let text = text.to_string_lossy();
    text.replace('\\', "\\\\").replace('`', "\\`").replace("${", "\\${").replace('\r', "\\r").into()
}
