('use strict');
console.log(typeof (function () { return this; })());
undeclaredByDirectiveCase = 1;
console.log(undeclaredByDirectiveCase);
