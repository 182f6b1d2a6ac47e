function a() { 'not used'; 'also not'; return typeof this; } function b() { log('x'); 'use strict'; return typeof this; } function c() { { 'use strict'; } return typeof this; } function d() { if (1) 'use strict'; return typeof this; } function log() {}
function e() { ; 'use strict'; return typeof this; } function f() { 'use' + ' strict'; return typeof this; } function g() { `use strict`; return typeof this; } function h() { 'use strict', 1; return typeof this; } function i() { ('x', 'use strict'); return typeof this; }
console.log(a(), b(), c(), d(), e(), f(), g(), h(), i());
