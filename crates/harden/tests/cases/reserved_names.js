var async = 1, of = 2, get = 3, set = 4, let_ = 5, yield_ = 6, await = 7, static_ = 8; console.log(async, of, get, set, let_, await);
var yield = 1, let = 2, static = 3, implements = 4; console.log(yield, let, static, implements);
console.log({ if: 1, class: 2, default: 3, new: 4 }.class, { get: 1, set: 2, async: 3, static: 4 }.async, { async() { return 'm'; } }.async(), { get() { return 'g'; } }.get());
const arrow = async => async; console.log(arrow(1)); async: for (of of [1]) console.log(of);
