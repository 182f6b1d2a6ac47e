const object = { b: 1, 2: 'two', a: 2, 1: 'one', [Symbol.for('s')]: 3, '-1': 'minus', 1.5: 'half', 0x10: 'hex', 1e3: 'exp', 'with-dash': 1, [`t${1}`]: 't', 1n: 'big' };
console.log(Object.keys(object), Reflect.ownKeys(object).length, object[16], object[1000], JSON.stringify(object));
console.log({ a: 1, a: 2 }.a, Object.keys({ get x() { return 1; }, x: 2 }));
