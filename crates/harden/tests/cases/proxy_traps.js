const seen = []; const spy = new Proxy({}, new Proxy({}, { get: (_, trap) => (target, ...rest) => { seen.push(trap + (typeof rest[0] === 'string' ? ':' + rest[0] : '')); return Reflect[trap](target, ...rest); } }));
spy.a = 1; spy.a; spy['b']; 'c' in spy; delete spy.d; spy?.e; spy.a ??= 2; spy.f ||= 3; ({ a: spy.g } = { a: 4 }); const { a, ...rest } = spy; for (const key in spy) seen.push('key:' + key); Object.keys(spy); ({ ...spy }); spy.a++; [spy.h] = [5];
console.log(seen.join(' '));
