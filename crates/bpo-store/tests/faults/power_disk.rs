//! What a disk holds when the power fails: what was synced, and anything between that and what was written.
//!
//! Names in a folder become durable in the order in which they changed, at the latest when the folder is synced, and a
//! rename within a folder is one change; the bytes of a file become durable in any order, at the latest when the file
//! is synced. No file system promises less.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bpo_store::Operation;

use crate::dice::Dice;

/// Names in a folder and what they name.
type Names = BTreeMap<String, usize>;

#[derive(Debug, Clone)]
enum Node {
    File {
        now: Vec<u8>,
        synced: Vec<u8>,
    },
    Folder {
        /// After every change since the folder was synced, the first being those that are durable.
        history: Vec<Names>,
    },
}

/// The content of one folder, whose own name is durable.
#[derive(Debug, Clone)]
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
}

impl Disk {
    /// A folder with all that is in it, durable.
    pub fn of(root: &Path) -> Self {
        let mut disk = Self { root: root.to_owned(), nodes: Vec::new() };
        disk.read(root);
        disk
    }

    fn read(&mut self, path: &Path) -> usize {
        let at = self.nodes.len();
        if !path.is_dir() {
            let now = fs::read(path).unwrap();
            self.nodes.push(Node::File { synced: now.clone(), now });
            return at;
        }
        self.nodes.push(Node::Folder { history: vec![Names::new()] });
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let node = self.read(&entry.path());
            let Node::Folder { history } = &mut self.nodes[at] else { unreachable!() };
            history[0].insert(entry.file_name().into_string().unwrap(), node);
        }
        at
    }

    fn find(&self, path: &Path) -> Option<usize> {
        path.strip_prefix(&self.root).ok()?.iter().try_fold(0, |at, name| match &self.nodes[at] {
            Node::Folder { history } => history.last()?.get(name.to_str()?).copied(),
            Node::File { .. } => None,
        })
    }

    /// Changes the names in the folder of `path`.
    fn rename(&mut self, path: &Path, change: impl FnOnce(&mut Names, String)) {
        let Some(folder) = path.parent().and_then(|parent| self.find(parent)) else { return };
        let Node::Folder { history } = &mut self.nodes[folder] else { return };
        let mut names = history.last().unwrap().clone();
        change(&mut names, path.file_name().unwrap().to_str().unwrap().to_owned());
        history.push(names);
    }

    fn add(&mut self, path: &Path, node: Node) {
        let at = self.nodes.len();
        self.nodes.push(node);
        self.rename(path, |names, name| {
            names.insert(name, at);
        });
    }

    fn bytes(&mut self, path: &Path) -> Option<&mut Vec<u8>> {
        match self.find(path).map(|at| &mut self.nodes[at]) {
            Some(Node::File { now, .. }) => Some(now),
            _ => None,
        }
    }

    /// Does what was done to the file system.
    pub fn apply(&mut self, operation: &Operation<'_>) {
        match *operation {
            Operation::Create(path) => match self.bytes(path) {
                Some(bytes) => bytes.clear(),
                None => self.add(path, Node::File { now: Vec::new(), synced: Vec::new() }),
            },
            Operation::Write { path, at, bytes } => {
                let file = self.bytes(path).unwrap();
                file.resize(file.len().max(at as usize + bytes.len()), 0);
                file[at as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            Operation::Cut { path, length } => self.bytes(path).unwrap().resize(length as usize, 0),
            Operation::Sync(path) | Operation::SyncFolder(path) => {
                match self.find(path).map(|at| &mut self.nodes[at]) {
                    Some(Node::File { now, synced }) => synced.clone_from(now),
                    Some(Node::Folder { history }) => drop(history.drain(..history.len() - 1)),
                    None => {}
                }
            }
            Operation::Rename { from, to } => {
                let node = self.find(from).unwrap();
                assert_eq!(from.parent(), to.parent(), "only these are one change");
                let old = from.file_name().unwrap().to_str().unwrap().to_owned();
                self.rename(to, |names, new| {
                    names.remove(&old);
                    names.insert(new, node);
                });
            }
            Operation::CreateFolder(path) => self.add(path, Node::Folder { history: vec![Names::new()] }),
            Operation::Remove(path) => self.rename(path, |names, name| {
                names.remove(&name);
            }),
            _ => {}
        }
    }

    /// Puts what a power failure leaves into `folder`, which takes the place of the disk's own.
    pub fn fail(&self, folder: &Path, dice: &mut Dice) {
        self.write(0, folder, &mut Some(dice));
    }

    /// The same, if nothing arrived that was not synced.
    pub fn lose_all(&self, folder: &Path) {
        self.write(0, folder, &mut None);
    }

    fn write(&self, at: usize, path: &Path, dice: &mut Option<&mut Dice>) {
        match &self.nodes[at] {
            Node::File { now, synced } => {
                let bytes = dice.as_mut().map_or_else(|| synced.clone(), |dice| torn(synced, now, dice));
                fs::write(path, bytes).unwrap();
            }
            Node::Folder { history } => {
                fs::create_dir_all(path).unwrap();
                let kept = dice.as_mut().map_or(0, |dice| dice.roll(history.len() as u64) as usize);
                history[kept].iter().for_each(|(name, node)| self.write(*node, &path.join(name), dice));
            }
        }
    }
}

/// Some of what was written since a file was synced.
fn torn(synced: &[u8], now: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = match dice.roll(4) {
        0 => return synced.to_vec(),
        1 => return now.to_vec(),
        _ => now.to_vec(),
    };
    // Bytes that did not arrive are what they were, or zeros where the file has grown; or its length did not arrive.
    for (at, byte) in bytes.iter_mut().enumerate() {
        if dice.roll(3) == 0 {
            *byte = synced.get(at).copied().unwrap_or(0);
        }
    }
    if dice.roll(2) == 0 && now.len() > synced.len() {
        bytes.truncate(synced.len() + dice.roll((now.len() - synced.len()) as u64) as usize);
    }
    bytes
}
