const fallback = await 'default', key = 'computed';
export const { first = fallback, [key]: second = key, ...rest } = { computed: undefined, other: 1 };
export let [third = (() => fallback + key)(), { deep: nested = third } = {}] = [];
export var { counter = 0 } = {};
export const bump = () => { counter++; };
