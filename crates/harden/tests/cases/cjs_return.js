console.log('before');
if (typeof module === 'object') { console.log('returns'); return; }
console.log('never');
