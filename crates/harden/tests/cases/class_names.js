const Expression = class Inner { static self() { return Inner === Expression; } };
console.log(Expression.self(), typeof Inner);
