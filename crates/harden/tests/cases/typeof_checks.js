console.log(typeof notThere === 'undefined', typeof notThere, typeof null, typeof function () {}, typeof class {}, typeof Symbol(), typeof undefined, typeof (() => {}));
function check(v) { if (typeof v === 'undefined') return 'u'; if (typeof v == 'string' && 'object' !== typeof v) return 's'; return typeof v; } console.log(check(), check('a'), check(1), check(null));
if (typeof window !== 'undefined') console.log('browser'); else console.log('node'); const t = typeof process; console.log(t);
