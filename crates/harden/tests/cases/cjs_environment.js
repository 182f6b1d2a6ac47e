console.log(typeof require, typeof module, typeof exports, this === exports, this === module.exports);
console.log(__filename.endsWith('cjs_environment.js'), __dirname.length > 0, require.main === module, arguments.length);
console.log(new.target);
