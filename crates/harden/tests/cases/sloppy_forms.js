function twice(a, a) { return a; } console.log(twice(1, 2), 010 + 1, '\101', "\08");
function reassign() { reassign = 1; return typeof reassign; } console.log(reassign(), typeof reassign); const named = function own() { own = 1; return typeof own; }; console.log(named());
var undefined; console.log(undefined === void 0); var twiceDeclared = 1; var twiceDeclared; console.log(twiceDeclared); function hoisted() { return 1; } var hoisted; console.log(typeof hoisted);
if (true) function inIf() { return 'in if'; } console.log(inIf()); label: function labelled() {} console.log(typeof labelled); a = typeof a; console.log(a); delete globalThis.a;
(function (arguments) { console.log(arguments); })(5); (function () { var arguments; console.log(arguments.length); })(1, 2); console.log((function () { return this; }).call(1) instanceof Number, (function () { return typeof this; }).call(null));
for (var i = 'first' in {}) {} console.log(i); console.log((function f(x) { var x; return x; })(3), (function (x = 1) { var x; return x; })());
