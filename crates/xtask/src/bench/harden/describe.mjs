// What a reader learns from a JavaScript file: names of bindings and properties, strings, shapes of functions.
import { require } from './libraries.mjs';

const acorn = require('acorn');

/** Names and strings of at most this many characters are met by chance, and are not counted. */
const LONGER_THAN = 2;
/** A function of fewer statements has the shape of many: of these, one in two hundred is met in an unrelated module. */
const STATEMENTS = 4;
/** How deep the shape of a function goes into nested statements. */
const DEPTH = 5;

export function parse(text) {
  const options = {
    ecmaVersion: 'latest',
    allowReturnOutsideFunction: true,
    allowAwaitOutsideFunction: true,
    allowHashBang: true,
  };
  try {
    return acorn.parse(text, { ...options, sourceType: 'module' });
  } catch {
    return acorn.parse(text, { ...options, sourceType: 'script', allowAwaitOutsideFunction: false });
  }
}

/** Returns `{ bindings, properties, strings, shapes }`: three sets, and how many functions have each shape. */
export function describe(text) {
  const found = { bindings: new Set(), properties: new Set(), strings: new Set(), shapes: new Map() };
  walk(parse(text), null, (node, parent) => {
    switch (node.type) {
      case 'VariableDeclarator':
        bind(node.id, found);
        break;
      case 'FunctionDeclaration':
      case 'FunctionExpression':
      case 'ArrowFunctionExpression': {
        if (node.id) bind(node.id, found);
        for (const parameter of node.params) bind(parameter, found);
        const shape = shapeOf(node);
        if (shape) found.shapes.set(shape, (found.shapes.get(shape) ?? 0) + 1);
        break;
      }
      case 'ClassDeclaration':
      case 'ClassExpression':
        if (node.id) bind(node.id, found);
        break;
      case 'CatchClause':
        if (node.param) bind(node.param, found);
        break;
      case 'ImportSpecifier':
      case 'ImportDefaultSpecifier':
      case 'ImportNamespaceSpecifier':
        bind(node.local, found);
        break;
      case 'MemberExpression':
      case 'Property':
      case 'MethodDefinition':
      case 'PropertyDefinition': {
        const key = node.type === 'MemberExpression' ? node.property : node.key;
        const name = keyName(key, node.computed);
        if (name !== null) add(found.properties, name);
        break;
      }
      case 'Literal':
        if (typeof node.value === 'string' && !isKey(node, parent) && !isSpecifier(node, parent)) {
          if (!(parent?.type === 'ExpressionStatement' && parent.directive)) add(found.strings, node.value);
        }
        break;
      case 'TemplateElement':
        add(found.strings, node.value.cooked ?? node.value.raw);
        break;
    }
  });
  return found;
}

function add(set, name) {
  if (name.length > LONGER_THAN) set.add(name);
}

export function walk(node, parent, visit) {
  visit(node, parent);
  for (const key in node) {
    const value = node[key];
    if (Array.isArray(value)) {
      for (const child of value) if (child && typeof child.type === 'string') walk(child, node, visit);
    } else if (value && typeof value.type === 'string' && key !== 'loc') {
      walk(value, node, visit);
    }
  }
}

function bind(pattern, found) {
  switch (pattern?.type) {
    case 'Identifier':
      add(found.bindings, pattern.name);
      break;
    case 'ObjectPattern':
      for (const property of pattern.properties) bind(property.value ?? property.argument, found);
      break;
    case 'ArrayPattern':
      for (const element of pattern.elements) bind(element, found);
      break;
    case 'AssignmentPattern':
      bind(pattern.left, found);
      break;
    case 'RestElement':
      bind(pattern.argument, found);
      break;
  }
}

function keyName(key, computed) {
  if (key.type === 'Literal' && typeof key.value === 'string') return key.value;
  if (key.type === 'TemplateLiteral' && computed && key.quasis.length === 1) return key.quasis[0].value.cooked;
  if (computed) return null;
  if (key.type === 'PrivateIdentifier') return `#${key.name}`;
  return key.type === 'Identifier' ? key.name : null;
}

function isKey(node, parent) {
  if (parent?.type === 'MemberExpression') return parent.property === node && parent.computed;
  return ['Property', 'MethodDefinition', 'PropertyDefinition'].includes(parent?.type) && parent.key === node;
}

function isSpecifier(node, parent) {
  if (!parent) return false;
  if (/^(Import|Export)/.test(parent.type)) return true;
  return parent.type === 'CallExpression' && parent.callee.name === 'require' && parent.arguments[0] === node;
}

/**
 * The number of parameters and the kinds of statements, on a common form that undoes what minifiers do:
 * sequences are split, conditional and short-circuit expressions are `if`, an `else` after a `return` is what
 * follows it, a declaration is an assignment, every loop with a condition is the same loop, and what has no effect
 * is left out.
 */
export function shapeOf(func) {
  const list = func.body.type === 'BlockStatement' ? kinds(func.body.body, 1) : leave(func.body, 'return', 1);
  if (list.at(-1) === 'return;') list.pop();
  const text = join(list);
  const statements = text.match(/[a-z]+/g)?.length ?? 0;
  return statements < STATEMENTS ? null : `${func.params.length}(${text})`;
}

function join(list) {
  return list.join(' ').replaceAll('return;', 'return');
}

function block(statements, depth) {
  return depth >= DEPTH ? '' : `{${join(kinds(statements, depth + 1))}}`;
}

function kinds(statements, depth) {
  return statements.flatMap(statement => kind(statement, depth));
}

function kind(node, depth) {
  switch (node.type) {
    case 'BlockStatement':
      return kinds(node.body, depth);
    case 'EmptyStatement':
    case 'FunctionDeclaration':
    case 'DebuggerStatement':
      return [];
    case 'ClassDeclaration':
      return ['do'];
    case 'ExpressionStatement':
      return node.directive ? [] : effect(node.expression, depth);
    case 'VariableDeclaration':
      return node.declarations.flatMap(({ init }) => (init ? value(init) : []));
    case 'ReturnStatement':
      return node.argument ? leave(node.argument, 'return', depth) : ['return;'];
    case 'ThrowStatement':
      return leave(node.argument, 'throw', depth);
    case 'IfStatement': {
      const otherwise = node.alternate ? [node.alternate] : [];
      // A branch that does nothing is noise.
      if (idle(node.test) && !kinds([node.consequent, ...otherwise], depth).length) return [];
      return [...before(node.test), ...branch([node.consequent], otherwise, depth, kinds)];
    }
    case 'ForStatement': {
      const init = node.init?.type === 'VariableDeclaration' ? kind(node.init, depth) : [];
      const first = node.init && node.init.type !== 'VariableDeclaration' ? effect(node.init, depth) : [];
      return [...init, ...first, `loop${block([node.body], depth)}`];
    }
    case 'WhileStatement':
    case 'DoWhileStatement':
      return [`loop${block([node.body], depth)}`];
    case 'ForInStatement':
    case 'ForOfStatement':
      return [`each${block([node.body], depth)}`];
    case 'SwitchStatement':
      return [
        ...before(node.discriminant),
        `switch${depth >= DEPTH ? '' : node.cases.map(each => block(each.consequent, depth)).join('')}`,
      ];
    case 'TryStatement': {
      const parts = [`try${block([node.block], depth)}`];
      if (node.handler) parts.push(`catch${block([node.handler.body], depth)}`);
      if (node.finalizer) parts.push(`finally${block([node.finalizer], depth)}`);
      return parts;
    }
    case 'LabeledStatement':
      return kind(node.body, depth);
    case 'BreakStatement':
      return ['break'];
    case 'ContinueStatement':
      return ['continue'];
    default:
      return ['do'];
  }
}

/** What stands before the last of a sequence. */
function before(expression) {
  return expression.type === 'SequenceExpression' ? ['do'] : [];
}

function value(init) {
  return [...before(init), 'do'];
}

/** Whether evaluating it changes nothing, but for what a getter might do. */
function idle(node) {
  let still = true;
  walk(node, null, inner => {
    if (/^(Assignment|Update|Call|New|Await|Yield|Import|TaggedTemplate)/.test(inner.type)) still = false;
    if (inner.type === 'UnaryExpression' && inner.operator === 'delete') still = false;
  });
  return still;
}

function effect(node, depth) {
  if (idle(node)) return [];
  switch (node.type) {
    case 'SequenceExpression':
      return node.expressions.flatMap(each => effect(each, depth));
    case 'ConditionalExpression':
      return [
        ...before(node.test),
        ...branch([node.consequent], [node.alternate], depth, (list, at) => list.flatMap(each => effect(each, at))),
      ];
    case 'LogicalExpression':
      return branch([node.right], [], depth, (list, at) => list.flatMap(each => effect(each, at)));
    case 'UnaryExpression':
      return ['!', 'void'].includes(node.operator) ? effect(node.argument, depth) : ['do'];
    default:
      return ['do'];
  }
}

function leave(node, how, depth) {
  if (node.type === 'SequenceExpression') {
    const rest = node.expressions.slice(0, -1).flatMap(each => effect(each, depth));
    return [...rest, ...leave(node.expressions.at(-1), how, depth)];
  }
  if (node.type === 'ConditionalExpression') {
    const each = (list, at) => list.flatMap(one => leave(one, how, at));
    return [...before(node.test), ...branch([node.consequent], [node.alternate], depth, each)];
  }
  if (node.type === 'UnaryExpression' && node.operator === 'void') {
    return [...effect(node.argument, depth), 'return;'];
  }
  return [how];
}

function branch(consequent, alternate, depth, each) {
  const inner = each(consequent, depth + 1);
  const leaves = ['return', 'return;', 'throw', 'break', 'continue'].includes(inner.at(-1));
  const list = [`if${depth >= DEPTH ? '' : `{${join(inner)}}`}`];
  if (!alternate.length) return list;
  if (leaves) return [...list, ...each(alternate, depth)];
  return [...list, `else${depth >= DEPTH ? '' : `{${join(each(alternate, depth + 1))}}`}`];
}
