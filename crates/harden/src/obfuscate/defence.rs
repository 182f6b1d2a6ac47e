//! Self-defence: code that was changed afterwards cannot read its own strings.
//!
//! The functions that hold parts of the key are read as text at the start, and the hash of that text is a part of the
//! key as well. What it has to be is known once the program is printed: a number of the same width is put in its place.

use std::collections::HashMap;

use swc_core::{
    common::BytePos,
    ecma::{
        ast::*,
        visit::{Visit, VisitWith},
    },
};

/// A key has 30 bits, so that no arithmetic of JavaScript makes it negative.
pub(crate) const KEY_MASK: u32 = 0x3fff_ffff;

/// What is to be put into the printed program.
pub(crate) struct Defence {
    /// The number that stands where the hash belongs.
    pub(crate) placeholder: u32,
    /// By which number each function is known that is read, in the order in which they are.
    pub(crate) functions: Vec<i32>,
    /// By which the characters are counted.
    pub(crate) alphabet: Vec<u16>,
}

impl Defence {
    /// Puts the hash into `code`, which `program` is the syntax of. `start`: where the code starts there.
    pub(crate) fn complete(
        &self,
        code: &mut String,
        program: &Program,
        start: BytePos,
    ) -> Result<(), &'static str> {
        let mut finder = Finder { wanted: &self.functions, found: HashMap::new() };
        program.visit_with(&mut finder);
        let index: HashMap<u16, u32> = self.alphabet.iter().zip(0..).map(|(&unit, at)| (unit, at)).collect();
        let mut hash = 0_u64;
        for function in &self.functions {
            let (low, high) = finder.found.get(function).ok_or("a function that is to be read is gone")?;
            let text = code.get((low.0 - start.0) as usize..(high.0 - start.0) as usize);
            for unit in text.ok_or("a function has no text")?.encode_utf16() {
                let value = index.get(&unit).copied().unwrap_or(0);
                hash = (hash * 33 + u64::from(value) + 1) & u64::from(KEY_MASK);
            }
        }
        let written = [format!("{:#010x}", self.placeholder), self.placeholder.to_string()];
        let found = written.iter().find_map(|written| Some((code.find(written.as_str())?, written.len())));
        let (at, length) = found.ok_or("the place for the hash is gone")?;
        code.replace_range(at..at + length, &format!("{hash:#010x}"));
        Ok(())
    }
}

/// Finds functions by the number that their first statement holds.
struct Finder<'a> {
    wanted: &'a [i32],
    found: HashMap<i32, (BytePos, BytePos)>,
}

impl Visit for Finder<'_> {
    fn visit_fn_decl(&mut self, node: &FnDecl) {
        struct Numbers(Vec<f64>);
        impl Visit for Numbers {
            fn visit_number(&mut self, node: &Number) {
                self.0.push(node.value);
            }
        }
        if let Some(first) = node.function.body.iter().flat_map(|body| &body.stmts).find(|it| it.is_if_stmt())
        {
            let mut numbers = Numbers(Vec::new());
            first.visit_with(&mut numbers);
            for &wanted in self.wanted.iter().filter(|&&wanted| numbers.0.contains(&f64::from(wanted))) {
                self.found.insert(wanted, (node.function.span.lo, node.function.span.hi));
            }
        }
        node.visit_children_with(self);
    }
}
