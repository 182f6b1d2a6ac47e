import './lib/hoisted_cycle.mjs';
export function early(list) { list.push('hoisted', 1e3, { label: 'text' }.label); return list.join('-'); }
console.log('body', early([]));
