module.exports = require('./cjs_literal.cjs');
