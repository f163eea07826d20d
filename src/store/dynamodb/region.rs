//! Where the table is: region and endpoint.
//!
//! rusoto's own parser knows the regions of 2022 and falls back to `us-east-1`
//! in silence. Here any region is taken by its name, and none is guessed.

use std::path::PathBuf;

use rusoto_core::Region;
use rusoto_core::credential::ProfileProvider;

use crate::error::Error;

/// Reads an environment variable; empty counts as absent.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Settles region and endpoint: what was given, else the environment
/// (`AWS_REGION`, `AWS_DEFAULT_REGION`; `AWS_ENDPOINT_URL_DYNAMODB`,
/// `AWS_ENDPOINT_URL`), else the profile, else an error.
pub(super) fn settle(
    region: Option<String>,
    endpoint: Option<String>,
    profile: Option<&str>,
    lookup: Lookup<'_>,
) -> Result<Region, Error> {
    let endpoint = endpoint
        .or_else(|| lookup("AWS_ENDPOINT_URL_DYNAMODB"))
        .or_else(|| lookup("AWS_ENDPOINT_URL"));
    if let Some(endpoint) = &endpoint {
        check_endpoint(endpoint)?;
    }
    let plain = endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    let name = region
        .or_else(|| lookup("AWS_REGION"))
        .or_else(|| lookup("AWS_DEFAULT_REGION"))
        .or_else(|| match profile {
            Some(name) => region_of(name, lookup),
            None => ProfileProvider::region().ok().flatten(),
        })
        // AWS has no plain HTTP: whoever answers there does not check the
        // region that the request is signed for.
        .or_else(|| plain.then(|| "local".into()))
        .ok_or_else(|| Error::InvalidSetting {
            setting: "region",
            problem: "none is given; set it on the builder, in AWS_REGION, or in the profile"
                .into(),
        })?;
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(sound) {
        return Err(Error::InvalidSetting {
            setting: "region",
            problem: format!("{name:?} is not a region's name, such as \"eu-central-1\""),
        });
    }
    let endpoint = endpoint.unwrap_or_else(|| default_endpoint(&name));
    Ok(Region::Custom { name, endpoint })
}

/// The region that the config file gives for this profile.
fn region_of(profile: &str, lookup: Lookup<'_>) -> Option<String> {
    let file = lookup("AWS_CONFIG_FILE")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".aws").join("config")))?;
    ProfileProvider::with_configuration(file, profile)
        .region_from_profile()
        .ok()
        .flatten()
}

fn default_endpoint(region: &str) -> String {
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    format!("https://dynamodb.{region}.{domain}")
}

fn check_endpoint(endpoint: &str) -> Result<(), Error> {
    let wrong = |problem: String| {
        Err(Error::InvalidSetting {
            setting: "endpoint",
            problem,
        })
    };
    match endpoint.parse::<ureq::http::Uri>() {
        Ok(uri) if uri.host().is_none() || uri.query().is_some() => wrong(format!(
            "{endpoint:?} is not an address such as \"http://localhost:8000\""
        )),
        Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Ok(()),
        _ => wrong(format!(
            "{endpoint:?} is not an http:// or https:// address"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(region: &Region) -> (&str, &str) {
        match region {
            Region::Custom { name, endpoint } => (name, endpoint),
            other => panic!("{other:?}"),
        }
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn regions_younger_than_rusoto_are_taken() {
        for name in ["eu-central-2", "ap-southeast-7", "mx-central-1"] {
            let region = settle(Some(name.into()), None, None, &nothing).unwrap();
            let endpoint = format!("https://dynamodb.{name}.amazonaws.com");
            assert_eq!(custom(&region), (name, endpoint.as_str()));
        }
    }

    #[test]
    fn china_has_its_own_domain() {
        let region = settle(Some("cn-north-1".into()), None, None, &nothing).unwrap();
        assert_eq!(
            custom(&region).1,
            "https://dynamodb.cn-north-1.amazonaws.com.cn"
        );
    }

    #[test]
    fn the_environment_is_asked_and_what_is_given_goes_first() {
        let lookup = |name: &str| match name {
            "AWS_REGION" => Some("eu-west-1".to_owned()),
            "AWS_ENDPOINT_URL_DYNAMODB" => Some("http://localhost:8000".to_owned()),
            _ => None,
        };
        let region = settle(None, None, None, &lookup).unwrap();
        assert_eq!(custom(&region), ("eu-west-1", "http://localhost:8000"));
        let region = settle(Some("us-east-2".into()), None, None, &lookup).unwrap();
        assert_eq!(custom(&region).0, "us-east-2");
    }

    #[test]
    fn a_named_profile_has_a_region_of_its_own() {
        let file = std::env::temp_dir().join(format!("config-{:016x}", rand::random::<u64>()));
        let config = "[default]\nregion = eu-west-1\n[profile ops]\nregion = eu-north-1\n";
        std::fs::write(&file, config).unwrap();
        let shown = file.display().to_string();
        let lookup = |name: &str| (name == "AWS_CONFIG_FILE").then(|| shown.clone());
        let with = |given: Option<&str>, lookup: Lookup<'_>| {
            settle(given.map(Into::into), None, Some("ops"), lookup)
                .map(|region| custom(&region).0.to_owned())
        };
        assert_eq!(with(None, &lookup).unwrap(), "eu-north-1");
        assert_eq!(with(Some("us-east-2"), &lookup).unwrap(), "us-east-2");
        let environment = |name: &str| match name {
            "AWS_REGION" => Some("sa-east-1".to_owned()),
            other => lookup(other),
        };
        assert_eq!(with(None, &environment).unwrap(), "sa-east-1");
        let absent = settle(None, None, Some("absent"), &lookup);
        assert!(matches!(absent, Err(Error::InvalidSetting { .. })));
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (region, endpoint) in [
            (Some("Frankfurt"), None),
            (Some(""), None),
            (Some("eu-west-1"), Some("localhost:8000")),
            (Some("eu-west-1"), Some("ftp://localhost")),
            (Some("eu-west-1"), Some("http://")),
        ] {
            let result = settle(
                region.map(Into::into),
                endpoint.map(Into::into),
                None,
                &nothing,
            );
            assert!(
                matches!(result, Err(Error::InvalidSetting { .. })),
                "{region:?} {endpoint:?}"
            );
        }
    }
}
