function alias(a, b) { arguments[0] = 'changed'; b = 'other'; return [a, arguments[1], arguments.length]; }
function strict(a) { 'use strict'; arguments[0] = 'changed'; return a; }
function defaults(a = 1) { arguments[0] = 2; return a; }
function unused(a, b) { return Array.from(arguments); }
console.log(alias(1, 2), strict(1), defaults(5), unused(1, 2, 3));
function callee() { return arguments.callee === callee; }
console.log(callee());
