const parse = globalThis.parseInt;
globalThis.parseInt = () => 'replaced';
console.log(parseInt('5'));
globalThis.parseInt = parse;
const floor = Math.floor; Math.floor = () => 'floored'; console.log(Math.floor(1.5)); Math.floor = floor;
String.prototype.charAt = ((original) => function (i) { return '<' + original.call(this, i) + '>'; })(String.prototype.charAt);
console.log('abc'.charAt(1));
const join = Array.prototype.join; Array.prototype.join = () => 'joined'; console.log(['a', 'b'].join('-')); Array.prototype.join = join;
