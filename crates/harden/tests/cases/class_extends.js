const mixin = (Base) => class extends Base { mixed() { return 'mixed' + super.name(); } };
class Base { name() { return 'base'; } static make() { return new this(); } }
class Final extends mixin(Base) { name() { return 'final ' + super.name(); } }
console.log(new Final().mixed(), Final.make() instanceof Final, new Final().name());
class Nothing extends null { static ok() { return 'null'; } }
console.log(Nothing.ok(), Object.getPrototypeOf(Nothing.prototype));
class List extends Array { sum() { return this.reduce((a, b) => a + b, 0); } }
console.log(List.from([1, 2, 3]).map((x) => x * 2).sum());
class MyError extends Error { constructor(message) { super(message); this.name = 'MyError'; } }
console.log(String(new MyError('text')), new MyError('x') instanceof Error);
