var x = 'outer';
function scope(a = x, b = () => x, c = (x) => x) { var x = 'inner'; return [a, b(), x, c('given')]; }
console.log(scope());
function own(x, y = () => x) { var x; const before = x; x = 'changed'; return [before, y(), x]; }
console.log(own('param'));
const destructured = ({ a = 1, b: { c = a } = {}, ...rest } = {}, [d = c, ...e] = []) => [a, c, rest, d, e];
console.log(destructured(), destructured({ a: 5, z: 1 }, [undefined, 2]));
function order(a = log('a'), b = log('b')) { return a + b; }
function log(value) { console.log(value); return value; }
console.log(order(undefined, 'given'));
