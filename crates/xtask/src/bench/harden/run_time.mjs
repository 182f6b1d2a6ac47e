// `node run_time.mjs <program> <module> [<input>]`: how long a round of real work takes, as JSON.
//
// The module is a program of ours, which says itself what to do, or a package from npm, for which it stands here.
import { createRequire } from 'node:module';
import fs from 'node:fs';

/** What is run before anything is measured, and how long is measured. */
const WARM_MS = 400;
const MEASURED_MS = 800;

const [program, file, input] = process.argv.slice(2);
const it = createRequire(import.meta.url)(file);

const work = {
  'js-yaml'() {
    const rows = Array.from({ length: 120 }, (_, at) => ({ id: at, name: `row ${at}`, tags: ['a', 'b: c'], nested: { when: null, yes: at % 2 === 0 } }));
    return it.dump(it.load(it.dump({ rows, text: 'several\nlines\n' }))).length;
  },
  marked() {
    const text = '# Title\n\nSome *text* with `code`, [links](https://a.example) and **more**.\n\n- one\n- two\n  - three\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```js\nlet a = 1;\n```\n\n> quoted\n\n';
    return it.parse(text.repeat(40)).length;
  },
  acorn() {
    return it.parse(fs.readFileSync(input, 'utf8'), { ecmaVersion: 'latest' }).body.length;
  },
  semver() {
    const list = Array.from({ length: 900 }, (_, at) => `${at % 7}.${at % 13}.${at % 17}${at % 3 ? '' : `-beta.${at % 5}`}`);
    const sorted = it.sort([...list]);
    return `${sorted[0]} ${sorted.at(-1)} ${list.filter(one => it.satisfies(one, '^2.3.1 || >=5.0.0 <6 || ~1.2')).length}`;
  },
  lodash() {
    const rows = it.range(3000).map(at => ({ id: at, group: `g${at % 17}`, value: (at * 7919) % 1009, deep: { list: [at, [at]] } }));
    const groups = it.mapValues(it.groupBy(rows, 'group'), group => it.sumBy(group, 'value'));
    const sorted = it.orderBy(rows, ['value', 'id'], ['desc', 'asc']).slice(0, 50);
    return JSON.stringify([groups, it.isEqual(it.cloneDeep(sorted), sorted), it.uniqBy(rows, 'value').length]).length;
  },
  dayjs() {
    let out = 0;
    for (let at = 0; at < 1500; at++) {
      const day = it(1_600_000_000_000 + at * 86_400_123).add(at % 30, 'day').startOf('hour');
      out += day.format('YYYY-MM-DD HH:mm:ss dddd').length + day.diff(it(1_600_000_000_000), 'hour');
    }
    return out;
  },
}[program] ?? it.run;

let result = work();
for (const until = performance.now() + WARM_MS; performance.now() < until; ) result = work();
const times = [];
for (const until = performance.now() + MEASURED_MS; performance.now() < until || times.length < 5; ) {
  const started = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(started);
  times.push((user + system) / 1000);
}
times.sort((left, right) => left - right);
console.log(JSON.stringify({ ms: times[times.length >> 1], result: String(result) }));
process.exit(0);
