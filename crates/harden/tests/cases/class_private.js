class Counter {
  #count = 0; static #made = 0; static { Counter.#made = 10; }
  static create() { Counter.#made++; return new Counter(); }
  get #double() { return this.#count * 2; } set #double(value) { this.#count = value / 2; }
  #step(by) { this.#count += by; return this; }
  run() { this.#step(3); this.#double = this.#double + 2; return [this.#count, this.#double, Counter.#made]; }
  static is(value) { return #count in value; }
  static async *#items() { yield 1; yield 2; }
  static async all() { const all = []; for await (const item of Counter.#items()) all.push(item); return all; }
}
console.log(Counter.create().run(), Counter.is(new Counter()), Counter.is({}));
Counter.all().then((all) => console.log(all));
try { Counter.prototype.run.call({}); } catch (error) { console.log(error.name); }
