let f, g, h, k, o = {};
(f) = function () {}; g = function () {}; ((h)) = () => {}; (k) = class {}; (o.x) = function () {};
console.log([f.name, h.name, k.name, o.x.name].map((name) => name === ''), g.name !== '');
(f) ||= null; (o['y']) = 1; [(f), (o.z)] = [1, 2]; ({ a: (g) } = { a: 3 }); console.log(f, o.y, o.z, g); (f)++; --(o.z); console.log(f, o.z, delete (o.z), typeof (missing), (o).x.length);
