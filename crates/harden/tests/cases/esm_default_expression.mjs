import { early } from './lib/default_expression.mjs';
import late, { Kept } from './lib/default_expression.mjs';
console.log(early, typeof late, late(), typeof Kept);
