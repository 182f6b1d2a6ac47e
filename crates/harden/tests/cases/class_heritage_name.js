const attempt = (work) => { try { return work(); } catch (error) { return error.name; } };
console.log(attempt(() => { const Outer = class Inner extends Inner {}; return Outer; }));
const Inner = class { from() { return 'outside'; } };
console.log(attempt(() => { const A = class Inner extends Inner {}; return new A().from(); }));
let probe; const Probed = class Self extends (probe = () => Self, Object) {}; console.log(probe() === Probed);
const Nested = class N extends class extends (((N) => N)(Array)) {} {}; console.log(new Nested().length, attempt(() => class extends (0, undefined) {}));
