import * as all from './lib/renamed_exports.mjs';
import { visible as mine, default as standard, 'a name' as spoken } from './lib/renamed_exports.mjs';
console.log(Object.keys(all).join(), mine, standard, spoken, typeof all.Shape, all.inner.visible, all[Symbol.toStringTag]);
const before = mine; all.change(); console.log(before, mine, all.visible, Object.isFrozen(all), Reflect.set(all, 'visible', 1));
