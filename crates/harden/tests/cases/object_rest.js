const { a, ...rest } = { a: 1, b: 2, c: 3, [Symbol.for('s')]: 4 }; console.log(a, rest);
const key = 'b'; const { [key]: taken, ...others } = { a: 1, b: 2 }; console.log(taken, others);
const { unused, ...kept } = { unused: 1, kept: 2 }; console.log(kept);
(({ x, ...y }) => console.log(x, y))({ x: 1, z: 2 });
function without({ secret, ...open }) { return open; } console.log(without({ secret: 1, open: 2 }));
let target; ({ a: target, ...target.rest } = { a: {}, b: 1 }); console.log(target);
for (const { p, ...q } of [{ p: 1, q: 2 }]) console.log(q);
const { length, ...chars } = 'ab'; console.log(length, chars);
const calls = []; const { get: g1, ...r } = { get get() { calls.push('get'); return 1; }, get other() { calls.push('other'); return 2; } }; console.log(calls, r);
const { 0: zero, '1': one, ...more } = [1, 2, 3]; console.log(zero, one, more);
try { const { ...nothing } = null; } catch (error) { console.log(error.name); }
