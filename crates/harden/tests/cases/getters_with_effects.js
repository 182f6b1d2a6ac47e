let count = 0;
const object = { get tick() { count++; return this; }, get value() { return ++count; } };
object.tick; object.tick.tick; object['tick']; void object.tick; object.value + 1; !object.value; [object.value]; ({ a: object.value }); `${object.value}`; object.value, 0;
console.log(count);
const { tick } = object; const unused = object.value; const { missing: { deep } = object.tick } = object;
console.log(count);
const noisy = { valueOf() { count += 100; return 1; }, toString() { count += 1000; return 's'; } };
noisy + 1; `${noisy}`; +noisy; noisy < 2; noisy == 1; noisy === 1;
console.log(count);
