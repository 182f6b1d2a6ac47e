import { early } from '../esm_hoisted_cycle.mjs';
console.log('first', early(['before']));
