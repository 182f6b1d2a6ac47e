const nan = NaN; console.log(nan === nan, nan != nan, !(nan < 1), nan >= 1, !(nan > 1), [NaN].indexOf(NaN), [NaN].includes(NaN), isNaN(undefined), Number.isNaN(undefined));
console.log(!(undefined < 1), !(1 <= undefined), null >= 0, null > 0, null == 0, undefined == null, '' == 0, '0' == false, [] == false, [] + {}, [] + [], 1 + '2', '3' - 1, true + true);
