console.log(['\0', '\x000', '\u{10ffff}', '\u2028\u2029', '\\u0041', '\b\f\v\t', '\'"`', '${a}', '</script>', '<!--', '-->', ']]>', '\r\n', 'a\
b', '\u00e9'.normalize('NFD').length, '\udc00\ud800'.length].map((s) => JSON.stringify(s)).join(' '));
console.log('\ud83d' + '\ude00', '\ud83d'.charCodeAt(0), ['😀'.length, [...'😀'].length], 'ß'.toUpperCase(), 'constructor' in {}, { constructor: 1, __proto__: null, hasOwnProperty: 2, toString: 3 }, 'use strict'.length);
const table = { 'a-b': 1, 'a b': 2, '': 3, '0x1': 4, '01': 5, 1e3: 6, 0.5: 7, 'é': 8, '\u{1d7d8}': 9, async: 10, 'NaN': 11, [NaN]: 12 }; console.log(table, table['a-b'], table[''], table[1000], table['.5'], table['0.5'], table.NaN);
