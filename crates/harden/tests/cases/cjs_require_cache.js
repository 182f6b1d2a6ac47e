const first = require('./lib/cjs_assigned.cjs');
const second = require('./lib/' + 'cjs_assigned.cjs');
console.log(first === second, require.resolve('./lib/data.json').endsWith('data.json'));
console.log(require('./lib/data.json').text.length);
