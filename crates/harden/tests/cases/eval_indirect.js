var indirectHidden = 1;
console.log((0, eval)('typeof indirectHidden'), globalThis.eval('1 + 1'), eval?.('typeof indirectHidden'));
