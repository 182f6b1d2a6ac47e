const state = { count: 1, label: 'a', nested: { deep: 2 } };
state.count++; state.label += 'b'; state.count **= 3; console.log(state.count, state.label, state.nested.deep, typeof state.label);
const handed = { one: 1 }; console.log(handed, handed.one);
const missing = { here: 1 }; console.log(missing.here, missing.toString === Object.prototype.toString);
const method = { value: 5, get: function () { return this && this.value; } }; console.log(method.get(), method.value);
const arrow = { run: () => 'ran' }; console.log(arrow.run(), arrow.run.name);
const assigned = { fn: null }; assigned.fn = function () {}; console.log(JSON.stringify(assigned.fn.name));
const removed = { gone: 1 }; delete removed.gone; console.log(removed.gone);
const target = { first: 0, rest: 0 }; [target.first, target.rest] = [1, 2]; console.log(target.first, target.rest);
const fns = []; for (let i = 0; i < 3; i++) { const box = { seen: i }; fns.push(() => box.seen++, () => box.seen); } fns.forEach((fn) => fn()); console.log(fns.map((fn) => fn()).join());
const shared = []; for (let box = { seen: 0 }; box.seen < 2; box.seen++) { shared.push(() => box.seen); } console.log(shared.map((fn) => fn()).join());
const again = { a: 1, a: 2 }; console.log(again.a);
const order = { x: console.log('x'), y: console.log('y') }; console.log(order.x, order.y);
const optional = { some: { thing: 3 } }; console.log(optional?.some?.thing);
const proto = { __proto__: { inherited: 'yes' }, own: 1 }; console.log(proto.inherited, proto.own);
try { early.value; } catch (error) { console.log(error.name); } const early = { value: 1 }; console.log(early.value);
try { fixed = 1; } catch (error) { console.log(error.name); } const fixed = { value: 2 }; console.log(fixed.value);
function scope() { const inner = { left: arguments.length, right: this === undefined }; inner.left += 1; return inner.left + ':' + inner.right; } console.log(scope(1, 2));
const tag = { t: (strings) => strings.raw[0] }; console.log(tag.t`tagged`);
const made = { Class: class Inner {} }; console.log(new made.Class() instanceof made.Class, made.Class.name.length > 0);
const loops = { at: 0 }; for (loops.at of [1, 2, 3]); console.log(loops.at);
try { const own = { a: 1, b: own.a }; console.log(own.b); } catch (error) { console.log(error.name); }
try { const asked = { a: 1, b: ask() }; function ask() { return asked.a; } console.log(asked.b); } catch (error) { console.log(error.name); }
try { const closed = { a: 1, b: (() => closed.a)() }; console.log(closed.b); } catch (error) { console.log(error.name); }
exports.all = { state: state.count };
