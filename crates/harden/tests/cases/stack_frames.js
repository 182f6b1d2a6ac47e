function caller(above) { const before = Error.prepareStackTrace; Error.prepareStackTrace = (_, sites) => sites; const sites = new Error().stack; Error.prepareStackTrace = before; return sites[above].getFileName(); }
console.log(caller(1) === __filename, caller(0) === __filename, typeof caller(2));
const error = new Error('said'); console.log(error.stack.split('\n')[0], error.stack.includes(__filename), error.stack.split('\n').length > 2);
