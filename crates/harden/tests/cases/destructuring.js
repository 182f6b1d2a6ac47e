const [x, , y = 3, ...z] = [1, 2, undefined, 4, 5]; console.log(x, y, z);
const { a: { b = 'default' } = {}, 'quoted-key': q, 1: one } = { 'quoted-key': 'q', 1: 'o' }; console.log(b, q, one);
let m = 1, n = 2; [m, n] = [n, m]; console.log(m, n); ({ m, n = 5 } = { m: 9 }); console.log(m, n);
const o = {}; [o.a, o['b'], [o.c]] = [1, 2, [3]]; console.log(o);
function* iter() { try { yield 1; yield 2; } finally { console.log('closed'); } } const [first] = iter(); console.log(first);
const [] = iter(); const [, ] = iter(); let calls = 0; const { v = (calls++, 1), w = (calls++, 2) } = { v: 0 }; console.log(calls);
try { const { p } = undefined; } catch (error) { console.log(error.name); } try { const [k] = {}; } catch (error) { console.log(error.name); }
for (const [k, v] of Object.entries({ e: 1 })) console.log(k, v); var { u } = { u: 1 }, [t] = [2]; console.log(u, t);
const { prototype } = class { static z = 1; }; console.log(typeof prototype); const {} = { get a() { throw 1; } };
