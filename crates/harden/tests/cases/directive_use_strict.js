'use strict';
console.log((function () { return this; })());
try { undeclared = 1; } catch (error) { console.log(error.name); }
