//! Credentials from the host: the container endpoint of ECS and EKS, and
//! version 2 of the EC2 instance metadata service.
//!
//! rusoto's providers need a tokio reactor, and know neither version 2 nor the
//! token file of EKS Pod Identity.

use std::fs;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use rusoto_core::credential::AwsCredentials;
use ureq::Agent;
use ureq::unversioned::transport::DefaultConnector;

use super::names::Names;
use super::region::Lookup;

/// The host answers within milliseconds, or it is not there.
const CONNECT: Duration = Duration::from_secs(1);
const REQUEST: Duration = Duration::from_secs(3);

const INSTANCE: &str = "http://169.254.169.254";
const CONTAINER: &str = "http://169.254.170.2";

/// The hosts that may be asked for container credentials without TLS: see
/// [AWS's rules](https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html).
const CONTAINER_HOSTS: [&str; 6] = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::23]",
];

/// The host's metadata is never behind a proxy, and never redirects.
fn agent() -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(REQUEST))
        .build();
    Agent::with_parts(
        config,
        DefaultConnector::default(),
        Names::new(Duration::ZERO),
    )
}

/// Credentials of the container's task or pod.
pub(super) fn container(lookup: Lookup<'_>) -> anyhow::Result<AwsCredentials> {
    let url = if let Some(path) = lookup("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        format!("{CONTAINER}{path}")
    } else if let Some(url) = lookup("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        let uri: ureq::http::Uri = url.parse().context("AWS_CONTAINER_CREDENTIALS_FULL_URI")?;
        let trusted = uri.scheme_str() == Some("https")
            || uri
                .host()
                .is_some_and(|host| CONTAINER_HOSTS.contains(&host));
        ensure!(
            trusted,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI names neither an https address nor this host"
        );
        url
    } else {
        bail!("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are not set");
    };
    let token = match lookup("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        // The file is rotated: it is read again each time.
        Some(path) => Some(fs::read_to_string(&path).with_context(|| path)?),
        None => lookup("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let mut request = agent().get(&url);
    if let Some(token) = token {
        request = request.header("Authorization", token.trim());
    }
    parse(&read(request.call().context(url)?)?)
}

/// Credentials of the instance's role.
pub(super) fn instance(lookup: Lookup<'_>) -> anyhow::Result<AwsCredentials> {
    let disabled = lookup("AWS_EC2_METADATA_DISABLED");
    ensure!(
        !disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")),
        "AWS_EC2_METADATA_DISABLED is set"
    );
    let base = lookup("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| INSTANCE.into());
    let base = base.trim_end_matches('/');
    let agent = agent();
    let answer = agent
        .put(format!("{base}/latest/api/token"))
        .header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
        .send_empty()
        .context("the instance metadata service gave no session token")?;
    let token = read(answer)?;
    let ask = |path: &str| {
        let answer = agent
            .get(format!(
                "{base}/latest/meta-data/iam/security-credentials/{path}"
            ))
            .header("X-aws-ec2-metadata-token", token.trim())
            .call()
            .context("the instance metadata service")?;
        read(answer)
    };
    let roles = ask("")?;
    let role = roles
        .lines()
        .next()
        .filter(|role| !role.is_empty())
        .ok_or_else(|| anyhow!("the instance has no role"))?;
    parse(&ask(role.trim())?)
}

fn read(mut answer: ureq::http::Response<ureq::Body>) -> anyhow::Result<String> {
    Ok(answer.body_mut().read_to_string()?)
}

fn parse(text: &str) -> anyhow::Result<AwsCredentials> {
    // What stands in there is secret: it must not be quoted in an error.
    serde_json::from_str(text).map_err(|_| anyhow!("the host's answer holds no credentials"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const KEYS: &str = r#"{"Code":"Success","AccessKeyId":"AKID","SecretAccessKey":"shh",
        "Token":"session","Expiration":"2099-01-01T00:00:00Z"}"#;

    /// Answers each request by what `respond` says to its head.
    fn host(respond: fn(&str) -> (u16, String)) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap() == 0 {
                        break;
                    }
                }
                let (status, body) = respond(&head.to_lowercase());
                write!(
                    stream,
                    "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read(&mut [0]);
            }
        });
        address
    }

    #[test]
    fn version_2_of_the_instance_metadata_service() {
        let base = host(|head| {
            let with_token = head.contains("x-aws-ec2-metadata-token: t0ken");
            if head.starts_with("put /latest/api/token") {
                assert!(head.contains("x-aws-ec2-metadata-token-ttl-seconds"));
                (200, "t0ken".into())
            } else if !with_token {
                (401, String::new())
            } else if head.starts_with("get /latest/meta-data/iam/security-credentials/ ") {
                (200, "the-role".into())
            } else if head.starts_with("get /latest/meta-data/iam/security-credentials/the-role ") {
                (200, KEYS.into())
            } else {
                (404, String::new())
            }
        });
        let lookup =
            |name: &str| (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| base.clone());
        let keys = instance(&lookup).unwrap();
        assert_eq!(keys.aws_access_key_id(), "AKID");
        assert_eq!(keys.token().as_deref(), Some("session"));
        assert!(keys.expires_at().is_some());
    }

    #[test]
    fn a_pods_token_file_is_sent() {
        let base = host(|head| {
            if head.contains("authorization: from-the-file\r\n") {
                (200, KEYS.into())
            } else {
                (403, String::new())
            }
        });
        let file = std::env::temp_dir().join(format!("fifolock-token-{}", std::process::id()));
        fs::write(&file, "from-the-file\n").unwrap();
        let lookup = |name: &str| match name {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI" => Some(format!("{base}/v1/credentials")),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" => Some(file.display().to_string()),
            _ => None,
        };
        let keys = container(&lookup);
        fs::remove_file(&file).unwrap();
        assert_eq!(keys.unwrap().aws_access_key_id(), "AKID");
    }

    #[test]
    fn a_token_is_not_sent_to_a_stranger() {
        let lookup = |name: &str| {
            (name == "AWS_CONTAINER_CREDENTIALS_FULL_URI").then(|| "http://example.com/x".into())
        };
        assert!(container(&lookup).is_err());
    }

    #[test]
    fn errors_quote_no_secrets() {
        let error = parse(r#"{"AccessKeyId":"AKID","SecretAccessKey":["shh"]}"#).unwrap_err();
        assert!(!format!("{error:#}").contains("shh"), "{error:#}");
    }
}
