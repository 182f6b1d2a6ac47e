async function* numbers() { try { for (let i = 0; i < 3; i++) { await null; yield i; } } finally { console.log('closed'); } }
(async () => {
  for await (const n of numbers()) { console.log(n); if (n === 1) break; }
  for await (const { a, ...rest } of [Promise.resolve({ a: 1, b: 2 })]) console.log(a, rest);
  for await (let [x = 5] of [[]]) console.log(x);
  label: for await (const x of [1, 2]) { for await (const y of [3]) { if (x === 1) continue label; console.log(x, y); } }
  const it = { [Symbol.asyncIterator]() { let n = 0; return { next: async () => ({ value: n, done: n++ > 1 }), return: async () => (console.log('returned'), {}) }; } };
  for await (const x of it) { console.log('it', x); }
  try { for await (const x of it) { throw new Error('body'); } } catch (error) { console.log(error.message); }
  async function* both() { yield* numbers(); yield await Promise.resolve('end'); } for await (const x of both()) console.log(x);
})();
