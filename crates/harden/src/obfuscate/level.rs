//! How the code that a pass is in is treated.

use swc_core::{
    common::BytePos,
    ecma::{
        ast::{ArrowExpr, Constructor, Function},
        visit::{VisitMut, VisitMutWith},
    },
};

use super::{Cost, Work};
use crate::Profile;

/// How a piece of code is treated.
#[derive(Clone, Copy)]
pub(crate) struct Level {
    pub(crate) profile: Profile,
    /// Whether it is known to run often.
    pub(crate) hot: bool,
    /// What it may cost.
    pub(crate) cost: Cost,
}

impl Work<'_> {
    /// How the top level is treated.
    pub(crate) fn level(&self) -> Level {
        Level { profile: self.profile, hot: false, cost: Cost::Cold }
    }

    /// How the function that starts there is treated, which stands in code of `around`.
    pub(crate) fn enter(&self, around: Level, start: BytePos) -> Level {
        let hot = around.hot || self.functions.is_hot(start);
        let cost = self.heat.cost(start);
        Level {
            profile: self.functions.profile(start).unwrap_or(around.profile),
            hot,
            cost: if hot { cost.max(Cost::Hot) } else { cost },
        }
    }
}

/// A pass that treats each function as is said of it.
pub(crate) trait Leveled<'w>: VisitMut + Sized {
    fn work(&self) -> &Work<'w>;
    fn level(&mut self) -> &mut Level;

    fn within(&mut self, start: BytePos, visit: impl FnOnce(&mut Self)) {
        let around = *self.level();
        *self.level() = self.work().enter(around, start);
        visit(self);
        *self.level() = around;
    }

    fn function(&mut self, node: &mut Function) {
        let is_plain = self.work().functions.has_plain_parameters(node.span.lo);
        self.within(node.span.lo, |pass| {
            if !is_plain {
                node.params.visit_mut_with(pass);
            }
            node.decorators.visit_mut_with(pass);
            node.body.visit_mut_with(pass);
        });
    }

    fn arrow(&mut self, node: &mut ArrowExpr) {
        self.within(node.span.lo, |pass| node.visit_mut_children_with(pass));
    }

    /// The words of `constructor(…) {}` stay: a computed name would make it a method.
    fn constructor(&mut self, node: &mut Constructor) {
        self.within(node.span.lo, |pass| {
            node.params.visit_mut_with(pass);
            node.body.visit_mut_with(pass);
        });
    }
}
