import f from './lib/default_function.mjs';
import g from './lib/default_anonymous.mjs';
console.log(f(), g(), typeof f, g.name, f.length);
