const hidden = 1;
console.log(Function('return typeof hidden')(), new Function('a', 'b', 'return a + b')(1, 2));
console.log(Function('return this')() === globalThis);
