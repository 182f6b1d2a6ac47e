console.log(typeof inBlock);
{ function inBlock() { return 1; } }
console.log(typeof inBlock, inBlock());
if (true) function inIf() { return 2; }
console.log(inIf());
switch (1) { case 1: function inSwitch() { return 3; } }
console.log(inSwitch());
try { throw 1; } catch (caught) { var caught = 2; }
console.log(caught);
