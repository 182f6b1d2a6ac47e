outer: for (let i = 0; i < 3; i++) { inner: for (let j = 0; j < 3; j++) { if (j === 1) continue outer; if (i === 2) break outer; console.log(i, j); } }
block: { console.log('in'); if (true) break block; console.log('never'); }
function f() { a: { b: { break a; } return 'no'; } return 'yes'; }
console.log(f());
label: if (true) { break label; }
loop: do { try { continue loop; } finally { console.log('finally'); } } while (false);
