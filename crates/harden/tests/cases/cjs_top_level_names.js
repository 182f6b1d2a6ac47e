const { count } = { count: 3 };
function helper(value) { return value + count; }
var shared = 1;
function changes() { shared++; }
changes();
console.log(helper(1), shared, typeof globalThis.shared);
exports.helper = helper;
