import { a } from './cycle_a.mjs';
export const b = typeof a;
