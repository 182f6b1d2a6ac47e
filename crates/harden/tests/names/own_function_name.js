function Widget() {} const Button = class {}; class Panel {} const handler = () => {};
console.log(Widget.name, Button.name, Panel.name, handler.name);
