function strict() { 'use strict'; return this; }
function sloppy() { return typeof this; }
console.log(strict(), sloppy());
console.log((() => { 'use strict'; return (function () { return this; })(); })());
