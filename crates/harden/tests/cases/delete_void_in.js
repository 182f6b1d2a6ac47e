const object = { a: 1, b: 2 };
console.log(delete object.a, delete object['missing'], 'a' in object, void 0, delete 1, typeof void object.b);
(() => { 'use strict'; try { delete Object.freeze({ a: 1 }).a; } catch (error) { console.log(error.name); } })();
globalThis.removable = 1; console.log(delete globalThis.removable, delete removable);
const array = [1, 2, 3]; delete array[1]; console.log(1 in array, array.length);
console.log(delete object?.b, delete object?.c?.d);
