function options({ on = true, off = false, none = undefined } = {}) { return [on, off, none, typeof undefined, void 0, !0, !1]; }
console.log(options(), options({ on: false, off: undefined }));
function shadowed(undefined) { return undefined; }
console.log(shadowed(5), delete true, typeof false, [true, , undefined].length, 1 in [0, undefined]);
class Flags { static ready = true; #held = false; get held() { return this.#held; } set held(value) { this.#held = value === true; } }
const flags = new Flags(); flags.held = true; console.log(Flags.ready, flags.held, JSON.stringify({ a: true, b: undefined, c: false }));
console.log(Object.getOwnPropertyDescriptor(Object.defineProperty({}, 'x', { value: undefined, enumerable: true, writable: false }), 'x'));
switch (true) { case 1 > 2: console.log('no'); break; case 2 > 1: console.log('yes'); }
for (let i = 0, more = true; more; i++) { more = i < 2 ? true : false; console.log(i, more); }
const late = (first, second = undefined, third = true) => [first, second, third]; console.log(late(), late.length, true + 1, `${false}`, undefined ?? 'none');
console.log([3, 1, 2].sort(undefined), 'a,b'.split(',', undefined), parseInt('12', undefined), new Map(undefined).size, true === !0, Boolean(undefined) === false);
function args() { return arguments.length; } console.log(args(undefined), args(true, false));
