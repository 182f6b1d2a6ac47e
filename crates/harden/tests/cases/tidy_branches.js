function dangling(a, b) { if (a) { if (b) return 'both'; } else { return 'not a'; } return 'a'; }
function nested(a, b) { if (a) { if (b) { log('b'); } } else { log('else'); } }
function log(...all) { console.log(...all); return all.length; }
console.log(dangling(1, 1), dangling(1, 0), dangling(0, 1)); nested(1, 1); nested(1, 0); nested(0, 1);
function empty(a) { if (log('test')) {} if (!log()) {} else log('else'); if (a) ; else { log('only else'); } }
empty(0); empty(1);
function folds(a) { log('first'); if (a === 1) return 'one'; if (a === 2) { log('two'); return 'two'; } if (a !== 3) return log('other'), 'other'; return 'three'; }
console.log(folds(1), folds(2), folds(3), folds(4));
function negated(a) { if (!a) return 'no'; else return 'yes'; } console.log(negated(0), negated(1));
function chained(a, b) { if (a) if (b) return 'ab'; return 'none'; } console.log(chained(1, 1), chained(1, 0));
function assigned(a) { let x = 0; if (a) x = 1; if (!a) x = 2, log(x); if (a) { x += 1; log(x); } else x--; return x; } console.log(assigned(0), assigned(1));
function arrows(a) { if (a) { (() => log('arrow'))(); } if (a) ({ a: 1 }).a; if (a) (function () { log('fn'); })(); if (a) (class { static x = log('class'); }); } arrows(1);
function yields() { return [...(function* (a) { if (a) yield 1; if (a) { yield 2; yield 3; } else yield 4; return 5; })(1)]; } console.log(yields());
(async (a) => { if (a) await log('awaited'); if (a) { return await 'r'; } else { return 'n'; } })(1).then(log);
function loops() { for (var i = 0; i < 2; i++) { if (i) { continue; } log(i); } do { i--; } while (i > 0); while (i < 3) { i++; } for (const k in { a: 1 }) { log(k); } for (;;) { if (i++ > 4) break; } return i; } console.log(loops());
function scoped(a) { if (a) { let x = 'inner'; log(x); } if (a) { const y = 1; } if (a) { class Z {} } { let x = 'block'; log(x); } { var v = 'var'; } if (a) { function f() { return 'f'; } log(f()); } return v; } console.log(scoped(1));
function jumps(a) { outer: { if (a) { break outer; } log('not jumped'); } try { if (a) { return log('try'); } } finally { log('finally'); } return; } console.log(jumps(0), jumps(1));
function voids(a) { if (a) { return; } log('after'); return; } console.log(voids(0), voids(1)); const returned = () => { return { a: 1 }; }, seq = () => { log('s'); return [log('t'), 1]; }; console.log(returned(), seq());
