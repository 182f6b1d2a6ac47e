class Box { #value = 1; static #made = 0; #twice() { return this.#value * 2; } get #half() { return this.#value / 2; } set #half(v) { this.#value = v * 2; } static #count() { return ++Box.#made; }
  static has(o) { return #value in o && #twice in o; } run() { this.#half = 5; this.#value **= 2; this.#value ||= 9; return [this.#twice(), this.#half, Box.#count(), this?.#value, [this.#value] = [7], this.#value++, this.#value]; }
  static steal(o) { try { return o.#value; } catch (error) { return error.name; } } static { this.late = (o) => o.#twice(); } }
console.log(new Box().run(), Box.has(new Box()), Box.has({}), Box.steal({}), Box.late(new Box()));
const Outer = class { #x = 'outer'; inner() { return class { #x = 'inner'; read(o) { return this.#x + o.y; } }; } get y() { return this.#x; } }; const outer = new Outer(); console.log(new (outer.inner())().read(outer));
class Chain { #next; constructor(next) { this.#next = next; } deep() { return this.#next?.#next?.deep?.() ?? 'end'; } } console.log(new Chain(new Chain(new Chain())).deep());
