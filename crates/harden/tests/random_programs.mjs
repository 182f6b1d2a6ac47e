// Writes random programs that end, print what they do, and use what hardening could get wrong.
//
// `node random_programs.mjs <seed> <count> <folder>` writes that many; the same seed writes the same.
// `import { program }` gives one: `{ name, text }`, whose name says how it is to be run.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** What every program starts with: it prints values without the names and sources of functions. */
const PRELUDE = `
Function.prototype.toString = () => 'source';
let fuel = 3000, depth = 0;
function tick() { if (--fuel < 0) throw new RangeError('fuel'); }
function show(value, level) {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'bigint') return value + 'n';
  if (typeof value === 'symbol') return 'symbol';
  if (typeof value === 'function') return 'function/' + value.length;
  if (Object.is(value, -0)) return '-0';
  if (value === null || typeof value !== 'object') return String(value);
  if (level > 2) return '...';
  if (value instanceof Error) return 'error ' + value.constructor.name;
  let list = [];
  for (const key of Reflect.ownKeys(value).slice(0, 12)) {
    const found = Object.getOwnPropertyDescriptor(value, key);
    list.push((typeof key === 'symbol' ? 'symbol' : key) + ':' + ('value' in found ? show(found.value, level + 1) : 'accessor'));
  }
  return (Array.isArray(value) ? 'array' : 'object') + '{' + list.join() + '}';
}
function log(...values) { tick(); console.log(values.map((value) => show(value, 0)).join(' ')); return values[values.length - 1]; }
function tag(texts, ...values) { return texts.raw.join('|') + show(values, 0) + texts.length; }
function attempt(work) {
  if (depth > 12) return 'deep';
  depth++;
  try { return work(); } catch (error) { log('caught', error instanceof Error ? error.constructor.name : error); } finally { depth--; }
}
function text(value) { try { return String(value); } catch { return 'no text'; } }
`;

const NUMBERS = ['0', '-0', '1', '2', '-1', '7', '10', '0.1', '.5', '1e21', '1e-7', '5e-324', '2 ** 53', '0xff', '0b101', '0o17', '1_000', 'NaN', 'Infinity', '-Infinity', '4294967295', '2147483648', '-2147483649', '3.0'];
const STRINGS = ["''", "'a'", "'abc'", "'0'", "'-1'", "'1e3'", "' '", "'\\u2028'", "'</script>'", "'\\0'", "'\\x01'", '"\\"\'"', "'\\ud83d\\ude00'", "'\\ud800'", "'\\\\n'", "'line\\nline'", "'${x}'", "'`'", "'__proto__'", "'constructor'", "'length'", "'use strict'", "'é'", "'\\u{1f600}x'", "'a' + 'b'"];
const KEYS = ['a', 'b', 'c', 'x', 'length', 'value', 'name', 'then2', "'0'", "'a b'", '1', "'use strict'", "'-0'", '$', '_'];
const BINARY = ['+', '-', '*', '/', '%', '&', '|', '^', '<<', '>>', '>>>', '<', '>', '<=', '>=', '==', '!=', '===', '!==', '&&', '||', ',', '&&', '||', '+', '+', '==='];
const ASSIGN = ['=', '=', '=', '+=', '-=', '*=', '|=', '&&=', '||=', '??=', '>>>=', '**='];

class Generator {
  constructor(seed) {
    this.state = seed >>> 0 || 1;
    this.count = 0;
    this.scopes = [[]];
    this.inFunction = false;
    this.inGenerator = false;
    this.inAsync = false;
    this.inClass = false;
    this.labels = [];
    this.inLoop = 0;
    this.inSwitch = 0;
    this.nesting = 0;
  }

  // mulberry32
  next() {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  }
  below(n) { return this.next() % n; }
  pick(list) { return list[this.below(list.length)]; }
  chance(percent) { return this.below(100) < percent; }
  times(least, most, make) { return Array.from({ length: least + this.below(most - least + 1) }, make); }

  fresh(prefix = 'v') { return prefix + this.count++; }
  declare(name, kind) { this.scopes.at(-1).push({ name, kind }); return name; }
  visible(kinds) { return this.scopes.flat().filter((it) => !kinds || kinds.includes(it.kind)); }
  variable() {
    // A function as a value hardly: joined to a text it is one whose source is read, which keeps all names.
    const all = this.visible(this.chance(3) ? undefined : ['let', 'var', 'const']);
    return all.length && !this.chance(2) ? this.pick(all).name : this.pick(['undefined', 'NaN', 'globalThis.nothing', 'typeof missing']);
  }
  mutable() {
    const all = this.visible(['let', 'var']);
    return all.length ? this.pick(all).name : null;
  }
  scoped(make) {
    this.scopes.push([]);
    const made = make();
    this.scopes.pop();
    return made;
  }
  within(changes, make) {
    const before = {};
    for (const key of Object.keys(changes)) { before[key] = this[key]; this[key] = changes[key]; }
    const made = make();
    Object.assign(this, before);
    return made;
  }

  leaf() {
    switch (this.below(7)) {
      case 0: return this.pick(NUMBERS);
      case 1: return this.pick(STRINGS);
      case 2: return this.pick(['true', 'false', 'null', 'undefined', 'void 0']);
      case 3: return this.inFunction && this.chance(30) ? 'typeof this' : this.pick(NUMBERS);
      default: return this.variable();
    }
  }

  expr(d = 3) {
    if (d <= 0 || this.nesting > 60) return this.leaf();
    this.nesting++;
    const made = `(${this.compound(d)})`;
    this.nesting--;
    return made;
  }

  compound(d) {
    const e = () => this.expr(d - 1);
    const p = () => `(${this.expr(d - 1)})`;
    switch (this.below(34)) {
      case 0: case 1: case 2: return `${p()} ${this.pick(BINARY)} ${p()}`;
      case 3: return `log(${e()})`;
      case 4: return `log(${this.pick(STRINGS)}, ${e()})`;
      case 5: return `${this.pick(['!', '-', '+', '~', 'typeof ', 'void '])}${p()}`;
      case 6: return `${p()} ? ${p()} : ${p()}`;
      case 7: return `[${this.times(0, 4, () => this.pick([e, e, e, () => '', () => `...text(${this.leaf()})`])()).join(', ')}]`;
      case 8: case 9: return this.object(d);
      case 10: return `${p()}?.[${e()}]`;
      case 11: return `attempt(() => ${p()}.${this.pick(['a', 'b', 'x', 'length', 'value'])})`;
      case 12: case 13: {
        const name = this.mutable();
        return name ? `(${name} ${this.pick(ASSIGN)} ${e()})` : e();
      }
      case 14: {
        const name = this.mutable();
        return name ? this.pick([`${name}++`, `--${name}`, `(${name}--, ${name})`]) : this.leaf();
      }
      case 15: return this.closure(d);
      case 16: case 17: return `attempt(${this.closure(d)})`;
      case 18: {
        const functions = this.visible(['function']);
        return functions.length ? `attempt(() => ${this.pick(functions).name}(${this.times(0, 3, e).join(', ')}))` : e();
      }
      case 19: return `\`${this.pick(['', 'a', '\\n', '\\${', '"'])}\${text(${e()})}${this.pick(['', 'z', '\\u0041'])}\``;
      case 20: return `tag\`${this.pick(['', 'a\\n', '\\u{41}', '\\\\'])}\${${e()}}${this.pick(['', '\r\nb'])}\``;
      case 21: return `attempt(() => [${this.times(1, 3, e).join(', ')}].map((${this.param()}) => ${this.pick([() => 'tick()', e])()}).join())`;
      case 22: return `(${e()}, ${e()})`;
      case 23: return `attempt(() => { ${this.inner(() => this.body(d - 1))} })`;
      case 24: return `${p()} ?? ${p()}`;
      case 25: return `(${this.leaf()} in (${this.object(d - 1)}))`;
      case 26: return `attempt(() => delete (${this.object(d - 1)}).${this.pick(['a', 'b', 'x'])})`;
      case 27: return `/${this.pick(['a(b)?', '[^a]', '\\d+$', '(?<n>.)', '\\/'])}/${this.pick(['', 'g', 'i', 'y'])}.exec(text(${e()}))`;
      case 28: return this.pick(['1n', '-5n', '10n ** 20n', 'BigInt(7)', '0n', '0x1fn']) + this.pick(['', ' + 1n', ' * 3n', ' === 1n', ' == 1']);
      case 29: return `attempt(() => { ${this.inner(() => this.destructuring(d))} })`;
      case 30: return `attempt(() => new (${this.class_(d)})(${this.times(0, 2, e).join(', ')}))`;
      case 31: return `attempt(() => [...(${this.generator(d)})(${this.times(0, 2, e).join(', ')})])`;
      case 32: return `Object.is(${e()}, ${e()})`;
      default: return `(${e()} ${this.pick(['==', '===', '!=', '!=='])} ${this.pick(['undefined', 'null', '"undefined"', '-0', 'true'])})`;
    }
  }

  key(d) { return this.chance(15) ? `[${this.pick(STRINGS.slice(0, 8))}]` : this.pick(KEYS); }

  object(d) {
    const e = () => this.expr(d - 1);
    const parts = this.times(0, 4, () => {
      switch (this.below(9)) {
        case 0: { const all = this.visible(['let', 'var', 'const']); return all.length ? this.pick(all).name : `a: ${e()}`; }
        case 1: return `get ${this.key(d)}() { ${this.inner(() => `return ${this.expr(d - 2)};`)} }`;
        case 2: return `set ${this.key(d)}(${this.fresh('s')}) { log('set'); }`;
        case 3: return `${this.key(d)}(${this.params()}) { ${this.inner(() => `return ${this.expr(d - 2)};`)} }`;
        case 4: return `...${this.object(d - 2 > 0 ? d - 2 : 0)}`;
        case 5: return this.chance(20) ? `__proto__: { b: ${this.leaf()} }` : `b: ${e()}`;
        default: return `${this.key(d)}: ${e()}`;
      }
    });
    // Two `__proto__` would be an error. Where a key is computed or spread, V8 sets accessors late and moves a key
    // that stands twice.
    const late = parts.some((part) => /^(\.\.\.|\[|[gs]et \[)/.test(part));
    const seen = new Set();
    const kept = parts.filter((part) => {
      const key = /^('[^']*'|[\w$]+)/.exec(part)?.[0] ?? part;
      const again = seen.has(key);
      seen.add(key);
      return !(again && (late || key === '__proto__')) && !(late && /^[gs]et /.test(part));
    });
    return `({${kept.join(', ')}})`;
  }

  /** A function's inside: `break`, labels and `yield` of the outside mean nothing there. */
  inner(make, changes = {}) {
    return this.within({ inFunction: true, inGenerator: false, inAsync: false, inLoop: 0, inSwitch: 0, labels: [], ...changes }, () => this.scoped(make));
  }

  param() { return this.declare(this.fresh('p'), 'let'); }
  params() {
    const list = this.times(0, 3, () => {
      switch (this.below(6)) {
        case 0: return `${this.declare(this.fresh('p'), 'let')} = ${this.expr(1)}`;
        case 1: { const [a, b] = [this.fresh('p'), this.fresh('p')]; const text = `{ a: ${a}, b: ${b} = ${this.expr(1)} } = {}`; this.declare(a, 'let'); this.declare(b, 'let'); return text; }
        case 2: { const a = this.fresh('p'); const text = `[${a} = ${this.leaf()}] = []`; this.declare(a, 'let'); return text; }
        default: return this.param();
      }
    });
    if (this.chance(15)) list.push('...' + this.declare(this.fresh('p'), 'let'));
    return list.join(', ');
  }

  closure(d) {
    return this.inner(() => {
      const params = this.params();
      if (this.chance(50)) return `(${params}) => (tick(), ${this.expr(d - 1)})`;
      if (this.chance(50)) return `(${params}) => { tick(); ${this.body(d - 1)} return ${this.expr(d - 1)}; }`;
      const name = this.chance(50) ? this.declare(this.fresh('f'), 'named') : '';
      const mine = this.chance(20) ? `log(arguments.length, arguments[0]);` : '';
      return `function ${name}(${params}) { tick(); ${mine} ${this.body(d - 1)} return ${this.expr(d - 1)}; }`;
    });
  }

  generator(d) {
    return this.inner(() => `function* (${this.params()}) { tick(); ${this.body(d - 1)} yield ${this.expr(d - 1)}; ${this.chance(30) ? 'yield* [1, 2];' : ''} }`, { inGenerator: true });
  }

  class_(d) {
    const base = this.chance(40) ? ` extends ${this.pick(['Object', 'Array', `class { constructor() { log('base', new.target !== undefined); } get a() { return ${this.leaf()}; } m() { return 'base'; } static s() { return 'static'; } }`])}` : '';
    const name = this.chance(50) ? this.fresh('C') : '';
    const secret = this.fresh('q');
    const members = this.times(0, 5, () => {
      switch (this.below(10)) {
        case 0: return `${this.key(d)} = ${this.inner(() => this.expr(d - 2))};`;
        case 1: return `static ${this.pick(['a', 'b', 'x'])} = ${this.inner(() => this.expr(d - 2))};`;
        case 2: return `get ${this.pick(['a', 'c', 'value'])}() { ${this.inner(() => `return ${this.expr(d - 2)};`)} }`;
        case 3: return `m(${this.inner(() => this.params())}) { ${base ? 'return super.m?.();' : "return 'm';"} }`;
        case 4: return `static { log('block', ${this.inner(() => this.expr(d - 2))}); }`;
        case 5: return `[log(${this.pick(STRINGS.slice(0, 4))})]() { return 1; }`;
        case 6: return `static s() { ${base ? 'return super.s?.();' : 'return this === undefined;'} }`;
        case 7: return `toString() { return 'text'; }`;
        default: return '';
      }
    });
    const own = this.chance(50) ? `#${secret} = ${this.inner(() => this.expr(1))}; get own() { return #${secret} in this && this.#${secret}; }` : '';
    const body = this.inner(() => `log('made', typeof this, ${this.expr(1)});`);
    const constructor = this.chance(50) ? `constructor(...given) { ${base ? 'super(...given.slice(0, 0));' : ''} ${body} }` : '';
    return `class ${name}${base} { ${own} ${members.join(' ')} ${constructor} }`;
  }

  destructuring(d) {
    const names = this.times(1, 3, () => this.fresh());
    const kind = this.pick(['let', 'const', 'var']);
    const source = this.chance(50)
      ? [`{ ${names.map((name, at) => `${this.pick(['a', 'b', 'c'])}${this.chance(50) ? `: ${name} = ${this.expr(d - 2)}` : `: ${name}`}`).join(', ')} }`, `(${this.object(d - 1)})`]
      : [`[${names.map((name) => (this.chance(40) ? `${name} = ${this.expr(d - 2)}` : name)).join(this.chance(20) ? ', , ' : ', ')}]`, `[${this.times(0, 3, () => this.expr(d - 2)).join(', ')}]`];
    const text = `${kind} ${source[0]} = ${source[1]};`;
    names.forEach((name) => this.declare(name, kind));
    return `${text} log(${names.join(', ')});`;
  }

  body(d) { return this.scoped(() => this.times(1, 4, () => this.statement(d)).join('\n')); }

  statement(d = 3) {
    const e = (n = d) => this.expr(Math.min(n, 3));
    if (d <= 0) return `log(${e(1)});`;
    switch (this.below(26)) {
      case 0: { const value = e(); return `let ${this.declare(this.fresh(), 'let')} = ${value};`; }
      case 1: { const value = e(); return `const ${this.declare(this.fresh(), 'const')} = ${value};`; }
      case 2: { const value = e(); return `var ${this.declare(this.fresh(), 'var')} = ${value};`; }
      case 3: { const name = this.fresh('f'); this.declare(name, 'function'); return `function ${name}(${this.inner(() => { const params = this.params(); this.last = this.body(d - 1) + `return ${this.expr(d - 1)};`; return params; })}) { tick(); ${this.last} }`; }
      case 4: { const name = this.fresh('C'); const text = this.class_(d).replace(/^class (C\d+)?/, `class ${name}`); return `attempt(() => { ${text} log(new ${name}().a, ${name}.s?.()); });`; }
      case 5: return `if (${e()}) { ${this.body(d - 1)} } else { ${this.body(d - 1)} }`;
      case 6: return `if (${e()}) ${this.chance(50) ? `log(${e()});` : `{ ${this.body(d - 1)} }`}`;
      case 7: { const [i, list] = [this.fresh('i'), this.fresh()]; const text = this.scoped(() => { this.declare(i, 'const'); return `${this.loop(d)} ${list}.push(() => ${i});`; }); return `{ const ${list} = []; for (let ${i} = 0; ${i} < ${1 + this.below(4)}; ${i}++) { tick(); ${text} } log(${list}.map((get) => get()).join()); }`; }
      case 8: { const i = this.fresh('i'); const text = this.scoped(() => { this.declare(i, 'const'); return this.loop(d); }); return `for (const ${i} of [${this.times(0, 3, () => e(1)).join(', ')}]) { tick(); ${text} }`; }
      case 9: { const i = this.fresh('k'); const text = this.scoped(() => { this.declare(i, 'const'); return this.loop(d); }); return `for (const ${i} in (${this.object(2)})) { tick(); log(${i}); ${text} }`; }
      case 10: { const i = this.fresh('w'); return `{ let ${i} = ${this.below(5)}; while (${i}-- > 0) { tick(); ${this.scoped(() => this.loop(d))} } }`; }
      case 11: { const i = this.fresh('w'); return `{ let ${i} = 0; do { tick(); ${this.scoped(() => this.loop(d))} } while (++${i} < ${this.below(4)}); }`; }
      case 12: return `switch (${e()}) { ${this.within({ inSwitch: this.inSwitch + 1 }, () => this.scoped(() => this.times(0, 4, (_, at) => `${at === 2 ? 'default' : `case ${e(1)}`}: ${this.statement(d - 1)} ${this.chance(60) ? 'break;' : ''}`).join(' ').replace(/default:(.*)default:/s, 'default:$1case 99:')))} }`;
      case 13: case 14: {
        const caught = this.fresh('e');
        const handler = this.scoped(() => { this.declare(caught, 'let'); return this.body(d - 1); });
        const last = this.chance(50) ? `finally { log('finally'); ${this.inFunction && this.chance(15) ? `if (${e(1)}) return ${e(1)};` : this.body(d - 1)} }` : '';
        return `try { ${this.body(d - 1)} ${this.chance(40) ? `throw ${this.pick([`new TypeError('x')`, e(1)])};` : ''} } catch ${this.chance(70) ? `(${caught}) { log(${caught}); ${handler} }` : `{ log('caught'); }`} ${last}`;
      }
      case 15: { const label = this.fresh('l'); const i = this.fresh('i'); const text = this.within({ labels: [...this.labels, label], inLoop: this.inLoop + 1 }, () => this.scoped(() => this.statement(d - 1))); return `${label}: for (let ${i} = 0; ${i} < 3; ${i}++) { tick(); for (const one of [1, 2]) { if (${e(1)}) ${this.pick(['continue', 'break'])} ${label}; log(one); ${text} } }`; }
      case 16: return this.inFunction && !this.inClass ? `if (${e()}) return ${e()};` : `log(${e()});`;
      case 17: return this.inGenerator ? `${this.chance(50) ? 'log(' : '('}yield ${e()});` : `log(${e()});`;
      case 18: return this.destructuring(d);
      case 19: { const name = this.mutable(); return name ? `${name} ${this.pick(ASSIGN)} ${e()};` : `log(${e()});`; }
      case 20: return this.inAsync ? `log(await ${e()});` : `log(${e()});`;
      case 21: { const text = this.inner(() => this.body(d - 1), { inAsync: true }); return `(async () => { await null; ${text} })().catch((error) => log('rejected', error));`; }
      case 22: { const name = this.fresh(); const first = `log(attempt(() => ${name}));`; const text = `${first} let ${name} = ${e()};`; this.declare(name, 'let'); return text; }
      case 23: return `{ ${this.body(d - 1)} }`;
      default: return `log(${e()});`;
    }
  }

  loop(d) {
    return this.within({ inLoop: this.inLoop + 1 }, () => {
      const text = this.times(1, 3, () => this.statement(d - 1)).join('\n');
      return this.chance(30) ? `${text}\nif (${this.expr(1)}) ${this.pick(['break', 'continue'])};` : text;
    });
  }
}

/** One program. `name` ends as its kind: a module, CommonJS, or a script that declares globals. */
export function program(seed) {
  const generator = new Generator(Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995);
  const kind = generator.pick(['js', 'js', 'mjs', 'script.js']);
  const strict = kind !== 'mjs' && generator.chance(40) ? "'use strict';" : '';
  const body = generator.times(2, 7, () => `attempt(() => { ${generator.within({ inFunction: true }, () => generator.body(3))} });`).join('\n');
  const top = generator.times(1, 4, () => `try {\n${generator.body(3)}\n} catch (error) { log('top', error); }`).join('\n');
  // A script's names are everybody's: two programs in one realm must not meet.
  let text = `${PRELUDE}\n${top}\n${body}`;
  if (kind === 'script.js') text = `{\n${text}\n}`;
  if (kind === 'js') text += '\nmodule.exports = { fuel };';
  return { name: `program_${seed}.${kind}`, text: `${strict}${text}\n` };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [seed, count] = process.argv.slice(2).map(Number);
  for (let at = 0; at < count; at++) {
    const { name, text } = program(seed + at);
    writeFileSync(join(process.argv[4], name), text);
  }
}
