function outer() { let hidden = 'let'; { function hidden() {} } return typeof hidden; }
function replaced() { var value = 1; { value = 2; function value() {} value = 3; } return value; }
console.log(outer(), replaced());
