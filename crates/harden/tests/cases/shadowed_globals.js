(function (undefined) { console.log(undefined, typeof undefined, void 0); })(5);
(function () { var NaN = 1, Infinity = 2; console.log(NaN, Infinity, 0 / 0, 1 / 0); })();
(function (undefined) { console.log([1][5] === undefined, undefined === void 0); })('x');
{ const Math = { pow: () => 'mine', PI: 0 }; console.log(Math.pow(2, 3), Math.PI); }
(function (Object, Array, String, Number) { console.log(Object(1), Array(2), String(3), Number(4)); })(...[1, 2, 3, 4].map((n) => () => n));
