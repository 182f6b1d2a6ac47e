console.log(1..toFixed(1), 1.0.toFixed(2), (1).toString(), 1 .constructor.name, 0x10.toString(), 1e3.toString());
const n = 5; console.log(n - -1, n+ +1, n- -n, +-+n, - -n, [-0, 0].map((x) => Object.is(x, -0)), 0 === -0, 2147483647 + 1 | 0, 4294967296 >>> 0, 1 << 31, ~~-5.7, 5 % -3, -5 % 3, (-5) ** 2, 2 ** -1, 0.1 * 3, 1e16 + 1, Number.MAX_SAFE_INTEGER + 2);
