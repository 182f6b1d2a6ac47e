console.log(eval('if (true) { 1; 2; }'), eval('var a = 1; a; if (false) { 3 }'), (0, eval)('true'), eval('{ let x = 5; x; }'), eval('"use strict"; undefined'));
