const order = []; const note = (value) => (order.push(value), value);
const all = { x: 1 };
const plain = { __proto__: null, a: note(1), b: note(2), m() { try { return super.toString; } catch (error) { return error.name; } }, get g() { return this.a; } };
console.log(Object.getPrototypeOf(plain), Object.keys(plain), plain.m(), plain.g, order, 'toString' in plain);
const own = { ['__proto__']: null }, short = ((__proto__) => ({ __proto__ }))(5), other = { __proto__: { inherited: 1 } }, ignored = { __proto__: 5 };
console.log(Object.keys(own), Object.keys(short), other.inherited, Object.getPrototypeOf(ignored) === Object.prototype, all.x);
function many(n) { const list = []; for (let i = 0; i < n; i++) list.push({ __proto__: null, i }); return list.map((it) => it.i + (it instanceof Object ? 'object' : 'none')); }
console.log(many(3)); const { __proto__: taken } = { ['__proto__']: 'own' }; console.log(taken, `${Object.getPrototypeOf({ __proto__: null })}`);
