const version = '1.0';
function a() { return 1; }
const b = () => 2;
module.exports = { version, a, b, c: a, 'd': b, e: null };
