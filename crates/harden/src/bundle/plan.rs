//! Which modules become one file.
//!
//! ES modules are merged where every file that can be loaded by itself loads both or neither, and only as far as
//! nothing with an effect runs between them: those that have none run in another order among themselves, and those
//! that read nothing that changes, and load only such modules, run at any time. The plan is then run on paper for
//! each file that can be loaded first; modules whose order came out different stay files of their own. CommonJS
//! modules keep running when they are first required, so only the set of files that require them counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    graph::{Found, Graph, Item, Lead, noticed},
    record::{How, Kind},
};
use crate::{HardenError, Seed};

/// The reason of modules that the plan had to give up on.
const ORDER: &str = "merging it would change the order in which modules run";

/// The reason of modules of which nothing is gained by a merge.
const SPACE: &str = "its namespace is used as a value";

/// How often the plan is made anew for single modules; after that whole files are given up on.
const PRECISE: usize = 24;

/// A file made of one or more modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// In the order they run.
    pub(crate) members: Vec<usize>,
    /// The member whose file this is.
    pub(crate) host: Option<usize>,
}

/// The files to make, and what they need of each other.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) chunks: Vec<Chunk>,
    /// The chunk of each module.
    pub(crate) chunk_of: Vec<usize>,
    /// Files that hold nothing but the exports of a module: its namespace as a value.
    pub(crate) spaces: BTreeMap<usize, String>,
    /// Which statements stay, by module.
    pub(crate) live: Vec<Vec<bool>>,
    /// What other files import of each chunk, with the name it has there.
    pub(crate) handed: Vec<BTreeMap<(usize, String), String>>,
    /// Chunks that nobody notices being loaded.
    pub(crate) silent: Vec<bool>,
}

/// A problem that only keeping modules apart solves.
enum Clash {
    /// These stay files that nothing is merged with.
    Alone(Vec<usize>),
    /// These stay files.
    Files(Vec<usize>, &'static str),
    /// This one starts a file.
    Cut(usize),
}

impl Plan {
    /// Plans; modules that cannot be merged after all are noted in the graph.
    pub(crate) fn new(graph: &mut Graph, taken: &BTreeSet<String>, seed: &Seed) -> Result<Self, HardenError> {
        let modules = graph.roots.iter().copied().filter(|&file| graph.is_es(file));
        let orders: BTreeMap<usize, Vec<Item>> = modules.map(|file| (file, graph.order(file))).collect();
        let mut turns = 0;
        // Each turn sets a module apart that was not, cuts where no cut was, or makes a file of what was none.
        for _ in 0..=3 * graph.modules.len() {
            let clash = match chunks(graph, &orders, taken, seed, turns < PRECISE) {
                Ok((chunks, chunk_of)) => match Self::link(graph, chunks, chunk_of, taken, seed) {
                    Ok(plan) => return Ok(plan),
                    Err(clash) => clash,
                },
                Err(clash) => clash,
            };
            match clash {
                Clash::Alone(modules) => {
                    turns += 1;
                    // JSON that became a module can be no file.
                    let is_code = |module: &usize| !graph.modules[*module].record.is_json;
                    let modules: Vec<usize> = modules.into_iter().filter(is_code).collect();
                    modules.into_iter().for_each(|module| graph.set_alone(module, ORDER));
                }
                Clash::Files(modules, why) => {
                    modules.into_iter().for_each(|module| graph.set_file(module, why))
                }
                Clash::Cut(module) => drop(graph.cuts.insert(module)),
            }
        }
        Err(HardenError::Compiler {
            step: "bundle",
            path: "package.json".to_owned(),
            reason: "found no order for the package's modules".to_owned(),
        })
    }

    /// The path of the file through which others load a module's namespace.
    pub(crate) fn space_path<'a>(&'a self, graph: &'a Graph, module: usize) -> &'a str {
        self.spaces.get(&module).unwrap_or(&graph.modules[module].path)
    }

    /// The modules of the chunk that a module is in.
    pub(crate) fn around(&self, module: usize) -> &[usize] {
        &self.chunks[self.chunk_of[module]].members
    }

    /// Whether a module's import of a namespace can do without the namespace.
    pub(crate) fn is_taken_apart(&self, graph: &Graph, module: usize, local: &str, target: usize) -> bool {
        taken_apart(graph, self.around(module), module, local, target)
    }

    fn link(
        graph: &Graph,
        chunks: Vec<Chunk>,
        chunk_of: Vec<usize>,
        taken: &BTreeSet<String>,
        seed: &Seed,
    ) -> Result<Self, Clash> {
        let live = graph.modules.iter().map(|module| vec![false; module.record.statements.len()]).collect();
        let handed = vec![BTreeMap::new(); chunks.len()];
        let silent = silent(graph, &chunks, &chunk_of);
        let mut plan = Self { chunks, chunk_of, spaces: BTreeMap::new(), live, handed, silent };
        let mut linker = Linker {
            graph,
            plan: &mut plan,
            needed: BTreeSet::new(),
            open: Vec::new(),
            spaces: BTreeSet::new(),
        };
        linker.run();
        let Linker { needed, spaces, .. } = linker;
        for chunk in plan.chunks.iter().filter(|chunk| chunk.host.is_none()) {
            // The modules themselves are no more files than one of them all and one for each namespace.
            if chunk.members.iter().all(|member| spaces.contains(member)) {
                return Err(Clash::Files(chunk.members.clone(), SPACE));
            }
        }
        for space in spaces {
            let path = neutral(graph, &[space], "space", taken, seed);
            plan.spaces.insert(space, path);
        }
        for (module, local) in needed.into_iter().chain(required(graph, &plan)) {
            let chunk = plan.chunk_of[module];
            if let Some(host) = plan.chunks[chunk].host {
                let around = Some(plan.chunks[chunk].members.as_slice());
                let wanted = Found::Local(module, local.clone());
                let public = graph
                    .names(host)
                    .iter()
                    .find(|name| graph.own_export(host, name, around, &mut BTreeSet::new()) == wanted)
                    .cloned();
                let Some(public) = public else {
                    // A file that outsiders load exports what its author said and no more.
                    return Err(Clash::Alone(vec![host]));
                };
                plan.handed[chunk].insert((module, local), public);
            } else {
                let name = letters(plan.handed[chunk].len());
                plan.handed[chunk].insert((module, local), name);
            }
        }
        Ok(plan)
    }
}

/// Returns the `n`th of `a` to `z`, `aa`, ...
pub(crate) fn letters(mut n: usize) -> String {
    let mut name = String::new();
    loop {
        name.insert(0, char::from(b'a' + (n % 26) as u8));
        if n < 26 {
            return name;
        }
        n = n / 26 - 1;
    }
}

fn taken_apart(graph: &Graph, here: &[usize], module: usize, local: &str, target: usize) -> bool {
    let Some(space) = graph.modules[module].record.spaces.get(local) else { return true };
    if space.whole || graph.is_file(target) && !here.contains(&target) {
        return false;
    }
    let find = |name: &String| graph.exported(target, name, Some(here), &mut BTreeSet::new());
    space.read.iter().all(|name| !matches!(find(name), Found::Missing | Found::Ambiguous))
        && space.called.iter().all(|name| match find(name) {
            Found::Local(other, local) => graph.modules[other].record.thisless.contains(&local),
            _ => false,
        })
}

/// Finds the statements that are needed, and what chunks need of each other.
struct Linker<'a> {
    graph: &'a Graph,
    plan: &'a mut Plan,
    /// Names that are needed outside their chunk.
    needed: BTreeSet<(usize, String)>,
    open: Vec<(usize, usize)>,
    spaces: BTreeSet<usize>,
}

impl Linker<'_> {
    fn run(&mut self) {
        let graph = self.graph;
        for module in (0..graph.modules.len()).filter(|&module| graph.is_es(module)) {
            for statement in 0..graph.modules[module].record.statements.len() {
                if graph.modules[module].record.alone.is_some() || !graph.is_pure(module, statement, false) {
                    self.keep(module, statement);
                }
            }
            if graph.is_file(module) {
                let here = self.plan.around(module).to_vec();
                self.exports(module, &here);
            }
        }
        while let Some((module, statement)) = self.open.pop() {
            let here = self.plan.around(module).to_vec();
            for name in &graph.modules[module].record.statements[statement].uses {
                self.name(module, name, &here);
            }
        }
    }

    fn keep(&mut self, module: usize, statement: usize) {
        if !std::mem::replace(&mut self.plan.live[module][statement], true) {
            self.open.push((module, statement));
        }
    }

    /// Everything that a module exports, seen from a file made of `here`.
    fn exports(&mut self, module: usize, here: &[usize]) {
        for name in self.graph.names(module).clone() {
            let found = self.graph.own_export(module, &name, Some(here), &mut BTreeSet::new());
            self.found(found, here);
        }
    }

    fn name(&mut self, module: usize, name: &str, here: &[usize]) {
        let graph = self.graph;
        match graph.imported_name(module, name, Some(here)) {
            None => self.local(module, name),
            Some(Found::Space(target)) if taken_apart(graph, here, module, name, target) => {
                let space = graph.modules[module].record.spaces.get(name);
                for member in space.into_iter().flat_map(|space| space.read.iter().chain(&space.called)) {
                    let found = graph.exported(target, member, Some(here), &mut BTreeSet::new());
                    self.found(found, here);
                }
            }
            Some(found) => self.found(found, here),
        }
    }

    fn found(&mut self, found: Found, here: &[usize]) {
        match found {
            Found::Local(module, local) => {
                if !here.contains(&module) {
                    self.needed.insert((module, local.clone()));
                }
                self.local(module, &local);
            }
            Found::Space(module) if !self.graph.is_file(module) && self.spaces.insert(module) => {
                self.exports(module, &[]);
            }
            _ => {}
        }
    }

    fn local(&mut self, module: usize, local: &str) {
        for statement in 0..self.plan.live[module].len() {
            if self.graph.modules[module].record.statements[statement]
                .declares
                .iter()
                .any(|name| name == local)
            {
                self.keep(module, statement);
            }
        }
    }
}

/// A path that says nothing, next to the last of `members`.
fn neutral(graph: &Graph, members: &[usize], purpose: &str, taken: &BTreeSet<String>, seed: &Seed) -> String {
    let paths: Vec<&str> = members.iter().map(|&member| graph.modules[member].path.as_str()).collect();
    let mut code = members.iter().rev().filter(|&&member| !graph.modules[member].record.is_json);
    let last = code.next().or(members.last()).map(|&member| &graph.modules[member]);
    let last_path = last.map(|last| last.path.as_str()).unwrap_or_default();
    let (folder, name) = last_path.rsplit_once('/').unwrap_or(("", last_path));
    // JSON merged with nothing but JSON says itself what it becomes.
    let only_json = if last.is_some_and(|last| last.record.kind == Kind::Es) { "mjs" } else { "cjs" };
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    let ending = ending.filter(|ending| ["mjs", "cjs", "js"].contains(ending)).unwrap_or(only_json);
    let mut random = seed.random(&format!("{purpose}\0{}", paths.join("\0")));
    loop {
        let mut stem = String::new();
        for _ in 0..7 {
            stem.push(char::from(*random.pick(b"abcdefghijklmnopqrstuvwxyz")));
        }
        let path =
            if folder.is_empty() { format!("{stem}.{ending}") } else { format!("{folder}/{stem}.{ending}") };
        if !taken.contains(&path) {
            return path;
        }
    }
}

/// Groups the modules into files.
fn chunks(
    graph: &Graph,
    orders: &BTreeMap<usize, Vec<Item>>,
    taken: &BTreeSet<String>,
    seed: &Seed,
    precise: bool,
) -> Result<(Vec<Chunk>, Vec<usize>), Clash> {
    let mut chunks = Vec::new();
    let groups_of_es = groups(graph, Kind::Es);
    let times = Times::new(graph, orders, &groups_of_es);
    for (index, (owner, members)) in groups_of_es.into_iter().enumerate() {
        for run in runs(graph, &times, index, owner, members) {
            let host = run.last().copied().filter(|&last| graph.is_file(last));
            chunks.push(Chunk { path: String::new(), kind: Kind::Es, members: run, host });
        }
    }
    for (owner, members) in groups(graph, Kind::CommonJs) {
        let mut rest: Vec<usize> = members.into_iter().filter(|&member| !graph.is_file(member)).collect();
        if let Owner::File(host) = owner {
            let mut members = Vec::new();
            if !graph.alone.contains(&host) {
                let mut out: BTreeSet<usize> =
                    rest.iter().copied().filter(|&member| !fits(graph, host, member)).collect();
                // What stands outside the host's file reaches only what does so too.
                let mut open: Vec<usize> = out.iter().copied().collect();
                while let Some(module) = open.pop() {
                    let loaded = graph.loaded(module, How::Require { optional: false });
                    let inside = loaded.filter(|target| !graph.is_file(*target));
                    open.extend(inside.filter(|target| out.insert(*target)).collect::<Vec<_>>());
                }
                (rest, members) = rest.into_iter().partition(|member| out.contains(member));
            }
            members.push(host);
            chunks.push(Chunk { path: String::new(), kind: Kind::CommonJs, members, host: Some(host) });
        }
        if !rest.is_empty() {
            chunks.push(Chunk { path: String::new(), kind: Kind::CommonJs, members: rest, host: None });
        }
    }
    let mut chunk_of = vec![usize::MAX; graph.modules.len()];
    for (index, chunk) in chunks.iter_mut().enumerate() {
        chunk.members.iter().for_each(|&member| chunk_of[member] = index);
        chunk.path = match chunk.host {
            Some(host) => graph.modules[host].path.clone(),
            None => neutral(graph, &chunk.members, "shared", taken, seed),
        };
    }
    rehearse(graph, orders, &chunks, &chunk_of, precise)?;
    Ok((chunks, chunk_of))
}

/// Whether the file of `host` can hold `member`: a strict file makes all in it strict, and its own names would
/// stand before the globals that a member uses.
fn fits(graph: &Graph, host: usize, member: usize) -> bool {
    let (host, member) = (&graph.modules[host].record, &graph.modules[member].record);
    member.kind == Kind::Json || (!host.strict || member.strict) && member.free.is_disjoint(&host.declared)
}

/// Where a group of modules belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// Only this file reaches them without passing through another file.
    File(usize),
    /// Several files do. Equal numbers: the same roots load them.
    Shared(usize),
}

/// The modules of a kind by where they belong.
fn groups(graph: &Graph, kind: Kind) -> BTreeMap<Owner, Vec<usize>> {
    let is_kind = |module: usize| graph.is_es(module) == (kind == Kind::Es);
    let how = if kind == Kind::Es { How::Static } else { How::Require { optional: false } };
    let reached = |from: usize, through_files: bool| {
        let mut seen = BTreeSet::from([from]);
        let mut stack = vec![from];
        while let Some(module) = stack.pop() {
            for target in graph.loaded(module, how) {
                if is_kind(target) && (through_files || !graph.is_file(target)) && seen.insert(target) {
                    stack.push(target);
                }
            }
        }
        seen
    };
    let mut loaded_by = Numbers::new(graph.modules.len());
    for &root in graph.roots.iter().filter(|&&root| is_kind(root)) {
        loaded_by.refine(reached(root, true).into_iter().map(|module| (module, 0)));
    }
    let mut owners: Vec<Option<Owner>> = vec![None; graph.modules.len()];
    for &file in graph.files.keys().filter(|&&file| is_kind(file)) {
        for module in reached(file, false) {
            owners[module] = Some(match owners[module] {
                None => Owner::File(file),
                Some(_) => Owner::Shared(loaded_by.of[module]),
            });
        }
    }
    let mut groups: BTreeMap<Owner, Vec<usize>> = BTreeMap::new();
    for (module, owner) in owners.into_iter().enumerate() {
        if let Some(owner) = owner {
            groups.entry(owner).or_default().push(module);
        }
    }
    groups
}

/// One number for each of several lists, the same one for equal lists, without holding them.
struct Numbers {
    of: Vec<usize>,
    known: HashMap<(usize, usize, usize), usize>,
    round: usize,
}

impl Numbers {
    fn new(count: usize) -> Self {
        Self { of: vec![0; count], known: HashMap::new(), round: 0 }
    }

    /// Adds an entry to some of the lists; `round` is a part of it.
    fn refine(&mut self, entries: impl IntoIterator<Item = (usize, usize)>) {
        self.round += 1;
        for (list, entry) in entries {
            let next = self.known.len() + 1;
            self.of[list] = *self.known.entry((self.of[list], self.round, entry)).or_insert(next);
        }
    }
}

/// When modules run, told by how much that has an effect ran before, for every file that can be loaded first.
struct Times {
    /// Place in an order in which what a module imports comes before it, but for cycles.
    rank: Vec<usize>,
    /// Equal numbers: as much ran before, whichever file is loaded. Then, for each module, the same of what ran once
    /// it has run; then, for each group, of what ran before its first silent module.
    moments: Numbers,
}

impl Times {
    fn new(graph: &Graph, orders: &BTreeMap<usize, Vec<Item>>, groups: &BTreeMap<Owner, Vec<usize>>) -> Self {
        let count = graph.modules.len();
        let mut rank = vec![usize::MAX; count];
        let mut next = 0;
        let mut moments = Numbers::new(2 * count + groups.len());
        let mut group_of = vec![None; count];
        for (index, members) in groups.values().enumerate() {
            for &member in members.iter().filter(|&&member| graph.silent[member]) {
                group_of[member] = Some(index);
            }
        }
        for items in orders.values() {
            let mut entries = Vec::new();
            let mut first: BTreeMap<usize, usize> = BTreeMap::new();
            let mut ran = 0;
            for item in items {
                let before = ran;
                ran += usize::from(graph.is_loud(item));
                let Item::Module(module) = item else { continue };
                if rank[*module] == usize::MAX {
                    rank[*module] = next;
                    next += 1;
                }
                entries.extend([(*module, before), (count + module, ran)]);
                if let Some(group) = group_of[*module] {
                    first.entry(2 * count + group).or_insert(before);
                }
            }
            moments.refine(entries.into_iter().chain(first));
        }
        Self { rank, moments }
    }

    fn before(&self, module: usize) -> usize {
        self.moments.of[module]
    }

    fn after(&self, module: usize) -> usize {
        self.moments.of[self.rank.len() + module]
    }

    fn before_silent(&self, group: usize) -> usize {
        self.moments.of[2 * self.rank.len() + group]
    }
}

/// Splits the modules of a group where something between them could notice that they run together. Silent ones
/// run at any time, and so hold nothing up.
fn runs(
    graph: &Graph,
    times: &Times,
    group: usize,
    owner: Owner,
    mut members: Vec<usize>,
) -> Vec<Vec<usize>> {
    members.sort_by_key(|&member| times.rank[member]);
    let (silent, members): (Vec<usize>, Vec<usize>) = members
        .into_iter()
        .partition(|&member| graph.silent[member] && !graph.is_file(member) && !graph.cuts.contains(&member));
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut is_noticed = false;
    for member in members {
        let joins = runs.last().and_then(|run| Some((run, *run.last()?))).is_some_and(|(run, last)| {
            let is_apart =
                graph.alone.contains(&member) || graph.cuts.contains(&member) || graph.is_file(last);
            let waits = graph.waits[last]
                || graph.waits[member]
                    && (is_noticed && graph.imported(member).any(|target| graph.waits[target])
                        || run.iter().any(|&other| graph.waits[other]));
            !is_apart && !waits && times.before(member) == times.after(last)
        });
        match runs.last_mut().filter(|_| joins) {
            Some(run) => run.push(member),
            None => {
                is_noticed = false;
                runs.push(vec![member]);
            }
        }
        is_noticed |= !graph.quiet[member];
    }
    if silent.is_empty() {
        return runs;
    }
    let takes = |run: &&mut Vec<usize>| match owner {
        Owner::File(host) => run.last() == Some(&host) && !graph.alone.contains(&host),
        Owner::Shared(_) => {
            let is_free = |member: &usize| !graph.waits[*member] && !graph.is_file(*member);
            run.iter().all(is_free) && times.before(run[0]) == times.before_silent(group)
        }
    };
    let is_split = matches!(owner, Owner::File(_)) && runs.len() > 1;
    match runs.iter_mut().find(takes).filter(|_| !is_split) {
        Some(run) => drop(run.splice(0..0, silent)),
        None => runs.push(silent),
    }
    runs
}

/// Runs the plan on paper and compares with the order before.
fn rehearse(
    graph: &Graph,
    orders: &BTreeMap<usize, Vec<Item>>,
    chunks: &[Chunk],
    chunk_of: &[usize],
    precise: bool,
) -> Result<(), Clash> {
    let waiting = waiting(graph, chunks, chunk_of);
    for (index, chunk) in chunks.iter().enumerate().filter(|(_, chunk)| chunk.kind == Kind::Es) {
        let idle = |&member: &usize| !graph.waits[member] && !graph.quiet[member];
        if waiting[index]
            && chunk.members.len() > 1
            && !chunk.members.iter().any(|&member| graph.waits[member])
            && chunk.members.iter().any(idle)
        {
            return Err(Clash::Alone(chunk.members.clone()));
        }
        if waiting[index] && chunk.members.len() == 1 && !graph.waits[chunk.members[0]] {
            // What it imports came to wait.
            let together: Vec<usize> = graph
                .imported(chunk.members[0])
                .filter(|&target| chunks[chunk_of[target]].members.len() > 1)
                .flat_map(|target| chunks[chunk_of[target]].members.clone())
                .collect();
            if !together.is_empty() {
                return Err(Clash::Alone(together));
            }
        }
    }
    for (&file, order) in orders {
        let Course { items: now, asked } = run_chunks(graph, chunks, chunk_of, file);
        let (loud_before, before) = moments(graph, order);
        let (loud_after, after) = moments(graph, &now);
        let different = loud_before.iter().zip(&loud_after).find(|(a, b)| a != b);
        let different = different.map(|(a, b)| vec![(*a).clone(), (*b).clone()]);
        let is_moved = |&module: &usize| !graph.quiet[module] && before[module] != after[module];
        let moved = (0..graph.modules.len()).find(is_moved);
        let late = late(graph, &now);
        let culprits = match (different, moved, late) {
            (None, None, None) if loud_before.len() == loud_after.len() => continue,
            (Some(items), ..) => items,
            (None, Some(module), _) => vec![Item::Module(module)],
            (None, None, late) => late.into_iter().flatten().map(Item::Module).collect(),
        };
        let early = now.iter().find(|item| match (culprits.as_slice(), item) {
            ([_, early], item) => early == *item,
            (_, Item::Module(module)) => is_moved(module),
            _ => false,
        });
        if let Some(cut) = early.and_then(|item| asked.cut(graph, chunks, chunk_of, item)) {
            return Err(Clash::Cut(cut));
        }
        let mut apart: BTreeSet<usize> = BTreeSet::new();
        for item in &culprits {
            if let Item::Module(module) = item {
                let members = together(chunks, chunk_of, *module);
                apart.extend(members.iter().filter(|&member| !precise || member == module));
            }
        }
        if apart.is_empty() {
            for item in order {
                if let Item::Module(module) = item {
                    apart.extend(together(chunks, chunk_of, *module));
                }
            }
        }
        return Err(Clash::Alone(apart.into_iter().collect()));
    }
    Ok(())
}

/// What has an effect, in its order, and how much of it runs before each module.
fn moments<'a>(graph: &Graph, items: &'a [Item]) -> (Vec<&'a Item>, Vec<usize>) {
    let mut loud = Vec::new();
    let mut before = vec![0; graph.modules.len()];
    for item in items {
        if let Item::Module(module) = item {
            before[*module] = loud.len();
        }
        if graph.is_loud(item) {
            loud.push(item);
        }
    }
    (loud, before)
}

fn together<'a>(chunks: &'a [Chunk], chunk_of: &[usize], module: usize) -> &'a [usize] {
    match chunks.get(chunk_of[module]) {
        Some(chunk) if chunk.members.len() > 1 => &chunk.members,
        _ => &[],
    }
}

/// Finds a module that would run before one that it imports.
fn late(graph: &Graph, now: &[Item]) -> Option<[usize; 2]> {
    let mut place = vec![usize::MAX; graph.modules.len()];
    for (at, item) in now.iter().enumerate() {
        if let Item::Module(module) = item {
            place[*module] = at;
        }
    }
    for item in now {
        let Item::Module(module) = item else { continue };
        for target in graph.imported(*module).filter(|_| graph.is_es(*module)) {
            if place[target] > place[*module] && !graph.same_component(target, *module) {
                return Some([*module, target]);
            }
        }
    }
    None
}

/// The CommonJS modules that modules of other chunks require.
fn required(graph: &Graph, plan: &Plan) -> BTreeSet<(usize, String)> {
    let mut needed = BTreeSet::new();
    for module in (0..graph.modules.len()).filter(|&module| !graph.is_es(module)) {
        for target in graph.loaded(module, How::Require { optional: false }) {
            if !graph.is_file(target) && plan.chunk_of[target] != plan.chunk_of[module] {
                needed.insert((target, String::new()));
            }
        }
    }
    needed
}

/// Finds the chunks that neither do anything when they are loaded nor load one that does.
fn silent(graph: &Graph, chunks: &[Chunk], chunk_of: &[usize]) -> Vec<bool> {
    let mut silent: Vec<bool> = chunks
        .iter()
        .map(|chunk| chunk.kind == Kind::Es && chunk.members.iter().all(|&member| graph.quiet[member]))
        .collect();
    loop {
        let mut changed = false;
        for (index, chunk) in chunks.iter().enumerate() {
            let loud = |edge: Edge| match edge {
                Edge::Module(_, target) => !silent[chunk_of[target]],
                Edge::Outside(module, load) => {
                    let module = &graph.modules[module];
                    noticed(&module.record.loads[load], &module.leads[load]).is_some()
                }
            };
            if silent[index] && edges(graph, chunk).into_iter().any(loud) {
                silent[index] = false;
                changed = true;
            }
        }
        if !changed {
            return silent;
        }
    }
}

/// Which chunks wait for a top-level `await`.
fn waiting(graph: &Graph, chunks: &[Chunk], chunk_of: &[usize]) -> Vec<bool> {
    let mut waiting: Vec<bool> =
        chunks.iter().map(|chunk| chunk.members.iter().any(|&member| graph.waits[member])).collect();
    loop {
        let mut changed = false;
        for (index, chunk) in chunks.iter().enumerate().filter(|(_, chunk)| chunk.kind == Kind::Es) {
            let imports = |&member: &usize| graph.imported(member).any(|target| waiting[chunk_of[target]]);
            if !waiting[index] && chunk.members.iter().any(imports) {
                waiting[index] = true;
                changed = true;
            }
        }
        if !changed {
            return waiting;
        }
    }
}

/// How things go once the modules are chunks.
struct Course {
    /// What runs, in its order.
    items: Vec<Item>,
    asked: Asked,
}

/// The module that first asked for a chunk, and for what is no chunk.
struct Asked {
    chunks: Vec<Option<usize>>,
    outside: HashMap<String, usize>,
}

impl Asked {
    /// Finds a module that `item` is loaded for and that shares its chunk with some that run before it.
    fn cut(&self, graph: &Graph, chunks: &[Chunk], chunk_of: &[usize], item: &Item) -> Option<usize> {
        let mut by = match item {
            Item::Module(module) => self.chunks[chunk_of[*module]],
            Item::Outside(name) => self.outside.get(name).copied(),
        };
        let mut seen = BTreeSet::new();
        while let Some(module) = by.filter(|module| seen.insert(*module)) {
            let members = &chunks[chunk_of[module]].members;
            if members.first() != Some(&module) && !graph.cuts.contains(&module) {
                return Some(module);
            }
            by = self.chunks[chunk_of[module]];
        }
        None
    }
}

/// Loads the chunk of `root` on paper.
fn run_chunks(graph: &Graph, chunks: &[Chunk], chunk_of: &[usize], root: usize) -> Course {
    enum Step {
        Load(usize, Option<usize>),
        Run(usize),
        Outside(String, usize),
    }
    let mut items = Vec::new();
    let mut seen = vec![false; chunks.len()];
    let mut asked = Asked { chunks: vec![None; chunks.len()], outside: HashMap::new() };
    let mut stack = vec![Step::Load(chunk_of[root], None)];
    while let Some(step) = stack.pop() {
        match step {
            Step::Load(chunk, by) => {
                if std::mem::replace(&mut seen[chunk], true) {
                    continue;
                }
                asked.chunks[chunk] = by;
                stack.push(Step::Run(chunk));
                if chunks[chunk].kind != Kind::Es {
                    continue;
                }
                let mut steps = Vec::new();
                for edge in edges(graph, &chunks[chunk]) {
                    match edge {
                        Edge::Module(by, target) => steps.push(Step::Load(chunk_of[target], Some(by))),
                        Edge::Outside(module, load) => {
                            let record = &graph.modules[module];
                            let name = noticed(&record.record.loads[load], &record.leads[load]);
                            steps.extend(name.map(|name| Step::Outside(name, module)));
                        }
                    }
                }
                stack.extend(steps.into_iter().rev());
            }
            Step::Run(chunk) => match chunks[chunk].kind {
                Kind::Es => items.extend(chunks[chunk].members.iter().map(|&member| Item::Module(member))),
                _ => items.extend(chunks[chunk].host.map(Item::Module)),
            },
            Step::Outside(name, by) => {
                if !asked.outside.contains_key(&name) {
                    asked.outside.insert(name.clone(), by);
                    items.push(Item::Outside(name));
                }
            }
        }
    }
    Course { items, asked }
}

/// What a chunk loads before it runs.
pub(crate) enum Edge {
    /// The member that asks, and a module of another chunk.
    Module(usize, usize),
    /// A load of a module that leads to no module.
    Outside(usize, usize),
}

/// What an ES chunk loads before it runs, in the order in which its members asked for it.
pub(crate) fn edges(graph: &Graph, chunk: &Chunk) -> Vec<Edge> {
    let mut edges = Vec::new();
    let mut seen = BTreeSet::new();
    let mut members = chunk.members.clone();
    members.sort_by_key(|&member| graph.entered[member]);
    let mut stack: Vec<(usize, usize)> = members.into_iter().rev().map(|member| (member, 0)).collect();
    while let Some((member, load)) = stack.pop() {
        if load == 0 && !seen.insert(member) {
            continue;
        }
        let module = &graph.modules[member];
        let Some(lead) = module.leads.get(load) else { continue };
        stack.push((member, load + 1));
        if module.record.loads[load].how != How::Static {
            continue;
        }
        match lead {
            Lead::Module(target) if chunk.members.contains(target) => stack.push((*target, 0)),
            Lead::Module(target) => edges.push(Edge::Module(member, *target)),
            _ => edges.push(Edge::Outside(member, load)),
        }
    }
    edges
}
