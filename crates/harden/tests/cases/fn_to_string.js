function worker(input) { const doubled = input * 2; return doubled; }
const run = new Function('return (' + worker.toString() + ')')();
console.log(run(21), /function worker\(/.test(String(worker)));
