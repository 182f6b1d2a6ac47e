function worker(value) { return helper(value); function helper(inner) { return inner + 1; } }
console.log(new Function(`${worker}; return worker(1)`)());
