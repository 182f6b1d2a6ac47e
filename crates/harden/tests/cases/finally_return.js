function a() { try { return 'try'; } finally { return 'finally'; } }
function b() { for (;;) { try { return 'try'; } finally { break; } } return 'after'; }
function c() { try { throw 1; } catch { return 'catch'; } finally { console.log('f'); } }
function d() { let x = 1; try { return x; } finally { x = 2; } }
function e() { try { throw new Error('lost'); } finally { return 'kept'; } }
function g() { try { return console.log('first'), 'r'; } finally { console.log('second'); } }
console.log(a(), b(), c(), d(), e(), g());
function h() { try { try { throw 'inner'; } finally { console.log('cleanup'); } } catch (error) { return error; } } console.log(h());
