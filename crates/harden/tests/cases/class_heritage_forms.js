const attempt = (work) => { try { return typeof work(); } catch (error) { return error.name; } };
console.log(attempt(() => class extends (() => {}) {}), attempt(() => class extends (async () => {}) {}), attempt(() => class extends (function () {}) {}));
console.log(attempt(() => class extends (true ? Array : Object) {}), attempt(() => class extends (null ?? Map) {}), attempt(() => class extends (class {}) {}), attempt(() => class extends null {}));
let Base; console.log(attempt(() => class extends (Base = Array) {}), Base === Array, attempt(() => class extends [Set][0] {}), attempt(() => class extends (0, Map) {}));
function* g() { console.log(typeof class extends (yield 'heritage') {}); } const it = g(); console.log(it.next().value); it.next(Object);
