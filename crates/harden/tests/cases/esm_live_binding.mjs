import { count, increment, alias as other } from './lib/live.mjs';
import * as all from './lib/live.mjs';
console.log(count, other);
increment();
console.log(count, other, all.count, Object.keys(all));
try { all.count = 9; } catch (error) { console.log(error.name); }
