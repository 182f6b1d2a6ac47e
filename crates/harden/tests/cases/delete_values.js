console.log(delete 'text', delete 1, delete null, delete (0, 'text'), delete [1].length2, delete 'abc'.missing, delete `t`, delete this.none, delete void 0, delete (() => {}), delete !1);
var o = { 'a b': 1, c: { d: 1 } }; console.log(delete o['a b'], delete o.c.d, delete o?.c?.e, delete o.zz?.y, Object.keys(o), Object.keys(o.c));
