module.exports = { 'a b': run, ...require('./cjs_literal.cjs'), run };
function run() {}
