const x = 1; console.log(`a${x}b${`c${x}`}d`, `\${x}`, `\``, `line
two`, `${1}${2}`, `${'a'}b`, `\r\n`.length, `a\u2028b`.length, `</script>`, `${null}${undefined}${true}`);
console.log(`${{ toString: () => 'ts', valueOf: () => 'vo' }}`, '' + { toString: () => 'ts', valueOf: () => 'vo' });
try { `${Symbol('s')}`; } catch (error) { console.log(error.name); }
