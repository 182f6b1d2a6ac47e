console.log(((a, b) => a).length, (function (a, b = 1, c) {}).length, ((...a) => a).length, (class { constructor(a, b) {} }).length);
console.log(((unused1, unused2) => 0).length, ({ m(a, b, c) {} }).m.length);
