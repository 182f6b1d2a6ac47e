console.log(GlobalLib.add(1), globalFunction(1, 2), unusedHere, lexicalGlobal, alsoUnused, new GlobalClass().hi(), globalThis.GlobalLib === GlobalLib, typeof globalThis.lexicalGlobal);
