import * as all from './lib/star.mjs';
console.log(Object.keys(all), all.default, all.inner.value, all['odd name']);
