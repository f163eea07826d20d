//! The connections of a store, in each process that uses it.

use std::sync::Arc;

use ureq::tls::RootCerts;

use super::http::Line;
use crate::process::PerProcess;

/// The connections of one store. Each process has its own: two must not write to the same
/// socket, and what a fork copies of a pool or of TLS is of no use.
pub(super) struct Connections {
    roots: RootCerts,
    lines: PerProcess<Line>,
}

impl Connections {
    /// None yet. They will trust `roots`.
    pub(super) fn new(roots: RootCerts) -> Arc<Self> {
        Arc::new(Self {
            roots,
            lines: PerProcess::new(),
        })
    }

    /// Those of this process. `None` if the store was handed down through too many forks.
    pub(super) fn here(&self) -> Option<Line> {
        let line = || Line::new(self.roots.clone());
        self.lines.get_or_init(line).cloned()
    }
}
