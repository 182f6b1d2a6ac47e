function* inner() { try { console.log('sent', yield 'a'); yield 'b'; } catch (error) { console.log('caught', error); yield 'c'; } finally { console.log('done'); } return 'result'; }
function* outer() { const r = yield* inner(); console.log('r', r); return yield r; }
let it = outer(); console.log(it.next('lost').value, it.next('kept').value, it.throw('bad').value, it.next().value, it.next('end'));
it = outer(); it.next(); console.log(it.return('early')); const f = function* () { return (yield 1) + (yield 2) * (yield); }; it = f(); it.next(); it.next(3); it.next(4); console.log(it.next(5));
const o = { *['com' + 'puted'](x = 1) { yield [x, arguments.length, this === o]; } }; console.log([...o.computed()], [...o.computed(2, 3)]); console.log([...(function* () { const x = yield* []; yield x === undefined; })()]);
