//! Names, and their changes since the last sync of their directory.

use std::collections::BTreeMap;

use super::InodeId;
use crate::file::parent;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(InodeId),
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Create {
        path: String,
        node: Node,
    },
    /// Moves the node that had the name then, not whatever has it when the change is applied: a
    /// file system that keeps a rename keeps it of that file.
    Rename {
        from: String,
        to: String,
        node: Node,
    },
    Remove {
        path: String,
    },
}

impl NameChange {
    pub(super) fn dir(&self) -> &str {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => parent(path),
            Self::Rename { to, .. } => parent(to),
        }
    }

    pub(super) fn is_below(&self, prefix: &str) -> bool {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => path.starts_with(prefix),
            Self::Rename { to, .. } => to.starts_with(prefix),
        }
    }

    /// The directory `prefix` (with its slash) is called `moved_to` now.
    pub(super) fn move_below(&mut self, prefix: &str, moved_to: &str) {
        let paths = match self {
            Self::Create { path, .. } | Self::Remove { path } => vec![path],
            Self::Rename { from, to, .. } => vec![from, to],
        };
        for path in paths {
            if let Some(rest) = path.strip_prefix(prefix) {
                *path = format!("{moved_to}/{rest}");
            }
        }
    }
}

pub(super) fn apply_name_change(names: &mut BTreeMap<String, Node>, change: &NameChange) {
    match change {
        NameChange::Create { path, node } => {
            names.insert(path.clone(), *node);
        }
        NameChange::Remove { path } => {
            let prefix = format!("{path}/");
            names.retain(|name, _| name != path && !name.starts_with(&prefix));
        }
        NameChange::Rename { from, to, node: node @ Node::File(_) } => {
            if names.get(from) == Some(node) {
                names.remove(from);
            }
            names.insert(to.clone(), *node);
        }
        NameChange::Rename { from, to, node: Node::Dir } => {
            let prefix = format!("{from}/");
            let moved: Vec<(String, Node)> = names
                .iter()
                .filter(|(name, _)| *name == from || name.starts_with(&prefix))
                .map(|(name, node)| (name.clone(), *node))
                .collect();
            for (name, node) in moved {
                names.remove(&name);
                names.insert(format!("{to}{}", &name[from.len()..]), node);
            }
        }
    }
}
