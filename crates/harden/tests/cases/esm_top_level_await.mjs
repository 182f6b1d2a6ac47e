const value = await Promise.resolve(7);
console.log(value);
for await (const item of [Promise.resolve(1), 2]) console.log(item);
export {};
