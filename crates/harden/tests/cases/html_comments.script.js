<!-- hidden in old browsers
console.log('script'); var htmlCommentRan = 1;
--> also a comment
