console.log(1n + 2n, 0xffn, -5n / 2n, 2n ** 64n, typeof 1n, 1n == 1, 1n < 2, BigInt.asUintN(8, 257n), 1_000n, -(-3n), ~1n, 0n ? 1 : 2, 10n % 3n, (-1n) ** 3n);
try { 1n + 1; } catch (error) { console.log(error.name); }
try { +1n; } catch (error) { console.log(error.name); }
