import data from './lib/data.json' with { type: 'json' };
const again = await import('./lib/data.json', { with: { type: 'json' } });
console.log(data.text, again.default.text === data.text, data);
