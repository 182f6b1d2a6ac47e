const sticky = /a/y, global = /a/g;
console.log(sticky.test('aa'), sticky.lastIndex, sticky.test('ba'), global.exec('aa').index, global.lastIndex);
const make = () => /x/g; console.log(make() === make());
for (let i = 0; i < 3; i++) { const fresh = /a/g; console.log(fresh.test('a'), fresh.lastIndex); }
console.log(/(?<year>\d{4})-(?<month>\d\d)/u.exec('2024-05').groups.year, /\p{L}/u.test('é'), /[/\]]+/.source, /a.b/s.flags, /[\p{L}--[a-z]]/v.flags, /(?<=a)b/d.exec('ab').indices[0]);
console.log(/\//.source, RegExp('/').source, new RegExp('a|b', 'gi').flags, /</.test('</script>'), /[^]/.test('\n'));
console.log('a-b'.split(/-/), 4 / 2 / 1, 'aXb'.replace(/x/i, '$&$&'));
