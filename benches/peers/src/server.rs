//! The server that all contests are held over.

#[path = "../../../examples/support/embedded.rs"]
mod embedded;

use anyhow::Context;
use embedded::Embedded;

use crate::peers::cargo_version;
use crate::raw::Raw;

pub(crate) struct Server {
    endpoint: String,
    name: String,
    _embedded: Option<Embedded>,
}

impl Server {
    /// The one at `endpoint`, called `name`, or an embedded one.
    pub(crate) fn open(endpoint: Option<&str>, name: Option<&str>) -> anyhow::Result<Self> {
        let Some(endpoint) = endpoint else {
            let embedded = Embedded::start()?;
            return Ok(Self {
                endpoint: embedded.endpoint().to_owned(),
                name: format!(
                    "embedded dynoxide {}",
                    cargo_version("dynoxide-rs").unwrap_or_default()
                ),
                _embedded: Some(embedded),
            });
        };
        let answered = Raw::new(endpoint)
            .server()
            .with_context(|| format!("nobody answers at {endpoint}"))?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            name: name.map_or(answered.clone(), |name| format!("{name}, {answered}")),
            _embedded: None,
        })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
