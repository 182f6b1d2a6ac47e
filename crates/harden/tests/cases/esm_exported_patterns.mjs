import * as all from './lib/exported_patterns.mjs';
console.log(Object.keys(all).join(), all.first, all.second, all.third, all.rest, all.nested, all.counter);
all.bump(); console.log(all.counter, all.first);
