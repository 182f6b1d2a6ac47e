console.log('effect');
export default 1;
export const count = 2;
