class A { get x() { return 'getter'; } set x(value) { console.log('setter', value); } }
class B extends A { x = 1; }
class C extends A { constructor() { super(); this.x = 2; } }
console.log(new B().x, Object.hasOwn(new B(), 'x'), new C().x, Object.hasOwn(new C(), 'x'));
