const fns = []; for (let i = 0; i < 3; i++) fns.push(() => i); console.log(fns.map((f) => f()));
const vars = []; for (var j = 0; j < 3; j++) vars.push(() => j); console.log(vars.map((f) => f()));
const changed = []; for (let i = 0; i < 3; i++) { changed.push(() => i); i++; } console.log(changed.map((f) => f()));
const each = []; for (const k in { a: 1, b: 2 }) each.push(() => k); console.log(each.map((f) => f()));
const whiles = []; let n = 0; while (n < 2) { const c = n++; let unset; whiles.push(() => [c, unset]); unset = c; } console.log(whiles.map((f) => f()));
for (let i = 0, get = () => i; i < 2; i++) console.log(get());
const fresh = []; for (let i = 0; i < 2; i++) { let v; fresh.push(v); v = i; } console.log(fresh);
