//! Programs print the same after they are reshaped: each runs under Node before and after, for many seeds.

use std::{io::Write, process::Command};

use protected_model::digest::Sha256;
use swc_core::{
    common::SyntaxContext,
    ecma::{
        ast::*,
        transforms::base::{
            fixer::{fixer, paren_remover},
            resolver,
        },
        visit::{Visit, VisitWith},
    },
};

use super::reshape;
use crate::{
    Profile,
    js::{
        Goal, Language,
        print::{Around, OriginalNames, print},
        rename::{Kept, shorten},
        session,
    },
    obfuscate::{Constants, Heat, Seed, State, Work},
};

const STATE: (&str, i32) = ("let", 712_345_678);

/// Returns `source` with its functions reshaped. Its state is a variable that the test declares.
pub(super) fn reshaped(source: &str, seed: &str, profile: Profile) -> String {
    let value = STATE.1;
    let text = format!("let $state = Number(['{value}'].join());\n{source}");
    session("test", "test.js", &text, |session| {
        let mut program = session.parse(Language::JavaScript, Goal::CommonJs)?;
        let names = OriginalNames::of(&program);
        program.mutate(resolver(session.unresolved, session.top_level, false));
        program.mutate(paren_remover(None));
        let random = Seed::derive(None, &Sha256::of(seed)).random("shape");
        let constants = Constants::new(random.fork("constants"));
        let state = State::new(vec![(state_variable(&program), value)]);
        let mut work = Work {
            session,
            package: "sample",
            profile,
            random,
            constants,
            functions: Default::default(),
            heat: Heat::of(&program),
            defends: false,
            defence: None,
            names: Default::default(),
        };
        reshape(&mut program, &mut work, &state);
        let kept = Kept { top_level: false, private_names: false, ..Kept::default() };
        shorten(session, &mut program, &kept);
        program.mutate(fixer(None));
        Ok(print(session, program, &names, true, &Around::default())?.code)
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

fn state_variable(program: &Program) -> Ident {
    struct Finder(Option<Ident>);
    impl Visit for Finder {
        fn visit_ident(&mut self, node: &Ident) {
            if node.sym == "$state" && node.ctxt != SyntaxContext::empty() {
                self.0.get_or_insert_with(|| node.clone());
            }
        }
    }
    let mut finder = Finder(None);
    program.visit_with(&mut finder);
    finder.0.expect("state")
}

/// Runs several programs in one process and returns what each printed.
fn printed(programs: &[String]) -> Vec<String> {
    const RUNNER: &str = r#"
        const programs = JSON.parse(require('fs').readFileSync(0, 'utf8'));
        const outputs = [];
        for (const program of programs) {
          const lines = [];
          const console = { log: (...values) => lines.push(values.map((v) => typeof v === 'string' ? v : require('util').inspect(v)).join(' ')) };
          try { new Function('console', 'require', program)(console, require); } catch (error) { lines.push('threw ' + error.name + ' ' + (error.name === 'SyntaxError' ? error.message : '')); }
          outputs.push(lines.join('\n'));
        }
        process.stdout.write(JSON.stringify(outputs));
    "#;
    let mut child = Command::new("node")
        .args(["-e", RUNNER])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("node");
    let input = serde_json::to_string(programs).expect("json");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("node");
    serde_json::from_slice(&output.stdout).expect("json")
}

fn same(source: &str) {
    let before = printed(&[source.to_owned()]).remove(0);
    assert!(!before.is_empty() && !before.contains("SyntaxError"), "{before}\n{source}");
    for profile in [Profile::Standard, Profile::Strong] {
        let programs: Vec<String> =
            (0..50).map(|seed| reshaped(source, &seed.to_string(), profile)).collect();
        for (program, after) in programs.iter().zip(printed(&programs)) {
            assert_eq!(before, after, "{source}\n{program}");
        }
    }
}

#[test]
fn declarations_keep_their_order() {
    same(
        "function f(a) { let b = a + 1; const c = b * 2; var d = c - 1; if (d > 3) { return 'big' + d } d++;
         console.log(a, b, c, d); return d } console.log(f(0), f(1), f(5));
         function g({ x, y: [z] }, ...more) { let { p, q = x, ...r } = more[0]; let [s = p, , t] = more[1];
         var { u = q } = r; console.log(x, z, p, q, r, s, t, u); return more.length }
         console.log(g({ x: 1, y: [2] }, { p: 3, w: 4 }, [undefined, 6, 7]), g.length);",
    );
}

#[test]
fn what_is_met_before_its_declaration_still_throws() {
    same(
        "const said = (run) => { try { return run() } catch (error) { return error.name } };
         function before() { console.log(1); console.log(a); let a = 2; console.log(a); return a }
         function called() { console.log(1); inner(); let a = 2; console.log(a); function inner() { return a } }
         function closed() { let read = () => late; console.log(1); read(); let late = 2; console.log(late) }
         function own() { console.log(1); let a = a + 1; console.log(a) }
         function pattern() { console.log(1); let { a, b = c, c } = { a: 1 }; console.log(a, b, c) }
         function later() { console.log(1); let a = b, b = 2; console.log(a, b) }
         function kind() { console.log(1); typeof x; let x = 1; console.log(x) }
         function classes() { console.log(1); new A; class A {} console.log(A.name) }
         function fixed() { const a = 1; console.log(a); a = 2; console.log(a) }
         function fixedTwo() { console.log(0); const [a] = [1]; console.log(a); [a] = [2]; console.log(a) }
         function fixedThree() { console.log(0); const a = 1; console.log(a); for (a of [3]) console.log(a); }
         function fixedFour() { console.log(0); const a = 1; console.log(a); a++; console.log(a) }
         for (const one of [before, called, closed, own, pattern, later, kind, classes, fixed, fixedTwo, fixedThree,
         fixedFour]) console.log(one.name.length > 0, said(one));",
    );
}

#[test]
fn names_and_lengths_stay() {
    same(
        "function f(a, b) { let g = function () {}; const h = () => 1; let k = class {}; var m = function () {};
         let { n = () => 2 } = {}; let [o = class {}] = []; console.log(typeof g, typeof h);
         return [g.name.length, h.name.length, k.name.length, m.name.length, n.name.length, o.name.length]
         .map(Boolean) } console.log(f(), f.length);
         function make() { console.log(1); return function () {} } console.log(make().name === '');
         function arrow() { console.log(1); return () => 1 } console.log(arrow().name === '');
         console.log(((a, b) => a).length, (function (a, b = 1) {}).length, ((...a) => a).length, (() => {}).length);
         console.log(Object.getOwnPropertyDescriptor({ set a(v) {} }, 'a').set.length);
         class A { constructor(a, b) { this.a = a } m(a) { return a } static s(a, b) { return b } get g() { return 1 }
         set g(v) { this.v = v } async am(a) { return a } *gm(a, b, c) { yield a } #p(a) { return a }
         p() { return this.#p.length } }
         console.log(A.length, new A(1).m.length, A.s.length, A.prototype.am.length, A.prototype.gm.length, new A().p());",
    );
}

#[test]
fn arguments_stay_aliased() {
    same(
        "function f(a, b) { arguments[0] = 5; b = 7; console.log(a, arguments[1], arguments.length); return a }
         console.log(f(1, 2, 3), f());
         function g(a) { 'use strict'; arguments[0] = 5; a++; return a + arguments.length } console.log(g(1));
         function h(a) { const read = () => arguments[0]; a = 9; console.log(read()); return read() } console.log(h(1));
         console.log([1, 2, 3].map((x) => x * 2), ['1', '2', '3'].map((x, y) => x + y));
         function k() { return arguments.length } console.log(k(1, 2, 3), [k].map((f) => f(1)));
         function twice(a, a) { var c = a; if (c) return c; return 'none' } console.log(twice(1, 2), twice());",
    );
}

#[test]
fn parameters_keep_their_scope() {
    same(
        "var x = 'outer'; function f(a = () => x, b = a()) { var x = 'inner'; console.log(x, b); return a() }
         console.log(f());
         function g(a, b = () => a) { var a; console.log(a); a = 2; return b() } console.log(g(1));
         function h(a) { var a; console.log(typeof a); function a() {} console.log(1); return typeof a }
         console.log(h(1));
         function k(a) { if (a) { var b = a } else { b = 'none' } console.log(b); return b } console.log(k(1), k(0));
         function shadow(e) { let r = e; { let e = 2; r += e } for (let e = 0; e < 2; e++) r += e; return r + e }
         console.log(shadow(10));",
    );
}

#[test]
fn closures_keep_their_variables() {
    same(
        "function f() { const all = []; for (let i = 0; i < 3; i++) { let j = i * 2; all.push(() => i + j) }
         console.log(all.length); let k = 1; all.push(() => k); k = 5; return all.map((g) => g()) } console.log(f());
         function g(n) { let v = n; const get = () => v; if (n) { v++; } console.log(get()); return { get, set: (w) => { v = w } } }
         const one = g(1), two = g(5); one.set(9); console.log(one.get(), two.get());
         function while_(n) { const all = []; while (n--) { const m = n; all.push(() => m) } console.log(n); return all.map((g) => g()) }
         console.log(while_(3));
         function again() { let a; console.log(a); a = (a || 0) + 1; return a } console.log(again(), again());",
    );
}

#[test]
fn functions_in_blocks_stay() {
    same(
        "function f(a) { console.log(typeof g); if (a) { function g() { return 1 } } console.log(typeof g); return typeof g }
         console.log(f(1), f(0));
         function h() { 'use strict'; console.log(1); { function g() { return 1 } console.log(g()) } return typeof g }
         console.log(h());
         function k(a) { switch (a) { case 1: function g() { return 1 } } console.log(typeof g); return g && g() }
         console.log(k(1), k(0));
         function two() { return one(); function one() { return 1 } function one() { return 2 } } console.log(two());
         function label(a) { if (a) function q() { return 3 } console.log(typeof q); return typeof q } console.log(label(1), label(0));",
    );
}

#[test]
fn generators_and_async_functions() {
    same(
        "function* f(a) { let b = yield a; console.log(b); if (b) { yield* [1, 2]; return 'end' } const c = yield b; console.log(c) }
         for (const one of [true, false]) { const g = f(7); console.log(g.next(), g.next(one), g.next('c'), g.next(), g.next()) }
         function* bare() { yield 1 } console.log([...bare()]);
         function* finish() { try { yield 1; console.log('on') } finally { console.log('end') } } for (const a of finish()) break;
         const lines = []; async function g(a) { lines.push(1); let b = await a; lines.push(b); if (b > 2) return b * 2; const c = await 9; return c }
         console.log(typeof g(1).then, lines.length); async function bad() { lines.push(1); throw new Error('x') } bad().catch(() => {});
         const h = async (a) => await a; console.log(h(1) instanceof Promise);
         async function* both(a) { yield a; await 1; yield* [a] } console.log(typeof both(1).next);",
    );
}

#[test]
fn classes_keep_their_construction() {
    same(
        "class A { constructor(a) { this.a = a; console.log(new.target.name.length > 0); if (a) return; this.b = 1 } }
         class B extends A { #x = 1; static y = 2; constructor(a) { if (a > 1) { super(a) } else { console.log('small'); super(0) }
         this.c = this.#x } get d() { return this.c + 1 } set d(v) { this.c = v; console.log(v) } m() { return super.m } static { console.log(this.y) } }
         console.log(new B(2).d, new B(1).b); const b = new B(3); b.d = 8; console.log(b.d);
         class C extends A { constructor() { console.log(1); try { this.x } catch (e) { console.log(e.name) } super(1); return { own: 1 } } }
         console.log(new C().own);
         class D extends A { constructor() { console.log(1) } } try { new D } catch (e) { console.log(e.name) }
         const o = { get a() { return 1 }, set a(v) { console.log(v) }, b() { return super.toString === Object.prototype.toString }, ['c' + 1]() { return 2 } };
         o.a = o.a + 1; console.log(o.b(), o.c1());",
    );
}

#[test]
fn branches_and_early_ends() {
    same(
        "function f(a) { if (a === 1) return 'one'; else if (a === 2) { console.log('two'); return 2 } else a === 3 ? console.log('three') : a && console.log('else');
         a > 3 || console.log('low'); if (a == 9) throw new RangeError('nine'); console.log('after'), a++; return a > 5 ? (console.log('big'), a) : -a }
         for (let i = 0; i < 10; i++) try { console.log(f(i)) } catch (e) { console.log(e.name) }
         function g(a) { if (a) { console.log('a'); return; console.log('never'); var hoisted = 1 } console.log(hoisted); hoisted = 3 } console.log(g(1), g(0));
         function none() {} console.log(none()); function empty() { ; ; } console.log(empty());
         function labels(n) { const out = []; outer: for (let i = 0; i < n; i++) { for (let j = 0; j < n; j++) { if (j == 1) continue outer; if (i == 2) break outer; out.push(i, j) } } inner: { if (n > 2) break inner; out.push('small') } console.log(out.length); return out }
         console.log(labels(2), labels(4));
         function tries(a) { try { if (a) throw a; console.log('none'); return 'try' } catch (e) { console.log(e); return 'catch' } finally { console.log('finally'); if (a > 1) return 'finally' } }
         console.log(tries(0), tries(1), tries(2));
         function switches(a) { let r = ''; switch (a) { case 1: r += 'a'; case 2: { r += 'b'; break } default: r += 'c' } console.log(r); return r }
         console.log(switches(1), switches(2), switches(3));",
    );
}

#[test]
fn directives_stay_first() {
    same(
        "function f() { 'use strict'; console.log(this === undefined); let a = 1; if (a) a++; return a } console.log(f());
         function g() { console.log(this === undefined); ('use strict'); return 1 } console.log(g.call(undefined));
         const h = () => { 'use strict'; console.log(1); undeclared = 1 }; try { h() } catch (e) { console.log(e.name) }
         function k(a) { 'use strict'; return a } console.log(k(3));
         function seq() { return 'use strict', typeof this } console.log(seq.call(undefined));",
    );
}

#[test]
fn effects_keep_their_order() {
    same(
        "const log = (a) => (console.log(a), a);
         function f() { let a = log(1), b = log(2); log(a) && log(b); var c = (log(3), log(4)); [a, b] = [b, a]; console.log(a, b, c);
         log(0) || log(5), log(6); return log(7), log(8) } console.log(f());
         const o = { get x() { console.log('get'); return 1 } }; function g() { let { x, ['x']: y = log(9) } = o; console.log(x, y); delete o.x; void log(1); return 'x' in o }
         console.log(g());
         var fib = (n) => n < 2 ? n : fib(n - 1) + fib(n - 2); console.log(fib(12));",
    );
}

#[test]
fn declarations_in_arms() {
    same(
        "function f(a) { console.log(a); if (a) { let b = a * 2; const c = b + 1; console.log({ b, c }); if (c > 5) { let b = 'in'; console.log(b); return { b } } } else { let b = 'no'; let { d, e = b } = { d: 1 }; console.log(b, d, e) } let b = 'out'; return b }
         console.log(f(1), f(5), f(0));
         function g(a) { console.log(a); if (a) { const h = () => x; let x = 2; console.log(h()); return h } else { let h = function () {}; console.log(h.name.length > 0); try { y; let y } catch (e) { console.log(e.name) } return h } }
         console.log(g(1)(), typeof g(0));
         function k(a) { let all = []; if (a) { let i = a; all.push(() => i); i++ } if (a > 1) { let i = a * 10; all.push(() => i) } console.log(all.length); return all.map((h) => h()) }
         console.log(k(1), k(2), k(3));
         function m(a) { console.log(a); if (a) { const fixed = 1; try { fixed = 2 } catch (e) { console.log(e.name) } return fixed } return 0 } console.log(m(1), m(0));",
    );
}

#[test]
fn functions_that_merge() {
    same(
        "function outer(n) { function one(a, b) { console.log(a, b); var c = a; return c + 1 } function two(a) { console.log('two', a); return one(a) }
         function three() { console.log(3) } function recursive(n) { return n > 0 ? n + recursive(n - 1) : 0 }
         function mine() { return this === undefined || this === globalThis } function value(a, b) { return a } function made() { this.a = 1 }
         function counted() { return arguments.length } function inner(a) { const all = []; for (let i = 0; i < a; i++) all.push(() => i + a); return all.map((f) => f()) }
         function rest(a, ...b) { return b.length } function named(a) { a = function () {}; return a.name.length } function fails(a) { throw new RangeError(a) }
         function nested() { return g(); function g() { return 'g' } } function obj({ a }) { return a } function twice(a) { return a } function twice(a) { return a * 2 }
         console.log(one(1, 2), two(3, 4, 5), three(1, 2), recursive(5), mine(), value.length, value(1), new made().a, counted(1, 2), inner(3), rest(1, 2), named(), nested(), obj({ a: 1 }), twice(4), one(...[8, 9]), typeof one === 'function');
         try { fails('x') } catch (e) { console.log(e.message) } return n } console.log(outer(1));
         function top(a) { return side(a) + 1 } function side(a) { var r = a * 2; if (r > 4) return r; return low(r) } function low(a) { let r = a - 1; return r } console.log(top(1), top(5), side(2));
         function strict() { 'use strict'; return this === undefined } function sloppy() { return strict() } function plain() { return sloppy() } console.log(plain(), early()); function early() { return late() } function late() { return 'late' }",
    );
}

#[test]
fn expressions_that_move() {
    same(
        "const table = { list: [1, 2, 3], add(a, b) { return a + b }, get seen() { return table.list.length } };
         function f(a, b) { const c = table.add(a + 1, b * 2) + table.seen; console.log(c); return table.list.indexOf(a) > 0 ? c + a : b - c } console.log(f(1, 2), f(2, 3));
         function set(a, b) { a = a + 1; console.log(table.add(a, b + 1) * 2); return table.add(a + b, a) } console.log(set(1, 2));
         function again(a) { var a; function b() { a = 5; return 1 } const d = a + b() * 2 + a + table.seen; return d } console.log(again(1));
         function same(a) { var a = 9; return a * 2 + table.seen - a } console.log(same(1)); function over(a) { function a() {} return typeof a + table.seen + a.length } console.log(over(1));
         function aliased(a) { arguments[0] = 7; return a * 2 + table.seen + a } console.log(aliased(1));
         function late(a, b = () => c + a + table.seen, c = 1) { return b() + a * c + table.seen } console.log(late(1));
         function keep(a) { delete a.x.y; return typeof missing + typeof a.z.w + (a?.b.c ?? 'none') + a.x.constructor.name.length } console.log(keep({ x: { y: 1 }, z: {} }));
         function strict(a) { 'use strict'; try { Object.freeze(a); a.list.b = a.list.c + 1; a.x = a.x + 1 } catch (e) { return e.name + a.list.length + a.x } } console.log(strict({ list: [], x: 1 }));
         function order(a) { return a.get() + a.get() * table.add(a.get(), 1) - a.get() } let n = 0; console.log(order({ get: () => { console.log(++n); return n } }));
         class K { #p = 3; m(a) { return a.#p + a.#p * 2 + table.seen } has(a) { return #p in a && table.seen + a.m(a) > 2 } } console.log(new K().m(new K()), new K().has(new K()));
         function places(a) { [a.b.c.d, a.b.c.e = a.b.c.d + 1] = [1]; for (a.b.c.d of [5]); ({ x: a.b.c.f } = { x: 2 }); a.b.c.d++; return JSON.stringify(a) + new (a.b.K.k.z)(a.b.c.d).constructor.name.length } console.log(places({ b: { c: {}, K: { k: { z: Map.bind(null, []) } } } }) !== 'none');
         function deep(a) { return (b) => (c) => table.add(a + b, c * 2) + [a, b, c].length } console.log(deep(1)(2)(3)); function* gen(a) { const b = (yield a + 1) + table.add(a, a * 3); return b } const g = gen(2); console.log(g.next(), g.next(5));",
    );
}

#[test]
fn loops_and_what_leaves_them() {
    same(
        "function f(n) { const out = []; for (let i = 0; i < n; i++) { const j = i * 2; if (j === 2) continue; out.push(() => i + j); if (i > 3) break; out.push(j); switch (i) { case 0: out.push('zero'); break; case 3: out.push('three'); continue; default: out.push('other') } let k = j + 1; out.push(() => k++) }
         console.log(out.length); return out.map((g) => typeof g === 'function' ? g() : g) } console.log(f(2), f(7));
         function g(n) { let r = ''; outer: while (n-- > 0) { r += n; let i = 0; do { i++; if (i === 2) continue; if (i === 4) break; if (n === 3 && i === 3) continue outer; if (n === 1) break outer; r += '.' + i; } while (i < 5); for (const k in { a: 1, b: 2 }) { if (k === 'a') continue; r += k; console.log(k) } r += ';' } console.log(r); return r } console.log(g(6));
         function h(all) { const seen = []; for (const [a, b = 2] of all) { try { const c = a + b; if (c > 5) { seen.push('big'); break } if (c === 3) { seen.push('three'); continue } if (c === 4) throw new Error('four'); seen.push(c); console.log(c) } catch (e) { let m = e.message; seen.push(m); if (a === 4) return seen; console.log(m) } finally { seen.push('f') } } return seen }
         console.log(h([[0], [1], [2], [3], [4]]), h([[4, 0], [1]]));
         function* k(n) { for (let i = 0; i < n; i++) { const a = yield i; console.log(a); if (a === 'stop') return 'stopped'; let b = a || 'none'; console.log(b) } return n } const it = k(3); console.log(it.next(), it.next('x'), it.next('stop'), it.next());
         function m(n) { for (var i = 0; i < n; i++) { try { console.log(i); if (i === 1) return i; } finally { if (i === 1) continue; console.log('f'); } } return 'end' } console.log(m(3));
         function block(n) { for (const a of [1, 2]) { inner: { if (a === n) break inner; console.log(a); } function local() { return a } console.log(local()); let z = a; { let z = 5; console.log(z) } console.log(z) } return typeof local } console.log(block(1));
         function late(n) { for (let i = 0; i < 1; i++) { const read = () => x; console.log(i); try { read() } catch (e) { console.log(e.name) } let x = 1; console.log(read()); const y = 2; try { y = 3 } catch (e) { console.log(e.name) } } } late();",
    );
}

#[test]
fn functions_that_are_values() {
    same(
        "let top = 1; function help(a) { top += a; return top } const all = {}; const strict = (f) => { 'use strict'; return f.call(undefined) };
         all.method = function (a, b) { console.log(a); this.last = b; return this }; console.log(all.method.name, all.method.length, all.method(1, 2) === all, all.last);
         const Made = function (a) { this.a = a; if (a > 1) return { other: a }; console.log(new.target === undefined) }; console.log(new Made(1).a, new Made(2).other, new Made(1) instanceof Made);
         const Plain = function Named(a, b) { this.a = a; this.b = b; help(a) }; const made = new Plain(1, 2); console.log(made.a, made.b, made.constructor === Plain, Plain.name.length > 0, top); class Sub extends Plain { m() { console.log(this.a); return help(3) } } console.log(new Sub(4).m(), Reflect.construct(Plain, [1], Sub) instanceof Sub);
         const again = function self(n) { console.log(n); return n ? self(n - 1) : self === again }; console.log(again(2));
         const counted = function (a) { console.log(a); return arguments.length }; console.log(counted(1, 2, 3)); const free = function () { console.log(typeof this); return this === globalThis || this === undefined }; console.log(free(), strict(free));
         const inner = function (a) { const b = a + 1; return () => { console.log(b); return [this === all, b, top] } }; all.inner = inner; console.log(all.inner(1)(), inner.call(all, 5)());
         function makes(x) { console.log(x); return { get: function (a) { console.log(a); return x + a }, own: function (a) { let y = a; y++; return y + top } } } console.log(makes(1).get(2), makes(1).own(2));
         const o = { m(a) { console.log(a); return this.n + a }, n: 5, s() { console.log('s'); return super.toString === Object.prototype.toString }, get g() { console.log('g'); return this.n } }; console.log(o.m(1), o.s(), o.g, o.m.name, Object.keys(o).length);
         const set = function (a, b) { a = a || 5; var c = b; var b = 7; console.log(a, b, c); return delete this.x }; console.log(set.call({ x: 1 }, 0, 3), set.length);
         const modes = function () { console.log('x'); try { undeclaredName = 1; return 'sloppy' } catch (e) { return e.name } }; console.log(modes()); function strictOne() { 'use strict'; const f = function () { console.log('y'); try { undeclaredOther = 1; return 'sloppy' } catch (e) { return e.name } }; return f() } console.log(strictOne()); class K { m() { console.log('z'); try { undeclaredThird = 1; return 'sloppy' } catch (e) { return e.name } } static async n(a) { await a; return this.name } } console.log(new K().m());
         const args = [function (a) { console.log(a); return a * 2 }, function (a) { console.log(a); return this ? help(a) : 0 }]; console.log(args.map((f) => f(2)), typeof args[0], args[1].name === '');",
    );
}

#[test]
fn what_functions_that_are_values_do_stands_elsewhere() {
    let source = "exports.first = function (a, b) { console.log(a); console.log(b); return this.x }; exports.second = function (a) { console.log(a); this.x = a; return a }";
    let handed = |profile| {
        let texts = (0..20).map(|seed| reshaped(source, &seed.to_string(), profile));
        texts.filter(|text| text.contains("this,")).count()
    };
    assert!(handed(Profile::Strong) > 5);
    assert_eq!(handed(Profile::Standard), 0);
}

/// The parameter count and the kinds of statements of each function.
fn shapes(text: &str) -> Vec<String> {
    #[derive(Default)]
    struct Shapes(Vec<String>);
    impl Shapes {
        fn add(&mut self, parameters: usize, stmts: &[Stmt]) {
            let kinds: Vec<&str> = stmts.iter().map(kind).collect();
            self.0.push(format!("{parameters}({})", kinds.join(" ")));
        }
    }
    impl Visit for Shapes {
        fn visit_function(&mut self, node: &Function) {
            self.add(node.params.len(), &node.body.as_ref().expect("body").stmts);
            node.visit_children_with(self);
        }
        fn visit_constructor(&mut self, node: &Constructor) {
            self.add(node.params.len(), &node.body.as_ref().expect("body").stmts);
            node.visit_children_with(self);
        }
        fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
            match &*node.body {
                ArrowFunctionBody::FunctionBody(body) => self.add(node.params.len(), &body.stmts),
                ArrowFunctionBody::Expr(_) => self.0.push(format!("{}(return)", node.params.len())),
            }
            node.visit_children_with(self);
        }
    }
    fn kind(statement: &Stmt) -> &'static str {
        match statement {
            Stmt::Return(_) => "return",
            Stmt::If(_) => "if",
            Stmt::For(_) | Stmt::While(_) | Stmt::DoWhile(_) | Stmt::ForOf(_) | Stmt::ForIn(_) => "loop",
            Stmt::Switch(_) => "switch",
            Stmt::Expr(it) if matches!(&*it.expr, Expr::Lit(Lit::Str(_))) => "directive",
            Stmt::Decl(Decl::Fn(_)) => "function",
            _ => "do",
        }
    }
    session("test", "test.js", text, |session| {
        let mut shapes = Shapes::default();
        session.parse(Language::JavaScript, Goal::CommonJs)?.visit_with(&mut shapes);
        Ok(shapes.0)
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn no_function_keeps_its_shape() {
    let sources = [
        "function f() {}",
        "function f(a) { return a }",
        "var f = (a) => a + 1",
        "var f = (a) => { a() }",
        "function f(a) { if (a) return 1; return 2 }",
        "function f(a) { let b = a; b++; return b }",
        "function f(a) { for (const b of a) f(b); return a }",
        "function* f(a) { yield a; return 1 }",
        "async function f(a) { await a; f(a) }",
        "class A { constructor(a) { this.a = a } }",
        "class A extends f { constructor(a) { super(); this.a = a; return a } }",
        "class A { get b() { return 1 } }",
        "class A { set b(v) { this.v = v } }",
        "class A { static c(a) { return a } }",
        "class A { #d() { return 2 } }",
        "var o = { g() { return 1 } }",
        "var o = { get h() { return 1 } }",
        "function f() { 'use strict'; return this }",
        "function f() { return arguments.length }",
        "function f(a) { try { f(a) } catch { return 1 } }",
        "function f(a) { function g() { return 1 } let b = g; return b }",
        "function f(a) { switch (a) { case 1: return 2 } }",
    ];
    for source in sources {
        let before = shapes(source);
        assert!(!before.is_empty(), "{source}");
        for profile in [Profile::Standard, Profile::Strong] {
            for seed in 0..50 {
                let text = reshaped(source, &seed.to_string(), profile);
                let after = shapes(&text);
                assert!(!after.iter().any(|shape| before[0] == *shape), "{source} in {text}");
            }
        }
    }
}
