//! The encoded strings of a program and the statements that decode them.
//!
//! One text holds all strings, in an order of the seed. Each character is shifted by a state that the characters
//! before it decide, so that no part can be read without all that stands before it. The statements use no
//! name of the library and are no function: nothing there can be called by itself, and tools that look for a table,
//! a rotation or a decoder find none of them. Which of several forms each part takes follows from the seed.

use swc_core::{
    common::{DUMMY_SP, SyntaxContext},
    ecma::{
        ast::*,
        atoms::{Wtf8Atom, wtf8::Wtf8Buf},
    },
};

use super::{
    Work,
    defence::{Defence, KEY_MASK},
    fresh,
    key::{Holder, MOST},
    literals::Literals,
    snippet::{Fill, snippet},
    state::number,
};
use crate::HardenError;

/// Most different characters in one pool, unless one string has more: the table that decodes it holds each once.
const MAX_ALPHABET: usize = 2_048;

/// One encoded text.
struct Pool {
    alphabet: Vec<u16>,
    /// The text after encoding, as indexes into the alphabet.
    cipher: Vec<usize>,
    /// The state after the last character.
    last: u32,
    form: Form,
}

/// How one pool is encoded, and with which statements it is decoded.
struct Form {
    mask: u32,
    multiplier: u32,
    increment: u32,
    feedback: u32,
    shift: u32,
    /// Coprime with the alphabet's size, and its inverse.
    unit: (usize, usize),
    update: usize,
    combine: usize,
    walk: usize,
    table: usize,
    backwards: bool,
}

/// Where the variables of the prelude stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Top {
    /// Nobody else sees what the top level declares.
    Own,
    /// It declares globals.
    Seen,
    /// Functions may run before the top level does.
    Deferred,
}

/// What stands before everything else, and the call that decodes, where that may have to happen earlier.
pub(crate) struct Prelude {
    pub(crate) statements: Vec<Stmt>,
    /// `s || f()`
    pub(crate) early: Vec<Stmt>,
}

/// Where the key of the first pool comes from.
pub(crate) struct Key {
    /// The list of strings, which is also what the holders know the prelude by.
    pub(crate) token: Ident,
    pub(crate) holders: Vec<Holder>,
}

/// Returns the statements that set the variables of `literals` and of the state.
pub(crate) fn prelude(
    work: &mut Work<'_>,
    mut literals: Literals,
    state: &[(Ident, i32)],
    key: &Key,
    top: Top,
) -> Result<Prelude, HardenError> {
    work.random.shuffle(&mut literals.entries);
    let mut pools = group(&literals);
    if pools.is_empty() {
        // The state is computed by decoding, so there is always something to decode.
        let decoy: String = (0..24).map(|_| char::from(b'a' + work.random.below(26) as u8)).collect();
        pools.push(vec![(decoy.encode_utf16().collect(), work.names.variable())]);
    }
    let mut statements = Vec::new();
    // The first pool sets the state, which is a part of the others' keys.
    for (index, strings) in pools.iter().enumerate() {
        statements.extend(decode(work, strings, state, (index == 0).then_some(key), top)?);
    }
    if top == Top::Own {
        return Ok(Prelude { statements, early: Vec::new() });
    }
    let names = pools.iter().flatten().map(|(_, ident)| ident).chain(state.iter().map(|(ident, _)| ident));
    let declared = names.map(|name| VarDeclarator {
        span: DUMMY_SP,
        name: Pat::Ident(name.clone().into()),
        init: None,
        definite: false,
    });
    let declared = VarDecl { kind: VarDeclKind::Var, decls: declared.collect(), ..Default::default() };
    let mut outside = vec![Stmt::Decl(Decl::Var(Box::new(declared)))];
    if top == Top::Seen {
        outside.push(Stmt::Block(BlockStmt { stmts: statements, ..Default::default() }));
        return Ok(Prelude { statements: outside, early: Vec::new() });
    }
    let decode = fresh();
    let body = Some(FunctionBody { stmts: statements, ..Default::default() });
    let function = Box::new(Function { body, ..Default::default() });
    outside.push(Stmt::Decl(Decl::Fn(FnDecl { ident: decode.clone(), declare: false, function })));
    let Some((set, _)) = state.first() else { return Ok(Prelude { statements: outside, early: Vec::new() }) };
    let early = snippet(work.session, "S||F();", Fill::default().name("S", set).name("F", &decode))?;
    outside.extend(early.iter().cloned());
    Ok(Prelude { statements: outside, early })
}

/// What a program says that was changed after it was printed.
const REFUSAL: &str = "this file was changed after it was built";

/// How a snippet calls the holders of the key.
const HOLDERS: [&str; MOST] = ["H0", "H1", "H2", "H3"];

type Strings = Vec<(Vec<u16>, Ident)>;

/// Strings that share an alphabet: those of ASCII, then the others.
fn group(literals: &Literals) -> Vec<Strings> {
    let units = |text: &Wtf8Atom| text.to_ill_formed_utf16().collect::<Vec<u16>>();
    let all = literals.entries.iter().map(|(text, ident)| (units(text), ident.clone()));
    let (plain, other): (Strings, Strings) = all.partition(|(text, _)| text.iter().all(|&unit| unit < 128));
    let mut groups: Vec<Strings> = Vec::new();
    let mut alphabet = std::collections::BTreeSet::new();
    let mut group = Strings::new();
    for (text, ident) in other {
        let new: std::collections::BTreeSet<u16> = text.iter().copied().collect();
        if !group.is_empty() && alphabet.union(&new).count() >= MAX_ALPHABET {
            groups.push(std::mem::take(&mut group));
            alphabet.clear();
        }
        alphabet.extend(new);
        group.push((text, ident));
    }
    groups.extend([group, plain]);
    groups.retain(|group| !group.is_empty());
    groups.reverse();
    groups
}

fn decode(
    work: &mut Work<'_>,
    strings: &Strings,
    state: &[(Ident, i32)],
    key: Option<&Key>,
    top: Top,
) -> Result<Vec<Stmt>, HardenError> {
    let list = key.map_or_else(fresh, |key| key.token.clone());
    let mut fill = Fill::default().name("o", &list);
    let first = (work.random.word() & 0xf_ffff) as i32;
    let written = work.constants.next();
    // What the key is at run time, and how it is written.
    let (secret, secret_code) = match (key, state.first()) {
        (Some(key), _) => {
            let mut code = written.to_string();
            let mut secret = written;
            for (holder, name) in key.holders.iter().zip(HOLDERS) {
                fill = fill.name(name, &holder.function);
                code.push_str(&format!("^{name}({})", vec!["o"; holder.arguments].join(",")));
                secret ^= holder.answer(first);
            }
            if work.defends && !key.holders.is_empty() {
                code.push_str("^k^h");
            }
            (secret, code)
        }
        (None, Some((ident, value))) => {
            fill = fill.name("S0", ident);
            (written ^ value, format!("{written}^S0"))
        }
        (None, None) => (written, written.to_string()),
    };
    let is_first = key.is_some();
    let pool = encode(work, strings, secret as u32 & KEY_MASK);
    let secret_code = format!("({secret_code})&{KEY_MASK}");
    let size = pool.alphabet.len();
    let form = &pool.form;
    let text = |units: &[u16]| -> Box<Expr> {
        let value = Wtf8Atom::new(&*Wtf8Buf::from_ill_formed_utf16(units));
        Box::new(Expr::Lit(Lit::Str(Str { span: Default::default(), value, raw: None })))
    };
    let mut cipher: Vec<u16> = pool.cipher.iter().map(|&index| pool.alphabet[index]).collect();
    if form.backwards {
        cipher.reverse();
    }
    // The last symbol ends a string.
    let end = size - 1;
    let update = update_code(form);
    let shifted = match form.combine {
        0 => format!("(d+{size}-(s>>>{shift})%{size})%{size}", shift = form.shift),
        1 => format!("((s>>>{shift})%{size}-d+{size})%{size}", shift = form.shift),
        _ => format!("(d*{unit}+(s>>>{shift})%{size})%{size}", unit = form.unit.1, shift = form.shift),
    };
    let table = match form.table {
        0 => format!("for(n=0;n<{size};)m[A[n]]=n++;"),
        1 => format!("n={size};while(n--)m[A[n]]=n;"),
        _ => format!("n=0;do m[A[n]]=n;while(++n<{size});"),
    };
    // The key of an object is a string that the engine compares by its address. Its own key comes first.
    let take = "for(o[n]in{[w]:0})break;";
    let step = match work.random.below(3) {
        0 => format!("d={shifted};s={update};if(d=={end}){{{take}n++;w=''}}else w+=A[d];"),
        1 => format!("d={shifted};s={update};if(d<{end}){{w+=A[d];continue}}{take}w='';n+=1;"),
        _ => format!("d={shifted};s={update};switch(d){{case {end}:{take}n++;w='';break;default:w=w+A[d]}}"),
    };
    let count = cipher.len();
    let (from, next) = if form.backwards { (count, "--i") } else { (0, "i++") };
    let more = if form.backwards { "i>0".to_owned() } else { format!("i<{count}") };
    let walk = match form.walk {
        0 => format!("for(i={from};{more};){{d=m[T[{next}]];{step}}}"),
        1 => format!("i={from};while({more}){{d=m[T[{next}]];{step}}}"),
        _ => format!("i={from};for(;;){{if(!({more}))break;d=m[T[{next}]];{step}}}"),
    };
    let mut check = String::new();
    if let Some(key) = key
        && work.defends
        && !key.holders.is_empty()
    {
        // As wide as any hash is written.
        let placeholder = work.random.word() | 1 << 31;
        let functions: Vec<i32> = key.holders.iter().map(|holder| holder.mask).collect();
        let texts: String = HOLDERS.iter().take(functions.len()).map(|name| format!("+{name}")).collect();
        check = format!(
            "let h=0,k=CHECK;w=''{texts};i=0;while((d=w[i++])!==void 0)h=h*33+(m[d]|0)+1&{KEY_MASK};w='';if(k!==h)throw Error(REFUSAL);"
        );
        let free = SyntaxContext::empty().apply_mark(work.session.unresolved);
        let error = Ident::new("Error".into(), DUMMY_SP, free);
        // Without this it would go on with strings that mean nothing, perhaps for ever.
        fill = fill
            .value("CHECK", number(i64::from(placeholder)))
            .value("REFUSAL", REFUSAL)
            .value("Error", Expr::Ident(error));
        work.defence = Some(Defence { placeholder, functions, alphabet: pool.alphabet.clone() });
    }
    let body = format!("{table}{check}s={secret_code};n=0;{walk}");
    fill = fill.value("TEXT", text(&cipher)).value("ALPHABET", text(&pool.alphabet));
    const STATE: [&str; 4] = ["S0", "S1", "S2", "S3"];
    let mut sets = String::new();
    for (index, ((ident, value), name)) in state.iter().zip(STATE).enumerate().filter(|_| is_first) {
        fill = fill.name(name, ident);
        let difference = *value ^ pool.last as i32;
        let kind = match (top, index) {
            (Top::Own, 0) => "const ",
            (Top::Own, _) => "let ",
            _ => "",
        };
        sets.push_str(&format!("{kind}{name}=s^{difference};"));
    }
    let source = format!("const o=[{first}];let T=TEXT,A=ALPHABET,m={{}},s,n,d,i,w='';{body}{sets}");
    let mut statements = snippet(work.session, &source, fill)?;
    statements.push(bind(strings, &list, top));
    Ok(statements)
}

/// `const [a, b, c] = list;`, or `[a, b, c] = list;` where the names are declared already.
fn bind(strings: &Strings, list: &Ident, top: Top) -> Stmt {
    let elems = strings.iter().map(|(_, ident)| Some(Pat::Ident(ident.clone().into()))).collect();
    let names = ArrayPat { span: DUMMY_SP, elems, optional: false, type_ann: None };
    let list = Box::new(Expr::Ident(list.clone()));
    if top == Top::Own {
        let declarator =
            VarDeclarator { span: DUMMY_SP, name: Pat::Array(names), init: Some(list), definite: false };
        let declared = VarDecl { kind: VarDeclKind::Const, decls: vec![declarator], ..Default::default() };
        return Stmt::Decl(Decl::Var(Box::new(declared)));
    }
    let left = AssignTarget::Pat(AssignTargetPat::Array(names));
    let expr = AssignExpr { span: DUMMY_SP, op: AssignOp::Assign, left, right: list };
    Stmt::Expr(ExprStmt { span: DUMMY_SP, expr: Box::new(Expr::Assign(expr)) })
}

fn encode(work: &mut Work<'_>, strings: &Strings, key: u32) -> Pool {
    let mut units: Vec<u16> = strings.iter().flat_map(|(text, _)| text.iter().copied()).collect();
    units.sort_unstable();
    units.dedup();
    // The end of a string is written with a character that no string holds.
    let mark = (0x21..0x7f)
        .chain(0xa1..)
        .find(|unit| !matches!(unit, 0x22 | 0x27 | 0x5c | 0x60) && units.binary_search(unit).is_err());
    let random = &mut work.random;
    random.shuffle(&mut units);
    units.push(mark.unwrap_or(0));
    let size = units.len();
    let form = Form {
        mask: (1 << (18 + random.below(3))) - 1,
        multiplier: (random.word() & 0xff_fff8) | 5,
        increment: random.word() & 0xff_ffff | 1,
        feedback: random.word() & 0xffff | 1,
        shift: 4 + random.below(4) as u32,
        unit: unit(random, size),
        update: random.below(3),
        combine: random.below(3),
        walk: random.below(3),
        table: random.below(3),
        backwards: random.one_in(2),
    };
    let index: std::collections::HashMap<u16, usize> =
        units.iter().enumerate().map(|(at, &unit)| (unit, at)).collect();
    let mut state = key;
    let mut cipher = Vec::new();
    for (text, _) in strings {
        let symbols = text.iter().map(|unit| index[unit]).chain([size - 1]);
        for plain in symbols {
            let key = (state >> form.shift) as usize % size;
            cipher.push(match form.combine {
                0 => (plain + key) % size,
                1 => (key + size - plain) % size,
                _ => (plain + size - key) % size * form.unit.0 % size,
            });
            state = update(&form, state, plain as u32);
        }
    }
    Pool { alphabet: units, cipher, last: state, form }
}

fn update(form: &Form, state: u32, plain: u32) -> u32 {
    let (state, plain) = (u64::from(state), u64::from(plain));
    let (multiplier, increment, feedback) =
        (u64::from(form.multiplier), u64::from(form.increment), u64::from(form.feedback));
    let mask = u64::from(form.mask);
    let next = match form.update {
        0 => state % 0x10_0000 * multiplier + increment + plain,
        1 => (state ^ (plain * feedback)) % 0x10_0000 * multiplier + increment,
        _ => ((state << 3 & 0xff_ffff) ^ (state >> 5) ^ (plain * feedback)) + increment,
    };
    (next & mask) as u32
}

/// The expression that does in JavaScript what [`update`] does. Every product stays below 2^53.
fn update_code(form: &Form) -> String {
    let Form { multiplier, increment, feedback, mask, .. } = form;
    match form.update {
        0 => format!("s%{limit}*{multiplier}+{increment}+d&{mask}", limit = 0x10_0000),
        1 => format!("(s^d*{feedback})%{limit}*{multiplier}+{increment}&{mask}", limit = 0x10_0000),
        _ => format!("((s<<3&{low})^s>>5^d*{feedback})+{increment}&{mask}", low = 0xff_ffff),
    }
}

/// Returns a number that has an inverse modulo `size`, and that inverse.
fn unit(random: &mut super::Random, size: usize) -> (usize, usize) {
    loop {
        let unit = 1 + random.below(size);
        if let Some(inverse) = (1..=size).find(|inverse| unit * inverse % size == 1 % size) {
            return (unit, inverse);
        }
    }
}
