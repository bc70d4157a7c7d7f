//! Logs of OpenTelemetry as OTLP's JSON (opentelemetry-proto 1.x, `ExportLogsServiceRequest`), and a collector that takes them over HTTP.
//!
//! In this encoding integers of 64 bits are texts, and members are in lowerCamelCase.

use crate::connect::{Reach, Resolver, connect};
use crate::error::{SettingError, SinkError};
use crate::https_url::{self, HttpsUrl};
use crate::mail::secret;
use crate::message::{Message, plain};
use crate::post::{Post, handshake, post};
use crate::trust::Trust;
use holdfast_service_domain::settings::OtlpSettings;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Longest time for an attempt.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Path of logs (OTLP 1.x, "OTLP/HTTP request").
pub const PATH: &str = "/v1/logs";
/// Statuses that are tried again; all others must not be (OTLP 1.x, "Retryable response codes").
const RETRYABLE: [u16; 4] = [429, 502, 503, 504];
/// `SEVERITY_NUMBER_INFO`, `_WARN`, `_ERROR` and `_FATAL`.
const SEVERITIES: [(u8, &str); 4] = [(9, "INFO"), (13, "WARN"), (17, "ERROR"), (21, "FATAL")];

/// The severity of a log record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// For some day.
    Info,
    /// For today.
    Warn,
    /// For now.
    Error,
    /// A program has ended.
    Fatal,
}

/// Logs of several resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs {
    resource: Resource,
    scope_logs: [ScopeLogs; 1],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs {
    scope: Scope,
    log_records: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

/// What a record is about, or a fact of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attribute {
    key: &'static str,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Value {
    StringValue(String),
    /// A number of 64 bits, as text.
    IntValue(String),
}

/// A log record, which is an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    time_unix_nano: String,
    observed_time_unix_nano: String,
    severity_number: u8,
    severity_text: &'static str,
    event_name: &'static str,
    body: Value,
    attributes: Vec<Attribute>,
}

/// Makes an attribute of a text.
#[must_use]
pub fn text(key: &'static str, value: impl Into<String>) -> Attribute {
    Attribute { key, value: Value::StringValue(value.into()) }
}

/// Makes an attribute of a number.
#[must_use]
pub fn number(key: &'static str, value: u64) -> Attribute {
    // What is more than the encoding takes has no meaning here.
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    Attribute { key, value: Value::IntValue(value.to_string()) }
}

fn nanos(seconds: u64) -> String {
    seconds.saturating_mul(1_000_000_000).to_string()
}

impl Record {
    /// Makes one of an event at `at`, seconds since 1970, which this service knows since `observed_at`.
    #[must_use]
    pub fn new(
        event_name: &'static str,
        severity: Severity,
        (at, observed_at): (u64, u64),
        body: impl Into<String>,
        attributes: Vec<Attribute>,
    ) -> Self {
        let place = match severity {
            Severity::Info => 0,
            Severity::Warn => 1,
            Severity::Error => 2,
            Severity::Fatal => 3,
        };
        let (severity_number, severity_text) = SEVERITIES.get(place).copied().unwrap_or((0, ""));
        Self {
            time_unix_nano: nanos(at),
            observed_time_unix_nano: nanos(observed_at),
            severity_number,
            severity_text,
            event_name,
            body: Value::StringValue(body.into()),
            attributes,
        }
    }
}

impl Logs {
    /// Adds records of a resource. Those of a resource that was added just before are put to it.
    pub fn add(&mut self, resource: Vec<Attribute>, records: Vec<Record>) {
        if let Some(last) = self.resource_logs.last_mut()
            && last.resource.attributes == resource
        {
            let [scope] = &mut last.scope_logs;
            scope.log_records.extend(records);
            return;
        }
        let scope = Scope { name: "holdfast-service", version: env!("CARGO_PKG_VERSION") };
        let scope_logs = [ScopeLogs { scope, log_records: records }];
        self.resource_logs
            .push(ResourceLogs { resource: Resource { attributes: resource }, scope_logs });
    }

    /// Returns an alert as logs: a record for each finding. `alert` is its catalog and number.
    #[must_use]
    pub fn of_alert(alert: &str, message: &Message, now: u64) -> Self {
        let resource = vec![
            text("service.name", "holdfast-security-service"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("holdfast.catalog", plain(&message.catalog)),
            text("holdfast.product", plain(&message.product)),
            text("holdfast.group", plain(&message.group)),
        ];
        let record = |told: &crate::message::Told| {
            let severity = match told.severity {
                1 => Severity::Error,
                2 => Severity::Warn,
                _ => Severity::Info,
            };
            let body = format!("{}: {}", plain(&told.rule), plain(&told.about));
            let attributes = vec![
                // Records of one id are one: an alert that comes twice counts once.
                text("log.record.uid", format!("{alert}.{}", told.number)),
                text("holdfast.alert.kind", plain(&message.kind)),
                number("holdfast.finding.number", told.number),
                text("holdfast.finding.rule", plain(&told.rule)),
                number("holdfast.finding.severity", told.severity),
                text("holdfast.finding.about", plain(&told.about)),
                number("holdfast.finding.devices", told.devices),
                number("holdfast.finding.first_at", told.first),
                text("holdfast.finding.remedy", plain(&told.remedy)),
            ];
            Record::new("holdfast.finding", severity, (told.last, now), body, attributes)
        };
        let mut logs = Self::default();
        logs.add(resource, message.findings.iter().map(record).collect());
        logs
    }
}

/// A collector.
#[derive(Clone)]
pub struct Collector {
    resolver: Resolver,
    trust: Trust,
    is_https: bool,
    url: HttpsUrl,
    authorization: Option<String>,
    deadline: Duration,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("url", &self.url.authority).finish_non_exhaustive()
    }
}

/// What a collector answers, as far as it matters.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Taken {
    partial_success: Option<Partial>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Partial {
    rejected_log_records: Option<Number>,
}

/// A number of 64 bits: a text, or as some write it, a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

impl Collector {
    /// Sets it up as the settings have it; paths are of the folder.
    ///
    /// # Errors
    /// A setting is not as it has to be, or the file cannot be read.
    pub fn new(
        folder: &Path,
        settings: &OtlpSettings,
        resolver: Resolver,
        trust: Trust,
    ) -> Result<Self, SettingError> {
        let setting = "otlp.endpoint";
        let rule = "must be the https: URL of a collector, such as https://collector.example:4318";
        let url = https_url::read(&settings.endpoint);
        let (scheme, mut url) = url.map_err(|_| SettingError::Rule { setting, rule })?;
        let is_https = scheme == "https";
        let is_loopback = url.host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
        if !is_https && !is_loopback {
            let rule = "must be https:, as the collector is no loopback address";
            return Err(SettingError::Rule { setting, rule });
        }
        url.target = format!("{}{PATH}", url.target.trim_end_matches('/'));
        let file = settings.authorization.as_ref();
        let read = |file| secret("otlp.authorization", &folder.join(file));
        let authorization = file.map(read).transpose()?.map(|text| text.trim().to_owned());
        Ok(Self { resolver, trust, is_https, url, authorization, deadline: DEADLINE })
    }

    /// Returns it with another deadline.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Sends logs.
    ///
    /// # Errors
    /// See [`SinkError`].
    pub async fn send(&self, logs: &Logs) -> Result<(), SinkError> {
        let sent = tokio::time::timeout(self.deadline, self.attempt(logs)).await;
        sent.map_err(|_| SinkError::Deadline(self.deadline.as_secs()))?
    }

    async fn attempt(&self, logs: &Logs) -> Result<(), SinkError> {
        let authorization = self.authorization.iter();
        let request = Post {
            authority: &self.url.authority,
            target: &self.url.target,
            headers: authorization.map(|value| ("authorization", value.clone())).collect(),
            body: serde_json::to_vec(logs).map_err(SinkError::Alert)?,
        };
        let stream = connect(&self.resolver, &Reach::Any, &self.url.host, self.url.port).await?;
        let is_read = |status| status == 200;
        let (status, retry_after_s, body) = if self.is_https {
            let stream = handshake(self.trust.tls.clone(), &self.url.host, stream).await?;
            post(stream, request, is_read).await?
        } else {
            post(stream, request, is_read).await?
        };
        if !(200..300).contains(&status) {
            let is_final = !RETRYABLE.contains(&status);
            return Err(SinkError::Status { status, retry_after_s, is_final });
        }
        if body.is_empty() {
            return Ok(());
        }
        let taken: Taken = serde_json::from_slice(&body).map_err(SinkError::Answer)?;
        let rejected = taken.partial_success.and_then(|partial| partial.rejected_log_records);
        match rejected {
            Some(Number::Number(number)) if number > 0 => Err(SinkError::Rejected(number)),
            Some(Number::Text(text)) if text != "0" => {
                Err(SinkError::Rejected(text.parse().unwrap_or(1)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::message;
    use serde_json::json;

    #[test]
    fn an_alert_is_a_record_for_each_finding_as_the_specification_encodes_it() {
        let logs = Logs::of_alert("catalog.3", &message("camera 2.1.0", "finding"), 1_800_000_200);
        let value = serde_json::to_value(&logs).unwrap();
        let of_resource = &value["resourceLogs"][0];
        let name = &of_resource["resource"]["attributes"][0];
        assert_eq!(
            *name,
            json!({"key": "service.name", "value": {"stringValue": "holdfast-security-service"}})
        );
        let record = &of_resource["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["timeUnixNano"], "1800000060000000000");
        assert_eq!(record["observedTimeUnixNano"], "1800000200000000000");
        assert_eq!(
            (&record["severityNumber"], &record["severityText"]),
            (&json!(17), &json!("ERROR"))
        );
        assert_eq!(record["body"], json!({"stringValue": "outbreak: camera 2.1.0"}));
        let attributes = record["attributes"].as_array().unwrap();
        let number = json!({"key": "holdfast.finding.number", "value": {"intValue": "7"}});
        assert!(attributes.contains(&number), "{attributes:?}");
        let uid = json!({"key": "log.record.uid", "value": {"stringValue": "catalog.3.7"}});
        assert!(attributes.contains(&uid), "{attributes:?}");
    }

    #[test]
    fn records_of_one_resource_that_follow_each_other_are_put_together() {
        let mut logs = Logs::default();
        let record = || Record::new("a", Severity::Info, (1, 2), "b", vec![number("n", u64::MAX)]);
        logs.add(vec![text("service.name", "a")], vec![record()]);
        logs.add(vec![text("service.name", "a")], vec![record()]);
        logs.add(vec![text("service.name", "b")], vec![record()]);
        let value = serde_json::to_value(&logs).unwrap();
        let of = |place: usize| {
            value["resourceLogs"][place]["scopeLogs"][0]["logRecords"].as_array().unwrap().len()
        };
        assert_eq!((of(0), of(1)), (2, 1));
        let largest = json!([{"key": "n", "value": {"intValue": i64::MAX.to_string()}}]);
        let records = &value["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
        assert_eq!(records[0]["attributes"], largest);
    }
}
