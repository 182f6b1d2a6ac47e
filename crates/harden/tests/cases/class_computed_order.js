const order = [];
const key = (name) => (order.push(name), name);
class A { static [key('a')] = order.push('va'); [key('b')]() {} static [key('c')] = order.push('vc'); get [key('d')]() { return 1; } }
console.log(order.join());
