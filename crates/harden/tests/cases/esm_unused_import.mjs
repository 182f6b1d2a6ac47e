import unused, { count as alsoUnused } from './lib/effect.mjs';
import './lib/effect_two.mjs';
console.log('imports run');
