class A { static get value() { return 'static'; } get value() { return 'own'; } set value(v) { this._v = v; } static 'quoted name'() { return 1; } static async method() {} *[Symbol.iterator]() { yield* [1, 2]; } }
console.log(A.value, new A().value, A['quoted name'](), [...new A()], Object.getOwnPropertyNames(A.prototype), Object.getOwnPropertyNames(A).filter((n) => n !== 'name'));
