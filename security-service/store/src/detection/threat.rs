//! Threats: what rules have found in a group, taken with what is to be told of it in one transaction, and closed by people.

use super::contained;
use super::group_of;
use super::lease::fence;
use crate::audit::{self, Entry};
use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_service_domain::detection::alert::{self, Alerts, Message, Place};
use holdfast_service_domain::detection::baseline::Baseline;
use holdfast_service_domain::detection::finding::{Detection, Severity};
use holdfast_service_domain::detection::fleet::GroupName;
use holdfast_service_domain::detection::register::{
    Change, CloseError, Closing, FleetFinding, Register, State,
};
use holdfast_service_domain::detection::rule::Rule;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use std::collections::BTreeMap;

/// A threat, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreatRow {
    /// The group that it was found in.
    pub group: GroupName,
    /// When it was contained and by whom, while it is.
    pub contained: Option<(u64, String)>,
    /// What was found.
    pub finding: FleetFinding,
}

/// What a list of threats is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// One product's alone.
    pub product: Option<String>,
    /// One group's alone.
    pub group: Option<String>,
    /// Closed ones as well.
    pub closed: bool,
}

/// What has become of detections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What has changed.
    pub changes: Vec<Change>,
    /// The findings that have changed.
    pub findings: Vec<FleetFinding>,
    /// The findings that were open and made room for worse ones.
    pub displaced: Vec<FleetFinding>,
    /// True while a digest is owed.
    pub is_pending: bool,
}

/// How many findings are open of a rule and a severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenThreats {
    /// The rule.
    pub rule: Rule,
    /// The severity.
    pub severity: Severity,
    /// How many.
    pub count: u64,
}

/// A baseline that was stored, and until when it has learned.
pub type StoredBaseline = Result<(Baseline, u64), StoreError>;

/// Numbers of a catalog that are given away without gaps.
struct Numbers {
    finding: u64,
    alert: u64,
}

/// Who makes room in the register, in the audit log.
const SERVICE: &str = "service";
/// Baselines that are read at once.
const BASELINES_AT_ONCE: u32 = 32;

impl Store {
    /// Takes what rules have found in a group: findings that are new or have changed are stored with the alerts that tell of them, or nothing is.
    ///
    /// # Errors
    /// [`StoreError::NotHolder`] where another instance evaluates, and those of the database.
    pub async fn take_detections(
        &self,
        scope: Scope,
        holder: String,
        group: GroupName,
        detections: Vec<Detection>,
        now: u64,
    ) -> Result<Taken, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                fence(connection, &holder).await?;
                take(connection, scope, &group, &detections, now).await
            })
        })
        .await
    }

    /// Returns threats by number behind `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn threats(
        &self,
        scope: Scope,
        wanted: &Wanted,
        after: u64,
        most: u32,
    ) -> Result<Vec<ThreatRow>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(threat),
            " FROM threat WHERE catalog = $1 AND number > $2
                AND ($3 = 1 OR closed_at = 0)
                AND ($4 = 0 OR product = $5) AND ($6 = 0 OR grp = $7)
            ORDER BY number LIMIT $8"
        );
        let Wanted { product, group, closed } = wanted.clone();
        let query = sqlx::query(query).bind(scope.key()).bind(stored(after));
        let query = query.bind(i64::from(closed)).bind(i64::from(product.is_some()));
        let query = query.bind(product.unwrap_or_default()).bind(i64::from(group.is_some()));
        let query = query.bind(group.unwrap_or_default()).bind(i64::from(most));
        query.fetch_all(&mut *connection).await?.iter().map(threat_of).collect()
    }

    /// Returns a threat.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn threat(&self, scope: Scope, number: u64) -> Result<Option<ThreatRow>, StoreError> {
        let mut connection = self.read().await?;
        by_number(&mut connection, scope, number).await
    }

    /// Leaves out numbers of alerts, as those that a lost service may have given away since a backup: receivers take a number that they know
    /// for the same alert.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn leave_out_alert_numbers(&self, count: u64) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let update = sqlx::query("UPDATE detection SET last_alert = last_alert + $1");
                update.bind(stored(count)).execute(connection).await?;
                Ok(())
            })
        })
        .await
    }

    /// Counts open threats by rule and severity, of one catalog or of all. What has none is not listed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open_threats(&self, scope: Option<Scope>) -> Result<Vec<OpenThreats>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT rule, severity, COUNT(*) AS open FROM threat
            WHERE closed_at = 0 AND ($1 = '' OR catalog = $1)
            GROUP BY rule, severity ORDER BY rule, severity";
        let catalog = scope.map(|scope| scope.key()).unwrap_or_default();
        let rows = sqlx::query(query).bind(catalog).fetch_all(&mut *connection).await?;
        rows.iter().map(open_of).collect()
    }

    /// Returns the baselines of a catalog's groups. One that cannot be read does not keep the others away.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn baselines(
        &self,
        scope: Scope,
    ) -> Result<Vec<(GroupName, StoredBaseline)>, StoreError> {
        let mut connection = self.read().await?;
        let mut all: Vec<(GroupName, StoredBaseline)> = Vec::new();
        let mut after = GroupName::default();
        let mut is_first = true;
        loop {
            let query = "SELECT product, grp, baseline, learned_until FROM detection_group
                WHERE catalog = $1 AND ((product, grp) > ($2, $3) OR ($4 = 1 AND product = ''))
                    AND baseline IS NOT NULL
                ORDER BY product, grp LIMIT $5";
            let query = sqlx::query(query).bind(scope.key()).bind(after.product.clone());
            let query = query.bind(after.group.clone()).bind(i64::from(is_first));
            let query = query.bind(i64::from(BASELINES_AT_ONCE));
            let rows = query.fetch_all(&mut *connection).await?;
            for row in &rows {
                all.push((group_of(row)?, baseline_of(row)));
            }
            match rows.last() {
                Some(last) => after = group_of(last)?,
                None => return Ok(all),
            }
            is_first = false;
        }
    }

    /// Keeps the baseline of a group, and until when it has learned.
    ///
    /// # Errors
    /// [`StoreError::NotHolder`] where another instance evaluates, and those of the database.
    pub async fn keep_baseline(
        &self,
        scope: Scope,
        holder: String,
        group: GroupName,
        baseline: &Baseline,
        learned_until: u64,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(baseline).map_err(|_| StoreError::Damaged("baseline"))?;
        self.write(move |connection| {
            Box::pin(async move {
                fence(connection, &holder).await?;
                let put = "INSERT INTO detection_group
                        (catalog, product, grp, learned_until, baseline)
                    VALUES ($1, $2, $3, $4, $5)
                    ON CONFLICT (catalog, product, grp)
                    DO UPDATE SET learned_until = $4, baseline = $5";
                let put = sqlx::query(put).bind(scope.key()).bind(group.product).bind(group.group);
                put.bind(stored(learned_until)).bind(text).execute(connection).await?;
                Ok(())
            })
        })
        .await
    }
}

/// Locks the numbers of a catalog, and with them its threats, until the end of the transaction.
async fn numbers(connection: &mut Connection, scope: Scope) -> Result<Numbers, StoreError> {
    let lock = "INSERT INTO detection (catalog, last_finding, last_alert) VALUES ($1, 0, 0)
        ON CONFLICT (catalog) DO UPDATE SET last_alert = detection.last_alert
        RETURNING last_finding, last_alert";
    let row = sqlx::query(lock).bind(scope.key()).fetch_one(connection).await?;
    Ok(Numbers {
        finding: columns::number(&row, "last_finding")?,
        alert: columns::number(&row, "last_alert")?,
    })
}

async fn take(
    connection: &mut Connection,
    scope: Scope,
    group: &GroupName,
    detections: &[Detection],
    now: u64,
) -> Result<Taken, StoreError> {
    let mut numbers = numbers(connection, scope).await?;
    let known = of_group(connection, scope, group).await?;
    let contained = contained::of_group(connection, scope, group).await?;
    let before: BTreeMap<u64, FleetFinding> =
        known.iter().map(|finding| (finding.number, finding.clone())).collect();
    let register = Register::new(known).numbered_behind(numbers.finding);
    let mut register = register.keeping(contained.findings());
    let changes = register.take(detections, now);
    let told = alerts_of(connection, scope, group).await?;
    let mut alerts = told.clone();
    let catalog = scope.key();
    let place = Place { catalog: &catalog, product: &group.product, group: &group.group };
    let to_tell = alerts.take(&changes, register.has_room(), now);
    let messages = alert::messages(&to_tell, &register, place, now);
    let mut findings = Vec::new();
    for finding in register.findings() {
        if before.get(&finding.number) != Some(finding) {
            put(connection, scope, group, finding).await?;
            findings.push(finding.clone());
        }
    }
    let mut displaced = Vec::new();
    for (number, finding) in before {
        if register.get(number).is_some() {
            continue;
        }
        let delete = sqlx::query("DELETE FROM threat WHERE catalog = $1 AND number = $2");
        delete.bind(scope.key()).bind(stored(number)).execute(&mut *connection).await?;
        if finding.state == State::Open {
            displaced.push(finding);
        }
    }
    for message in messages {
        numbers.alert = numbers.alert.saturating_add(1);
        tell(connection, scope, group, numbers.alert, message, now).await?;
    }
    if alerts != told {
        keep_alerts(connection, scope, group, &alerts).await?;
    }
    let update = "UPDATE detection SET last_finding = $2, last_alert = $3 WHERE catalog = $1";
    let last = register.last().max(numbers.finding);
    let update = sqlx::query(update).bind(scope.key()).bind(stored(last));
    update.bind(stored(numbers.alert)).execute(&mut *connection).await?;
    for finding in &displaced {
        let entry = displacement(finding, now)?;
        audit::append(connection, scope, entry).await?;
    }
    Ok(Taken { changes, findings, displaced, is_pending: alerts.is_pending() })
}

/// What the audit log says of an open finding that made room: nobody has closed it, and it is gone.
fn displacement(finding: &FleetFinding, now: u64) -> Result<Entry, StoreError> {
    let text = serde_json::to_vec(finding).map_err(|_| StoreError::Damaged("finding"))?;
    Ok(Entry {
        who: SERVICE.to_owned(),
        verb: "threat.displace",
        object: format!(
            "{}: {}, severity {}",
            finding.number,
            finding.key.rule.word(),
            u8::from(finding.severity)
        ),
        digest: Sha256::digest(text).into(),
        at: now,
    })
}

async fn of_group(
    connection: &mut Connection,
    scope: Scope,
    group: &GroupName,
) -> Result<Vec<FleetFinding>, StoreError> {
    let query = concat!(
        "SELECT ",
        columns_of!(threat),
        " FROM threat WHERE catalog = $1 AND product = $2 AND grp = $3
        ORDER BY number"
    );
    let query = sqlx::query(query).bind(scope.key()).bind(group.product.clone());
    let rows = query.bind(group.group.clone()).fetch_all(connection).await?;
    rows.iter().map(|row| threat_of(row).map(|threat| threat.finding)).collect()
}

/// What was told of a group. What cannot be read is as if nothing was: a digest comes early then.
async fn alerts_of(
    connection: &mut Connection,
    scope: Scope,
    group: &GroupName,
) -> Result<Alerts, StoreError> {
    let query =
        "SELECT alerts FROM detection_group WHERE catalog = $1 AND product = $2 AND grp = $3";
    let query = sqlx::query(query).bind(scope.key()).bind(group.product.clone());
    let row = query.bind(group.group.clone()).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(Alerts::default()) };
    let text = columns::text_if_any(&row, "alerts")?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

async fn keep_alerts(
    connection: &mut Connection,
    scope: Scope,
    group: &GroupName,
    alerts: &Alerts,
) -> Result<(), StoreError> {
    let text = serde_json::to_string(alerts).map_err(|_| StoreError::Damaged("alerts"))?;
    let put = "INSERT INTO detection_group (catalog, product, grp, learned_until, alerts)
        VALUES ($1, $2, $3, 0, $4)
        ON CONFLICT (catalog, product, grp) DO UPDATE SET alerts = $4";
    let put = sqlx::query(put).bind(scope.key()).bind(group.product.clone());
    put.bind(group.group.clone()).bind(text).execute(connection).await?;
    Ok(())
}

fn closed_at(finding: &FleetFinding) -> u64 {
    match &finding.state {
        State::Open => 0,
        State::Closed(closing) => closing.at.max(1),
    }
}

async fn put(
    connection: &mut Connection,
    scope: Scope,
    group: &GroupName,
    finding: &FleetFinding,
) -> Result<(), StoreError> {
    let put = "INSERT INTO threat
            (catalog, number, product, grp, rule, severity, closed_at, finding)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (catalog, number)
        DO UPDATE SET severity = $6, closed_at = $7, finding = $8";
    let text = serde_json::to_string(finding).map_err(|_| StoreError::Damaged("finding"))?;
    sqlx::query(put)
        .bind(scope.key())
        .bind(stored(finding.number))
        .bind(group.product.clone())
        .bind(group.group.clone())
        .bind(finding.key.rule.word().to_owned())
        .bind(i64::from(u8::from(finding.severity)))
        .bind(stored(closed_at(finding)))
        .bind(text)
        .execute(connection)
        .await?;
    Ok(())
}

async fn tell(
    connection: &mut Connection,
    scope: Scope,
    group: &GroupName,
    number: u64,
    message: Message,
    now: u64,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO alert (catalog, number, product, grp, at, severity, kind, body)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(stored(number))
        .bind(group.product.clone())
        .bind(group.group.clone())
        .bind(stored(now))
        .bind(i64::from(u8::from(message.severity)))
        .bind(message.kind.to_owned())
        .bind(message.body)
        .execute(connection)
        .await?;
    Ok(())
}

async fn by_number(
    connection: &mut Connection,
    scope: Scope,
    number: u64,
) -> Result<Option<ThreatRow>, StoreError> {
    let query = sqlx::query(concat!(
        "SELECT ",
        columns_of!(threat),
        " FROM threat WHERE catalog = $1 AND number = $2"
    ));
    let row = query.bind(scope.key()).bind(stored(number)).fetch_optional(connection).await?;
    row.as_ref().map(threat_of).transpose()
}

/// Returns a threat, which neither a round nor a person changes until the end of the transaction.
pub(super) async fn locked(
    connection: &mut Connection,
    scope: Scope,
    number: u64,
) -> Result<ThreatRow, StoreError> {
    numbers(connection, scope).await?;
    by_number(connection, scope, number).await?.ok_or(StoreError::Missing("threat"))
}

/// Closes a threat. It is opened again where it goes on.
///
/// # Errors
/// There is no such threat that is open, or those of the database. Whoever asks has checked the reason.
pub async fn close(
    connection: &mut Connection,
    scope: Scope,
    number: u64,
    closing: Closing,
) -> Result<(), StoreError> {
    let ThreatRow { group, finding, .. } = locked(connection, scope, number).await?;
    let mut register = Register::new(vec![finding]);
    register.close(number, closing).map_err(|error| match error {
        CloseError::NotFound(_) | CloseError::Closed(_) => StoreError::Missing("open threat"),
        CloseError::Reason => StoreError::Damaged("reason"),
    })?;
    match register.get(number) {
        Some(closed) => put(connection, scope, &group, closed).await,
        None => Err(StoreError::Missing("open threat")),
    }
}

fn threat_of(row: &AnyRow) -> Result<ThreatRow, StoreError> {
    let finding = serde_json::from_str(&columns::text(row, "finding")?);
    let at = columns::number_if_any(row, "contained_at")?;
    Ok(ThreatRow {
        group: group_of(row)?,
        contained: at.zip(columns::text_if_any(row, "contained_by")?),
        finding: finding.map_err(|_| StoreError::Damaged("finding"))?,
    })
}

fn open_of(row: &AnyRow) -> Result<OpenThreats, StoreError> {
    let word = columns::text(row, "rule")?;
    let rule = Rule::ALL.into_iter().find(|rule| rule.word() == word);
    let severity = u8::try_from(columns::number(row, "severity")?).ok();
    let severity = severity.and_then(|number| Severity::try_from(number).ok());
    Ok(OpenThreats {
        rule: rule.ok_or(StoreError::Damaged("rule"))?,
        severity: severity.ok_or(StoreError::Damaged("severity"))?,
        count: columns::number(row, "open")?,
    })
}

fn baseline_of(row: &AnyRow) -> StoredBaseline {
    let baseline = serde_json::from_str(&columns::text(row, "baseline")?);
    let baseline = baseline.map_err(|_| StoreError::Damaged("baseline"))?;
    Ok((baseline, columns::number(row, "learned_until")?))
}
