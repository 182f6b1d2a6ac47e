var GlobalLib = (function () { var hidden = 1; function add(a) { return a + hidden; } return { add: add, version: '1.0' }; })();
function globalFunction(first, second) { return GlobalLib.add(first) + second; }
var unusedHere = 'read by the other script'; let lexicalGlobal = 'let'; const alsoUnused = 'const'; class GlobalClass { hi() { return 'hi'; } }
console.log('first script');
