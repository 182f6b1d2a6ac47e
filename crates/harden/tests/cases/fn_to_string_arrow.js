const outer = 5;
console.log((() => outer).toString().includes('outer'));
