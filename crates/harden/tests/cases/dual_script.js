function dualPublic(value) { return value * 2; }
if (typeof module !== 'undefined' && module.exports) { module.exports = dualPublic; }
console.log(dualPublic(2));
