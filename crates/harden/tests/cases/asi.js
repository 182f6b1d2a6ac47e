let a = 1
let b = a
++b
console.log(a, b)
const f = function () { return
  1 }
console.log(f())
;[1, 2].forEach((x) => console.log(x))
var let_ = 1
;(function () { console.log('iife') })()
if (a) ; else console.log('no')
for (;;) { break }
do console.log('do'); while (false) console.log('after')
