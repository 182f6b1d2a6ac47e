function sloppy() { return this === globalThis; } function strict() { 'use strict'; return this; } console.log(sloppy(), strict(), sloppy.call(null), strict.call(null), typeof (function () { return this; }).call('s'));
sloppyGlobal = 1; console.log(globalThis.sloppyGlobal, delete globalThis.sloppyGlobal); const o = { m: sloppy }; console.log(o.m(), (o.m)(), (0, o.m)(), (o.x || sloppy)());
