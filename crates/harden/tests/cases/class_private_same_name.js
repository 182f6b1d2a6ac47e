class Outer { #x = 1; inner() { const outer = this; return new (class Inner { #x = 2; sum() { return this.#x + outer.y(); } })().sum(); } y() { return this.#x; } }
console.log(new Outer().inner());
