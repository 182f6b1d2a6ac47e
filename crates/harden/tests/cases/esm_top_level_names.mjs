const helper = (value) => value * 2;
function other(value) { return helper(value) + 1; }
class Box { constructor(value) { this.value = value; } static of(value) { return new Box(value); } }
const unusedEffect = console.log('initialiser runs');
export { other, Box };
console.log(other(2), Box.of(3).value);
