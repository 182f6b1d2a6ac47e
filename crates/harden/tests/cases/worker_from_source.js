const { Worker } = require('node:worker_threads');
function work(port, given) { const doubled = given.map((one) => one * 2); port.postMessage(doubled.join()); }
const source = `const { parentPort } = require('node:worker_threads'); (${work.toString()})(parentPort, [1, 2, 3]);`;
const worker = new Worker(source, { eval: true });
worker.on('message', (text) => console.log('worker said', text)).on('error', (error) => console.log('worker failed', error.name));
globalThis.settled = new Promise((done) => worker.on('exit', done));
console.log('started', Object.keys({ work }).length);
