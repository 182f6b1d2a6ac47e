const log = [];
const note = (value) => (log.push(value), value);
class Base { first = note('first'); [note('computed')] = note('value'); static shared = note('static'); 'quoted' = 1; 3 = 'three'; unset; method() { return this.first; } }
class Derived extends Base { first = note('derived'); arrow = () => this.first; constructor() { note('before'); super(); note('after'); } }
const derived = new Derived();
console.log(log.join(), derived.arrow(), Object.keys(derived), 'unset' in derived, Base.shared);
const { arrow } = derived; console.log(arrow());
