const kind = (v) => { switch (v) { case 1: case 2: return 'low'; default: return 'other'; case 'x': { const v = 'shadow'; return v; } case null: return 'null'; case NaN: return 'never'; } };
console.log(kind(1), kind(2), kind('x'), kind(null), kind(NaN), kind(9));
const fall = (v) => { const out = []; switch (v) { case 1: out.push(1); case 2: out.push(2); break; default: out.push('d'); case 3: out.push(3); } return out; };
console.log(fall(1), fall(2), fall(3), fall(4)); let calls = 0; const c = () => ++calls; switch (2) { case c(): case c(): console.log('hit', calls); case c(): console.log(calls); }
switch (1) { default: } switch (console.log('evaluated')) {} switch (0) { case 0: let scoped = 1; console.log(scoped); }
function sw(x) { switch (x) { case 'a': if (x) break; return 1; case 'b': return 2; } return 3; } console.log(sw('a'), sw('b'), sw('c')); switch (true) { case 1 > 2: console.log('no'); break; case 2 > 1: console.log('yes'); }
