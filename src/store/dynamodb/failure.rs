//! What a failed request means.

use anyhow::anyhow;
use rusoto_core::RusotoError;
use rusoto_core::request::BufferedHttpResponse;
use rusoto_dynamodb::{
    CreateTableError, DeleteItemError, DescribeTableError, DescribeTimeToLiveError, GetItemError,
    QueryError, ScanError, TransactWriteItemsError, UpdateItemError, UpdateTimeToLiveError,
};

use crate::error::StoreError;

/// The code of a request that was not sent because of its signature's time, beside those
/// that the service has.
pub(super) const WRONG_CLOCK: &str = "dynamodb-fifo-lock.WrongClock";

/// What kind of answer an operation's own error is.
pub(super) enum Class {
    /// The table is not there.
    Missing,
    /// Too many requests, or one too many at this moment. Nothing was written.
    Throttled,
    /// The service failed. Something may have been written.
    Broken,
    /// The request is not acceptable.
    Rejected,
}

/// The errors of rusoto's operations, reduced to what matters here.
pub(super) trait Classify: std::error::Error + Send + Sync + 'static {
    fn class(&self) -> Class;
}

impl Classify for UpdateItemError {
    fn class(&self) -> Class {
        match self {
            Self::ResourceNotFound(_) => Class::Missing,
            Self::ProvisionedThroughputExceeded(_)
            | Self::RequestLimitExceeded(_)
            | Self::TransactionConflict(_) => Class::Throttled,
            Self::InternalServerError(_) => Class::Broken,
            Self::ConditionalCheckFailed(_) | Self::ItemCollectionSizeLimitExceeded(_) => {
                Class::Rejected
            }
        }
    }
}

impl Classify for GetItemError {
    fn class(&self) -> Class {
        match self {
            Self::ResourceNotFound(_) => Class::Missing,
            Self::ProvisionedThroughputExceeded(_) | Self::RequestLimitExceeded(_) => {
                Class::Throttled
            }
            Self::InternalServerError(_) => Class::Broken,
        }
    }
}

impl Classify for DeleteItemError {
    fn class(&self) -> Class {
        match self {
            Self::ResourceNotFound(_) => Class::Missing,
            Self::ProvisionedThroughputExceeded(_)
            | Self::RequestLimitExceeded(_)
            | Self::TransactionConflict(_) => Class::Throttled,
            Self::InternalServerError(_) => Class::Broken,
            Self::ConditionalCheckFailed(_) | Self::ItemCollectionSizeLimitExceeded(_) => {
                Class::Rejected
            }
        }
    }
}

impl Classify for QueryError {
    fn class(&self) -> Class {
        match self {
            Self::ResourceNotFound(_) => Class::Missing,
            Self::ProvisionedThroughputExceeded(_) | Self::RequestLimitExceeded(_) => {
                Class::Throttled
            }
            Self::InternalServerError(_) => Class::Broken,
        }
    }
}

impl Classify for ScanError {
    fn class(&self) -> Class {
        match self {
            Self::ResourceNotFound(_) => Class::Missing,
            Self::ProvisionedThroughputExceeded(_) | Self::RequestLimitExceeded(_) => {
                Class::Throttled
            }
            Self::InternalServerError(_) => Class::Broken,
        }
    }
}

impl Classify for TransactWriteItemsError {
    fn class(&self) -> Class {
        match self {
            Self::ResourceNotFound(_) => Class::Missing,
            Self::ProvisionedThroughputExceeded(_)
            | Self::RequestLimitExceeded(_)
            | Self::TransactionInProgress(_) => Class::Throttled,
            Self::InternalServerError(_) => Class::Broken,
            Self::TransactionCanceled(_) | Self::IdempotentParameterMismatch(_) => Class::Rejected,
        }
    }
}

impl Classify for CreateTableError {
    fn class(&self) -> Class {
        match self {
            Self::LimitExceeded(_) => Class::Throttled,
            Self::InternalServerError(_) => Class::Broken,
            Self::ResourceInUse(_) => Class::Rejected,
        }
    }
}

impl Classify for DescribeTableError {
    fn class(&self) -> Class {
        match self {
            Self::ResourceNotFound(_) => Class::Missing,
            Self::InternalServerError(_) => Class::Broken,
        }
    }
}

impl Classify for DescribeTimeToLiveError {
    fn class(&self) -> Class {
        match self {
            Self::ResourceNotFound(_) => Class::Missing,
            Self::InternalServerError(_) => Class::Broken,
        }
    }
}

impl Classify for UpdateTimeToLiveError {
    fn class(&self) -> Class {
        match self {
            Self::ResourceNotFound(_) => Class::Missing,
            Self::LimitExceeded(_) | Self::ResourceInUse(_) => Class::Throttled,
            Self::InternalServerError(_) => Class::Broken,
        }
    }
}

/// Tells by a failed request what is wrong.
pub(super) fn explain<E: Classify>(table: &str, error: RusotoError<E>) -> StoreError {
    match error {
        RusotoError::Service(error) => match error.class() {
            Class::Missing => StoreError::TableMissing {
                table: table.into(),
            },
            Class::Throttled => StoreError::Throttled {
                source: error.into(),
            },
            Class::Broken => StoreError::Unreachable {
                source: error.into(),
            },
            Class::Rejected => StoreError::Rejected {
                source: error.into(),
            },
        },
        RusotoError::Credentials(error) => StoreError::Denied {
            source: error.into(),
        },
        RusotoError::HttpDispatch(error) => StoreError::Unreachable {
            source: error.into(),
        },
        RusotoError::Validation(message) => rejected(table, &message),
        RusotoError::Unknown(answer) => unknown(table, &answer),
        // Whatever could not be read may be the answer to a write that was
        // applied.
        RusotoError::ParseError(message) => StoreError::Unreachable {
            source: anyhow!("the answer could not be read: {message}").into(),
        },
        RusotoError::Blocking => StoreError::Unreachable {
            source: anyhow!("the request was not carried out").into(),
        },
    }
}

/// The request's key does not fit the table, by what DynamoDB and those that
/// imitate it say.
fn is_about_the_key(message: &str) -> bool {
    let message = message.to_lowercase();
    [
        "does not match the schema",
        "type mismatch for key",
        "type mismatch for attribute to update",
        "conditions on the keys is invalid",
        "missing the key",
        "missed key schema element",
        "query key condition not supported",
        "exceeds the number of key attributes",
        "type does not match schema type",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}

fn rejected(table: &str, message: &str) -> StoreError {
    if is_about_the_key(message) {
        return StoreError::WrongKeySchema {
            table: table.into(),
            found: message.into(),
        };
    }
    StoreError::Rejected {
        source: anyhow!("{message}").into(),
    }
}

/// rusoto knows the errors that each operation declares. The ones that any
/// operation may answer come here.
fn unknown(table: &str, answer: &BufferedHttpResponse) -> StoreError {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let kind = body["__type"].as_str().unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let kind = kind.split(':').next().unwrap_or_default();
    let message = body["message"]
        .as_str()
        .or_else(|| body["Message"].as_str())
        .unwrap_or_default();
    let source = anyhow!("{} {kind} {message}", answer.status).into();
    match kind {
        "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "ProvisionedThroughputExceededException"
        | "ReplicatedWriteConflictException"
        | "TransactionConflictException"
        | "TransactionInProgressException"
        | "TooManyRequestsException" => StoreError::Throttled { source },
        "InternalServerError" | "InternalFailure" | "ServiceUnavailable" => {
            StoreError::Unreachable { source }
        }
        WRONG_CLOCK => StoreError::WrongClock {
            source: message.into(),
        },
        "AccessDeniedException"
        | "AccessDenied"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "InvalidClientTokenId"
        | "OptInRequired" => StoreError::Denied { source },
        "ResourceNotFoundException" => StoreError::TableMissing {
            table: table.into(),
        },
        "ValidationException" => rejected(table, message),
        _ if answer.status.as_u16() == 429 => StoreError::Throttled { source },
        // Anything that DynamoDB did not sign may come from something in between.
        _ if kind.is_empty() || answer.status.is_server_error() => {
            StoreError::Unreachable { source }
        }
        _ => StoreError::Rejected { source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> StoreError {
        let answer = BufferedHttpResponse {
            status: http::StatusCode::from_u16(status).unwrap(),
            body: body.to_owned().into(),
            headers: http::HeaderMap::default(),
        };
        explain::<UpdateItemError>("locks", RusotoError::Unknown(answer))
    }

    #[test]
    fn throttling_is_told_apart_from_an_outage_and_from_denial() {
        let throttled =
            r#"{"__type":"com.amazon.coral.availability#ThrottlingException","message":"slow"}"#;
        assert!(matches!(
            answer(400, throttled),
            StoreError::Throttled { .. }
        ));
        let error = answer(503, r#"{"__type":"ServiceUnavailable"}"#);
        assert!(matches!(error, StoreError::Unreachable { .. }) && error.maybe_applied());
        let denied =
            r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}"#;
        let error = answer(400, denied);
        assert!(matches!(error, StoreError::Denied { .. }) && !error.is_transient());
    }

    #[test]
    fn an_answer_from_something_in_between_is_ambiguous() {
        for status in [400, 403, 502, 504] {
            let error = answer(status, "<html>proxy</html>");
            assert!(error.maybe_applied() && error.is_transient(), "{error}");
        }
    }
}
