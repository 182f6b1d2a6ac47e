let a = null, b = 0, c = 1, d; a ??= 5; b ||= 6; c &&= 7; d ??= (() => 'fn')(); console.log(a, b, c, d); const log = []; const o = { get x() { log.push('get'); return 1; }, set x(v) { log.push('set'); } };
o.x ||= 2; o.x &&= 3; o.x ??= 4; console.log(log); const k = Object.freeze({ v: 1 }); k.v ||= 2; let i = 0; const arr = [0, 0]; arr[i++] ||= 9; console.log(arr, i, (a &&= 0, a), 2 ** 3 ** 0, (-2) ** 2);
const e = 1; try { e &&= 2; } catch (error) { console.log(error.name); } e ||= 3; console.log(e);
