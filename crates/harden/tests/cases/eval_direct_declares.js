function declare() { eval('var made = 3'); return made; }
console.log(declare(), typeof made);
