const lib = require('./cjs_assigned.cjs');
Object.defineProperty(exports, '__esModule', { value: true });
Object.defineProperty(exports, 'first', { enumerable: true, get: function () { return lib.one; } });
Object.defineProperty(exports, 'second', { enumerable: true, get() { return lib['two']; } });
Object.defineProperty(exports, 'third', { value: 3 });
