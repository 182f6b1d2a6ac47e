const order = [];
class A { static a = order.push('a'); static { order.push('block', this === A); var local = 1; } static b = order.push('b'); static { try { throw 1; } catch { order.push('caught'); } } }
console.log(order.join(), typeof local);
