import { a } from './lib/cycle_a.mjs';
console.log(a());
