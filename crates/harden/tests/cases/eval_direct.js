const secret = 5;
function read(name) { const local = 6; return eval(name); }
console.log(read('secret'), read('local'), read('name'));
