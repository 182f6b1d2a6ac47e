'use strict';
Object.defineProperty(exports, '__esModule', { value: true });
var _assigned = require('./cjs_assigned.cjs');
Object.keys(_assigned).forEach(function (key) {
  if (key === 'default' || key === '__esModule') return;
  if (key in exports && exports[key] === _assigned[key]) return;
  Object.defineProperty(exports, key, { enumerable: true, get: function () { return _assigned[key]; } });
});
