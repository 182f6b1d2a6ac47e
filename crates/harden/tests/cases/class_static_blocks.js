const order = [];
class A { static a = order.push('a'); static { order.push('block', this === A); var local = 1; } static b = order.push('b'); static { try { throw 1; } catch { order.push('caught'); } } }
console.log(order.join(), typeof local);
class B { static total = 0; static { for (let i = 0; i < 5; i++) { if (i === 1) continue; if (i === 4) break; this.total += i; } const doubled = this.total * 2; this.doubled = doubled; if (doubled > 5) { console.log('big'); } else { console.log('small'); } } static { outer: for (const a of [1, 2]) { for (const b of [1, 2]) { if (b === 2) continue outer; console.log(a, b); } } function inner() { return 'inner'; } console.log(inner(), (() => this === B)()); let read = () => late; try { read(); } catch (error) { console.log(error.name); } let late = 1; console.log(read()); } static { } static { 'use strict'; console.log(typeof this); } }
console.log(B.total, B.doubled);
class C extends B { static #count = 0; static add() { return ++C.#count; } static { const { total } = super.constructor === Function ? this : B; console.log(total, C.add() && C.add()); try { throw new Error('in a block'); } catch ({ message }) { console.log(message); } finally { this.done = true; } } }
console.log(C.done, C.total);
