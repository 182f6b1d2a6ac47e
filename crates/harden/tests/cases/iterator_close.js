const made = () => ({ n: 0, [Symbol.iterator]() { return this; }, next() { console.log('next', this.n); return { value: this.n++, done: this.n > 5 }; }, return(value) { console.log('return'); return {}; } });
const [a, , b = 'd'] = made(); console.log(a, b); const [...all] = made(); console.log(all);
for (const x of made()) { if (x === 1) break; } outer: for (const y of [1, 2]) for (const x of made()) { if (x === 1) continue outer; }
try { for (const x of made()) { throw new TypeError('x'); } } catch (error) { console.log(error.name); }
console.log((() => { for (const x of made()) return x; })()); const [] = made(); const [first, ...{ length }] = made(); console.log(first, length);
(async () => { const slow = { async *[Symbol.asyncIterator]() { try { yield 1; yield 2; } finally { console.log('closed'); } } }; for await (const x of slow) { console.log(x); break; } for await (const [p, q = p] of [[1], Promise.resolve([2, 3])]) console.log(p, q); })();
