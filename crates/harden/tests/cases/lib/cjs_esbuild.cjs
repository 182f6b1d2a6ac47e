var __defProp = Object.defineProperty;
var __export = (target, all) => { for (var name in all) __defProp(target, name, { get: all[name], enumerable: true }); };
var out = {};
__export(out, { alpha: () => alpha, beta: () => beta });
module.exports = out;
const alpha = 1, beta = 2;
0 && (module.exports = { alpha, beta });
