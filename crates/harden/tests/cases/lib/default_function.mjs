console.log('hoisted', named());
export default function named(a, b) { return 'named'; }
