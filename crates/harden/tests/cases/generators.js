function* gen() { try { const got = yield 1; console.log('got', got); yield* [2, 3]; return 4; } finally { console.log('cleanup'); } }
const it = gen(); console.log(it.next(), it.next('value'), it.return(9), it.next());
console.log([...gen()]); for (const x of gen()) { if (x === 2) break; }
function* infinite() { let i = 0; while (true) { const reset = yield i++; if (reset) i = 0; } }
const inf = infinite(); console.log(inf.next().value, inf.next().value, inf.next(true).value);
function* delegating() { const result = yield* (function* () { yield 'a'; return 'result'; })(); yield result; } console.log([...delegating()]);
const o = { *g() { yield this.v; }, v: 5 }; console.log([...o.g()]);
function* args() { yield arguments.length; } console.log([...args(1, 2)]);
