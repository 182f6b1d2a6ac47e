const tag = (strings, ...values) => [strings.raw.join('|'), strings.join('|'), values.length, Object.isFrozen(strings)];
console.log(tag`a\n${1}b\u{41}\x41`, tag`line
break\
continued`, String.raw`\n${'x'}\``);
const same = () => ((s) => s)`x`; console.log(same() === same(), ((s) => s)`x` === ((s) => s)`x`);
console.log(((s) => [s[0], s.raw[0]])`\unicode and \xerxes`);
const o = { t(s) { return this === o; } }; console.log(o.t`x`, o['t']`y`, new (class { constructor(s) { this.s = s.raw[0]; } })`z`.s === undefined);
