function read(run) { try { return run(); } catch (error) { return error.name; } }
console.log(read(() => { notDeclared; }), read(() => typeof notDeclared), read(() => { notDeclared.x; return 1; }), read(() => { void notDeclared; }));
console.log(read(() => { true || notDeclared; return 'short'; }), read(() => { notDeclared(); }), read(() => { !notDeclared; }), read(() => { [notDeclared]; }), read(() => { `${notDeclared}`; }));
