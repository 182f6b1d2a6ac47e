console.log('</script><!--', '\u2028\u2029'.length, 'a\
b', '\0'.length, '\x00\u0000'.length, "it's", 'say "hi"', '\u{1F600}', '😀'.length, '\ud83d', '\udc00\ud800'.length, '\v\f\b'.length, '\1', '\u{10ffff}'.codePointAt(0), 'é', 'e\u0301'.length);
console.log(JSON.stringify('\ud800'), '\ud800' + '\udc00', 'a' + 1 + 2, 1 + 2 + 'a', "\'", '\a');
