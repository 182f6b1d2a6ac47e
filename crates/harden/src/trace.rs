//! Which delivery a leaked text came from, told by the numbers in it.
//!
//! The numbers of a mark are drawn from 2^29 values by a secret. Whatever else stands in a text, each draw hits one of
//! the text's `m` numbers with a chance of `m / 2^29`, so the chance that `k` of all `n` draws do is at most
//! `(n m / 2^29)^k / k!`. That holds for any text that was made without the secret, by whatever tool and with whatever
//! constants in it.

use std::collections::HashSet;

use swc_core::ecma::{
    ast::{BinExpr, BinaryOp, Expr, Lit, UnaryExpr, UnaryOp},
    visit::{Visit, VisitWith},
};

use crate::{
    js::{Goal, Language, hazards::unwrapped, session},
    obfuscate::{MARK_NUMBERS, Mark},
    workers::STACK_BYTES,
};

/// The numbers that a mark has to offer are at least this, and below [`ABOVE`].
const FROM: i64 = 1 << 29;
const ABOVE: i64 = 1 << 30;

/// The chance of naming any delivery wrongly that is not exceeded, as the exponent of ten.
pub const MAX_FALSE_MATCH_LOG10: f64 = -9.0;

/// The numbers of a text that a mark could have put there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(HashSet<u32>);

impl Numbers {
    /// Reads the numbers of `text`: JavaScript, whole or a piece of it, or any other text that holds some.
    ///
    /// Literals are read from the text itself, in every notation, so that a piece that is no program any more has
    /// them all. Of a program that can be read, sums and the like of literals count too: that is what tools make of
    /// numbers that they hide.
    pub fn of(text: &str) -> Self {
        let mut found = Self::default();
        for Literal { value, negative } in literals(text) {
            found.add(value, negative);
        }
        // A program is walked by recursion, which needs a deep stack. What cannot be parsed has no sums to read, and
        // its literals are found already.
        let sums = || {
            let mut sums = Self::default();
            let _ = session("trace", "leak", text, |session| {
                let program = session.parse(Language::JavaScript, Goal::CommonJsOrModule)?;
                program.visit_with(&mut Sums(&mut sums));
                Ok(())
            });
            sums
        };
        let sums = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, sums);
            thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
        });
        found.extend(&sums);
        found
    }

    /// Adds what the number may have been before a tool wrote `~n` as `-n - 1`, or either as unsigned.
    fn add(&mut self, value: f64, negative: bool) {
        if value.fract() != 0.0 || value.abs() > 2_f64.powi(53) {
            return;
        }
        let value = value as i64;
        let unsigned = 1_i64 << 32;
        let mut may_be = vec![value];
        if negative {
            may_be.push(value - 1);
        }
        if value < 0 {
            may_be.extend([-value, -value - 1]);
        }
        may_be.extend([unsigned - value, unsigned - 1 - value]);
        let mark = may_be.into_iter().filter(|value| (FROM..ABOVE).contains(value));
        self.0.extend(mark.filter_map(|value| u32::try_from(value).ok()));
    }

    /// Adds the numbers of another text.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Holds the numbers against the mark of one of `deliveries` deliveries.
    pub fn compare(&self, mark: &Mark, deliveries: usize) -> Match {
        let shared = mark.numbers().filter_map(|number| u32::try_from(number).ok());
        let mut numbers: Vec<u32> = shared.filter(|number| self.0.contains(number)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Match { chance_log10: chance_log10(numbers.len(), self.len(), deliveries), numbers }
    }
}

/// How a text's numbers compare with a mark's.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The chance that a text made without this mark shares as much with any of the deliveries, as the exponent of ten.
    pub chance_log10: f64,
    /// What they share.
    pub numbers: Vec<u32>,
}

impl Match {
    /// How many numbers they share.
    pub fn hits(&self) -> usize {
        self.numbers.len()
    }

    /// Whether chance is ruled out.
    pub fn is_certain(&self) -> bool {
        self.chance_log10 < MAX_FALSE_MATCH_LOG10
    }

    /// How many of the numbers shared stand in `numbers`.
    pub fn shared_with(&self, numbers: &Numbers) -> usize {
        self.numbers.iter().filter(|number| numbers.0.contains(number)).count()
    }
}

/// Bounds the chance of `hits` hits or more with any of `deliveries` deliveries.
fn chance_log10(hits: usize, numbers: usize, deliveries: usize) -> f64 {
    let expected = MARK_NUMBERS as f64 * numbers as f64 / (ABOVE - FROM) as f64;
    let one = (1..=hits).map(|hit| (expected / hit as f64).log10()).sum::<f64>();
    (one + (deliveries.max(1) as f64).log10()).min(0.0)
}

/// A number as it stands in a text.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Literal {
    value: f64,
    /// Whether a `-` stands before it.
    negative: bool,
}

/// Reads every number of a text, in any notation of JavaScript.
fn literals(text: &str) -> Vec<Literal> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let inside = at > 0 && is_word(bytes[at - 1]);
        let starts = bytes[at].is_ascii_digit()
            || bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if inside || !starts {
            at += 1;
            continue;
        }
        let end = end_of_number(bytes, at);
        if let Some(value) = value(&text[at..end]) {
            let before = bytes[..at].iter().rev().find(|byte| !byte.is_ascii_whitespace());
            found.push(Literal { value, negative: before == Some(&b'-') });
        }
        at = end;
    }
    found
}

/// Whether a digit after `byte` belongs to a name or a number that began before.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn end_of_number(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    let prefixed = bytes[at] == b'0' && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic);
    while let Some(byte) = bytes.get(at) {
        let exponent = !prefixed && at > start && matches!(bytes[at - 1], b'e' | b'E');
        let belongs = byte.is_ascii_alphanumeric()
            || *byte == b'_'
            || *byte == b'.' && !prefixed
            || matches!(byte, b'+' | b'-') && exponent;
        if !belongs {
            break;
        }
        at += 1;
    }
    at.max(start + 1)
}

/// Returns the value of a literal, or `None` of what is none.
fn value(literal: &str) -> Option<f64> {
    let text: String = literal.chars().filter(|c| *c != '_').collect();
    let text = text.strip_suffix('n').unwrap_or(&text);
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(|value| value as f64);
    match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => radix(&text[2..], 16),
        [b'0', b'o' | b'O', ..] => radix(&text[2..], 8),
        [b'0', b'b' | b'B', ..] => radix(&text[2..], 2),
        [b'0', digits @ ..]
            if !digits.is_empty() && digits.iter().all(|byte| (b'0'..b'8').contains(byte)) =>
        {
            radix(&text[1..], 8)
        }
        _ => text.parse().ok(),
    }
}

/// Adds the value of every expression that is made of literals alone.
struct Sums<'a>(&'a mut Numbers);

impl Visit for Sums<'_> {
    fn visit_expr(&mut self, node: &Expr) {
        match constant(node) {
            Some(value) => self.0.add(value, false),
            None => node.visit_children_with(self),
        }
    }
}

fn constant(expr: &Expr) -> Option<f64> {
    match unwrapped(expr) {
        Expr::Lit(Lit::Num(number)) => Some(number.value),
        Expr::Unary(UnaryExpr { op, arg, .. }) => {
            let value = constant(arg)?;
            match op {
                UnaryOp::Minus => Some(-value),
                UnaryOp::Plus => Some(value),
                UnaryOp::Tilde => Some(f64::from(!int32(value)?)),
                _ => None,
            }
        }
        Expr::Bin(BinExpr { op, left, right, .. }) => {
            let (left, right) = (constant(left)?, constant(right)?);
            let int = |with: fn(i32, i32) -> i32| Some(f64::from(with(int32(left)?, int32(right)?)));
            match op {
                BinaryOp::Add => Some(left + right),
                BinaryOp::Sub => Some(left - right),
                BinaryOp::Mul => Some(left * right),
                BinaryOp::Div => Some(left / right),
                BinaryOp::BitXor => int(|left, right| left ^ right),
                BinaryOp::BitOr => int(|left, right| left | right),
                BinaryOp::BitAnd => int(|left, right| left & right),
                BinaryOp::LShift => int(|left, right| left.wrapping_shl(right as u32)),
                BinaryOp::RShift => int(|left, right| left.wrapping_shr(right as u32)),
                BinaryOp::ZeroFillRShift => {
                    Some(f64::from((int32(left)? as u32).wrapping_shr(int32(right)? as u32)))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Returns the number as bit operators see it, where it is whole and small enough to be exact.
fn int32(value: f64) -> Option<i32> {
    (value.fract() == 0.0 && value.abs() <= 2_f64.powi(53)).then_some(value as i64 as i32)
}

#[cfg(test)]
mod tests {
    use protected_model::digest::Sha256;

    use super::*;
    use crate::obfuscate::Seed;

    fn mark(delivery: &str) -> Mark {
        Mark::derive(b"a secret of this test", delivery)
    }

    fn first(mark: &Mark, count: usize) -> Vec<u32> {
        let mut numbers = mark.numbers_of("src/index.js");
        (0..count).map(|_| numbers.next() as u32).collect()
    }

    fn sorted(text: &str) -> Vec<u32> {
        let mut found: Vec<u32> = Numbers::of(text).0.into_iter().collect();
        found.sort_unstable();
        found
    }

    /// Random words that no mark made.
    fn noise(label: &str) -> impl Iterator<Item = u32> {
        let mut random = Seed::derive(None, &Sha256::of(label)).random("noise");
        std::iter::repeat_with(move || random.word())
    }

    #[test]
    fn numbers_are_read_in_every_notation() {
        for text in [
            "536870999",
            "a(536870999)",
            "0x20000057",
            "0X2000_0057",
            "0o4000000127",
            "04000000127",
            "0b100000000000000000000001010111",
            "5.36870999e8",
            "536_870_999",
            "536870999n",
            "536870999.0",
            "53687099.9e1",
            "x=-536870999",
            "~536870999",
            "- 536871000",
            "3758096297",
            "3758096296",
            "{536870999:1}",
            "'536870999'",
            "if (a) { b(536870999",
            "return 536870999}",
        ] {
            assert!(sorted(text).contains(&536_870_999), "{text}");
        }
        for text in [
            "",
            "a536870999",
            "$536870999",
            "é536870999",
            "1.536870999",
            "536870999.5",
            "5368709990",
            "0x",
            "0b12",
            "1e999",
            "..",
            "3..toString()",
            "0x20000057z",
        ] {
            assert_eq!(sorted(text), [0_u32; 0], "{text}");
        }
        // One text, several numbers, and none from the boundary.
        assert_eq!(sorted("[536870912,1073741823,536870911,1073741824]"), [536_870_912, 1_073_741_823]);
    }

    #[test]
    fn what_tools_make_of_a_number_is_computed() {
        for text in [
            "f(0x14e1 * -0x1 + 536876344)",
            "f((1 << 29) + 87)",
            "f(~-536871000)",
            "f(268435456 * 2 + (90 - 3))",
            "f(2147484000 >>> 2 ^ 15)",
            "f((1 << 29 | 87))",
        ] {
            assert!(sorted(text).contains(&536_870_999), "{text}: {:?}", sorted(text));
        }
        assert!(sorted("f(x + 536871000 + 999)").contains(&536_871_000), "only what is constant is computed");
        assert!(!sorted("f(x + 536871000 + 999)").contains(&536_871_999));
    }

    #[test]
    fn a_mark_is_known_from_a_few_of_its_numbers() {
        let acme = mark("acme-1.0.0");
        let text = |numbers: &[u32]| numbers.iter().map(|n| format!("f({n});")).collect::<String>();
        let some = first(&acme, 60);
        assert!(Numbers::of(&text(&some[40..44])).compare(&acme, 1000).is_certain());
        assert!(
            !Numbers::of(&text(&some[40..41])).compare(&acme, 1000).is_certain(),
            "one number is too few"
        );
        assert!(!Numbers::of("").compare(&acme, 1).is_certain());
        let other = Numbers::of(&text(&some)).compare(&mark("acme-1.0.1"), 1000);
        assert!(!other.is_certain() && other.hits() == 0, "{other:?}");
        let other = Numbers::of(&text(&some)).compare(&Mark::derive(b"another secret", "acme-1.0.0"), 1000);
        assert!(!other.is_certain(), "{other:?}");
        // Two copies in one file, and much that belongs to neither.
        let globex = mark("globex-1.0.0");
        let mixed: Vec<u32> = noise("mixed")
            .take(3000)
            .map(|word| word >> 3 | 1 << 29)
            .chain(first(&globex, 200))
            .chain(some.iter().copied())
            .collect();
        let mixed = Numbers::of(&text(&mixed));
        assert!(mixed.compare(&acme, 1000).is_certain() && mixed.compare(&globex, 1000).is_certain());
        assert!(!mixed.compare(&mark("initech-1.0.0"), 1000).is_certain());
    }

    /// A piece from the middle of a large file, which has begun the mark's numbers again.
    #[test]
    fn a_piece_of_a_large_file_is_enough() {
        let acme = mark("acme-1.0.0");
        let numbers = first(&acme, 100_000);
        let piece = Numbers(numbers[90_000..90_012].iter().copied().collect());
        let found = piece.compare(&acme, 1000);
        assert!(found.is_certain() && found.hits() == 12, "{found:?}");
    }

    /// Texts that no mark made are never named, and what is said of the chance is not less than what happens.
    #[test]
    fn chance_is_not_more_than_stated() {
        let deliveries = 20;
        let marks: Vec<HashSet<u32>> = (0..deliveries)
            .map(|number| mark(&format!("customer-{number}")).numbers().map(|number| number as u32).collect())
            .collect();
        let (mut files, mut often, mut rarely) = (0, 0, 0);
        for (size, count) in [(30, 1000), (300, 500), (3000, 250), (30_000, 25)] {
            for file in 0..count {
                files += 1;
                let numbers: HashSet<u32> =
                    noise(&format!("{size}/{file}")).take(size).map(|word| word >> 3 | 1 << 29).collect();
                let least = marks
                    .iter()
                    .map(|mark| {
                        let hits = numbers.iter().filter(|number| mark.contains(*number)).count();
                        chance_log10(hits, numbers.len(), deliveries)
                    })
                    .fold(0.0, f64::min);
                assert!(least >= MAX_FALSE_MATCH_LOG10, "a file without a mark was named: {size}/{file}");
                often += u32::from(least < -1.0);
                rarely += u32::from(least < -2.0);
            }
        }
        assert!(f64::from(often) <= f64::from(files) * 0.1, "{often} of {files} below 1e-1");
        assert!(f64::from(rarely) <= f64::from(files) * 0.01, "{rarely} of {files} below 1e-2");
        assert!(often > 0, "the figures are tested where they are small enough to happen");
    }

    /// Otherwise a number that stands in two files would tell, from one copy alone, what is a mark.
    #[test]
    fn files_begin_elsewhere() {
        let acme = mark("acme-1.0.0");
        let of = |file: &str| -> Vec<i32> {
            let mut numbers = acme.numbers_of(file);
            (0..100).map(|_| numbers.next()).collect()
        };
        assert_eq!(of("a.js"), of("a.js"));
        let files: Vec<Vec<i32>> = (0..20).map(|number| of(&format!("src/{number}.js"))).collect();
        let all: HashSet<i32> = acme.numbers().collect();
        let shared = files.iter().enumerate().flat_map(|(at, one)| {
            files[at + 1..].iter().filter(move |other| other.iter().any(|number| one.contains(number)))
        });
        assert!(shared.count() <= 4);
        assert!(files.iter().flatten().all(|number| all.contains(number)));
    }

    /// Constants of well-known algorithms, some of which are of a mark's size.
    #[test]
    fn constants_that_occur_by_themselves_name_nobody() {
        let known = "0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19, \
            0x243f6a88, 0x2b7e1516, 0x27d4eb2f, 0x3ade68b1, 1013904223, 536870912, 1073741823, 0x21526411, 0x36d1f8ab";
        let numbers = Numbers::of(known);
        assert!(numbers.len() > 5);
        for number in 0..300 {
            let found = numbers.compare(&mark(&format!("customer-{number}")), 300);
            assert!(!found.is_certain(), "{found:?}");
        }
    }
}
