try { throw 'thrown'; } catch (e) { var e = 'assigned'; var inCatch = e; } console.log(e, inCatch);
try { throw [1, { b: 2 }]; } catch ([a, { b, c = a + b }]) { let d = c; console.log(a, b, c, d); }
try { throw 1; } catch { console.log('no binding'); } const read = []; for (const v of [1, 2]) try { throw v; } catch (x) { read.push(() => x); } console.log(read.map((f) => f()));
function shadow(e) { try { throw 'inner'; } catch (e) { { function e2() { return e; } } e = 'changed'; return [e, e2()]; } } console.log(shadow('param'));
try { try { throw undefined; } catch ({ x }) { console.log('never'); } } catch (error) { console.log(error.name); } finally { console.log('after'); }
