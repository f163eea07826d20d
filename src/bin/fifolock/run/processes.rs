//! What runs on this machine, as `/proc` shows it.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, getpid};

/// One process at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) parent: Option<Pid>,
    pub(super) group: Option<Pid>,
    /// It has ended, and its parent has not asked how.
    pub(super) ended: bool,
    /// In ticks since the machine started. With the id it names a process for ever:
    /// an id alone is given to another one later.
    start: u64,
}

impl Process {
    /// `None` if there is none of this id, or if it is hidden.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&stat)
    }

    /// Reads a line of `/proc/PID/stat`. The name, in parentheses, may be anything.
    fn parse(stat: &str) -> Option<Self> {
        let (pid, _) = stat.split_once(" (")?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<i32>().ok();
        let state = *fields.first()?;
        // A process whose first thread has ended looks like a zombie while others run.
        let threads = number(17)?;
        Some(Self {
            pid: id(pid)?,
            parent: id(fields.get(1)?),
            group: id(fields.get(2)?),
            ended: matches!(state, "Z" | "X") && threads <= 1,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it is the same process as `other`, perhaps at another instant.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.pid, self.start) == (other.pid, other.start)
    }

    /// Its program's name, and the user it runs as.
    pub(super) fn describe(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        let name = field("Name:").unwrap_or_else(|| "?".into());
        // Real, effective, saved, file system.
        let user = field("Uid:").and_then(|ids| ids.split_whitespace().nth(1).map(user));
        let user = user.unwrap_or_else(|| "unknown".into());
        format!("process {} ({name}, user {user})", self.pid)
    }
}

/// The name of a user. (Not from a directory service, which might not answer.)
fn user(id: &str) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| id.to_owned())
}

/// Whether `/proc` is there, and speaks of the same process ids as this process: in a
/// namespace it may be that of another one.
pub(super) fn are_shown() -> bool {
    let own = getpid();
    let is_own = |link: std::path::PathBuf| link.as_os_str() == own.to_string().as_str();
    cfg!(target_os = "linux")
        && fs::read_link("/proc/self").is_ok_and(is_own)
        // Also if this process may open no more files, nothing is shown to it.
        && fs::read_dir("/proc").is_ok()
        && Process::of(own).is_some()
}

/// The id of a process, or a group, that was written down. One that is about to vanish has
/// the group -1.
pub(super) fn id(text: &str) -> Option<Pid> {
    let number = text.parse().ok().filter(|number| *number > 0)?;
    Pid::from_raw(number)
}

/// All processes that are shown.
fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = names.filter_map(|name| id(&name));
    pids.filter_map(Process::of).collect()
}

/// Those that descend from `root`, but not from one of `spared`; zombies included.
pub(super) fn below(root: Pid, spared: &[Process]) -> Vec<Process> {
    descendants(&all(), root, spared)
}

/// The children of `root`, in the quickest way there is. `None` where the system does not
/// keep lists of them.
pub(super) fn children(root: Pid) -> Option<Vec<Pid>> {
    let threads = fs::read_dir(format!("/proc/{root}/task")).ok()?;
    let mut children = Vec::new();
    let mut are_listed = false;
    for thread in threads.flatten() {
        // A thread may have ended meanwhile.
        if let Ok(list) = fs::read_to_string(thread.path().join("children")) {
            are_listed = true;
            let pids = list.split_ascii_whitespace();
            children.extend(pids.filter_map(id));
        }
    }
    are_listed.then_some(children)
}

/// The same, where there are no lists as well.
pub(super) fn children_of(root: Pid) -> Vec<Pid> {
    children(root).unwrap_or_else(|| {
        let children = all().into_iter();
        let children = children.filter(|process| process.parent == Some(root));
        children.map(|process| process.pid).collect()
    })
}

fn descendants(all: &[Process], root: Pid, spared: &[Process]) -> Vec<Process> {
    let mut known = HashSet::from([root]);
    let mut found = Vec::new();
    // A child may come before its parent: ids start again from the lowest.
    loop {
        let before = found.len();
        for process in all {
            let is_new = !known.contains(&process.pid);
            let is_below = process.parent.is_some_and(|parent| known.contains(&parent));
            if is_new && is_below && !spared.iter().any(|other| process.is(other)) {
                known.insert(process.pid);
                found.push(*process);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(raw: i32) -> Pid {
        Pid::from_raw(raw).unwrap()
    }

    #[test]
    fn a_process_that_vanishes_has_no_group() {
        let line = "42 (a) X 0 -1 -1 0 -1 4228172 0 0 0 0 0 0 0 0 20 0 0 0 9876 0 0\n";
        let read = Process::parse(line).unwrap();
        assert_eq!((read.parent, read.group), (None, None));
        for text in ["", "0", "-7", "x", "99999999999"] {
            assert_eq!(id(text), None, "{text}");
        }
    }

    fn process(id: i32, parent: i32) -> Process {
        Process {
            pid: pid(id),
            parent: Pid::from_raw(parent),
            group: Some(pid(id)),
            ended: false,
            start: 7,
        }
    }

    #[test]
    fn a_line_is_read_whatever_the_program_is_called() {
        let line = "42 (a) R 1 (b) S 7 41 40 34816 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 9876 0 0\n";
        let read = Process::parse(line).unwrap();
        assert_eq!(
            (read.pid, read.parent, read.group),
            (pid(42), Some(pid(7)), Some(pid(41)))
        );
        assert_eq!((read.start, read.ended), (9876, false));
        let zombie = line.replace(" S 7", " Z 7");
        assert!(Process::parse(&zombie).unwrap().ended);
        let first_thread_only = zombie.replace("20 0 1 0", "20 0 2 0");
        assert!(!Process::parse(&first_thread_only).unwrap().ended);
        assert_eq!(Process::parse("42 (short) S 1"), None);
    }

    #[test]
    fn descendants_are_found_in_any_order() {
        let all = [
            process(2, 900),
            process(3, 2),
            process(900, 10),
            process(10, 1),
            process(11, 1),
            process(12, 10),
        ];
        let ids = |spared: &[Process]| {
            let mut ids: Vec<_> = descendants(&all, pid(10), spared)
                .iter()
                .map(|process| process.pid.as_raw_nonzero().get())
                .collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(&[]), [2, 3, 12, 900]);
        assert_eq!(ids(&[process(900, 10)]), [12]);
        let another = Process {
            start: 8,
            ..process(900, 10)
        };
        assert_eq!(ids(&[another]), [2, 3, 12, 900]);
    }
}
