exports.x = exports.y = exports.z = void 0;
exports.x = 1; exports.y = 2; exports.z = 3;
