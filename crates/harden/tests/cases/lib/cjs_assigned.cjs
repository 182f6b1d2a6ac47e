'use strict';
Object.defineProperty(exports, '__esModule', { value: true });
exports.one = 1;
exports.two = function two() { return 2; };
module.exports.three = class {};
exports['four'] = 4;
if (exports.one) { exports.five = 5; }
