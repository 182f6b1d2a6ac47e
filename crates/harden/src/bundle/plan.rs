//! Which modules become one file.
//!
//! ES modules are merged where every entry point that reaches one reaches the other, in the order they ran, and
//! only as far as nothing between them could notice. The plan is then run on paper for each file that can be
//! loaded first; modules whose order came out different stay files of their own. CommonJS modules keep running
//! when they are first required, so only the set of files that require them counts.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    graph::{Found, Graph, Item, Lead, noticed},
    record::{How, Kind},
};
use crate::{HardenError, Seed};

/// The reason of modules that the plan had to give up on.
const ORDER: &str = "merging it would change the order in which modules run";

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
struct Clash(Vec<usize>);

impl Plan {
    /// Plans; modules that cannot be merged after all are noted in the graph.
    pub(crate) fn new(graph: &mut Graph, taken: &BTreeSet<String>, seed: &Seed) -> Result<Self, HardenError> {
        // Each turn sets a module apart that was not.
        for turn in 0..=graph.modules.len() {
            let clash = match chunks(graph, taken, seed, turn < PRECISE) {
                Ok((chunks, chunk_of)) => match Self::link(graph, chunks, chunk_of, taken, seed) {
                    Ok(plan) => return Ok(plan),
                    Err(clash) => clash,
                },
                Err(clash) => clash,
            };
            clash.0.into_iter().for_each(|module| graph.set_alone(module, ORDER));
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
                    return Err(Clash(vec![host]));
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
    let last = paths.last().copied().unwrap_or_default();
    let (folder, name) = last.rsplit_once('/').map_or(("", last), |(folder, name)| (folder, name));
    // JSON merged with nothing but JSON becomes CommonJS.
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    let ending = ending.filter(|ending| ["mjs", "cjs", "js"].contains(ending)).unwrap_or("cjs");
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
    taken: &BTreeSet<String>,
    seed: &Seed,
    precise: bool,
) -> Result<(Vec<Chunk>, Vec<usize>), Clash> {
    let mut chunks = Vec::new();
    let modules = graph.files.keys().copied().filter(|&file| graph.is_es(file));
    let orders: BTreeMap<usize, Order> =
        modules.map(|file| (file, Order::new(graph, graph.order(file)))).collect();
    for (reached_by, members) in groups(graph, Kind::Es) {
        for run in runs(graph, &orders, &reached_by, members) {
            let host = run.last().copied().filter(|&last| graph.is_file(last));
            chunks.push(Chunk { path: String::new(), kind: Kind::Es, members: run, host });
        }
    }
    for (reached_by, members) in groups(graph, Kind::CommonJs) {
        let (host, mut rest): (Vec<usize>, Vec<usize>) =
            members.into_iter().partition(|&member| graph.is_file(member));
        if let ([host], [_]) = (host.as_slice(), reached_by.as_slice()) {
            let mut members = Vec::new();
            if !graph.alone.contains(host) {
                let mut out: BTreeSet<usize> =
                    rest.iter().copied().filter(|&member| !fits(graph, *host, member)).collect();
                // What stands outside the host's file reaches only what does so too.
                let mut open: Vec<usize> = out.iter().copied().collect();
                while let Some(module) = open.pop() {
                    let loaded = graph.loaded(module, How::Require { optional: false });
                    let inside = loaded.filter(|target| !graph.is_file(*target));
                    open.extend(inside.filter(|target| out.insert(*target)).collect::<Vec<_>>());
                }
                (rest, members) = rest.into_iter().partition(|member| out.contains(member));
            }
            members.push(*host);
            chunks.push(Chunk { path: String::new(), kind: Kind::CommonJs, members, host: Some(*host) });
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
    rehearse(graph, &orders, &chunks, &chunk_of, precise)?;
    Ok((chunks, chunk_of))
}

/// Whether the file of `host` can hold `member`: a strict file makes all in it strict, and its own names would
/// stand before the globals that a member uses.
fn fits(graph: &Graph, host: usize, member: usize) -> bool {
    let (host, member) = (&graph.modules[host].record, &graph.modules[member].record);
    member.kind == Kind::Json || (!host.strict || member.strict) && member.free.is_disjoint(&host.declared)
}

/// The modules of a kind by the files that reach them without passing through another file.
fn groups(graph: &Graph, kind: Kind) -> BTreeMap<Vec<usize>, Vec<usize>> {
    let mut reached_by: Vec<Vec<usize>> = vec![Vec::new(); graph.modules.len()];
    let is_kind = |module: usize| graph.is_es(module) == (kind == Kind::Es);
    for &file in graph.files.keys().filter(|&&file| is_kind(file)) {
        let mut stack = vec![file];
        let mut seen = HashSet::from([file]);
        while let Some(module) = stack.pop() {
            reached_by[module].push(file);
            let how = if kind == Kind::Es { How::Static } else { How::Require { optional: false } };
            for target in graph.loaded(module, how) {
                if !graph.is_file(target) && is_kind(target) && seen.insert(target) {
                    stack.push(target);
                }
            }
        }
    }
    let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for (module, files) in reached_by.into_iter().enumerate().filter(|(_, files)| !files.is_empty()) {
        groups.entry(files).or_default().push(module);
    }
    groups
}

/// The order in which a file and what it imports run.
struct Order {
    items: Vec<Item>,
    /// Place of each module in it.
    place: Vec<usize>,
    noticed: Vec<bool>,
}

impl Order {
    fn new(graph: &Graph, items: Vec<Item>) -> Self {
        let mut place = vec![usize::MAX; graph.modules.len()];
        for (at, item) in items.iter().enumerate() {
            if let Item::Module(module) = item {
                place[*module] = at;
            }
        }
        let noticed = items.iter().map(|item| graph.is_noticed(item)).collect();
        Self { items, place, noticed }
    }
}

/// Splits the modules of a group where something between them could notice that they run together.
fn runs(
    graph: &Graph,
    orders: &BTreeMap<usize, Order>,
    reached_by: &[usize],
    mut members: Vec<usize>,
) -> Vec<Vec<usize>> {
    let Some(first) = reached_by.first().and_then(|file| orders.get(file)) else { return Vec::new() };
    members.sort_by_key(|&member| first.place[member]);
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut is_noticed = false;
    for member in members {
        let joins =
            runs.last().and_then(|run| run.last().map(|&last| (run, last))).is_some_and(|(run, last)| {
                let apart =
                    graph.alone.contains(&member) || graph.alone.contains(&last) || graph.is_file(last);
                let waits = graph.waits[last]
                    || graph.waits[member]
                        && graph.imported(member).any(|target| graph.waits[target])
                        && is_noticed;
                let waits = waits || graph.waits[member] && run.iter().any(|&other| graph.waits[other]);
                !apart
                    && !waits
                    && reached_by.iter().filter_map(|file| orders.get(file)).all(|order| {
                        let (from, to) = (order.place[last], order.place[member]);
                        !is_noticed && graph.quiet[member]
                            || from < to && (!is_noticed || !order.noticed[from + 1..to].contains(&true))
                    })
            });
        if joins {
            if let Some(run) = runs.last_mut() {
                run.push(member);
            }
        } else {
            is_noticed = false;
            runs.push(vec![member]);
        }
        is_noticed |= !graph.quiet[member];
    }
    runs
}

/// Runs the plan on paper and compares with the order before.
fn rehearse(
    graph: &Graph,
    orders: &BTreeMap<usize, Order>,
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
            return Err(Clash(chunk.members.clone()));
        }
        if waiting[index] && chunk.members.len() == 1 && !graph.waits[chunk.members[0]] {
            // What it imports came to wait.
            let together: Vec<usize> = graph
                .imported(chunk.members[0])
                .filter(|&target| chunks[chunk_of[target]].members.len() > 1)
                .flat_map(|target| chunks[chunk_of[target]].members.clone())
                .collect();
            if !together.is_empty() {
                return Err(Clash(together));
            }
        }
    }
    for (&file, order) in orders {
        let now = run_chunks(graph, chunks, chunk_of, file);
        let before: Vec<&Item> = order.items.iter().filter(|item| graph.is_noticed(item)).collect();
        let after: Vec<&Item> = now.iter().filter(|item| graph.is_noticed(item)).collect();
        let different =
            before.iter().zip(&after).find(|(a, b)| a != b).map(|(a, b)| vec![(*a).clone(), (*b).clone()]);
        let late = late(graph, &now);
        let culprits = match (different, late) {
            (None, None) if before.len() == after.len() => continue,
            (Some(items), _) => items,
            (None, late) => late.into_iter().flatten().map(Item::Module).collect(),
        };
        let mut apart: BTreeSet<usize> = BTreeSet::new();
        for item in &culprits {
            if let Item::Module(module) = item {
                let members = together(chunks, chunk_of, *module);
                apart.extend(members.iter().filter(|&member| !precise || member == module));
            }
        }
        if apart.is_empty() {
            for item in &order.items {
                if let Item::Module(module) = item {
                    apart.extend(together(chunks, chunk_of, *module));
                }
            }
        }
        return Err(Clash(apart.into_iter().collect()));
    }
    Ok(())
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
                Edge::Module(target) => !silent[chunk_of[target]],
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

/// The order in which the modules run once they are chunks.
fn run_chunks(graph: &Graph, chunks: &[Chunk], chunk_of: &[usize], root: usize) -> Vec<Item> {
    enum Step {
        Load(usize),
        Run(usize),
        Outside(String),
    }
    let mut order = Vec::new();
    let mut seen = vec![false; chunks.len()];
    let mut outside = HashSet::new();
    let mut stack = vec![Step::Load(chunk_of[root])];
    while let Some(step) = stack.pop() {
        match step {
            Step::Load(chunk) => {
                if std::mem::replace(&mut seen[chunk], true) {
                    continue;
                }
                stack.push(Step::Run(chunk));
                if chunks[chunk].kind != Kind::Es {
                    continue;
                }
                let mut steps = Vec::new();
                for edge in edges(graph, &chunks[chunk]) {
                    match edge {
                        Edge::Module(target) => steps.push(Step::Load(chunk_of[target])),
                        Edge::Outside(module, load) => {
                            let record = &graph.modules[module];
                            steps.extend(
                                noticed(&record.record.loads[load], &record.leads[load]).map(Step::Outside),
                            );
                        }
                    }
                }
                stack.extend(steps.into_iter().rev());
            }
            Step::Run(chunk) => match chunks[chunk].kind {
                Kind::Es => order.extend(chunks[chunk].members.iter().map(|&member| Item::Module(member))),
                _ => order.extend(chunks[chunk].host.map(Item::Module)),
            },
            Step::Outside(name) => {
                if outside.insert(name.clone()) {
                    order.push(Item::Outside(name));
                }
            }
        }
    }
    order
}

/// What a chunk loads before it runs.
pub(crate) enum Edge {
    /// A module of another chunk.
    Module(usize),
    /// A load of a module that leads to no module.
    Outside(usize, usize),
}

/// What an ES chunk loads before it runs, in order.
pub(crate) fn edges(graph: &Graph, chunk: &Chunk) -> Vec<Edge> {
    let mut edges = Vec::new();
    for &member in &chunk.members {
        let module = &graph.modules[member];
        for (load, lead) in module.leads.iter().enumerate() {
            if module.record.loads[load].how != How::Static {
                continue;
            }
            match lead {
                Lead::Module(target) if chunk.members.contains(target) => {}
                Lead::Module(target) => edges.push(Edge::Module(*target)),
                _ => edges.push(Edge::Outside(member, load)),
            }
        }
    }
    edges
}
