(function (global, factory) {
  typeof exports === 'object' && typeof module !== 'undefined' ? factory(exports) :
  typeof define === 'function' && define.amd ? define(['exports'], factory) :
  (global = global || self, factory(global.lib = {}));
})(this, function (exports) {
  'use strict';
  function hello() { return 'hello'; }
  exports.hello = hello;
  exports.version = '1';
  Object.defineProperty(exports, '__esModule', { value: true });
});
