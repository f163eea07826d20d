//! How the SDK's requests travel: with the same courier as rusoto's.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::Context;
use aws_sdk_dynamodb::config::http::{HttpRequest, HttpResponse};
use aws_sdk_dynamodb::config::interceptors::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_dynamodb::config::{ConfigBag, HttpClient, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::{BoxError, ConnectorError};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use super::clock::{self, WrongClock};
use crate::store::dynamodb::connections::Connections;
use crate::store::dynamodb::http::Courier;

/// When the answer to a request has to be there. It goes with the request through
/// the SDK, to those who wait for something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub(super) Instant);

impl Storable for Deadline {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Deadline {
    fn name(&self) -> &'static str {
        "deadline"
    }

    fn read_before_serialization(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(*self);
        Ok(())
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().add_extension(*self);
        Ok(())
    }
}

/// Carries requests on the thread that makes them.
#[derive(Clone)]
pub(super) struct Post {
    pub(super) connections: Arc<Connections>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").finish_non_exhaustive()
    }
}

impl HttpClient for Post {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Post {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = match signed_by_our_clock(&request) {
            Ok(()) => self
                .carry(request)
                .map_err(|error| ConnectorError::other(error.into(), None)),
            Err(error) => Err(ConnectorError::other(error.into(), None)),
        };
        HttpConnectorFuture::ready(answer)
    }
}

fn signed_by_our_clock(request: &HttpRequest) -> Result<(), WrongClock> {
    match request.headers().get("x-amz-date") {
        Some(signed) => clock::check(signed, SystemTime::now()),
        None => Ok(()),
    }
}

impl Post {
    fn carry(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        let (head, body) = request.try_into_http1x()?.into_parts();
        let Deadline(deadline) = *head
            .extensions
            .get()
            .context("a request without a deadline")?;
        let body = body.bytes().context("a streaming request")?;
        let courier = Courier {
            line: self.connections.here(),
            deadline,
        };
        let request = ureq::http::Request::from_parts(head, body);
        let (head, body) = courier.exchange(request)?.into_parts();

        let mut answer = HttpResponse::new(head.status.as_u16().try_into()?, SdkBody::from(body));
        for (name, value) in &head.headers {
            // From it the SDK learns by how much to correct the clock that it signs with.
            if name == "date" {
                continue;
            }
            // A header may hold any bytes. The few that matter are ASCII.
            if let Ok(value) = value.to_str() {
                let (name, value) = (name.to_string(), value.to_owned());
                answer.headers_mut().try_append(name, value)?;
            }
        }
        Ok(answer)
    }
}
