function read(run) { try { return run(); } catch (error) { return error.constructor === TypeError; } }
console.log(read(() => { const a = 1; a = 2; return a; }), read(() => { const a = 1; a++; }), read(() => { const { b } = { b: 1 }; b += 1; }));
console.log(read(() => { for (const i = 0; i < 1; i++) {} }));
console.log(read(() => { (function named() { 'use strict'; named = 1; })(); }), (function named() { named = 1; return typeof named; })());
console.log(read(() => { class A { static set() { A = 1; } } A.set(); }));
