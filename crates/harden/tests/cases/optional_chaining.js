const o = { a: { b() { return this.c; }, c: 5 }, n: null, f: null }; console.log(o?.a?.b(), o.n?.x.y.z, o.f?.(), o.a?.['b'](), o?.missing?.[console.log('never')], (o?.a).c, (o.n?.x)?.y);
let calls = 0; const get = () => (calls++, o); get()?.a.b(); get?.()?.a?.c; console.log(calls, delete o?.a?.c, o.a.c, o.a?.b?.call({ c: 7 }), null ?? undefined ?? 0, 0 ?? 1, (false || null) ?? 'd', o.a.b?.().x);
try { (o.n?.x).y; } catch (error) { console.log(error.name); } const f = o?.a.b; console.log(typeof f, new (class { x = o?.a; })().x === o.a, `${o?.n}`);
