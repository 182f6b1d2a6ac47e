const same = (work, text) => console.log(work.toString() === text);
same(function  spaced ( a , b )  { /* said */ return a +  b ; }, "function  spaced ( a , b )  { /* said */ return a +  b ; }");
same(Object.getOwnPropertyDescriptor({ get  value ( ) { return 1 ; } }, 'value').get, "get  value ( ) { return 1 ; }");
same(class { static /* kept */ of  ( ) { } }.of, "of  ( ) { }");
