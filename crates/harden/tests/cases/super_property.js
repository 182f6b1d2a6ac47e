const base = { hi() { return 'hi ' + this.who; }, get value() { return this.who; } };
const derived = { __proto__: base, who: 'you', hi() { return super.hi() + '!'; }, get value() { return super.value + '?'; }, arrow() { return (() => super.hi())(); } };
console.log(derived.hi(), derived.value, derived.arrow());
class S { static who = 's'; static hi() { return this.who; } }
class T extends S { static who = 't'; static hi() { return super.hi() + super['hi'](); } field = super.toString === Object.prototype.toString; }
console.log(T.hi(), new T().field);
