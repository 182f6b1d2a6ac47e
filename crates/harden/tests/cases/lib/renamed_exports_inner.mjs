export const visible = 'inner'; export default null;
