function Maker() { return new.target === undefined ? 'call' : this; }
class Abstract { constructor() { if (new.target === Abstract) throw new TypeError('abstract'); } }
class Concrete extends Abstract {}
console.log(Maker(), new Maker() instanceof Maker, new Concrete() instanceof Abstract);
try { new Abstract(); } catch (error) { console.log(error.message); }
console.log(Reflect.construct(function () { return { t: new.target === Array }; }, [], Array).t);
