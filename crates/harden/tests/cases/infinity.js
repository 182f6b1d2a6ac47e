const at = (i) => [Infinity, -Infinity][i]; console.log(typeof Infinity, typeof -Infinity, typeof (-Infinity), !-Infinity, void -Infinity, -(-Infinity));
console.log(1 - -Infinity, 2 ** -Infinity, (-Infinity) ** 2, (-Infinity).toFixed(), Infinity.toString(), -Infinity.constructor.length, `${-Infinity}`, [-Infinity, at(1)].indexOf(-Infinity));
console.log(-Infinity < 0, -Infinity in { '-Infinity': 1 }, { [-Infinity]: 1 }, Object.is(1 / -Infinity, -0), Math.max(), -(1 / 0), +-Infinity, ~-Infinity, -Infinity % 2, isFinite(-Infinity), 0 * -Infinity);
