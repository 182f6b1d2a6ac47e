class Shape { describe() { return this.constructor.name; } } class Circle extends Shape {} const Square = class extends Shape {};
console.log(new Circle().describe(), new Square().describe(), (class Named {}).name);
