//! The modules of a package and how they load each other.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    record::{Export, How, Kind, Load, Name, Record},
    resolve::{Files, Target, is_builtin, is_relative},
};

/// A module that something outside can reach.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) path: String,
    pub(crate) record: Record,
    /// Where each load leads.
    pub(crate) leads: Vec<Lead>,
}

/// Where a load leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    Module(usize),
    /// A file of the package that is no module here.
    Asset(String),
    Outside,
    Nothing,
}

/// What an import or export stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Found {
    /// A name of the module's top level.
    Local(usize, String),
    /// The module's namespace.
    Space(usize),
    /// An export of a module that is loaded as the file it is.
    Native(usize, Name),
    /// What the load of the module leads to, which is no ES module of the package.
    Outside(usize, usize, Name),
    Missing,
    Ambiguous,
}

/// A step of evaluation that others could notice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    Module(usize),
    Outside(String),
}

/// The modules of a package that somebody can load, and the files that stay.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) modules: Vec<Module>,
    /// The modules that stay files, with the names and exports they have, and why: nothing for entry points.
    pub(crate) files: BTreeMap<usize, Option<String>>,
    /// Those of them that can be loaded by themselves, and not only by a module that imports them.
    pub(crate) roots: BTreeSet<usize>,
    /// The modules that nothing is merged with.
    pub(crate) alone: BTreeSet<usize>,
    /// The code that nothing reaches.
    pub(crate) unreached: BTreeSet<String>,
    /// Modules that start a file of their own, so that what they load is loaded no earlier than before.
    pub(crate) cuts: BTreeSet<usize>,
    /// When each module is first asked for, from one root after the other.
    pub(crate) entered: Vec<usize>,
    /// The component of modules that import each other, by module.
    component: Vec<usize>,
    /// Modules that wait for a top-level `await`, their own or that of one they import.
    pub(crate) waits: Vec<bool>,
    /// Modules whose evaluation has no effect, so that only what they read says when it may happen.
    calm: Vec<bool>,
    /// Those that read nothing that changes: nobody notices when they run.
    pub(crate) quiet: Vec<bool>,
    /// Those of them that load no others than such ones.
    pub(crate) silent: Vec<bool>,
    /// The names that each module exports, those of dependencies not counted.
    names: Vec<BTreeSet<String>>,
    /// Modules that hand on everything of what is no ES module of the package.
    hands_on: Vec<bool>,
}

impl Graph {
    /// Links `records` from `entries` on.
    pub(crate) fn new(
        records: BTreeMap<String, Record>,
        entries: &BTreeMap<String, Option<String>>,
        files: &Files,
    ) -> Self {
        let index: BTreeMap<String, usize> =
            records.keys().enumerate().map(|(index, path)| (path.clone(), index)).collect();
        let mut modules: Vec<Module> =
            records.into_iter().map(|(path, record)| Module { path, record, leads: Vec::new() }).collect();
        for module in &mut modules {
            module.leads = module.record.loads.iter().map(|load| lead(module, load, files, &index)).collect();
        }
        let reach = Reach::new(&modules, entries, files, &index);
        let Reach { mut found, mut why, .. } = reach;
        settle_json(&mut modules, &found, &mut why);
        // The numbers of the modules that stay.
        let kept: Vec<usize> = (0..modules.len()).filter(|&module| found[module]).collect();
        let number: BTreeMap<usize, usize> = kept.iter().enumerate().map(|(new, &old)| (old, new)).collect();
        let mut unreached = BTreeSet::new();
        let mut reached = Vec::new();
        for (old, mut module) in modules.into_iter().enumerate() {
            if !std::mem::take(&mut found[old]) {
                if module.record.kind != Kind::Json {
                    unreached.insert(module.path);
                }
                continue;
            }
            for lead in &mut module.leads {
                if let Lead::Module(target) = lead {
                    *target = number[target];
                }
            }
            reached.push(module);
        }
        let files: BTreeMap<usize, Option<String>> =
            why.into_iter().filter_map(|(old, why)| Some((*number.get(&old)?, why))).collect();
        let count = reached.len();
        let mut graph = Self {
            modules: reached,
            roots: files.keys().copied().collect(),
            files,
            alone: BTreeSet::new(),
            unreached,
            cuts: BTreeSet::new(),
            entered: vec![usize::MAX; count],
            component: Vec::new(),
            waits: vec![false; count],
            calm: vec![false; count],
            quiet: vec![false; count],
            silent: vec![false; count],
            names: Vec::new(),
            hands_on: Vec::new(),
        };
        graph.names = (0..count).map(|module| graph.all_names(module)).collect();
        graph.hands_on = (0..count).map(|module| !graph.outside_stars(module).is_empty()).collect();
        graph.component = graph.components();
        graph.enter();
        graph.keep_files();
        graph.wait();
        graph.hush();
        graph
    }

    pub(crate) fn is_file(&self, module: usize) -> bool {
        self.files.contains_key(&module)
    }

    /// Keeps a module as a file with its own exports.
    pub(crate) fn set_file(&mut self, module: usize, reason: &str) {
        self.files.entry(module).or_insert_with(|| Some(reason.to_owned()));
    }

    /// Keeps a module as a file that nothing is merged with.
    pub(crate) fn set_alone(&mut self, module: usize, reason: &str) {
        self.set_file(module, reason);
        self.alone.insert(module);
    }

    pub(crate) fn is_es(&self, module: usize) -> bool {
        self.modules[module].record.kind == Kind::Es
    }

    /// The ES modules that a module imports, in order.
    pub(crate) fn imported(&self, module: usize) -> impl Iterator<Item = usize> + '_ {
        self.loaded(module, How::Static)
    }

    pub(crate) fn loaded(&self, module: usize, how: How) -> impl Iterator<Item = usize> + '_ {
        let Module { record, leads, .. } = &self.modules[module];
        record.loads.iter().zip(leads).filter_map(move |(load, lead)| match lead {
            Lead::Module(target) if std::mem::discriminant(&load.how) == std::mem::discriminant(&how) => {
                Some(*target)
            }
            _ => None,
        })
    }

    pub(crate) fn same_component(&self, a: usize, b: usize) -> bool {
        self.component[a] == self.component[b]
    }

    /// The order in which `root` and what it imports run, as far as anybody can notice, with the quiet modules.
    pub(crate) fn order(&self, root: usize) -> Vec<Item> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.modules.len()];
        let mut outside = HashSet::new();
        seen[root] = true;
        let mut stack = vec![(root, 0)];
        while let Some((module, load)) = stack.pop() {
            let Module { record, leads, .. } = &self.modules[module];
            let Some(lead) = leads.get(load) else {
                order.push(Item::Module(module));
                continue;
            };
            stack.push((module, load + 1));
            if record.loads[load].how != How::Static || record.kind != Kind::Es {
                continue;
            }
            match lead {
                Lead::Module(target) if !seen[*target] => {
                    seen[*target] = true;
                    if self.is_es(*target) {
                        stack.push((*target, 0));
                    } else {
                        order.push(Item::Module(*target));
                    }
                }
                Lead::Module(_) => {}
                lead => {
                    if let Some(name) = noticed(&record.loads[load], lead)
                        && outside.insert(name.clone())
                    {
                        order.push(Item::Outside(name));
                    }
                }
            }
        }
        order
    }

    /// Whether running an item can have an effect.
    pub(crate) fn is_loud(&self, item: &Item) -> bool {
        match item {
            Item::Module(module) => !self.calm[*module],
            Item::Outside(_) => true,
        }
    }

    /// Groups modules that import each other.
    fn components(&self) -> Vec<usize> {
        // What a condition decides may lead back to the package itself.
        let edges: Vec<Vec<usize>> =
            (0..self.modules.len()).map(|module| self.imported(module).collect()).collect();
        let mut component = vec![usize::MAX; edges.len()];
        let (mut number, mut low) = (vec![0_usize; edges.len()], vec![0_usize; edges.len()]);
        let (mut next, mut path) = (1, Vec::new());
        for root in 0..edges.len() {
            if number[root] != 0 {
                continue;
            }
            let mut stack = vec![(root, 0)];
            while let Some((module, edge)) = stack.pop() {
                if edge == 0 {
                    (number[module], low[module]) = (next, next);
                    next += 1;
                    path.push(module);
                }
                if let Some(&target) = edges[module].get(edge) {
                    stack.push((module, edge + 1));
                    if number[target] == 0 {
                        stack.push((target, 0));
                    } else if component[target] == usize::MAX {
                        low[module] = low[module].min(number[target]);
                    }
                    continue;
                }
                if let Some(&(parent, _)) = stack.last() {
                    low[parent] = low[parent].min(low[module]);
                }
                if low[module] == number[module] {
                    while let Some(member) = path.pop() {
                        component[member] = module;
                        if member == module {
                            break;
                        }
                    }
                }
            }
        }
        component
    }

    /// Numbers the ES modules in the order in which they are first asked for.
    fn enter(&mut self) {
        let mut next = 0;
        for &root in &self.roots {
            let mut stack = vec![root];
            while let Some(module) = stack.pop() {
                if self.is_es(module) && self.entered[module] == usize::MAX {
                    self.entered[module] = next;
                    next += 1;
                    let targets: Vec<usize> = self.imported(module).collect();
                    stack.extend(targets.into_iter().rev());
                }
            }
        }
    }

    /// Notes what the records say of staying a file.
    fn keep_files(&mut self) {
        for module in 0..self.modules.len() {
            let Record { alone, fixed, .. } = &self.modules[module].record;
            let (alone, fixed) = (alone.clone(), fixed.clone());
            if let Some(reason) = alone {
                self.set_alone(module, &reason);
                // Nothing in such a file may change, and so neither may what it loads.
                let reason = format!("`{}` loads it and cannot be changed", self.modules[module].path);
                for lead in self.modules[module].leads.clone() {
                    if let Lead::Module(target) = lead {
                        self.files.entry(target).or_insert_with(|| Some(reason.clone()));
                    }
                }
            } else if let Some(reason) = fixed {
                self.files.entry(module).or_insert(Some(reason));
            }
        }
        for module in 0..self.modules.len() {
            let stars = self.modules[module].record.stars.clone();
            if stars.len() > 1 && self.hands_on[module] {
                let reason = "it hands on everything of a dependency, whose names are not known here";
                self.files.entry(module).or_insert_with(|| Some(reason.to_owned()));
                for star in stars {
                    if let Lead::Module(target) = self.modules[module].leads[star] {
                        self.files.entry(target).or_insert_with(|| Some(reason.to_owned()));
                    }
                }
            }
        }
    }

    fn wait(&mut self) {
        let mut waiting: Vec<usize> =
            (0..self.modules.len()).filter(|&module| self.modules[module].record.awaits).collect();
        let mut importers: Vec<Vec<usize>> = vec![Vec::new(); self.modules.len()];
        for module in 0..self.modules.len() {
            for target in self.imported(module).collect::<Vec<_>>() {
                importers[target].push(module);
            }
        }
        while let Some(module) = waiting.pop() {
            if !std::mem::replace(&mut self.waits[module], true) {
                waiting.extend(&importers[module]);
            }
        }
    }

    /// Finds the modules whose evaluation has no effect, and those of which nobody notices when it happens.
    fn hush(&mut self) {
        for module in 0..self.modules.len() {
            let record = &self.modules[module].record;
            let are_pure = |moved| {
                record.kind == Kind::Json
                    || record.kind == Kind::Es
                        && !record.awaits
                        && (0..record.statements.len())
                            .all(|statement| self.is_pure(module, statement, moved))
            };
            let (calm, quiet) = (are_pure(false), are_pure(true));
            (self.calm[module], self.quiet[module]) = (calm, quiet);
        }
        self.silent.clone_from(&self.quiet);
        loop {
            let is_heard = |&module: &usize| {
                let Module { record, leads, .. } = &self.modules[module];
                record.loads.iter().zip(leads).any(|(load, lead)| match lead {
                    Lead::Module(target) => load.how == How::Static && !self.silent[*target],
                    lead => load.how == How::Static && noticed(load, lead).is_some(),
                })
            };
            let heard: Vec<usize> =
                (0..self.modules.len()).filter(|module| self.silent[*module]).filter(is_heard).collect();
            if heard.is_empty() {
                break;
            }
            heard.into_iter().for_each(|module| self.silent[module] = false);
        }
    }

    /// Whether a statement can be left out, or with `moved` run at another time, and only a use of its names
    /// could notice.
    pub(crate) fn is_pure(&self, module: usize, statement: usize, moved: bool) -> bool {
        let found = &self.modules[module].record.statements[statement];
        found.pure
            && !(moved && found.calls)
            && found.reads.iter().all(|name| self.is_settled(module, statement, name, moved))
            && found.members.iter().all(|(space, name)| self.is_settled_member(module, space, name, moved))
            && found.extends.iter().all(|name| self.is_class(module, name))
    }

    /// Whether `space` is a namespace of which `name` can be read like a name of the module itself.
    fn is_settled_member(&self, module: usize, space: &str, name: &str, moved: bool) -> bool {
        let Some(Found::Space(target)) = self.imported_name(module, space, None) else { return false };
        let found = self.exported(target, name, None, &mut BTreeSet::new());
        !self.same_component(module, target) && self.is_settled_import(module, &found, moved)
    }

    /// Whether an import has its value when the module runs; with `moved` the same value at any time.
    fn is_settled_import(&self, module: usize, found: &Found, moved: bool) -> bool {
        match found {
            Found::Local(other, local) => {
                let constant = self.modules[*other].record.constant.contains(local);
                !self.same_component(module, *other) && (constant || !moved)
            }
            Found::Outside(..) | Found::Space(_) | Found::Native(..) => !moved,
            Found::Missing | Found::Ambiguous => false,
        }
    }

    /// Whether `name` has its value when `statement` runs; with `moved` the same value at any time.
    fn is_settled(&self, module: usize, statement: usize, name: &str, moved: bool) -> bool {
        let record = &self.modules[module].record;
        let declares =
            |statement: &super::record::Statement| statement.declares.iter().any(|declared| declared == name);
        if let Some(at) = record.statements.iter().position(declares) {
            return record.statements[at].hoisted || at < statement;
        }
        self.imported_name(module, name, None)
            .is_some_and(|found| self.is_settled_import(module, &found, moved))
    }

    fn is_class(&self, module: usize, name: &str) -> bool {
        let is_class = |module: usize, name: &str| self.modules[module].record.classes.contains(name);
        match self.imported_name(module, name, None) {
            Some(Found::Local(other, local)) => is_class(other, &local),
            Some(_) => false,
            None => is_class(module, name),
        }
    }

    /// What a module's import stands for. `seen_from`: for the code of these modules; others are loaded as files.
    pub(crate) fn imported_name(
        &self,
        module: usize,
        local: &str,
        seen_from: Option<&[usize]>,
    ) -> Option<Found> {
        let import = self.modules[module].record.imports.get(local)?;
        Some(self.followed(module, import.load, &import.name, seen_from, &mut BTreeSet::new()))
    }

    /// What an export of a module stands for.
    pub(crate) fn exported(
        &self,
        module: usize,
        name: &str,
        seen_from: Option<&[usize]>,
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Found {
        if let Some(here) = seen_from
            && self.is_file(module)
            && !here.contains(&module)
        {
            return Found::Native(module, Name::One(name.to_owned()));
        }
        self.own_export(module, name, seen_from, seen)
    }

    /// What an export of a module stands for, seen from that module.
    pub(crate) fn own_export(
        &self,
        module: usize,
        name: &str,
        seen_from: Option<&[usize]>,
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Found {
        if !seen.insert((module, name.to_owned())) {
            return Found::Missing;
        }
        let Module { record, leads, .. } = &self.modules[module];
        match record.exports.get(name) {
            Some(Export::Local(local)) => return Found::Local(module, local.clone()),
            Some(Export::From { load, name, .. }) => {
                return self.followed(module, *load, name, seen_from, seen);
            }
            None if name == "default" => return Found::Missing,
            None => {}
        }
        let (mut certain, mut perhaps) = (Found::Missing, Found::Missing);
        for &star in &record.stars {
            let found = match leads[star] {
                Lead::Module(target) if self.is_es(target) => {
                    if !self.names(target).contains(name) && !self.hands_on[target] {
                        continue;
                    }
                    self.exported(target, name, seen_from, &mut seen.clone())
                }
                _ => Found::Outside(module, star, Name::One(name.to_owned())),
            };
            let known = if matches!(found, Found::Outside(..)) { &mut perhaps } else { &mut certain };
            if *known == Found::Missing {
                *known = found;
            } else if found != Found::Missing && *known != found && !self.is_one(known, &found) {
                return Found::Ambiguous;
            }
        }
        if certain == Found::Missing { perhaps } else { certain }
    }

    /// Whether two findings are one binding, however each is reached.
    fn is_one(&self, a: &Found, b: &Found) -> bool {
        let deep = |found: &Found| match found {
            Found::Native(module, Name::One(name)) if self.is_es(*module) => {
                self.own_export(*module, name, None, &mut BTreeSet::new())
            }
            other => other.clone(),
        };
        deep(a) == deep(b)
    }

    fn followed(
        &self,
        module: usize,
        load: usize,
        name: &Name,
        seen_from: Option<&[usize]>,
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Found {
        match (&self.modules[module].leads[load], name) {
            (Lead::Module(target), Name::One(name)) if self.is_es(*target) => {
                self.exported(*target, name, seen_from, seen)
            }
            (Lead::Module(target), Name::All) if self.is_es(*target) => Found::Space(*target),
            (Lead::Module(target), name) => Found::Native(*target, name.clone()),
            (_, name) => Found::Outside(module, load, name.clone()),
        }
    }

    /// The names that a module exports, those of dependencies not counted.
    pub(crate) fn names(&self, module: usize) -> &BTreeSet<String> {
        &self.names[module]
    }

    fn all_names(&self, module: usize) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut seen = BTreeSet::from([module]);
        let mut stack = vec![module];
        while let Some(next) = stack.pop() {
            let Module { record, leads, .. } = &self.modules[next];
            names.extend(record.exports.keys().filter(|name| next == module || *name != "default").cloned());
            for &star in &record.stars {
                if let Lead::Module(target) = leads[star]
                    && self.is_es(target)
                    && seen.insert(target)
                {
                    stack.push(target);
                }
            }
        }
        names
    }

    /// The loads that hand on everything of what is no ES module of the package.
    pub(crate) fn outside_stars(&self, module: usize) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::from([module]);
        let mut stack = vec![module];
        while let Some(next) = stack.pop() {
            let Module { record, leads, .. } = &self.modules[next];
            for &star in &record.stars {
                match leads[star] {
                    Lead::Module(target) if self.is_es(target) => {
                        if seen.insert(target) {
                            stack.push(target);
                        }
                    }
                    _ => found.push((next, star)),
                }
            }
        }
        found
    }
}

/// The name under which others notice what a load does, if they do.
pub(crate) fn noticed(load: &Load, lead: &Lead) -> Option<String> {
    match lead {
        Lead::Asset(path) if path.ends_with(".json") => None,
        Lead::Asset(path) => Some(format!("./{path}")),
        _ if is_builtin(&load.specifier) => None,
        _ => Some(load.specifier.clone()),
    }
}

fn lead(module: &Module, load: &Load, files: &Files, index: &BTreeMap<String, usize>) -> Lead {
    let target = match load.how {
        How::Require { .. } => files.require(&module.path, &load.specifier),
        _ => files.import(&module.path, &load.specifier),
    };
    match target {
        Target::Outside => Lead::Outside,
        Target::Nothing => Lead::Nothing,
        Target::File(path) => match index.get(&path) {
            // JSON is a module of CommonJS, and where it is imported as what it is.
            Some(_)
                if path.ends_with(".json")
                    && !matches!(load.how, How::Require { .. })
                    && !is_json_import(load) =>
            {
                Lead::Asset(path)
            }
            Some(&module) => Lead::Module(module),
            None => Lead::Asset(path),
        },
    }
}

/// Whether a load is `import … with { type: "json" }`.
fn is_json_import(load: &Load) -> bool {
    let is_json = |(key, value): &(String, String)| key == "type" && value == "json";
    load.how == How::Static && matches!(load.attributes.as_slice(), [one] if is_json(one))
}

/// Makes ES modules of the JSON that only ES modules import, as what it is; what else they import stays a file.
fn settle_json(modules: &mut [Module], found: &[bool], why: &mut BTreeMap<usize, Option<String>>) {
    let mut imported: BTreeSet<usize> = BTreeSet::new();
    let mut kept: BTreeSet<usize> = why.keys().copied().collect();
    for module in modules.iter().zip(found).filter(|(_, found)| **found).map(|(module, _)| module) {
        for (index, (load, lead)) in module.record.loads.iter().zip(&module.leads).enumerate() {
            let Lead::Module(target) = lead else { continue };
            if modules[*target].record.kind != Kind::Json {
                continue;
            }
            imported.insert(*target);
            let imports = module.record.imports.values().filter(|import| import.load == index);
            let exports = module.record.exports.values().filter_map(|export| match export {
                Export::From { load, name, .. } if *load == index => Some(name),
                _ => None,
            });
            let default = Name::One("default".to_owned());
            let mut names = imports.map(|import| &import.name).chain(exports);
            let is_value = names.all(|name| *name == default) && !module.record.stars.contains(&index);
            if load.how != How::Static || !is_value {
                kept.insert(*target);
            }
        }
    }
    for target in imported {
        if modules[target].record.fixed.is_some() || kept.contains(&target) {
            let path = modules[target].path.clone();
            why.entry(target).or_insert_with(|| Some("it is imported as JSON and otherwise".to_owned()));
            for module in modules.iter_mut() {
                for (load, lead) in module.record.loads.iter().zip(&mut module.leads) {
                    if load.how == How::Static && *lead == Lead::Module(target) {
                        *lead = Lead::Asset(path.clone());
                    }
                }
            }
        } else {
            modules[target].record = Record::json_module();
        }
    }
}

/// What is reached from the entry points, and which of it stays a file.
struct Reach<'a> {
    modules: &'a [Module],
    files: &'a Files,
    index: &'a BTreeMap<String, usize>,
    found: Vec<bool>,
    why: BTreeMap<usize, Option<String>>,
    open: Vec<usize>,
}

impl<'a> Reach<'a> {
    fn new(
        modules: &'a [Module],
        entries: &BTreeMap<String, Option<String>>,
        files: &'a Files,
        index: &'a BTreeMap<String, usize>,
    ) -> Self {
        let mut reach = Self {
            modules,
            files,
            index,
            found: vec![false; modules.len()],
            why: BTreeMap::new(),
            open: Vec::new(),
        };
        for (path, why) in entries {
            reach.file(path, why.clone());
        }
        reach.walk();
        let reached = |test: fn(&Record) -> bool| {
            modules.iter().zip(&reach.found).any(|(module, found)| *found && test(&module.record))
        };
        if reached(|record| record.computed) && reached(|record| record.place) {
            // A name made at run time from a file's own place can lead anywhere.
            for module in modules.iter().filter(|module| module.record.kind != Kind::Json) {
                reach.file(
                    &module.path,
                    Some("the package loads modules by names that it makes at run time".to_owned()),
                );
            }
            reach.walk();
        }
        reach
    }

    fn file(&mut self, path: &str, why: Option<String>) {
        if let Some(&module) = self.index.get(path) {
            let known = self.why.entry(module).or_insert(why.clone());
            if why.is_none() {
                *known = None;
            }
            self.module(module);
        }
    }

    fn module(&mut self, module: usize) {
        if !std::mem::replace(&mut self.found[module], true) {
            self.open.push(module);
        }
    }

    fn walk(&mut self) {
        while let Some(next) = self.open.pop() {
            let module = &self.modules[next];
            for (load, lead) in module.record.loads.iter().zip(&module.leads) {
                match lead {
                    Lead::Module(target) => {
                        let (from, to) = (module.record.kind, self.modules[*target].record.kind);
                        let path = &self.modules[*target].path;
                        if is_json_import(load) && to == Kind::Json {
                            // Whether it is a module of this kind is settled when all is known.
                        } else if load.how == How::Dynamic {
                            self.file(path, Some(format!("`{}` imports it at run time", module.path)));
                        } else if from != to && !(from == Kind::CommonJs && to == Kind::Json) {
                            let reason = format!("`{}` loads it and is another kind of module", module.path);
                            self.file(path, Some(reason));
                        } else if load.how != How::Static && from == Kind::Es {
                            self.file(path, Some(format!("the ES module `{}` requires it", module.path)));
                        }
                        self.module(*target);
                    }
                    Lead::Outside if is_relative(&load.specifier) => {
                        let name = load.specifier.split(['?', '#']).next().unwrap_or_default();
                        self.mentioned(module, name);
                    }
                    Lead::Asset(path) => self.file(path, Some(format!("`{}` imports it", module.path))),
                    Lead::Outside if load.specifier.starts_with('#') && !self.files.is_own(&module.path) => {
                        let reason = "it says `#…` by a `package.json` of its own".to_owned();
                        self.file(&module.path, Some(reason));
                    }
                    _ => {}
                }
            }
            for text in &module.record.mentions {
                self.mentioned(module, text);
            }
        }
    }

    /// A text that may name a file keeps that file.
    fn mentioned(&mut self, module: &Module, text: &str) {
        let reason = Some(format!("`{}` names it in a text", module.path));
        if is_relative(text) {
            if let Target::File(path) = self.files.require(&module.path, text) {
                self.file(&path, reason.clone());
            }
            if module.record.computed
                && let Some(place) = crate::entry_points::resolve(super::resolve::folder(&module.path), text)
            {
                let prefix =
                    if text.ends_with('/') && !place.is_empty() { format!("{place}/") } else { place };
                for path in self.files.below(&prefix).cloned().collect::<Vec<_>>() {
                    self.file(&path, reason.clone());
                }
            }
        }
        let name = text.rsplit('/').next().unwrap_or(text);
        if [".js", ".mjs", ".cjs", ".json"].iter().any(|ending| name.ends_with(ending)) {
            let named: Vec<String> =
                self.files.iter().filter(|path| path.rsplit('/').next() == Some(name)).cloned().collect();
            for path in named {
                self.file(&path, reason.clone());
            }
        }
    }
}
