const { count } = await import('./lib/live.mjs');
const name = './lib/star.mjs';
console.log(count, Object.keys(await import(name)).length);
try { await import('./lib/missing.mjs'); } catch (error) { console.log(error.code); }
