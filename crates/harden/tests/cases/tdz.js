function read(run) { try { return run(); } catch (error) { return error.name; } }
console.log(read(() => { early; let early = 1; }));
console.log(read(() => { const value = later; const later = 1; return value; }));
console.log(read(() => { typeof unset; let unset; }));
console.log(read(() => { { use(); let inner = 1; function use() { return inner; } } }));
console.log(read(() => { class A extends A {} }));
console.log(read((a = b, b = 1) => a));
console.log(read(() => { let x = x; }));
console.log(read(() => { for (let i of [i]) {} }));
console.log(read(() => { switch (0) { case 1: let z; break; default: z = 1; } }));
