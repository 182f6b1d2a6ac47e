const sleep = (value) => new Promise((done) => setImmediate(done, value));
async function run() { try { const a = await sleep(1); const b = (await sleep(2)) + a; await Promise.reject(new Error('no')); return b; } catch (error) { return error.message; } finally { console.log('finally'); } }
run().then(console.log);
(async () => { for (const x of [1, 2]) console.log('loop', await sleep(x)); })();
const o = { async m() { return await this.v; }, v: 3, async *g() { yield 1; } }; o.m().then((v) => console.log('m', v));
async function order() { console.log('sync'); await null; console.log('later'); } order(); console.log('after call');
(async function named(n) { return n ? n + await named(n - 1) : 0; })(3).then((v) => console.log('rec', v));
async function returned() { return sleep('tail'); } returned().then(console.log);
